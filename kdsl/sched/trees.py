"""Work-groups that add up in a tree: vector loops that combine the partial results of their invocations.

    for r in vectorize(range(64)):             for r in range(32): part[r] += part[r + 32]
        total[i] += part[r]             ->     for r in range(16): part[r] += part[r + 16]
                                               ...
                                               total[i] += part[0]

A vector loop may combine its lanes in any order (`vectorize` saw to that), and `part`, a local array of the
work-group, is read by nobody afterwards. Each short loop is one that the invocations share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdsl.analysis.axes import has_block, is_block, is_grid
from kdsl.analysis.linear import extent
from kdsl.ir.nodes import Accumulate, Alloc, Body, Expr, Func, Load, Loop, Stmt, fresh_id
from kdsl.ir.walk import map_stmt
from kdsl.sched.arith import add, const, names_in, var
from kdsl.sched.tree import accessed


def with_trees(func: Func) -> Func:
    """`func` with such loops as trees; itself when there is none."""
    body = _body(func.body, grid=False)
    return func if body is func.body else replace(func, body=body)


def _body(body: Body, grid: bool) -> Body:
    out: list[Stmt] = []
    for n, s in enumerate(body):
        found = _combining(body, n) if grid else None
        if found is not None:
            out.extend(found.tree())
        elif is_block(s):
            out.append(s)
        else:
            inside = grid or is_grid(s)
            out.append(map_stmt(s, lambda e: e, lambda b, inside=inside: _body(b, inside)))  # type: ignore[misc]
    return body if len(out) == len(body) and all(a is b for a, b in zip(out, body)) else tuple(out)


@dataclass(frozen=True, slots=True)
class _Combining:
    """`loop` over `count` partial results, whose body is `sum`, of the elements of `part`."""

    loop: Loop
    sum: Accumulate
    part: Load
    count: int

    def tree(self) -> list[Stmt]:
        out: list[Stmt] = []
        here, left = var(self.loop.var), self.count
        while left > 1:
            half = (left + 1) // 2
            other = replace(self.part, index=self.at(add(here, half)))
            step = replace(self.sum, id=fresh_id(), buffer=self.part.buffer, index=self.at(here), value=other)
            out.append(replace(self.loop, id=fresh_id(), hi=const(left - half), body=(step,), mark=None))
            left = half
        return [*out, replace(self.sum, value=replace(self.part, index=self.at(const(0))))]

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
    if part.buffer in accessed(tuple(body[n + 1 :])):
        return None
    return _Combining(loop, s, part, count)
