"""Random software instructions: the meaning of a loop as it stands, with its arrays as parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from kdsl.analysis.linear import extent
from kdsl.analysis.roles import software
from kdsl.dtypes import DType, Size, i64
from kdsl.errors import ScheduleError
from kdsl.ir import instructions
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    ArrayParam,
    Body,
    Const,
    Expr,
    Func,
    Instruction,
    Load,
    Loop,
    Param,
    ScalarParam,
    Stmt,
    Store,
    Var,
)
from kdsl.ir.walk import map_expr_children, stmts, subexprs
from kdsl.sched import Schedule
from kdsl.sched.rewriting.tree import with_fresh_ids


@dataclass
class _Meaning:
    """Builds the function: each access to an array is a parameter, over the loops that it moves with."""

    counts: dict[str, int] = field(default_factory=dict)
    locals: dict[str, DType] = field(default_factory=dict)
    cells: dict[tuple[str, tuple[Expr, ...]], ArrayParam] = field(default_factory=dict)
    scalars: dict[str, ScalarParam] = field(default_factory=dict)

    def body(self, body: Body) -> Body:
        return tuple([self.stmt(s) for s in body])

    def stmt(self, s: Stmt) -> Stmt:
        match s:
            case Loop():
                count = extent(s)
                if count is None or not 1 <= count <= 8:
                    raise LookupError
                self.counts[s.var] = count
                inside = self.body(s.body)
                return replace(s, var=f"m_{s.var}", lo=c(0), hi=c(count), step=c(1), body=inside, mark=None)
            case Alloc(shape=()):
                self.locals[s.name] = s.dtype
                return s
            case Store() | Accumulate():
                value = self.expr(s.value)
                if s.buffer in self.locals:
                    return replace(s, value=value)
                name, index = self.cell(s.buffer, s.index, s.value.dtype)
                return replace(s, buffer=name, index=index, value=value)
            case _:
                raise LookupError

    def expr(self, e: Expr) -> Expr:
        match e:
            case Load() if e.buffer not in self.locals:
                name, index = self.cell(e.buffer, e.index, e.type)
                return Load(name, index, e.type)
            case Var() if e.name in self.counts:
                return Var(f"m_{e.name}", i64)
            case Var():
                self.scalars[e.name] = ScalarParam(f"s_{e.name}", e.type)
                return Var(f"s_{e.name}", e.type)
            case _:
                return map_expr_children(e, self.expr)

    def cell(self, buffer: str, index: tuple[Expr, ...], dtype: DType) -> tuple[str, tuple[Expr, ...]]:
        used = {x.name for e in index for x in subexprs(e) if isinstance(x, Var)}
        over = [v for v in self.counts if v in used]
        shape = tuple([Size({}, self.counts[v]) for v in over])
        made = ArrayParam(f"p{len(self.cells)}", dtype, shape)
        return self.cells.setdefault((buffer, index), made).name, tuple([Var(f"m_{v}", i64) for v in over])


def c(value: int) -> Const:
    return Const(value, i64)


def instruction(pick: Callable[[Any], Any], loop: Loop) -> Instruction | None:
    """What `loop` does, under a random schedule, registered; None for loops that have no such form."""
    made = _Meaning()
    try:
        body = made.body(with_fresh_ids((loop,)))
    except LookupError:
        return None
    written = {s.buffer for s in stmts(body) if isinstance(s, (Store, Accumulate))}
    arrays = [replace(p, written=p.name in written) for p in made.cells.values()]
    params: list[Param] = [*arrays, *made.scalars.values()]
    meaning = Func("meaning", tuple(params), body)
    if software(meaning) is not None:
        return None
    s = Schedule(meaning)
    for _ in range(pick((0, 1, 2))):
        name = pick([x.var for x in stmts(s.func.body) if isinstance(x, Loop)])
        try:
            s = pick((s.unroll, s.vectorize, lambda n, s=s: s.split(n, 2), lambda n, s=s: s.peel(n, 1)))(name)
        except ScheduleError:
            break
    found = Instruction("", meaning, software=s.func)
    found = replace(found, name=f"{__name__}:drawn#{instructions.digest(found)}")
    instructions.register(found.name, lambda: found)
    return found
