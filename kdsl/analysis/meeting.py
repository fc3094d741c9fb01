"""May two invocations of a work-group meet in one cell, in between no barrier? Asked of isl.

    for k in range(K):
        for t in bind(range(8), "block.x"): T[(k + 1) % 2, t] = ...      earlier: k, t
        for t in bind(range(8), "block.x"): ... = T[k % 2, 7 - t]        later: k, t' != t; never the same row

The program of the dispatch stands twice in the function that is looked at, one after the other, so that what
is earlier and what is later have symbols of their own, and share those of the work-group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kdsl.analysis.accesses import Access, Accesses
from kdsl.analysis.affine import Form, Formula, any_of, at_least, equal, symbol
from kdsl.analysis.polyhedra import Polyhedra

MOST_QUESTIONS = 32
"""So many are asked for one dispatch: a barrier too many costs less than a long compilation."""
OPERATIONS = 100_000
"""isl's own count, for one question; about 12 ms."""

Lags = Mapping[int, int]
"""For loops around both accesses, by id: 0 in the same iteration (which is left out), 1: the later access is
one iteration later, 2: later, or in another run of the loop."""


@dataclass(slots=True)
class Meetings:
    """Questions about the accesses of one dispatch, known by their numbers.

    `earlier` and `later` are the accesses of the first and the second copy. `axes`: for the id of each loop
    over invocations its axis, `loops`: the ids of the others around nests, outermost first; `original` gives
    the ids in the first copy for those in the second.
    """

    all: Accesses
    earlier: tuple[Access, ...]
    later: tuple[Access, ...]
    axes: Mapping[int, str]
    loops: tuple[int, ...]
    original: Mapping[int, int]
    polyhedra: Polyhedra | None = None
    _memo: dict[tuple[int, int, frozenset[tuple[int, int]]], bool] = field(default_factory=dict)

    def may(self, first: int, second: int, lags: Lags) -> bool:
        """Whether access number `second`, later by `lags`, may touch a cell that another invocation has
        touched by access number `first`. True in doubt."""
        key = first, second, frozenset(lags.items())
        if key not in self._memo and len(self._memo) < MOST_QUESTIONS:
            self._memo[key] = self._may(self.earlier[first], self.later[second], lags)
        return self._memo.get(key, True)

    def _may(self, a: Access, b: Access, lags: Lags) -> bool:
        here, there = self.invocation(a), self.invocation(b)
        if not here.keys() == there.keys() == set(self.axes.values()):
            return True
        apart = [at_least(gap) for x in here for d in (here[x] - there[x],) for gap in (d - 1, -d - 1)]
        same = [equal(i - j) for i, j in zip(a.index, b.index)]
        if self.polyhedra is None:
            self.polyhedra = Polyhedra(self.all.values)
        p = self.polyhedra
        evaluated = [
            at_least(f)
            for n in {n for form in (*a.index, *b.index) for n in form.names()}
            for f in self.all.values.symbols[n].facts
        ]
        wanted = [*a.context, *b.context, *evaluated, *same, *self.order(a, b, lags), any_of(*apart)]
        empty = p.within_limit(lambda: bool(p.points(wanted).is_empty()), OPERATIONS)
        return empty is not True

    def invocation(self, a: Access) -> dict[str, Form]:
        """For each axis the symbol of the loop over invocations around an access."""
        found = {self.axes[self.original.get(s.id, s.id)]: s for s in a.loops if self.is_block(s.id)}
        return {axis: symbol(s.name) for axis, s in found.items()}

    def is_block(self, loop: int) -> bool:
        return self.original.get(loop, loop) in self.axes

    def order(self, a: Access, b: Access, lags: Lags) -> Iterator[Formula]:
        """How the iterations of the loops around both accesses are related."""
        mine = {s.id: s for s in a.loops}
        yours = {self.original.get(s.id, s.id): s for s in b.loops}
        for loop in self.loops:
            lag = lags.get(loop, 0)
            if loop not in mine or loop not in yours:
                if lag:
                    return  # another turn of a loop without a variable
                continue
            x, y = mine[loop], yours[loop]
            gap = symbol(y.name) - symbol(x.name)
            if lag == 0:
                yield equal(gap)
                continue
            if x.step and lag == 1:
                yield equal(gap - x.step)
            return
