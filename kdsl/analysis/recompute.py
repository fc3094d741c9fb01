"""May the cells of a local be computed again where they are read? Answered for the program as it is.

A site is where the producing instances are to run again: at the top of an iteration of a loop, or at a read.
`again` relates sites to the instances that run there.

- No instance feeds on cells that other instances produce.
- A cell that is read is produced in the same iterations of the loops around both.
- Between an instance and a site at which it runs again, nothing writes what the instance reads.

Makers stand before readers in one body; who asks sees to that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from kdsl.analysis.affine import at_least, equal, formula_names, symbol
from kdsl.analysis.marks import doubt
from kdsl.analysis.program import Dim, Leaf, Place, Program, Use, is_unknown
from kdsl.analysis.relations import Relations, names
from kdsl.analysis.state import State
from kdsl.analysis.verdict import Unproved, Verdict, Violation, ViolationKind
from kdsl.analysis.witness import (
    Point,
    at_point,
    cell_of,
    cell_text,
    iterations,
    place,
    sizes_text,
    smallest,
    spelled,
)
from kdsl.ir.nodes import Alloc
from kdsl.source import Loc


@dataclass(frozen=True, slots=True)
class Production:
    """A local with all that touches it, by ids of statements.

    `depth` loops stand around the body of its makers and readers; `position` says in which statement of that
    body another one is. `group`: the leaves that are to run again. `private`: no cell survives from one run
    of the body to the next.
    """

    alloc: Alloc
    depth: int
    position: Mapping[int, int]
    group: frozenset[int]
    private: bool


@dataclass(frozen=True, slots=True)
class Site:
    """Where instances run again: in the loops `dims`, at `place`, in statement `position` of the body."""

    dims: tuple[Dim, ...]
    place: Place
    position: int


Question = Callable[[], Violation | Unproved | bool]
"""False: nothing is wrong."""

Again = Mapping[int, Any]
"""For each leaf of the group (by id) { [dims of the site] -> [dims of the leaf] }."""


@dataclass(slots=True)
class RecomputeCheck:
    """Questions about one production of one program."""

    program: Program
    production: Production
    relations: Relations = field(init=False)
    leaves: dict[int, Leaf] = field(init=False)
    key: str = field(init=False)
    writes: list[tuple[Leaf, Use]] = field(init=False)
    reads: list[tuple[Leaf, Use]] = field(init=False)

    def __post_init__(self) -> None:
        leaves = self.program.leaves
        self.relations = Relations(self.program.values, 2 + max([len(x.place) for x in leaves], default=0))
        self.leaves = {leaf.stmt.id: leaf for leaf in leaves}
        alloc = self.production.alloc
        self.key = f"{alloc.name}@{alloc.id}"
        uses = [(reader(leaf, u), u) for leaf in leaves for u in leaf.uses if u.buffer.key == self.key]
        self.writes = [(leaf, u) for leaf, u in uses if u.mode != "read"]
        self.reads = [(leaf, u) for leaf, u in uses if u.mode == "read"]

    @property
    def consumers(self) -> list[tuple[Leaf, Use]]:
        """The reads by others than the group."""
        return [(leaf, u) for leaf, u in self.reads if leaf.stmt.id not in self.production.group]

    # ------------------------------------------------------------------ feeding

    def feeding(self) -> Iterator[Question]:
        """Instances of the group read no cells of the local but those that they write."""
        for leaf, use in self.reads:
            if leaf.stmt.id in self.production.group:
                yield partial(self.feeds, leaf, use)

    def feeds(self, leaf: Leaf, use: Use) -> Violation | Unproved | bool:
        name, leaf = use.buffer.name, self.leaves[leaf.stmt.id]
        own = [u for other, u in self.writes if other is leaf]
        if not own:
            return Unproved(f"`{name}` has a part in its own elements", use.loc)
        if not (use.exact_cell and own[0].exact_cell):
            return Unproved(f"data decide which element of `{name}` is read", use.loc)
        r = self.relations
        others = r.cells(leaf, use).subtract(r.cells(leaf, own[0]))
        if others.is_empty():
            return False
        if not use.exact:
            return Unproved(f"`{name}` may have a part in its own elements", use.loc)
        point = smallest(r, others)
        cell = self.cell(use, point.second)
        at = spelled(leaf, point.first, 0)
        text = f"{self.cell(use, self.image(leaf, own[0], point))} is made of {cell}"
        text += f", at {at}" if at else ""
        both = leaf, use
        return self.violation("feeds", both, both, point, text)

    # ----------------------------------------------------------------- coverage

    def covering(self, certain: bool) -> Iterator[Question]:
        """Each cell that is read is produced. `certain`: the writes must run for sure."""
        for leaf, use in self.consumers:
            yield partial(self.covered, leaf, use, certain or not self.production.private)

    def covered(self, leaf: Leaf, use: Use, certain: bool) -> Violation | Unproved | bool:
        """Sets are { [outer iterations, cell, unknowns] }: data decide alike for both branches of an `if`."""
        r, isl, depth = self.relations, self.relations.isl, self.production.depth
        name = use.buffer.name
        unknowns = self.unknowns() if certain else ()
        wanted = self.touched(leaf, use, unknowns, bounded=True)
        left = wanted
        for writer, write in self.writes:
            if not certain or (write.exact_cell and self.certainly(writer)):
                left = left.subtract(self.touched(writer, write, unknowns, bounded=False))
        if left.is_empty():
            return False
        left = left.project_out(isl.dim_type.set, depth + len(use.index), len(unknowns))
        for writer, write in self.writes if certain else ():
            left = left.subtract(self.touched(writer, write, (), bounded=False))
        if not use.exact or left.is_empty():
            return Unproved(f"not every element of `{name}` that is read is certain to be produced", use.loc)
        missing = isl.Map.from_domain(left)
        missing = missing.move_dims(isl.dim_type.out, 0, isl.dim_type.in_, depth, len(use.index))
        point = smallest(r, self.reading(leaf, use, missing))
        at = spelled(leaf, point.first, 0)
        elsewhere = not self.production.private and self.anywhere(point)
        text = f"{cell_text(name, point.second)} is read{f' at {at}' if at else ''}"
        text += ", made in another iteration" if elsewhere else ", and nothing produces it"
        kind: ViolationKind = "elsewhere" if elsewhere else "unwritten"
        both = leaf, use
        return self.violation(kind, both, both, point, text)

    def reading(self, leaf: Leaf, use: Use, missing: Any) -> Any:
        """{ dims -> cell, without hidden subscripts }: the reads of the `missing` cells."""
        r, isl = self.relations, self.relations.isl
        depth, hidden = self.production.depth, len(use.buffer.hidden)
        cells = r.cells(leaf, use).project_out(isl.dim_type.out, 0, hidden)
        outer = isl.Map.identity(isl.Space.alloc(r.polyhedra.context, 0, len(leaf.dims), len(leaf.dims)))
        outer = outer.project_out(isl.dim_type.out, depth, len(leaf.dims) - depth)
        return cells.intersect(outer.apply_range(missing))

    def anywhere(self, point: Point) -> bool:
        """True when some instance writes the cell of `point`, in whatever iteration."""
        isl = self.relations.isl
        for writer, write in self.writes:
            found = self.relations.cells(writer, write).range()
            for name, value in point.sizes.items():
                at = found.find_dim_by_name(isl.dim_type.param, name)
                if at >= 0:
                    found = found.fix_val(isl.dim_type.param, at, value)
            for n, value in enumerate(point.second, len(write.buffer.hidden)):
                found = found.fix_val(isl.dim_type.set, n, value)
            if not found.is_empty():
                return True
        return False

    def touched(self, leaf: Leaf, use: Use, unknowns: tuple[str, ...], bounded: bool) -> Any:
        """{ [outer iterations, cell, unknowns] }, within the local's extents when `bounded`."""
        r, depth = self.relations, self.production.depth
        outer = names(leaf.dims[:depth])
        cells = tuple([f"cell{n}" for n in range(len(use.index))])
        parts = [equal(symbol(c) - f) for c, f in zip(cells, use.index) if f.is_affine and use.exact_cell]
        if bounded:
            state = State(r.values, names={n: symbol(n) for n in self.program.func.sizes})
            for c, e in zip(cells, self.production.alloc.shape):
                parts += [at_least(symbol(c)), at_least(state.modular(e) - symbol(c) - 1)]
        context = (*leaf.context, *[f for f in use.context if f not in leaf.context], *parts)
        return r.points(context, (*outer, *cells, *unknowns))

    def certainly(self, leaf: Leaf) -> bool:
        """True when no exit and no `while` decides whether `leaf` runs."""
        return all(d.var for d in leaf.dims) and not any(
            u.control and u.buffer.dtype is None for u in leaf.uses
        )

    def unknowns(self) -> tuple[str, ...]:
        """What data decide about the writes, by the symbols that stand for it."""
        values = self.relations.values
        used: set[str] = set()
        for leaf, _ in self.writes:
            used |= values.closure(set().union(*[formula_names(f) for f in leaf.context]))
        found = sorted([values.symbols[n] for n in used], key=lambda s: s.rank)
        return tuple([s.name for s in found if is_unknown(s)])

    # ----------------------------------------------------------------- operands

    def operands(self, site: Site, again: Again, asked: bool = False) -> Iterator[Question]:
        """Nothing writes what an instance reads between it and the site.

        `asked`: at the site it is asked of any instance whether it has run, by evaluating its conditions.
        """
        position = self.production.position
        for number, instances in again.items():
            leaf = self.leaves[number]
            for use in leaf.uses:
                if use.mode != "read" or use.buffer.dtype is None or use.buffer.key == self.key:
                    continue
                source, there = leaf, instances
                if asked and use.control:
                    source = reader(leaf, use)
                    there = self.near(None, site.dims, source.dims)
                for other in self.program.leaves:
                    at = position.get(other.stmt.id)
                    if at is None or not position[number] <= at <= site.position:
                        continue
                    for write in other.uses:
                        if write.mode == "read" or write.buffer.memory != use.buffer.memory:
                            continue
                        if other.stmt.id not in self.production.group:
                            yield partial(self.changed, site, there, (source, use), (other, write))

    def changed(
        self, site: Site, again: Any, source: tuple[Leaf, Use], target: tuple[Leaf, Use]
    ) -> Violation | Unproved | bool:
        """Does `target` overwrite what `source` reads before the site?"""
        r, position = self.relations, self.production.position
        (leaf, use), (other, write) = source, target
        if use.buffer.key != write.buffer.key:
            return doubt(r.values, use, write)
        here, there = position[leaf.stmt.id], position[other.stmt.id]
        meet = r.cells(leaf, use).apply_range(r.cells(other, write).reverse())
        meet = self.near(meet, leaf.dims, other.dims)
        if here == there:
            meet = meet.intersect(self.time(leaf, use.place).lex_lt_map(self.time(other, write.place)))
        if meet.is_empty():
            return False
        if there == site.position:
            before = r.time(other.dims, write.place).lex_lt_map(r.time(site.dims, site.place))
            meet = meet.intersect(again.reverse().apply_range(before.reverse()))
            if meet.is_empty():
                return False
        else:
            meet = meet.intersect_domain(again.range())
            if meet.is_empty():
                return False
        if not (use.exact and write.exact):
            return Unproved(f"`{use.buffer.name}`, of which it is made, may change in between", write.loc)
        point = smallest(r, meet)
        cell = cell_text(use.buffer.name, cell_of(r, point, source, target))
        left, right = spelled(leaf, point.first, 0), spelled(other, point.second, 0)
        text = f"{place(leaf, use.loc) or 'it'} reads {cell}{f' at {left}' if left else ''}, which "
        text += f"{place(other, write.loc) or 'another statement'} changes{f' at {right}' if right else ''}"
        return self.violation("changed", source, target, point, text)

    def time(self, leaf: Leaf, at: Place) -> Any:
        return self.relations.time(leaf.dims, at)

    def near(self, pairs: Any, first: tuple[Dim, ...], second: tuple[Dim, ...]) -> Any:
        """`pairs` (None: all) in the same iterations of the loops around the body.

        What controls the body may stand further out: then those around both count.
        """
        isl = self.relations.isl
        space = isl.Space.alloc(self.relations.polyhedra.context, 0, len(first), len(second))
        same = isl.Map.universe(space)
        for n in range(min(self.production.depth, len(first), len(second))):
            same = same.equate(isl.dim_type.in_, n, isl.dim_type.out, n)
        return same if pairs is None else pairs.intersect(same)

    # --------------------------------------------------------------------- cells

    def producing(self, leaf: Leaf, use: Use, writer: Leaf, write: Use) -> Any:
        """{ [dims of the read] -> [dims of the write] }: it may write the cell that is read."""
        r = self.relations
        pairs = r.cells(leaf, use).apply_range(r.cells(writer, write).reverse())
        return self.near(pairs, leaf.dims, writer.dims)

    def image(self, leaf: Leaf, use: Use, point: Point) -> tuple[int, ...]:
        """The cell, hidden subscripts included, that `use` touches at the first instance of `point`."""
        r, isl = self.relations, self.relations.isl
        found = at_point(r, r.cells(leaf, use), point.sizes, point.first).sample_point()
        count = len(use.buffer.hidden) + len(use.index)
        return tuple(int(found.get_coordinate_val(isl.dim_type.set, n).to_python()) for n in range(count))

    def cell(self, use: Use, values: tuple[int, ...]) -> str:
        """A cell with hidden subscripts, as text without them."""
        return cell_text(use.buffer.name, values[len(use.buffer.hidden) :])

    def violation(
        self,
        kind: ViolationKind,
        first: tuple[Leaf, Use],
        second: tuple[Leaf, Use],
        point: Point,
        text: str,
    ) -> Violation:
        """A counterexample; `point` is in the iterations of both, or of the first if they are one."""
        here = iterations(first[0], point.first)
        there = here if second is first else iterations(second[0], point.second)
        sizes, name = dict(point.sizes), first[1].buffer.name
        locs = first[1].loc, second[1].loc
        return Violation(kind, *locs, sizes, here, there, name, (), text + sizes_text(point.sizes))


def reader(leaf: Leaf, use: Use) -> Leaf:
    """Where `use` takes place: `leaf`, or the condition or the bounds around it, whatever their outcome."""
    if not use.control:
        return leaf
    dims = tuple([part for part in use.place if isinstance(part, Dim)])
    return replace(leaf, dims=dims, place=use.place, context=use.context)


def verdict(relations: Relations, questions: Iterator[Question], loc: Loc | None) -> Verdict:
    """The first violation that is certain; else the first that cannot be excluded."""
    unproved: Unproved | None = None
    for question in questions:
        found = relations.within_limit(question)
        if found is None:
            return Unproved("the question is too large", loc)
        if isinstance(found, Violation):
            return found
        if isinstance(found, Unproved) and unproved is None:
            unproved = found
    return unproved
