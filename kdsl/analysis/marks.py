"""May the iterations of a loop run side by side, or in lockstep?

`parallel`, `bind`: no dependence between two iterations. `vectorize`: time is (chunk, inner iterations,
place, loads before stores), all lanes at once; a dependence between two lanes of a chunk is kept when its
source is strictly earlier in that time. Terms of one sum may come in another order, but not at once; a sum
into a cell that all lanes share becomes a tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from kdsl.analysis.affine import all_of, at_least, formula_names, symbol
from kdsl.analysis.program import Dim, Leaf, Program, Use
from kdsl.analysis.relations import Relations, names
from kdsl.analysis.turns import numbered, signs
from kdsl.analysis.values import Values
from kdsl.analysis.verdict import Unproved, Verdict
from kdsl.analysis.witness import Point, smallest, violation

MarkQuestion = Literal["parallel", "vectorize", "bind"]


@dataclass(slots=True)
class MarkCheck:
    """One question about one loop."""

    program: Program
    loop: tuple[Dim, ...]
    kind: MarkQuestion
    lanes: int | None
    relations: Relations = field(init=False)
    _apart: dict[tuple[int, int], Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        width = max([len(leaf.place) for leaf in self.program.leaves], default=0)
        self.relations = Relations(self.program.values, width + 1)

    def verdict(self) -> Verdict:
        """The first violation that is certain; else the first that cannot be excluded."""
        dim = self.loop[-1]
        if dim.direction == 0:
            return Unproved(f"the step of loop `{dim.var}` is not known", dim.loc)
        pairs = list(self.conflicts())
        unproved: Unproved | None = None
        for source, first, target, second in sorted(pairs, key=lambda p: not (p[1].exact and p[3].exact)):
            if unproved and not (first.exact and second.exact):
                break
            limited = self.relations.within_limit(partial(self.pair, source, first, target, second))
            match limited:
                case None:
                    unproved = Unproved("the question is too large", first.loc or second.loc, "unsafe=True")
                case Point() as point:
                    depth = len(self.loop) - 1
                    return violation(
                        self.relations, point, (source, first), (target, second), depth, reordered=False
                    )
                case Unproved():
                    unproved = limited
        return unproved

    def conflicts(self) -> Iterator[tuple[Leaf, Use, Leaf, Use]]:
        """Pairs of uses in the loop that may meet, one of them writing."""
        depth, dim = len(self.loop), self.loop[-1]
        inside = [
            (leaf, use)
            for leaf in self.program.leaves
            if len(leaf.dims) >= depth and leaf.dims[depth - 1] == dim
            for use in leaf.uses
            if dim in use.place and dim not in use.buffer.hidden
        ]
        by_memory: dict[str, list[tuple[Leaf, Use]]] = {}
        for leaf, use in inside:
            by_memory.setdefault(use.buffer.memory, []).append((leaf, use))
        for uses in by_memory.values():
            if all(u.mode == "read" for _, u in uses):
                continue
            for source, first in uses:
                for target, second in uses:
                    if (first.mode != "read" or second.mode != "read") and not self.exempt(first, second):
                        yield source, first, target, second

    def exempt(self, first: Use, second: Use) -> bool:
        """Updates that may meet in any order."""
        if not (first.mode == second.mode == "update" and first.op == second.op):
            return False
        if first.atomic and second.atomic:
            return True
        if self.kind != "vectorize" or first.atomic or second.atomic:
            return False
        if self.ordered(first):
            return False
        return first.place != second.place or (self.invariant(first) and self.invariant(second))

    def ordered(self, use: Use) -> bool:
        """True for updates of floats that must keep their order."""
        dtype = use.buffer.dtype
        return self.program.func.options.strict and dtype is not None and dtype.is_float

    def invariant(self, use: Use) -> bool:
        """True when all lanes use one cell."""
        name, values = self.loop[-1].name, self.program.values
        return use.exact_cell and all(name not in values.closure(f.names()) for f in use.index)

    def pair(self, source: Leaf, first: Use, target: Leaf, second: Use) -> Point | Unproved | bool:
        """A point at which `first` and a later `second` conflict; False when there is none."""
        r = self.relations
        if self.never(source, first, target, second):
            return False
        if first.buffer.key == second.buffer.key:
            same = r.meetings(source, first, target, second)
        else:
            same = r.isl.Map.from_domain_and_range(r.domain(source), r.domain(target))
        apart = self.apart(source, target)
        meeting = same.intersect(apart)
        if meeting.is_empty():
            return False
        if self.kind == "vectorize":
            meeting = meeting.intersect(self.not_earlier(source, first, target, second))
            if meeting.is_empty():
                return self.out_of_step(first) or self.out_of_step(second) or False
        if first.exact and second.exact and first.buffer.key == second.buffer.key:
            return smallest(r, meeting)
        return doubt(r.values, first, second)

    def never(self, source: Leaf, first: Use, target: Leaf, second: Use) -> bool:
        """True when subscripts alone say that the two uses meet in no two iterations of the loop."""
        if first.buffer.key != second.buffer.key:
            return False
        known = signs(self.program.values, first, numbered(source.dims), second, numbered(target.dims))
        if known is None:
            return True
        last = len(self.loop) - 1
        wanted = {(n, n): 0 for n in range(last)} | {(last, last): self.loop[-1].direction}
        return any(wanted.get(pair, sign) != sign for pair, sign in known.items())

    def out_of_step(self, use: Use) -> Unproved | None:
        """Inner loops whose lanes start at different values run at no common time."""
        closure = self.program.values.closure
        for part in use.place[2 * len(self.loop) :]:
            if isinstance(part, Dim) and self.loop[-1].name in closure(part.lo.names()):
                return Unproved(f"loop `{part.var}` starts at another value in each lane", part.loc)
        return None

    def apart(self, source: Leaf, target: Leaf) -> Any:
        """{ source -> target : same iterations around the loop, target in a later one (of its chunk) }."""
        key = id(source), id(target)
        found = self._apart.get(key)
        if found is None:
            found = self._apart[key] = self._make_apart(source, target)
        return found

    def _make_apart(self, source: Leaf, target: Leaf) -> Any:
        r, isl, depth = self.relations, self.relations.isl, len(self.loop)
        space = isl.Space.alloc(r.polyhedra.context, 0, len(source.dims), len(target.dims))
        out = isl.Map.universe(space)
        for n in range(depth - 1):
            out = out.equate(isl.dim_type.in_, n, isl.dim_type.out, n)
        order = isl.Map.order_lt if self.loop[-1].direction > 0 else isl.Map.order_gt
        out = order(out, isl.dim_type.in_, depth - 1, isl.dim_type.out, depth - 1)
        if self.kind == "vectorize" and self.lanes is not None:
            out = out.intersect(self.chunk(source).apply_range(self.chunk(target).reverse()))
        return out

    def chunk(self, leaf: Leaf) -> Any:
        """{ [dims] -> [number of the chunk] }."""
        dim = self.loop[-1]
        assert self.lanes is not None
        length = abs(dim.step) * self.lanes
        done = (symbol(dim.name) - dim.lo) * dim.direction - symbol("chunk") * length
        context = all_of(at_least(done), at_least(-done + (length - 1)))
        around = tuple([f for f in leaf.context if dim.name in formula_names(f)])
        return self.relations.relation((*around, context), names(leaf.dims), ("chunk",))

    def not_earlier(self, source: Leaf, first: Use, target: Leaf, second: Use) -> Any:
        """{ source -> target : the source is not strictly earlier in lockstep time }; of two updates that
        commute, only those at one time."""
        cut = 2 * len(self.loop)
        times = []
        for leaf, use in ((source, first), (target, second)):
            tail = use.place[cut:]
            filler = (0,) * (self.relations.width - 1 - len(tail))
            phase = 0 if use.mode == "read" else 1
            times.append(self.relations.time(leaf.dims, (*tail, *filler, phase)))
        if first.mode == second.mode == "update" and first.op == second.op and not self.ordered(first):
            return times[0].apply_range(times[1].reverse())
        return times[0].lex_ge_map(times[1])


def doubt(values: Values, first: Use, second: Use) -> Unproved:
    """Why two uses may meet."""
    coarse = first if not first.exact else second
    name = coarse.buffer.name
    if first.buffer.key != second.buffer.key:
        a, b = sorted((first.buffer.name, second.buffer.name))
        reason = f"`{a}` and `{b}` may share memory"
        return Unproved(reason, coarse.loc, "leave one of them out of may_alias")
    if coarse.buffer.dtype is None:
        return Unproved("data decide when the loop is left", coarse.loc)
    if any(n in values.divisions for n in values.closure(n for f in coarse.index for n in f.names())):
        reason = f"a subscript of `{name}` is a quotient or remainder by a size"
        return Unproved(reason, coarse.loc, "take this step on loops that are not collapsed, or unsafe=True")
    products = [f for f in coarse.index if not f.is_affine]
    if products:
        return Unproved(f"the subscript `{products[0]}` of `{name}` is not affine", coarse.loc)
    if not coarse.exact_cell:
        reason = f"data decide which element of `{name}` is {'read' if coarse.mode == 'read' else 'written'}"
        return Unproved(reason, coarse.loc, "unsafe=True, if no two iterations meet in one element")
    other = second if coarse is first else first
    reason = f"data decide whether `{name}` is {'read' if coarse.mode == 'read' else 'written'}"
    return Unproved(reason, coarse.loc or other.loc, "unsafe=True, if no two iterations meet in one element")
