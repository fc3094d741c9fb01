"""Does a rewritten function run the same instances, with no dependence reversed?

A dependence joins two uses of one cell, one of them writing, in the order of the original. Updates with the
same operator are not ordered among themselves (floats under `strict` are).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, reduce
from typing import Any

from kdsl.analysis.marks import doubt
from kdsl.analysis.matching import Copy, Match, Matching
from kdsl.analysis.program import Dim, Leaf, Program, Use
from kdsl.analysis.relations import Relations
from kdsl.analysis.storage import StorageCheck
from kdsl.analysis.turns import Turn, order, signs, turned_map, turns
from kdsl.analysis.verdict import Origin, Unproved, Verdict, Violation
from kdsl.analysis.witness import smallest, violation


@dataclass(frozen=True, slots=True)
class Group:
    """Uses of one buffer by one leaf that are alike but for the cell."""

    match: Match
    uses: tuple[Use, ...]
    exact: bool

    @property
    def use(self) -> Use:
        return self.uses[0]


@dataclass(slots=True)
class RewriteCheck:
    """One question about two functions over the same `Values`."""

    before: Program
    after: Program
    origins: Mapping[int, Origin]
    outside: frozenset[str] = frozenset()
    """Locals that other statements use too, which are not in these programs."""
    relations: Relations = field(init=False)
    matched: dict[int, Match] = field(default_factory=dict)
    _before_times: dict[tuple[int, object], Any] = field(default_factory=dict)
    _after_times: dict[tuple[int, object], Any] = field(default_factory=dict)
    _earlier: dict[tuple[object, ...], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        leaves = (*self.before.leaves, *self.after.leaves)
        self.relations = Relations(self.before.values, max([len(leaf.place) for leaf in leaves], default=0))

    def verdict(self) -> Verdict:
        """The first violation that is certain; else the first that cannot be excluded."""
        for program in (self.before, self.after):
            for dims in program.loops.values():
                if dims[-1].direction == 0:
                    return Unproved(f"the step of loop `{dims[-1].var}` is not known", dims[-1].loc)
        unproved: Unproved | None = None
        for question in self.questions():
            found = self.relations.within_limit(question)
            if found is None:
                return Unproved("the question is too large", self.before.func.loc, "unsafe=True")
            if isinstance(found, Violation):
                return found
            if isinstance(found, Unproved) and unproved is None:
                unproved = found
        return unproved

    def questions(self) -> Iterator[Any]:
        """What has to be asked; each gives False, a Violation or Unproved."""
        matching = Matching(self.before, self.after, self.origins, self.relations)
        for leaf, made in matching.matches():
            yield partial(self.same_instances, matching, leaf, made)
        if len(self.matched) < len(self.before.leaves):
            return
        storage = StorageCheck(self.relations, list(self.matched.values()), self.outside)
        for key in storage.buffers():
            yield partial(storage.verdict, key)
        pairs = sorted(self.conflicts(), key=lambda p: not (p[0].exact and p[1].exact))
        for first, second in pairs:
            yield partial(self.order, first, second)

    def same_instances(
        self, matching: Matching, leaf: Leaf, made: tuple[Leaf, ...]
    ) -> Violation | Unproved | bool:
        match = matching.match(leaf, made)
        if isinstance(match, Unproved):
            return match
        self.matched[leaf.stmt.id] = match
        return matching.complete(match) or False

    # --------------------------------------------------------------------- order

    def conflicts(self) -> Iterator[tuple[Group, Group]]:
        """Pairs of groups, in both orders, that may be dependent."""
        memories: dict[str, list[Group]] = {}
        for leaf in self.before.leaves:
            for group in self.groups(self.matched[leaf.stmt.id]):
                memories.setdefault(group.use.buffer.memory, []).append(group)
        for groups in memories.values():
            if all(g.use.mode == "read" for g in groups):
                continue
            for first in groups:
                for second in groups:
                    reads = first.use.mode == second.use.mode == "read"
                    if not reads and not self.exempt(first.use, second.use):
                        yield first, second

    def groups(self, match: Match) -> list[Group]:
        alike: dict[tuple[object, ...], list[Use]] = {}
        for use in match.leaf.uses:
            key = use.buffer.key, use.mode, use.op, use.atomic, use.place, use.exact
            alike.setdefault(key, []).append(use)
        return [Group(match, tuple(uses), uses[0].exact and match.exact) for uses in alike.values()]

    def exempt(self, first: Use, second: Use) -> bool:
        """Updates that may change places."""
        if not (first.mode == second.mode == "update" and first.op == second.op):
            return False
        if first.atomic and second.atomic:
            return True
        dtype = first.buffer.dtype
        return not (self.before.func.options.strict and dtype is not None and dtype.is_float)

    def order(self, first: Group, second: Group) -> Violation | Unproved | bool:
        """False when no dependence from `first` to `second` is reversed."""
        r = self.relations
        turned = self.turned(first, second)
        if turned is not None and (not turned or not self.met(first, second, turned)):
            return False
        if first.use.buffer.key != second.use.buffer.key:
            earlier = self.earlier(first, second)
            if not self.reversed(first, second, earlier):
                return False
            return doubt(r.values, first.use, second.use)
        # Few pairs are dependent: what becomes of these is asked, not what becomes of all.
        pairs = [(a, b) for a in first.uses for b in second.uses]
        source, target = first.match.leaf, second.match.leaf
        met = [r.meetings(source, a, target, b) for a, b in pairs]
        meeting = reduce(lambda x, y: x.union(y), met).intersect(self.earlier(first, second))
        if meeting.is_empty() or not self.reversed(first, second, meeting):
            return False
        exact = first.exact and second.exact
        for (a, b), same in zip(pairs, met):
            same = same.intersect(self.earlier(first, second))
            if same.is_empty() or not self.reversed(first, second, same):
                continue
            if not exact:
                return doubt(r.values, a, b) if not (a.exact and b.exact) else self.unclear(first, second)
            point = smallest(r, same.intersect(self.becomes(first).lex_gt_map(self.becomes(second))))
            return violation(r, point, (source, a), (target, b), 0, reordered=True)
        return False

    def turned(self, first: Group, second: Group) -> list[Turn] | None:
        """Where instances of the two come in another order than before; None: loops alone do not tell."""
        near, far = first.match, second.match
        before = order(first.use.place, near.numbers, second.use.place, far.numbers)
        out: list[Turn] = []
        for a in near.copies:
            for b in far.copies:
                if before is None or a.numbers is None or b.numbers is None:
                    return None
                for here in self.places(first, a):
                    for there in self.places(second, b):
                        after = order(here, a.numbers, there, b.numbers)
                        if after is None:
                            return None
                        out += turns(before, after)
        return out

    def met(self, first: Group, second: Group, turned: Sequence[Turn]) -> bool:
        """Whether uses that change places may be of one cell."""
        if first.use.buffer.key != second.use.buffer.key:
            return True
        r, near, far = self.relations, first.match, second.match
        for a in first.uses:
            for b in second.uses:
                found = signs(r.values, a, near.numbers, b, far.numbers)
                if found is None:
                    continue
                left = [t for t in turned if all(t.get(pair, sign) == sign for pair, sign in found.items())]
                if not left:
                    continue
                same = r.meetings(near.leaf, a, far.leaf, b)
                sizes = len(near.leaf.dims), len(far.leaf.dims)
                if any(not same.intersect(turned_map(r, t, sizes)).is_empty() for t in left):
                    return True
        return False

    def unclear(self, first: Group, second: Group) -> Unproved:
        leaf = (first if not first.match.exact else second).match.leaf
        return Unproved("data decide when it runs", leaf.stmt.loc)

    def earlier(self, first: Group, second: Group) -> Any:
        """{ first -> second : its time is earlier in the original }."""
        key = (*self.slot(first), *self.slot(second))
        found = self._earlier.get(key)
        if found is None:
            found = self._earlier[key] = self.was(first).lex_lt_map(self.was(second))
        return found

    def reversed(self, first: Group, second: Group, pairs: Any) -> bool:
        """True when some of `pairs` { first -> second } come in the other order in the rewritten function."""
        moved = pairs.apply_domain(self.becomes(first)).apply_range(self.becomes(second))
        return not moved.intersect(self.later).is_empty()

    @property
    def later(self) -> Any:
        """{ time -> time : the first is later }."""
        r = self.relations
        space = r.isl.Space.set_alloc(r.polyhedra.context, 0, r.width)
        return r.isl.Map.lex_gt(space)

    def slot(self, group: Group) -> tuple[int, object]:
        """What identifies the times of a group."""
        use = group.use
        own = use.place == group.match.leaf.place
        return group.match.leaf.stmt.id, None if own else (use.place, use.buffer.name)

    def was(self, group: Group) -> Any:
        """{ dims -> time in the original }."""
        key = self.slot(group)
        if key not in self._before_times:
            leaf = group.match.leaf
            self._before_times[key] = self.relations.time(leaf.dims, group.use.place)
        return self._before_times[key]

    def becomes(self, group: Group) -> Any:
        """{ dims -> time in the rewritten function }."""
        key = self.slot(group)
        if key not in self._after_times:
            r, match = self.relations, group.match
            isl = r.isl
            space = isl.Space.alloc(r.polyhedra.context, 0, len(match.leaf.dims), r.width)
            times = isl.Map.empty(space)
            for copy in match.copies:
                for place in self.places(group, copy):
                    times = times.union(copy.pairs.apply_range(r.time(copy.leaf.dims, place)))
            self._after_times[key] = times
        return self._after_times[key]

    def places(self, group: Group, copy: Copy) -> list[tuple[int | Dim, ...]]:
        """Where the uses of `group` take place in `copy`: one place, or several if it is not clear which."""
        use, leaf = group.use, group.match.leaf
        if use.place == leaf.place:
            return [copy.leaf.place]
        there = distinct([u.place for u in copy.leaf.uses if u.control and u.buffer.name == use.buffer.name])
        here = distinct([u.place for u in leaf.uses if u.control and u.buffer.name == use.buffer.name])
        if len(here) == len(there):
            return [there[here.index(use.place)]]
        return there


def distinct(places: list[tuple[int | Dim, ...]]) -> list[tuple[int | Dim, ...]]:
    """Without repetitions, in order."""
    return list(dict.fromkeys(places))
