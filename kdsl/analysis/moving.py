"""Does a program compute the same in which the instances that produce a local run at the top of loops?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from kdsl.analysis.matching import Matching
from kdsl.analysis.program import Program
from kdsl.analysis.recompute import Question, RecomputeCheck, Site, verdict
from kdsl.analysis.relations import names
from kdsl.analysis.verdict import Origin, Unproved, Verdict


@dataclass(slots=True)
class MoveCheck:
    """`after` runs copies of the group at the top of loops: `copies` lists them by the id of the loop.

    Copies have the order of the originals and belong to one iteration each: who moves sees to that.
    """

    check: RecomputeCheck
    after: Program
    origins: Mapping[int, Origin]
    copies: Mapping[int, frozenset[int]]

    def verdict(self) -> Verdict:
        return verdict(self.check.relations, self.questions(), self.check.program.func.loc)

    def questions(self) -> Iterator[Question]:
        """What has to be asked, the cheap things first."""
        check = self.check
        yield from check.feeding()
        yield from check.covering(certain=False)
        matching = Matching(check.program, self.after, self.origins, check.relations, nested=True)
        for loop, copies in self.copies.items():
            site = self.top(loop)
            if site is None:
                continue
            again: dict[int, Any] = {}
            yield partial(self.run, matching, site, copies, again)
            if again:
                yield partial(self.complete, site, again)
                yield from check.operands(site, again)

    def top(self, loop: int) -> Site | None:
        """The top of each iteration of a loop; None when it never runs."""
        program = self.check.program
        dims = program.loops.get(loop)
        inside = [leaf for leaf in program.leaves if dims is not None and leaf.dims[: len(dims)] == dims]
        if dims is None or not inside:
            return None
        place = (*inside[0].place[: 2 * len(dims)], -1)
        return Site(dims, place, self.check.production.position[loop])

    def run(
        self, matching: Matching, site: Site, copies: frozenset[int], again: dict[int, Any]
    ) -> Unproved | bool:
        """Collects { site -> instance } for the group's leaves; only instances of the original may run."""
        r = self.check.relations
        isl = r.isl
        found: dict[int, Any] = {}
        for number in sorted(self.check.production.group & self.check.leaves.keys()):
            leaf = self.check.leaves[number]
            new = [x for x in self.after.leaves if x.stmt.id in copies and matching.origin(x).stmt == number]
            match = matching.match(leaf, tuple(new))
            if isinstance(match, Unproved):
                return match
            total = isl.Map.empty(isl.Space.alloc(r.polyhedra.context, 0, len(site.dims), len(leaf.dims)))
            original = r.points(leaf.context, (*names(leaf.dims), *match.unknowns))
            for copy in match.copies:
                if not copy.relation.domain().is_subset(original):
                    return Unproved("more would be computed than in the original", leaf.stmt.loc)
                inner = len(copy.leaf.dims) - len(site.dims)
                pairs = copy.pairs.project_out(isl.dim_type.out, len(site.dims), inner)
                total = total.union(pairs.reverse())
            found[number] = total
        again.update(found)
        return False

    def complete(self, site: Site, again: Mapping[int, Any]) -> Unproved | bool:
        """Each instance that writes a cell which an iteration reads runs at its top."""
        r, check, depth = self.check.relations, self.check, len(site.dims)
        for leaf, use in check.consumers:
            if leaf.dims[:depth] != site.dims:
                continue
            for writer, write in check.writes:
                needed = check.producing(leaf, use, writer, write)
                needed = needed.project_out(r.isl.dim_type.in_, depth, len(leaf.dims) - depth)
                if not needed.is_subset(again[writer.stmt.id]):
                    return Unproved("not all that is read would be computed", write.loc)
        return False
