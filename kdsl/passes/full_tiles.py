"""Innermost loops around guarded, written-out tiles get a version for whole tiles, without the guards.

    for k in range(K):                             if i_o * 6 + 5 < M:
        for i_i in unroll(range(6)):                   for k in range(K):
            if i_o * 6 + i_i < M:        ->                for i_i in unroll(range(6)):
                S                                              S
                                                   else:
                                                       (the loop as it was)

A guard is one comparison (or several joined by `and`), affine, and made of names from outside of the loop and
of inner loops of constant range: at its worst point in these it implies all others. Known as: loop
partitioning (Halide), index set splitting.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

from kdsl.analysis.affine import Atom, Form, constant
from kdsl.analysis.conditions import to_expr
from kdsl.analysis.linear import extent, linear
from kdsl.dtypes import i64
from kdsl.ir.nodes import (
    Alloc,
    Body,
    Compare,
    Const,
    Expr,
    Func,
    If,
    Logic,
    Loop,
    Stmt,
    While,
    fresh_id,
)
from kdsl.ir.walk import map_stmt, stmts


def full_tiles(func: Func) -> Func:
    """`func` with loops versioned; itself when no loop has such guards."""
    body = _body(func.body, frozenset(func.sizes), False)
    return func if body is func.body else replace(func, body=body)


def _body(body: Body, outside: frozenset[str], lockstep: bool) -> Body:
    """`lockstep`: in a vector loop. There lanes must not part: the one branch would run before the other."""
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, Loop) and s.mark is None and _innermost(s):
            out.append(_versioned(s, outside))
        else:
            lanes = lockstep or (isinstance(s, Loop) and s.mark is not None and s.mark.kind == "vectorize")
            inner = outside | {s.var} if isinstance(s, Loop) and not lanes else outside
            out.append(map_stmt(s, lambda e: e, partial(_body, outside=inner, lockstep=lanes)))
    return body if all(a is b for a, b in zip(body, out)) else tuple(out)


def _innermost(loop: Loop) -> bool:
    """True when the loops inside are all written out or vectors, and there are some."""
    inside = [s for s in stmts(loop.body) if isinstance(s, (Loop, While))]
    return bool(inside) and all(
        isinstance(s, Loop) and s.mark is not None and s.mark.kind in ("unroll", "vectorize") for s in inside
    )


def _versioned(loop: Loop, outside: frozenset[str]) -> Stmt:
    tiles = _Tiles(outside)
    body = tiles.without(loop.body, {})
    if not tiles.worst:
        return loop
    whole, *rest = [to_expr(Atom(form), dict.fromkeys(outside, i64), guarded=False) for form in tiles.worst]
    for test in rest:
        whole = Logic("and", whole, test)
    return If(whole, (replace(loop, id=fresh_id(), body=body),), (loop,), loc=loop.loc)


@dataclass(slots=True)
class _Tiles:
    """Drops guards; `worst` collects, as forms that are >= 0, what makes them all true."""

    outside: frozenset[str]
    worst: list[Form] = field(default_factory=list)

    def without(self, body: Body, last: dict[str, int]) -> Body:
        """`body` with fresh ids; `last` gives the inner loops' variables, from 0 to so much."""
        out: list[Stmt] = []
        for s in body:
            inside = last
            if isinstance(s, Loop):
                count = extent(s)
                if count and s.lo == Const(0, i64) and s.step == Const(1, i64):
                    inside = {**last, s.var: count - 1}
            elif isinstance(s, If) and not s.orelse and not any(isinstance(x, Alloc) for x in s.then):
                forms = self.forms(s.cond, last)
                if forms is not None:
                    self.worst += [f for f in forms if f not in self.worst]
                    out += self.without(s.then, last)
                    continue
            new = map_stmt(s, lambda e: e, lambda b, inside=inside: self.without(b, inside))  # type: ignore[misc]
            out.append(replace(new, id=fresh_id()))
        return tuple(out)

    def forms(self, cond: Expr, last: dict[str, int]) -> list[Form] | None:
        """Forms of outside names whose being >= 0 implies `cond` wherever the inner loops are."""
        match cond:
            case Logic(op="and", a=a, b=b):
                one, two = self.forms(a, last), self.forms(b, last)
                return None if one is None or two is None else one + two
            case Compare(op="<" | "<=" as op, a=a, b=b) if a.dtype == i64:
                small, large = linear(a), linear(b)
                if small is None or large is None:
                    return None
                gap = large - small + (0 if op == "<=" else -1)
                for name, end in last.items():
                    factor = gap.coefficient(name)
                    if factor is not None and factor.terms:
                        gap = gap.substitute(name, constant(end if factor.const < 0 else 0))
                return [gap] if gap.names() <= self.outside else None
            case _:
                return None
