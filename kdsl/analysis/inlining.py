"""May reads of a local be replaced by the expressions that statements store there? And by which of them?

Where several statements write one element, the last one counts: readers test, from the last to the first,
whether a statement has written the element that they read, and the last test is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations

from kdsl.analysis.program import Leaf, Use
from kdsl.analysis.recompute import Question, RecomputeCheck, Site, verdict
from kdsl.analysis.verdict import Unproved, Verdict, Violation
from kdsl.analysis.witness import cell_of, cell_text, place, smallest, spelled


@dataclass(slots=True)
class InlineCheck:
    """Each leaf of the group is a store. Of two that are `exclusive` (ids) only one writes an element."""

    check: RecomputeCheck
    exclusive: frozenset[tuple[int, int]]
    sources: dict[int, list[tuple[int, ...]]] = field(default_factory=dict)
    """For each statement (by id) and each of its reads, in the order of evaluation, the stores to test."""

    def verdict(self) -> Verdict:
        check = self.check
        found = verdict(check.relations, self.questions(), check.program.func.loc)
        if found is None:
            check.relations.within_limit(self.find_sources)
        return found

    def questions(self) -> Iterator[Question]:
        """What has to be asked, the cheap things first."""
        check = self.check
        yield from check.feeding()
        for leaf, use in check.writes:
            yield partial(self.once, (leaf, use), (leaf, use))
        for first, second in combinations(check.writes, 2):
            a, b = first[0].stmt.id, second[0].stmt.id
            same = check.production.position[a] == check.production.position[b]
            if same and (a, b) not in self.exclusive:
                yield partial(self.once, first, second)
        yield from check.covering(certain=True)
        for leaf, use in check.consumers:
            site = Site(leaf.dims, use.place, check.production.position[leaf.stmt.id])
            again = {w.stmt.id: check.producing(leaf, use, w, write) for w, write in check.writes}
            yield from check.operands(site, again, asked=True)

    def once(self, first: tuple[Leaf, Use], second: tuple[Leaf, Use]) -> Violation | Unproved | bool:
        """No element is written by two instances."""
        r, isl = self.check.relations, self.check.relations.isl
        pairs = self.check.producing(*first, *second)
        if first[0] is second[0]:
            pairs = pairs.subtract(isl.Map.identity(pairs.get_space()))
        if pairs.is_empty():
            return False
        if not (first[1].exact and second[1].exact):
            return Unproved("perhaps an element is produced more than once", second[1].loc)
        point = smallest(r, pairs)
        name = first[1].buffer.name
        cell = cell_text(name, cell_of(r, point, first, second))
        left, right = spelled(first[0], point.first, 0), spelled(second[0], point.second, 0)
        if first[0] is second[0]:
            text = f"{cell} is written at {left} and at {right}"
        else:
            lines = [place(leaf, None) or "a statement" for leaf in (first[0], second[0])]
            text = f"{lines[0]} writes {cell}{f' at {left}' if left else ''}, "
            text += f"{lines[1]} too{f' at {right}' if right else ''}"
        return self.check.violation("twice", first, second, point, text)

    def find_sources(self) -> bool:
        """For each read the stores, from the last to the first that may be meant."""
        check = self.check
        for leaf, use in check.consumers:
            if use.control:
                continue
            wanted = check.touched(leaf, use, (), bounded=True)
            chain: list[int] = []
            for writer, write in reversed(check.writes):
                if not check.producing(leaf, use, writer, write).is_empty():
                    chain.append(writer.stmt.id)
                    if write.exact and wanted.is_subset(check.touched(writer, write, (), bounded=False)):
                        break
            self.sources.setdefault(leaf.stmt.id, []).append(tuple(chain))
        return True
