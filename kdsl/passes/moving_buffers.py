"""Accesses to local buffers that get another name, other subscripts, or both.

for i in bind(range(M), "grid.x"):           for i in bind(range(M), "grid.x"):
    for j in bind(range(64), "block.x"):         for j in bind(range(64), "block.x"):
        T[k] = A[i, k]                   ->          T[i, k, j] = A[i, k]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kdsl.analysis.axes import axis_of, is_block
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Body,
    Expr,
    Load,
    Loop,
    Prefetch,
    Stmt,
    Store,
)
from kdsl.ir.walk import map_expr_children, map_stmt

Around = Mapping[str, str]
"""The variables of the loops around a place that are bound to axes of a work-group: by axis."""

Index = tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Move:
    """What becomes of a buffer: its name, and its subscripts made of the old ones.

    `before`: how many new dimensions come first.
    """

    name: str
    index: Callable[[Index, Around], Index]
    before: int = 0


def moved(body: Body, moves: Mapping[str, Move], fresh: Callable[[str], str]) -> Body:
    """`body` with the accesses to the buffers named in `moves` rewritten. `fresh` gives unused names."""
    return _Mover(moves, fresh).body(body, {}) if moves else body


@dataclass(slots=True)
class _Mover:
    moves: Mapping[str, Move]
    fresh: Callable[[str], str]

    def body(self, body: Body, around: Around) -> Body:
        out: list[Stmt] = []
        for s in body:
            inside = {**around, axis_of(s): s.var} if isinstance(s, Loop) and is_block(s) else around

            def on_expr(e: Expr) -> Expr:
                return self.expr(e, around)

            def on_body(b: Body, inside: Around = inside) -> Body:
                return self.body(b, inside)

            new = map_stmt(s, on_expr, on_body)
            if isinstance(new, (Store, Accumulate, Atomic, Prefetch)) and new.buffer in self.moves:
                move = self.moves[new.buffer]
                place = move.index(new.index, around)
                new = replace(new, buffer=move.name, index=place)
                if not isinstance(new, Prefetch):
                    new = replace(new, checked=tuple([d + move.before for d in new.checked]))
            if isinstance(new, Atomic) and new.old in self.moves:
                out += self.keeping(new, around)
            else:
                out.append(new)
        return tuple(out)

    def expr(self, e: Expr, around: Around) -> Expr:
        new = map_expr_children(e, lambda c: self.expr(c, around))
        if isinstance(new, Load) and new.buffer in self.moves:
            move = self.moves[new.buffer]
            checked = tuple([d + move.before for d in new.checked])
            return replace(new, buffer=move.name, index=move.index(new.index, around), checked=checked)
        return new

    def keeping(self, s: Atomic, around: Around) -> list[Stmt]:
        """An atomic whose old value goes where a subscript is needed, by way of a scalar."""
        move = self.moves[s.old]
        index = move.index((), around)
        if not index:
            return [replace(s, old=move.name)]
        name = self.fresh(s.old)
        dtype = s.value.dtype
        return [
            Alloc(name, dtype, (), loc=s.loc),
            replace(s, old=name),
            Store(move.name, index, Load(name, (), dtype), loc=s.loc),
        ]
