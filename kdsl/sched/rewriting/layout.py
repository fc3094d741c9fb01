"""Layouts of local arrays: how an index goes to its place.

An index goes there dimension by dimension: a tile of 64 makes (x // 64, x % 64) of it, `order` permutes what
results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isinf
from typing import TypedDict

import numpy as np

from kdsl.analysis.affine import Form, constant
from kdsl.analysis.linear import linear
from kdsl.analysis.regions import Atoms
from kdsl.dtypes import DType, bool_
from kdsl.ir.nodes import Binary, Const, Expr, Loop
from kdsl.ir.walk import substitute
from kdsl.sched.edit import FAR, Edit
from kdsl.sched.rewriting.arith import add, binary, const, from_linear

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


def layout_of(edit: Edit, layout: Layout, name: str, rank: int, dtype: DType) -> Arrangement:
    """The layout with its defaults, refused where it makes no sense for the array `name`."""

    def wrong(what: str, help: str) -> Exception:
        return edit.refused("K0302", f"the layout of `{name}` makes no sense: {what}", help=help)

    tile = tuple(layout.get("tile", (None,) * rank))
    if len(tile) != rank or any(t is not None and not 1 <= t <= FAR for t in tile):
        raise wrong(
            f"`tile` is {list(tile)} for {rank} dimension{'s' if rank > 1 else ''}",
            f"give each dimension a number from 1 to {FAR}, or None",
        )
    count = rank + sum(t is not None for t in tile)
    order = tuple(layout.get("order", range(count)))
    if sorted(order) != list(range(count)):
        raise wrong(f"`order` is {list(order)}", f"list each of the {count} dimensions from 0 once")
    pad, align = layout.get("pad", 0), layout.get("align", ALIGN_BYTES)
    if not 0 <= pad <= FAR:
        raise wrong(f"`pad` is {pad}", f"pass a number of elements from 0 to {FAR}")
    if align < 1 or ALIGN_BYTES % align:
        raise wrong(f"`align` is {align} bytes", f"local arrays start at multiples of {ALIGN_BYTES} bytes")
    fill: Const | None = None
    if "fill" in layout:
        value = _of_type(layout["fill"], dtype)
        if value is None:
            raise wrong(f"`fill` is {layout['fill']}", f"pass a value of type {dtype.name}")
        fill = Const(value, dtype)
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
class Arranged:
    """An array of these extents, over sizes and `atoms`, as it is kept in memory; `shape` is unpadded."""

    layout: Arrangement
    extents: tuple[Form, ...]
    atoms: Atoms
    shape: tuple[Form, ...] = field(init=False)

    def __post_init__(self) -> None:
        parts: list[Form] = []
        for extent, t in zip(self.extents, self.layout.tile):
            parts += [extent] if t is None else [self._blocks(extent, t), constant(t)]
        object.__setattr__(self, "shape", tuple(parts[n] for n in self.layout.order))

    def _blocks(self, extent: Form, t: int) -> Form:
        if extent.is_const:
            return constant(-(-extent.const // t))
        if all(c % t == 0 for c in extent.terms.values()):
            return Form({m: c // t for m, c in extent.terms.items()})
        rounded = self.expr(extent + (t - 1))
        made = self.atoms.form(binary("//", rounded, const(t)), None)
        assert made is not None
        return made

    def expr(self, form: Form) -> Expr:
        """A form as an expression, its atoms put back."""
        return substitute(from_linear(form), dict(self.atoms.exprs))

    def shape_exprs(self) -> tuple[Expr, ...]:
        """The extents of the memory, padded."""
        out = [self.expr(f) for f in self.shape]
        out[-1] = self.expr(self.shape[-1] + self.layout.pad)
        return tuple(out)

    def placed(self, at: Sequence[Expr], loops: Sequence[Loop]) -> tuple[Expr, ...]:
        """The subscripts in memory for an index of the array, inside `loops` (outermost first)."""
        spans = spans_of(loops) if any(self.layout.tile) else {}
        parts: list[Expr] = []
        for x, t in zip(at, self.layout.tile):
            parts += [x] if t is None else self._split(x, t, spans)
        return tuple([parts[n] for n in self.layout.order])

    def _split(self, x: Expr, t: int, spans: Mapping[str, Span]) -> list[Expr]:
        """`x // t` and `x % t`, terms that `t` divides apart; no division where the others are in [0, t)."""
        form = self.atoms.form(x, None)
        if form is None:
            return [binary("//", x, const(t)), binary("%", x, const(t))]
        rest = Form({m: c for m, c in form.terms.items() if m and c % t} | {(): form.const % t})
        rest = Form({m: c for m, c in rest.terms.items() if c})
        blocks = Form({m: c // t for m, c in (form - rest).terms.items()})
        lo, hi = span(rest, spans)
        at = self.expr(rest)
        if lo >= 0 and hi < t:
            return [self.expr(blocks), at]
        more = binary("//", at, const(t))
        whole = more if blocks.is_const and not blocks.const else add(self.expr(blocks), more)
        return [whole, binary("%", at, const(t))]


# ------------------------------------------------------------------------ ranges

Span = tuple[float, float]
"""Integers, or infinities, that enclose a value."""


def span(form: Form, spans: Mapping[str, Span]) -> Span:
    """What encloses an affine form over names of which `spans` are known."""
    lo: float = form.const
    hi: float = form.const
    for m, c in form.terms.items():
        if m:
            a, b = spans.get(m[0], (-inf, inf)) if len(m) == 1 else (-inf, inf)
            lo, hi = (lo + c * a, hi + c * b) if c > 0 else (lo + c * b, hi + c * a)
    return lo, hi


def spans_of(loops: Sequence[Loop]) -> dict[str, Span]:
    """What encloses the variables of `loops` (outermost first) while their bodies run."""
    out: dict[str, Span] = {}
    for loop in loops:
        step = int(loop.step.value) if isinstance(loop.step, Const) else 0
        (first, most), (least, last) = _span(loop.lo, out), _span(loop.hi, out)
        if step > 0:
            if first > -inf and first == most and last < inf:
                last = first + (last - 1 - first) // step * step + 1
            out[loop.var] = first, last - 1
        elif step < 0:
            out[loop.var] = least + 1, most
    return out


def _span(e: Expr, spans: Mapping[str, Span]) -> Span:
    if isinstance(e, Binary) and e.op in ("min", "max"):
        (a, b), (c, d) = _span(e.a, spans), _span(e.b, spans)
        return (min(a, c), min(b, d)) if e.op == "min" else (max(a, c), max(b, d))
    form = linear(e)
    return (-inf, inf) if form is None else span(form, spans)
