"""Partial results of a reduction: the array that holds them, the loops that fill and combine it.

s_r: f32[count, extents of the box]     the box: the cells of `s` that the nest updates
for i_z: for s_r_z0: s_r[i_z, s_r_z0] = identity
<the nest, with s_r[i, j - start] for s[j]>
for i_r: for s_r_0: s[start + s_r_0] += s_r[i_r, s_r_0]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf

from kdsl.analysis.accesses import Access, collect
from kdsl.analysis.affine import Form, at_least, constant, symbol
from kdsl.analysis.regions import Atoms, Range, Regions, box, sites
from kdsl.analysis.values import size_form
from kdsl.dtypes import DType, bool_
from kdsl.ir.nodes import (
    Accumulate,
    AccumulateOp,
    Alloc,
    ArrayParam,
    Body,
    Compare,
    Const,
    Expr,
    Func,
    If,
    Load,
    Loop,
    ScalarParam,
    Stmt,
    Store,
    fresh_id,
)
from kdsl.ir.printer import print_expr
from kdsl.ir.walk import map_stmt, stmts, subexprs, substitute
from kdsl.sched.edit import Edit
from kdsl.sched.rewriting.arith import const, from_linear, sub, var
from kdsl.sched.rewriting.tree import Place, places, replaced


@dataclass(frozen=True, slots=True)
class Group:
    """Updates of one buffer by one operator; `ids` are their statements."""

    buffer: str
    op: AccumulateOp
    source: Alloc | ArrayParam
    ids: frozenset[int]


@dataclass(frozen=True, slots=True)
class Names:
    """What a step calls the partial results, the loop that fills them, and the one that combines them."""

    array: str
    fill: str
    combine: str


@dataclass(frozen=True, slots=True)
class Region:
    """The box of cells that a group updates in one run of a nest; `shape` is that of the whole buffer."""

    box: tuple[Range, ...]
    shape: tuple[Form, ...]
    atoms: Atoms

    def expr(self, form: Form) -> Expr:
        """A form as an expression, its atoms put back."""
        return substitute(from_linear(form), dict(self.atoms.exprs))


def region(func: Func, nest: Place, group: Group, atoms: Atoms) -> Region:
    """The region of `group` in the loop at `nest`."""
    sizes = set(func.sizes)
    shape: list[Form] = []
    for extent in group.source.shape:
        form = size_form(extent) if not isinstance(extent, Expr) else atoms.form(extent, sizes)
        assert form is not None, "shapes are made of sizes"
        shape.append(form)
    scalars = {p.name for p in func.params if isinstance(p, ScalarParam)}
    outside = sizes | scalars | {s.var for s in nest.outer}
    found = [
        (s, loops)
        for s, loops in sites((nest.loop,), group.buffer)
        if isinstance(s, Accumulate) and s.id in group.ids
    ]
    return Region(box(found, shape, atoms, outside, sizes), tuple(shape), atoms)


@dataclass(frozen=True, slots=True)
class Partials:
    """Partial results for `loop`, counted from `start`, around the loop at `nest`.

    `count` elements are allocated, `trips` of them filled and combined. `kept` are the dimensions of the box
    that the partial results have too. `below`, `above`: for each dimension, whether the box may reach out of
    the array there.
    """

    group: Group
    loop: Loop
    nest: Place
    region: Region
    names: Names
    start: Expr
    count: Expr
    trips: Expr
    kept: tuple[int, ...]
    below: tuple[bool, ...] = ()
    above: tuple[bool, ...] = ()
    update: int = field(default_factory=fresh_id)
    """The id of the statement that combines."""

    @property
    def dtype(self) -> DType:
        return self.group.source.dtype

    def rewritten(self, func: Func) -> Func:
        """`func` with the updates made to partial results."""
        loop = next(p.loop for p in places(func) if p.loop.id == self.loop.id)
        func = replaced(func, {loop.id: (replace(loop, body=self._redirected(loop.body)),)})
        nest = next(p.loop for p in places(func) if p.loop.id == self.nest.loop.id)
        shape = (self.count, *[self.region.expr(self.region.box[n].extent) for n in self.kept])
        alloc = Alloc(self.names.array, self.dtype, shape, loc=self.loop.loc)
        return replaced(func, {nest.id: (alloc, self._fill(), nest, self._combine())})

    def _redirected(self, body: Body) -> Body:
        lead = sub(var(self.loop.var), self.start)
        out: list[Stmt] = []
        for s in body:
            s = map_stmt(s, lambda e: e, self._redirected)
            if s.id in self.group.ids and isinstance(s, Accumulate):
                rest = [self._relative(n, s.index[n]) for n in self.kept]
                s = replace(s, buffer=self.names.array, index=(lead, *rest))
            out.append(s)
        return tuple(out)

    def _relative(self, dim: int, index: Expr) -> Expr:
        """The index counted from the start of the box."""
        lo = self.region.box[dim].lo
        form = self.region.atoms.form(index, None)
        return sub(index, self.region.expr(lo)) if form is None else self.region.expr(form - lo)

    # ------------------------------------------------------------------ loops

    def _fill(self) -> Stmt:
        loops = self._loops(self.names.fill, "z")
        place = tuple([var(loop.var) for loop in loops])
        start = Const(identity(self.group.op, self.dtype), self.dtype)
        leaf = Store(self.names.array, place, start, loc=self.loop.loc)
        return _nested(loops, [()] * len(loops), leaf)

    def _combine(self) -> Stmt:
        """The loops that update the cells by the partial results, each test as far out as it can stand."""
        loops = self._loops(self.names.combine, "")
        place = tuple([var(loop.var) for loop in loops])
        at = {n: symbol(x.var) for n, x in zip(self.kept, loops[1:])}
        index = [self.region.expr(r.lo + at.get(n, constant(0))) for n, r in enumerate(self.region.box)]
        tests: list[list[Expr]] = [[] for _ in loops]
        for n, x in enumerate(index):
            found = tests[1 + self.kept.index(n) if n in self.kept else 0]
            if self.below and self.below[n]:
                found.append(Compare("<=", const(0), x))
            if self.above and self.above[n]:
                found.append(Compare("<", x, self.region.expr(self.region.shape[n])))
        value = Load(self.names.array, place, self.dtype)
        leaf = Accumulate(self.group.op, self.group.buffer, tuple(index), value, loc=self.loop.loc)
        return _nested(loops, tests, replace(leaf, id=self.update))

    def _loops(self, lead: str, tag: str) -> list[Loop]:
        ranges = [(lead, self.trips)]
        for n, at in enumerate(self.kept):
            ranges.append((f"{self.names.array}_{tag}{n}", self.region.expr(self.region.box[at].extent)))
        return [Loop(name, const(0), hi, const(1), (), loc=self.loop.loc) for name, hi in ranges]

    # ------------------------------------------------------------------ proof

    def clipped(self, edit: Edit) -> Partials:
        """With the tests that keep the box inside the array, and without dimensions of one cell; refused
        unless each update is inside of array and box."""
        if not self.region.box:
            return self
        before, after = Regions(collect(edit.func)), Regions(collect(self.rewritten(edit.func)))
        for regions in (before, after):
            for access in regions.accesses.accesses:
                if access.stmt in self.group.ids and access.mode == "update":
                    self._check(edit, regions, access)
        (back,) = [
            a for a in after.accesses.accesses if a.stmt == self.update and a.site.buffer == self.group.buffer
        ]
        rank = range(len(back.index))
        # An index that data choose is to be tested, even if there is but one element.
        by_data = {n for a in self._updates() for n in rank if _reads(a.index[n])}
        return replace(
            self,
            kept=tuple([n for n in rank if n in by_data or self.region.box[n].extent != constant(1)]),
            below=tuple([not after.never(back, at_least(-back.index[n] - 1)) for n in rank]),
            above=tuple([not after.never(back, at_least(back.index[n] - back.extent[n])) for n in rank]),
        )

    def _updates(self) -> list[Accumulate]:
        """The statements of the group."""
        return [s for s in stmts(self.loop.body) if isinstance(s, Accumulate) and s.id in self.group.ids]

    def _check(self, edit: Edit, regions: Regions, access: Access) -> None:
        """Refuses an update that may leave the array, or the box of the partial results."""
        for n in range(len(access.index)):
            if _reads(access.site.index[n]):
                # Tested when it runs: all of the dimension is there.
                continue
            if regions.within(access, n, constant(0), access.extent[n]):
                continue
            name = self.group.buffer
            site = next(s for s in self._updates() if s.id == access.stmt)
            dim = n if access.site.buffer == name else max(n - 1, 0)
            text = print_expr(site.index[dim], True)
            size = print_expr(self.region.expr(self.region.shape[dim]), True)
            raise edit.refused(
                "K0310",
                f"cannot make partial results of `{name}` for `{self.loop.var}`: its region is not known",
                self.loop,
                loc=site.loc,
                label=f"not proved that 0 <= {text} < {size}"
                if access.site.buffer == name
                else f"no box was found that holds `{text}` in every iteration",
                help="state what the sizes have in common, as in s.assume(...)",
            )


def _reads(e: Expr) -> bool:
    return any(isinstance(x, Load) for x in subexprs(e))


def identity(op: AccumulateOp, t: DType) -> bool | int | float:
    """The value that changes no other: -0.0 in a float sum (0.0 would turn -0.0 into 0.0)."""
    if t.is_float:
        return {"+": -0.0, "*": 1.0, "min": inf, "max": -inf}[op]
    if t == bool_:
        return op in ("*", "min")
    return {"+": 0, "*": 1, "min": t.max, "max": t.min}[op]


def _nested(loops: Sequence[Loop], tests: Sequence[Sequence[Expr]], leaf: Stmt) -> Stmt:
    """The loops around `leaf`, the tests of each around what is in it."""
    for loop, inside in zip(reversed(loops), reversed(tests)):
        for test in reversed(inside):
            leaf = If(test, (leaf,), loc=loop.loc)
        leaf = replace(loop, body=(leaf,))
    return leaf
