"""May updates of a loop nest go to partial results instead, which join their cells when the nest is done?

The updates then come later: nothing that follows one in the nest may read or store its cell, or update it by
another operator. Updates by the same operator change places freely.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kdsl.analysis.marks import doubt
from kdsl.analysis.program import Dim, Leaf, Program, Use
from kdsl.analysis.relations import Relations
from kdsl.analysis.verdict import Unproved, Verdict, Violation
from kdsl.analysis.witness import Point, cell_of, cell_text, place, sizes_text, smallest, spelled, violation


@dataclass(slots=True)
class PartialCheck:
    """Questions about the updates by the statements `stmts`, all by one operator and of one buffer."""

    program: Program
    stmts: frozenset[int]
    relations: Relations = field(init=False)

    def __post_init__(self) -> None:
        width = max([len(leaf.place) for leaf in self.program.leaves], default=0)
        self.relations = Relations(self.program.values, width)

    def delayed(self, nest: tuple[Dim, ...]) -> Verdict:
        """None when the updates may come behind the loop `nest` (given with those around it)."""
        unproved: Unproved | None = None
        for first, second in sorted(
            self.conflicts(nest), key=lambda p: not (p[0][1].exact and p[1][1].exact)
        ):
            found = self.relations.within_limit(partial(self.pair, nest, first, second))
            if found is None:
                return Unproved("the question is too large", first[1].loc, "unsafe=True")
            if isinstance(found, Violation):
                return found
            if isinstance(found, Unproved) and unproved is None:
                unproved = found
        return unproved

    def updates(self) -> list[tuple[Leaf, Use]]:
        return [
            (leaf, use)
            for leaf in self.program.leaves
            if leaf.stmt.id in self.stmts
            for use in leaf.uses
            if use.mode == "update"
        ]

    def conflicts(self, nest: tuple[Dim, ...]) -> Iterator[tuple[tuple[Leaf, Use], tuple[Leaf, Use]]]:
        """Each update with each use in the nest that may not come before it."""
        for source in self.updates():
            first = source[1]
            seen: set[object] = set()
            for leaf in self.program.leaves:
                for use in leaf.uses:
                    if nest[-1] not in use.place or use.buffer.memory != first.buffer.memory:
                        continue
                    if use.mode == "update" and use.op == first.op and not use.atomic:
                        continue
                    # A condition is read by every statement below it.
                    key = use.place, use.mode, use.index, use.context
                    if key not in seen:
                        seen.add(key)
                        yield source, (leaf, use)

    def pair(
        self, nest: tuple[Dim, ...], source: tuple[Leaf, Use], target: tuple[Leaf, Use]
    ) -> Violation | Unproved | bool:
        """False when `target` never follows `source` in one cell and one run of the nest."""
        r = self.relations
        (leaf, first), (other, second) = source, target
        later = r.time(leaf.dims, first.place).lex_lt_map(r.time(other.dims, second.place))
        later = self.together(later, len(nest) - 1)
        if first.buffer.key != second.buffer.key:
            both = r.isl.Map.from_domain_and_range(r.domain(leaf), r.domain(other))
            return False if later.intersect(both).is_empty() else doubt(r.values, first, second)
        meeting = r.meetings(*source, *target).intersect(later)
        if meeting.is_empty():
            return False
        if not (first.exact_cell and second.exact_cell):
            way = "unsafe=True, if no element is needed before it is complete"
            return replace(doubt(r.values, first, second), help=way)
        if not (first.exact and second.exact):
            what = {"read": "read", "write": "stored", "update": "updated"}[second.mode]
            reason = f"`{first.buffer.name}` is {what} here, perhaps after an update: data decide"
            return Unproved(reason, second.loc or other.stmt.loc, "unsafe=True, if your data rule that out")
        return self.shown(smallest(r, meeting), source, target, len(nest) - 1)

    def together(self, pairs: Any, depth: int) -> Any:
        kind = self.relations.isl.dim_type
        for n in range(depth):
            pairs = pairs.equate(kind.in_, n, kind.out, n)
        return pairs

    def shown(self, point: Point, source: tuple[Leaf, Use], target: tuple[Leaf, Use], skip: int) -> Violation:
        r = self.relations
        (leaf, first), (other, second) = source, target
        found = violation(r, point, source, target, skip, reordered=False)
        cell = cell_text(first.buffer.name, cell_of(r, point, source, target))
        who = place(other, second.loc) or "another statement"
        when, then = spelled(leaf, point.first, skip), spelled(other, point.second, skip)
        verb = {"read": "reads", "write": "stores", "update": "updates"}[second.mode]
        text = f"{who} {verb} {cell} at {then}, after the update at {when}"
        return replace(found, text=text + sizes_text(point.sizes))

    def shared(self, loop: tuple[Dim, ...]) -> bool:
        """True unless it is proved that no two iterations of `loop` update one cell."""

        def meets() -> bool:
            r, kind = self.relations, self.relations.isl.dim_type
            at = len(loop) - 1
            for first in self.updates():
                for second in self.updates():
                    space = r.isl.Space.alloc(r.polyhedra.context, 0, len(first[0].dims), len(second[0].dims))
                    apart = self.together(r.isl.Map.universe(space), at).order_lt(kind.in_, at, kind.out, at)
                    same = r.cells(*first).apply_range(r.cells(*second).reverse())
                    if not same.intersect(apart).is_empty():
                        return True
            return False

        found = self.relations.within_limit(meets)
        return True if found is None else found
