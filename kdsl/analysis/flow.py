"""From which writes a read may get its value: has each iteration of a loop its own cells of a local?

    for i:                      every cell that iteration i reads was written in iteration i before,
        t = A[i]                and no cell that it wrote is read after the loop:
        B[i] = t * t            then each iteration may have a copy of `t`

A read is covered when a write that certainly runs comes earlier. Conditions that data decide are compared as
well: what is written and read under one `if`, or up to one bound, in the same iteration, is covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kdsl.analysis.affine import affine_throughout, equal, formula_names, symbol
from kdsl.analysis.program import Dim, Leaf, Program, Use, is_unknown
from kdsl.analysis.relations import Relations, names
from kdsl.analysis.verdict import Unproved, Verdict, Violation
from kdsl.analysis.witness import Point, cell_of, cell_text, sizes_text, smallest, spelled, violation


@dataclass(frozen=True, slots=True)
class Event:
    """A use of a buffer by `leaf`, at the iterations `dims` of the loops around the use's place.

    `unknowns`: what data decide of where it takes place. `certain`: it does, where they say so, in that cell.
    """

    leaf: Leaf
    use: Use
    dims: tuple[Dim, ...]
    unknowns: frozenset[str]
    certain: bool

    @property
    def reads(self) -> bool:
        """An update reads, too."""
        return self.use.mode != "write"


@dataclass(slots=True)
class Flow:
    """Questions about one local buffer of a program, known by its key."""

    program: Program
    key: str
    relations: Relations = field(init=False)
    isl: Any = field(init=False)
    events: list[Event] = field(init=False)

    def __post_init__(self) -> None:
        width = max([len(leaf.place) for leaf in self.program.leaves], default=0)
        self.relations = Relations(self.program.values, width)
        self.isl = self.relations.isl
        found: dict[tuple[object, ...], Event] = {}
        for leaf in self.program.leaves:
            for use in leaf.uses:
                if use.buffer.key == self.key:
                    key = use.place, use.mode, use.index, use.context
                    found.setdefault(key, self.event(leaf, use))
        self.events = list(found.values())

    def event(self, leaf: Leaf, use: Use) -> Event:
        values = self.program.values
        dims = tuple([part for part in use.place if isinstance(part, Dim)])
        closed = values.closure(set().union(*[formula_names(f) for f in use.context]))
        used = [values.symbols[n] for n in closed]
        unknowns = frozenset([s.name for s in used if is_unknown(s)])
        loops = {s.name for s in used if s.kind == "loop"}
        affine = all(map(affine_throughout, use.context))
        certain = leaf.certain and use.exact_cell and affine and loops <= set(names(dims))
        return Event(leaf, use, dims, unknowns, certain)

    # ------------------------------------------------------------------ questions

    def private(self, loop: tuple[Dim, ...]) -> Verdict:
        """None when each iteration of the loop (given with those around it) may have a copy."""
        inside = [e for e in self.events if loop[-1] in e.use.place]
        outside = [e for e in self.events if loop[-1] not in e.use.place]
        questions = [partial(self.own, r, inside, outside, loop) for r in inside if r.reads]
        questions += [partial(self.unused, r, inside, outside, loop) for r in outside if r.reads]
        return self.answered(questions)

    def initialised(self, stmt: int) -> Verdict:
        """None when the cells that this statement updates have a value by then."""
        asked = [e for e in self.events if e.leaf.stmt.id == stmt and e.use.mode == "update"]
        return self.answered([partial(self.own, r, self.events, [], ()) for r in asked])

    def answered(self, questions: Sequence[Any]) -> Verdict:
        """The first violation that is certain; else the first doubt."""
        unproved: Unproved | None = None
        for question in questions:
            found = self.relations.within_limit(question)
            if found is None:
                return Unproved("the question is too large", self.program.func.loc, "unsafe=True")
            if isinstance(found, Violation):
                return found
            if isinstance(found, Unproved) and unproved is None:
                unproved = found
        return unproved

    def own(
        self, read: Event, inside: Sequence[Event], outside: Sequence[Event], loop: tuple[Dim, ...]
    ) -> Verdict | bool:
        """False when what `read` reads was written earlier, in the same iteration of `loop`."""
        left = self.cells(read, read.unknowns)
        for write in inside:
            if write.use.mode == "write" and write.certain and write.unknowns <= read.unknowns:
                left = left.subtract(self.covered(read, write, len(loop)))
        if left.is_empty():
            return False
        if read.use.exact and loop and not any(self.perhaps(read, w, loop) for w in inside):
            for source in (*inside, *outside):
                if source.use.mode != "read" and source.use.exact:
                    found = self.stray(read, source, left, loop)
                    if found is not None:
                        return found
        reason = f"not proved that `{read.use.buffer.name}` is written before it is read here"
        return Unproved(reason, read.use.loc, "unsafe=True, if it is, for your data")

    def unused(
        self, read: Event, inside: Sequence[Event], outside: Sequence[Event], loop: tuple[Dim, ...]
    ) -> Verdict | bool:
        """False when `read`, outside of the loop, never gets a value that the loop wrote."""
        for source in inside:
            if source.use.mode == "read":
                continue
            left = self.meeting(source, read, read.unknowns)
            if left.is_empty():
                continue
            if read.use.exact_cell and source.use.exact_cell:
                for write in outside:
                    if write.use.mode == "write" and write.certain and write.unknowns <= read.unknowns:
                        left = left.subtract(self.overwritten(source, write, read))
            if left.is_empty():
                continue
            if source.use.exact and read.use.exact:
                pairs = left.project_out(self.isl.dim_type.out, len(read.dims), len(read.unknowns))
                found = self.after(source, read, self.widened(pairs, source, read), loop)
                if found is not None:
                    return found
            reason = f"`{read.use.buffer.name}` is read here, perhaps as the loop left it"
            return Unproved(reason, read.use.loc, "unsafe=True, if your data rule that out")
        return False

    def perhaps(self, read: Event, write: Event, loop: tuple[Dim, ...]) -> bool:
        """True when data decide whether `write` comes before `read` in the same iteration of `loop`."""
        if write.use.mode != "write" or (write.certain and write.unknowns <= read.unknowns):
            return False
        return not self.same_iteration(self.meeting(write, read), loop).is_empty()

    # ------------------------------------------------------------------ relations

    def same_iteration(self, pairs: Any, loop: tuple[Dim, ...]) -> Any:
        """Those of `pairs` that are in one iteration of `loop`."""
        kind = self.isl.dim_type
        for n in range(len(loop)):
            pairs = pairs.equate(kind.in_, n, kind.out, n)
        return pairs

    def cells(self, event: Event, more: frozenset[str]) -> Any:
        """{ [dims, more] -> cell }."""
        use = event.use
        subscripts = [*[symbol(d.name) for d in use.buffer.hidden], *use.index]
        out = tuple([f"cell{n}" for n in range(len(subscripts))])
        equations = [equal(symbol(c) - f) for c, f in zip(out, subscripts) if f.is_affine]
        dims = (*names(event.dims), *sorted(more))
        return self.relations.relation((*use.context, *equations), dims, out)

    def time(self, event: Event, more: int) -> Any:
        """{ [dims, and `more` others] -> time }."""
        found = self.relations.time(event.dims, event.use.place)
        return found.insert_dims(self.isl.dim_type.in_, len(event.dims), more) if more else found

    def earlier(self, read: Event, write: Event, depth: int) -> Any:
        """{ [dims, unknowns] of `read` -> [dims, the same] of `write` : the write is earlier }, the outer
        `depth` iterations being equal."""
        kind, more = self.isl.dim_type, len(read.unknowns)
        found = self.time(read, more).lex_gt_map(self.time(write, more))
        # One `if`, or one bound, is the same for both only in the same iterations.
        depth = common(read.dims, write.dims) if write.unknowns else depth
        for n in range(depth):
            found = found.equate(kind.in_, n, kind.out, n)
        for n in range(more):
            found = found.equate(kind.in_, len(read.dims) + n, kind.out, len(write.dims) + n)
        return found

    def covered(self, read: Event, write: Event, depth: int) -> Any:
        """{ [dims, unknowns] of `read` -> cell that `write` wrote earlier }."""
        return self.earlier(read, write, depth).apply_range(self.cells(write, read.unknowns))

    def meeting(self, first: Event, second: Event, more: frozenset[str] = frozenset()) -> Any:
        """{ first -> [second, more] : in one cell, the first earlier }."""
        same = self.cells(first, frozenset()).apply_range(self.cells(second, more).reverse())
        return same.intersect(self.time(first, 0).lex_lt_map(self.time(second, len(more))))

    def overwritten(self, source: Event, write: Event, read: Event) -> Any:
        """{ source -> [read, unknowns] : `write` certainly comes in between, to the same (single) cell }."""
        unknowns = read.unknowns
        same = self.cells(read, unknowns).apply_range(self.cells(write, unknowns).reverse())
        same = same.intersect(self.earlier(read, write, 0))
        return self.meeting(source, write, unknowns).apply_range(same.reverse())

    # ------------------------------------------------------------------ witnesses

    def widened(self, pairs: Any, first: Event, second: Event) -> Any:
        """`pairs` of iterations of two uses as pairs of iterations of their leaves."""
        r, kind = self.relations, self.isl.dim_type
        for event, side in ((first, kind.in_), (second, kind.out)):
            rest = len(event.leaf.dims) - len(event.dims)
            pairs = pairs.insert_dims(side, len(event.dims), rest) if rest else pairs
        return pairs.intersect_domain(r.domain(first.leaf)).intersect_range(r.domain(second.leaf))

    def stray(self, read: Event, source: Event, left: Any, loop: tuple[Dim, ...]) -> Violation | None:
        """The case in which `read`, in `left`, sees what `source` wrote in another iteration, or outside."""
        kind = self.isl.dim_type
        where = left.domain().project_out(kind.set, len(read.dims), len(read.unknowns))
        pairs = self.meeting(source, read).intersect_range(where)
        inside = loop[-1] in source.use.place
        if inside:
            pairs = pairs.subtract(self.same_iteration(pairs, loop))
        pairs = self.widened(pairs, source, read)
        if pairs.is_empty():
            return None
        found, point, cell = self.shown(source, read, pairs, loop)
        at = spelled(read.leaf, point.second, len(loop) - 1)
        text = f"iteration {at} reads {cell}, which was written before the loop"
        if inside:
            text = f"iteration {spelled(source.leaf, point.first, len(loop) - 1)} writes {cell}"
            text += f", which iteration {at} reads"
        return replace(found, text=text + sizes_text(point.sizes))

    def after(self, source: Event, read: Event, pairs: Any, loop: tuple[Dim, ...]) -> Violation | None:
        """The case in which `read`, outside, sees what `source` wrote in the loop."""
        if pairs.is_empty():
            return None
        found, point, cell = self.shown(source, read, pairs, loop)
        at = spelled(source.leaf, point.first, len(loop) - 1)
        text = f"iteration {at} writes {cell}, which is read after the loop{sizes_text(point.sizes)}"
        return replace(found, text=text)

    def shown(
        self, source: Event, read: Event, pairs: Any, loop: tuple[Dim, ...]
    ) -> tuple[Violation, Point, str]:
        """The smallest of `pairs` as a violation, as a point, and the text of its cell."""
        point = smallest(self.relations, pairs)
        first, second = (source.leaf, source.use), (read.leaf, read.use)
        found = violation(self.relations, point, first, second, len(loop) - 1, reordered=False)
        cell = cell_text(read.use.buffer.name, cell_of(self.relations, point, first, second))
        return found, point, cell


def common(first: tuple[Dim, ...], second: tuple[Dim, ...]) -> int:
    """How many loops are around both."""
    count = 0
    while count < min(len(first), len(second)) and first[count] == second[count]:
        count += 1
    return count
