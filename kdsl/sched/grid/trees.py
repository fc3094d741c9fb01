"""Work-groups that add up: vector loops that combine the partial results of their invocations.

    for r in vectorize(range(64)):             for r in bind(range(64), "block.x"):
        total[i] += part[r]             ->         total[i] += together(part[r])

where the device combines the values of a subgroup in one step; elsewhere the work-group makes a tree:

                                               for r in range(32): part[r] += part[r + 32]
                                               for r in range(16): part[r] += part[r + 16]
                                               ...
                                               total[i] += part[0]

A vector loop may combine its lanes in any order (`vectorize` saw to that), and `part`, a local array of the
work-group, is read by nobody after a tree. Each short loop is one that the invocations share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf

from kdsl.analysis.axes import axis_of, block_sizes, has_block, is_block, is_grid
from kdsl.analysis.linear import extent
from kdsl.dtypes import DType
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Body,
    Compare,
    Const,
    Expr,
    Func,
    Load,
    Loop,
    Mark,
    Select,
    Stmt,
    Store,
    fresh_id,
)
from kdsl.ir.walk import map_stmt, stmts
from kdsl.sched.rewriting.arith import add, const, names_in, var
from kdsl.sched.rewriting.tree import accessed
from kdsl.target import Target


def with_trees(func: Func, target: Target) -> Func:
    """`func` with such loops as trees, or done together; itself when there is none."""
    work = _Trees(target)
    body = work.body(func.body)
    return func if body is func.body else replace(func, body=body)


def combines(target: Target, op: str, dtype: DType) -> bool:
    """Whether subgroups of the target combine such values, as if one after the other."""
    if not target.has(["subgroupBasic", "subgroupArithmetic"]) or dtype.kind == "bool":
        return False
    if dtype.is_int:
        return dtype.bits < 64 or target.has(["shaderSubgroupExtendedTypes"])
    # Shorter floats are computed in 32 bits, and rounded after each operation.
    return dtype.bits >= 32 or op in ("min", "max")


@dataclass(frozen=True, slots=True)
class _Trees:
    """`block`: the invocations of the work-group around along each axis; None outside of work-groups."""

    target: Target
    block: dict[str, int] | None = None

    def body(self, body: Body) -> Body:
        out: list[Stmt] = []
        for n, s in enumerate(body):
            found = _combining(body, n) if self.block is not None else None
            if found is not None:
                out.extend(self.combined(found, body[:n], body[n + 1 :]) or [s])
            elif is_block(s):
                out.append(s)
            else:
                inside = self
                if is_grid(s) and self.block is None:
                    inside = replace(self, block=block_sizes((s,)))
                out.append(map_stmt(s, lambda e: e, inside.body))
        return body if len(out) == len(body) and all(a is b for a, b in zip(out, body)) else tuple(out)

    def combined(self, found: _Combining, before: Body, after: Body) -> list[Stmt]:
        """What takes the place of the loop; nothing where it has to stay."""
        assert self.block is not None
        axis = found.axis(before)
        kept = found.part.buffer in accessed(after)
        most = self.block.get(axis, 1)
        if not combines(self.target, found.sum.op, found.sum.value.dtype) or most == 1:
            return [] if kept else [*found.tree(1), found.last()]
        if found.count <= most:
            return [found.together(axis, found.count)]
        return [] if kept else [*found.tree(most), found.together(axis, found.left(most))]


@dataclass(frozen=True, slots=True)
class _Combining:
    """`loop` over `count` partial results, whose body is `sum`, of the elements of `part`."""

    loop: Loop
    sum: Accumulate
    part: Load
    count: int

    def axis(self, before: Body) -> str:
        """The axis along which the partial results were made."""
        for nest in [x for x in stmts(before) if isinstance(x, Loop) and is_block(x)]:
            for s in stmts((nest,)):
                if isinstance(s, (Store, Accumulate)) and s.buffer == self.part.buffer:
                    at = [i for i, e in zip(s.index, self.part.index) if e == var(self.loop.var)]
                    if at == [var(nest.var)]:
                        return axis_of(nest)
        return "block.x"

    def together(self, axis: str, count: int) -> Stmt:
        """The invocations along `axis` combine the first `count` of the partial results."""
        mark = Mark("bind", axis, self.loop.mark is not None and self.loop.mark.unsafe)
        return replace(self.loop, hi=const(count), mark=mark, body=(replace(self.sum, together=True),))

    def left(self, most: int) -> int:
        """How many partial results a tree leaves that ends with `most` of them, or fewer."""
        count = self.count
        while count > most:
            count = (count + 1) // 2
        return count

    def tree(self, most: int) -> list[Stmt]:
        """Halves the partial results until there are no more than `most`."""
        out = self.numbers()
        here, left = var(self.loop.var), self.count
        while left > most:
            half = (left + 1) // 2
            other = replace(self.part, index=self.at(add(here, half)))
            step = replace(self.sum, id=fresh_id(), buffer=self.part.buffer, index=self.at(here), value=other)
            out.append(replace(self.loop, id=fresh_id(), hi=const(left - half), body=(step,), mark=None))
            left = half
        return out

    def last(self) -> Stmt:
        """The last partial result goes where all go."""
        return replace(self.sum, value=replace(self.part, index=self.at(const(0))))

    def numbers(self) -> list[Stmt]:
        """No NaN among the parts, where they are not to be seen: a minimum keeps a cell that is one."""
        t = self.part.type
        if self.sum.op not in ("min", "max") or not t.is_float:
            return []
        least = Const(inf if self.sum.op == "min" else -inf, t)
        value = Select(Compare("==", self.part, self.part), self.part, least)
        clean = Store(self.part.buffer, self.part.index, value, loc=self.sum.loc)
        return [replace(self.loop, id=fresh_id(), body=(clean,), mark=None)]

    def at(self, number: Expr) -> tuple[Expr, ...]:
        return tuple([number if i == var(self.loop.var) else i for i in self.part.index])


def _combining(body: Sequence[Stmt], n: int) -> _Combining | None:
    """The vector loop at `n` of a work-group's body as one that combines partial results."""
    loop = body[n]
    if not isinstance(loop, Loop) or loop.mark is None or loop.mark.kind != "vectorize":
        return None
    count = extent(loop)
    if not count or loop.lo != const(0) or loop.step != const(1) or len(loop.body) != 1:
        return None
    (s,) = loop.body
    if not isinstance(s, Accumulate) or not isinstance(s.value, Load) or loop.var in names_in(s.index):
        return None
    part = s.value
    moving = [i for i in part.index if loop.var in names_in((i,))]
    made = any(isinstance(a, Alloc) and a.name == part.buffer and a.shape for a in body[:n])
    filled = any(has_block(x) and part.buffer in accessed((x,)) for x in body[:n])
    if moving != [var(loop.var)] or not (made and filled) or s.buffer == part.buffer:
        return None
    return _Combining(loop, s, part, count)
