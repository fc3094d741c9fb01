"""The parts of a staged copy: its layout, the proofs that it is coherent, the loops that fill and empty it.

An index x of the box, counted from the box's start, goes to its place in the copy dimension by dimension:
a tile of 64 makes (x // 64, x % 64) of it, `order` permutes what results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isinf
from typing import TypedDict

import numpy as np

from kdsl.analysis.accesses import Access, collect
from kdsl.analysis.affine import Form, at_least, constant, symbol
from kdsl.analysis.answers import Question
from kdsl.analysis.linear import extent as trip_count
from kdsl.analysis.regions import Atoms, Range, Regions, box, sites
from kdsl.dtypes import DType, bool_
from kdsl.ir.nodes import (
    Alloc,
    Body,
    Compare,
    Const,
    Expr,
    Func,
    If,
    Load,
    Logic,
    Loop,
    ScalarParam,
    Select,
    Stmt,
    Store,
)
from kdsl.ir.printer import print_expr, print_func
from kdsl.ir.walk import stmts, substitute
from kdsl.sched.arith import binary, const, from_linear, sub, var
from kdsl.sched.edit import Edit
from kdsl.sched.tree import Place, replaced

ALIGN_BYTES = 64
"""Local arrays start at multiples of this."""


class Layout(TypedDict, total=False):
    """How a staged array is arranged; see `stage`."""

    tile: Sequence[int | None]
    order: Sequence[int]
    pad: int
    align: int
    fill: float


@dataclass(frozen=True, slots=True)
class Arrangement:
    """A checked `Layout`. `tile` has an entry for each dimension; `order` one for each that results."""

    tile: tuple[int | None, ...]
    order: tuple[int, ...]
    pad: int
    fill: Const | None


@dataclass(frozen=True, slots=True)
class Source:
    """The array that is staged; `shape` over sizes and `atoms`."""

    name: str
    dtype: DType
    shape: tuple[Form, ...]
    atoms: Atoms


@dataclass(frozen=True, slots=True)
class Stage:
    """What is asked for: a copy `name` of `source` in the body of the loop at `place`."""

    edit: Edit
    place: Place
    source: Source
    name: str
    layout: Arrangement


def layout_of(edit: Edit, given: Layout | None, source: Source) -> Arrangement:
    """The layout with its defaults, refused where it makes no sense for the array."""
    layout: Layout = {} if given is None else given
    rank = len(source.shape)

    def wrong(what: str, help: str) -> Exception:
        return edit.refused("K0302", f"the layout of `{source.name}` makes no sense: {what}", help=help)

    tile = tuple(layout.get("tile", (None,) * rank))
    if len(tile) != rank or any(t is not None and t < 1 for t in tile):
        raise wrong(
            f"`tile` is {list(tile)} for {rank} dimension{'s' if rank > 1 else ''}",
            "give each dimension a positive number or None",
        )
    count = rank + sum(t is not None for t in tile)
    order = tuple(layout.get("order", range(count)))
    if sorted(order) != list(range(count)):
        raise wrong(f"`order` is {list(order)}", f"list each of the {count} dimensions from 0 once")
    pad, align = layout.get("pad", 0), layout.get("align", ALIGN_BYTES)
    if pad < 0:
        raise wrong(f"`pad` is {pad}", "pass a number of elements")
    if align < 1 or ALIGN_BYTES % align:
        raise wrong(f"`align` is {align} bytes", f"local arrays start at multiples of {ALIGN_BYTES} bytes")
    fill: Const | None = None
    if "fill" in layout:
        value = _of_type(layout["fill"], source.dtype)
        if value is None:
            raise wrong(f"`fill` is {layout['fill']}", f"pass a value of type {source.dtype.name}")
        fill = Const(value, source.dtype)
    return Arrangement(tile, order, pad, fill)


def _of_type(value: float, t: DType) -> bool | int | float | None:
    """`value` as a constant of type `t`; None when that has no such value."""
    if t.is_float:
        with np.errstate(over="ignore"):
            rounded = float(t.np.type(value))
        return None if value != value or isinf(rounded) != isinf(value) else rounded
    if isinf(value) or value != value or value != int(value):
        return None
    if t == bool_:
        return bool(value) if value in (0, 1) else None
    return int(value) if t.min <= value <= t.max else None


@dataclass(frozen=True, slots=True)
class Plan:
    """A proved copy. `read`: it is filled first; `written`: the box to copy back, None when nothing is.

    `below`, `above`: for each dimension, whether the box may reach out of the array there.
    """

    stage: Stage
    box: tuple[Range, ...]
    written: tuple[Range, ...] | None
    read: bool
    below: tuple[bool, ...]
    above: tuple[bool, ...]
    shape: tuple[Form, ...] = field(init=False)

    def __post_init__(self) -> None:
        parts: list[Form] = []
        for r, t in zip(self.box, self.stage.layout.tile):
            parts += [r.extent] if t is None else [self._blocks(r.extent, t), constant(t)]
        object.__setattr__(self, "shape", tuple(parts[n] for n in self.stage.layout.order))

    def _blocks(self, extent: Form, t: int) -> Form:
        if extent.is_const:
            return constant(-(-extent.const // t))
        if all(c % t == 0 for c in extent.terms.values()):
            return Form({m: c // t for m, c in extent.terms.items()})
        rounded = self.expr(extent + (t - 1))
        made = self.stage.source.atoms.form(binary("//", rounded, const(t)), None)
        assert made is not None
        return made

    # ------------------------------------------------------------- expressions

    def expr(self, form: Form) -> Expr:
        """A form as an expression, its atoms put back."""
        return substitute(from_linear(form), dict(self.stage.source.atoms.exprs))

    def shape_exprs(self) -> tuple[Expr, ...]:
        """The extents of the copy, padded."""
        out = [self.expr(f) for f in self.shape]
        out[-1] = self.expr(self.shape[-1] + self.stage.layout.pad)
        return tuple(out)

    def region_text(self) -> str:
        """The box's extents, for messages."""
        return " x ".join(print_expr(self.expr(r.extent), True) for r in self.box)

    def relative(self, dim: int, index: Expr) -> Expr:
        """The index counted from the start of the box."""
        lo = self.box[dim].lo
        form = self.stage.source.atoms.form(index, None)
        return sub(index, self.expr(lo)) if form is None else self.expr(form - lo)

    def placed(self, at: Sequence[Expr], loops: Sequence[Loop]) -> tuple[Expr, ...]:
        """The subscripts in the copy for indices counted from the start of the box."""
        ranges = {s.var: n - 1 for s in loops if s.lo == const(0) and (n := trip_count(s)) is not None}
        parts: list[Expr] = []
        for x, t in zip(at, self.stage.layout.tile):
            parts += [x] if t is None else self._split(x, t, ranges)
        return tuple([parts[n] for n in self.stage.layout.order])

    def _split(self, x: Expr, t: int, last: dict[str, int]) -> list[Expr]:
        """`x // t` and `x % t`; the terms that `t` divides apart where the others stay below it."""
        form = self.stage.source.atoms.form(x, None)
        if form is not None:
            rest = Form({m: c for m, c in form.terms.items() if m and c % t} | {(): form.const % t})
            rest = Form({m: c for m, c in rest.terms.items() if c})
            if all(not m or (c > 0 and m[0] in last) for m, c in rest.terms.items()):
                most = rest.const + sum(c * last[m[0]] for m, c in rest.terms.items() if m)
                if most < t:
                    whole = form - rest
                    return [self.expr(Form({m: c // t for m, c in whole.terms.items()})), self.expr(rest)]
        return [binary("//", x, const(t)), binary("%", x, const(t))]

    # ------------------------------------------------------------------ copies

    def copy_in(self) -> Body:
        """The loops that fill the copy, in the order of its memory."""
        return self._in_layout("", True) if self.read else ()

    def copy_out(self) -> Body:
        """The loops that copy back what was written."""
        if self.written is None:
            return ()
        if self.written == self.box:
            return self._in_layout("w", False)
        loops, at = [], []
        for n, (mine, all_) in enumerate(zip(self.written, self.box)):
            loop = self._loop(f"w{n}", mine.extent)
            loops.append(loop)
            at.append(self.expr(symbol(loop.var) + mine.lo - all_.lo))
        order = self.placed(at, loops)
        return self._nest(loops, self._tests(at, loops), self._leaf(at, order, False))

    def _in_layout(self, tag: str, inward: bool) -> Body:
        layout = self.stage.layout
        loops = [self._loop(f"{tag}{n}", extent) for n, extent in enumerate(self.shape)]
        by_part = [loops[layout.order.index(n)] for n in range(len(loops))]
        at: list[Expr] = []
        extra: list[tuple[Expr, set[str]]] = []
        parts = iter(by_part)
        for r, t in zip(self.box, layout.tile):
            if t is None:
                at.append(var(next(parts).var))
                continue
            outer, inner = next(parts).var, next(parts).var
            x = self.expr(symbol(outer) * t + symbol(inner))
            at.append(x)
            if any(c % t for c in r.extent.terms.values()):
                extra.append((Compare("<", x, self.expr(r.extent)), {outer, inner}))
        tests = [*extra, *self._tests(at, loops)]
        place = tuple([var(loop.var) for loop in loops])
        fill = layout.fill if inward else None
        if fill is None or not tests:
            return self._nest(loops, tests, self._leaf(at, place, inward))
        inside = tests[0][0]
        for test, _ in tests[1:]:
            inside = Logic("and", inside, test)
        leaf = self._leaf(at, place, True)
        return self._nest(loops, [], replace(leaf, value=Select(inside, leaf.value, fill)))

    def _loop(self, tag: str, extent: Form) -> Loop:
        at = self.stage.place.loop
        return Loop(f"{self.stage.name}_{tag}", const(0), self.expr(extent), const(1), (), loc=at.loc)

    def _tests(self, at: Sequence[Expr], loops: Sequence[Loop]) -> list[tuple[Expr, set[str]]]:
        """What holds inside the array, each with the loop variables that it needs."""
        out: list[tuple[Expr, set[str]]] = []
        variables = {loop.var for loop in loops}
        for n, x in enumerate(at):
            index = self._index(n, x)
            form = self.stage.source.atoms.form(x, None)
            assert form is not None
            used = form.names() & variables
            if self.below[n]:
                out.append((Compare("<=", const(0), index), used))
            if self.above[n]:
                out.append((Compare("<", index, self.expr(self.stage.source.shape[n])), used))
        return out

    def _index(self, dim: int, x: Expr) -> Expr:
        form = self.stage.source.atoms.form(x, None)
        assert form is not None
        return self.expr(self.box[dim].lo + form)

    def _leaf(self, at: Sequence[Expr], place: tuple[Expr, ...], inward: bool) -> Store:
        source, loc = self.stage.source, self.stage.place.loop.loc
        index = tuple([self._index(n, x) for n, x in enumerate(at)])
        if inward:
            return Store(self.stage.name, place, Load(source.name, index, source.dtype), loc=loc)
        return Store(source.name, index, Load(self.stage.name, place, source.dtype), loc=loc)

    def _nest(self, loops: Sequence[Loop], tests: Sequence[tuple[Expr, set[str]]], leaf: Stmt) -> Body:
        """The loops around `leaf`, each test as far out as it can stand."""
        body: Body = (leaf,)
        left = list(tests)
        for n in range(len(loops) - 1, -1, -1):
            outer = {loop.var for loop in loops[:n]}
            for test in [t for t in reversed(left) if not t[1] <= outer]:
                body = (If(test[0], body, loc=loops[n].loc),)
                left.remove(test)
            body = (replace(loops[n], body=body),)
        for test in left:
            body = (If(test[0], body, loc=loops[0].loc),)
        return body


def plan(stage: Stage) -> Plan:
    """The copy that `stage` asks for, proved, or refused."""
    edit, place, source = stage.edit, stage.place, stage.source
    sizes = set(edit.func.sizes)
    scalars = {p.name for p in edit.func.params if isinstance(p, ScalarParam)}
    outside = sizes | scalars | {s.var for s in place.outer} | {place.loop.var}
    found = list(sites(place.loop.body, source.name))
    region = box(found, source.shape, source.atoms, outside, sizes)
    stores = [(s, loops) for s, loops in found if not isinstance(s, Load)]
    written = box(stores, source.shape, source.atoms, outside, sizes) if stores else None
    if written is not None:
        written = tuple(_inner(mine, all_) for mine, all_ in zip(written, region))
    rank = len(source.shape)
    draft = Plan(
        replace(stage, layout=Arrangement((None,) * rank, tuple(range(rank)), 0, None)),
        region,
        written,
        True,
        (False,) * rank,
        (False,) * rank,
    )
    return _Proof(draft, stage).plan()


def _inner(mine: Range, whole: Range) -> Range:
    """`mine` where it certainly lies in `whole`."""
    start, rest = mine.lo - whole.lo, whole.lo + whole.extent - mine.lo - mine.extent
    fits = start.is_const and rest.is_const and start.const >= 0 and rest.const >= 0
    return mine if fits else whole


@dataclass(slots=True)
class _Proof:
    """Both copies, without tests, around the body as it was: their accesses are compared with the body's."""

    draft: Plan
    stage: Stage
    regions: Regions = field(init=False)
    depth: int = field(init=False)
    order: dict[int, int] = field(init=False)

    def plan(self) -> Plan:
        stage = self.stage
        loop = stage.place.loop
        draft = self.draft
        alloc = Alloc(stage.name, stage.source.dtype, draft.shape_exprs(), loc=loop.loc)
        copy_in, copy_out = draft.copy_in(), draft.copy_out()
        probe = replace(loop, body=(alloc, *copy_in, *loop.body, *copy_out))
        probed = replaced(stage.edit.func, {loop.id: (probe,)})
        at = [s.id for s in stmts(probed.body)].index(loop.id)
        question = Question("stage", print_func(probed), f"{at} {stage.source.name} {stage.name}")
        known = question.recall()
        if known is None:
            known = self.answer(probed, copy_in, copy_out)
            question.keep(known)
        read, below, above = known
        return Plan(stage, draft.box, draft.written, read, tuple(below), tuple(above))

    def answer(
        self, probed: Func, copy_in: Body, copy_out: Body
    ) -> tuple[bool, tuple[bool, ...], tuple[bool, ...]]:
        """Whether the copy has to be read, and the dimensions to be clipped below and above."""
        stage = self.stage
        loop, name = stage.place.loop, stage.source.name
        self.regions = Regions(collect(probed))
        self.depth = 1 + len(stage.place.outer)
        self.order = _order(loop.body)
        ids_in, ids_out = ({s.id for s in stmts(body)} for body in (copy_in, copy_out))
        mine = [a for a in self.regions.accesses.accesses if a.site.buffer == name]
        ours = [a for a in mine if a.stmt in self.order]
        (fill,) = [a for a in mine if a.stmt in ids_in]
        (place,) = [a for a in self.regions.accesses.accesses if a.stmt in ids_in and a is not fill]
        back = next((a for a in mine if a.stmt in ids_out), None)
        for access in ours:
            self.check(access, fill, place)
        rank = range(len(fill.index))
        below = tuple([not self.regions.never(fill, at_least(-fill.index[n] - 1)) for n in rank])
        above = tuple([not self.regions.never(fill, at_least(fill.index[n] - fill.extent[n])) for n in rank])
        read = any(a.mode != "write" and not self.covered(a, ours) for a in ours)
        if back is not None and not read:
            writes = [a for a in ours if a.mode == "write"]
            read = not self.regions.covered(back, writes, self.depth)
        return read, below, above

    def check(self, access: Access, fill: Access, place: Access) -> None:
        """Refuses an access that may leave the array or the box."""
        stage = self.stage
        loop, name = stage.place.loop, stage.source.name
        for n, f in enumerate(access.index):
            text = print_expr(access.site.index[n], True)
            where = access.site.loc or next(
                (s.loc for s in stmts(loop.body) if s.id == access.stmt), loop.loc
            )
            if not self.regions.within(access, n, constant(0), access.extent[n]):
                size = print_expr(self.draft.expr(stage.source.shape[n]), True)
                fixed = all(
                    self.regions.accesses.values.symbols[s].kind != "opaque"
                    for s in self.regions.accesses.values.closure(f.names())
                )
                raise stage.edit.refused(
                    "K0310",
                    f"cannot stage `{name}` at the loop `{loop.var}`: its region is not known",
                    loop,
                    loc=where,
                    label=f"not proved that 0 <= {text} < {size}"
                    if fixed
                    else f"`{text}` depends on data, so that any element may be meant",
                    help="state what the sizes have in common, as in s.assume(...)"
                    if fixed
                    else f"stage at a loop in which `{name}` has indices made of loop variables and sizes",
                )
            lo = fill.index[n] - place.index[n]
            if not self.regions.within(access, n, lo, place.extent[n]):
                raise stage.edit.refused(
                    "K0310",
                    f"cannot stage `{name}` at the loop `{loop.var}`: its region is not known",
                    loop,
                    loc=where,
                    label=f"no box was found that holds `{text}` in every iteration",
                    help="stage at a loop further in",
                )

    def covered(self, access: Access, ours: Sequence[Access]) -> bool:
        """True: what is read was certainly written earlier in the same iteration."""
        at = self.order[access.stmt]
        writes = [a for a in ours if a.mode == "write" and self.order[a.stmt] < at]
        return bool(writes) and self.regions.covered(access, writes, self.depth)


def _order(body: Body) -> dict[int, int]:
    """For each statement, the position of the statement of `body` that it belongs to."""
    if len(body) == 1 and isinstance(body[0], If) and not body[0].orelse:
        return {body[0].id: -1, **_order(body[0].then)}
    return {inner.id: n for n, s in enumerate(body) for inner in stmts((s,))}
