"""The box of a local that one iteration of a loop reads.

A subscript that is not affine still has bounds that are, if one may look past clamps and quotients:

    for i_i in range(32):
        P[max(i_o * 32 + i_i - 1, 0)]           i_o * 32 - 1 and 32 of them
        P[(i_o * 32 + i_i) // 2]                i_o * 16 and 16 of them

A clamp may push the subscript out of such a box: who asks proves that it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdsl.analysis.affine import Form, constant
from kdsl.analysis.regions import Atoms, Range, ends, sites, spanned
from kdsl.ir.nodes import Alloc, Binary, Const, Expr, Loop, ScalarParam
from kdsl.ir.walk import substitute
from kdsl.sched.edit import Edit
from kdsl.sched.rewriting.arith import binary, const, from_linear, names_in, sub
from kdsl.sched.rewriting.tree import Place

Bounds = tuple[list[Form], list[Form]]
"""Bounds of an index from below and from above; each holds, but for clamps."""


@dataclass(frozen=True, slots=True)
class Box:
    """The part `ranges` of the local `name`; a dimension that is `whole` stays as it is."""

    name: str
    ranges: tuple[Range, ...]
    atoms: Atoms
    outside: frozenset[str]
    """The names that the starts may be made of."""

    def expr(self, form: Form) -> Expr:
        """A form as an expression, its atoms put back."""
        return substitute(from_linear(form), dict(self.atoms.exprs))

    def cut(self) -> list[int]:
        """The dimensions that are not whole."""
        return [n for n, r in enumerate(self.ranges) if not r.whole]

    def relative(self, dim: int, index: Expr) -> Expr:
        """An index counted from the start of the box."""
        if self.ranges[dim].whole:
            return index
        lo = self.ranges[dim].lo
        form = self.atoms.form(index, None)
        return sub(index, self.expr(lo)) if form is None else self.expr(form - lo)

    def placed(self, index: Sequence[Expr]) -> tuple[Expr, ...]:
        """All indices counted from the start of the box."""
        return tuple([self.relative(n, e) for n, e in enumerate(index)])

    def shape(self, alloc: Alloc) -> tuple[Expr, ...]:
        """The extents of the box."""
        return tuple(e if r.whole else self.expr(r.extent) for e, r in zip(alloc.shape, self.ranges))

    def floor(self, form: Form, by: int) -> Form:
        """`form // by`, for a positive `by`."""
        if all(c % by == 0 for m, c in form.terms.items() if m):
            return Form({m: c // by for m, c in form.terms.items() if m}) + form.const // by
        made = self.atoms.form(binary("//", self.expr(form), const(by)), None)
        assert made is not None
        return made

    def widened(self, dim: int, alloc: Alloc) -> Box:
        """With all of a dimension."""
        ranges = list(self.ranges)
        ranges[dim] = _whole(self.atoms, alloc.shape[dim])
        return replace(self, ranges=tuple(ranges))


def box_read(edit: Edit, place: Place, alloc: Alloc) -> Box:
    """The part of the local that one iteration of the loop at `place` reads."""
    sizes = set(edit.func.sizes)
    scalars = {p.name for p in edit.func.params if isinstance(p, ScalarParam)}
    outside = sizes | scalars | {s.var for s in place.outer} | {place.loop.var}
    part = Box(alloc.name, (), Atoms(), frozenset(outside))
    found = list(sites(place.loop.body, alloc.name))
    varying = outside - sizes - scalars
    ranges: list[Range] = []
    for n, extent in enumerate(alloc.shape):
        whole = _whole(part.atoms, extent)
        bounds = [_bounds(part, site.index[n], loops, varying) for site, loops in found]
        known = [b for b in bounds if b is not None]
        best = whole
        if len(known) == len(bounds):
            best = spanned([b[0] for b in known], [b[1] for b in known], whole.extent, part.atoms, sizes)
        same = best.lo == whole.lo and best.extent == whole.extent
        ranges.append(whole if same else best)
    return replace(part, ranges=tuple(ranges))


def _whole(atoms: Atoms, extent: Expr) -> Range:
    form = atoms.form(extent, None)
    assert form is not None, "shapes are made of sizes"
    return Range(constant(0), form, True)


def _bounds(part: Box, e: Expr, loops: tuple[Loop, ...], varying: set[str]) -> Bounds | None:
    """Bounds of `e` over `loops`; None when it depends on data. `varying` are the loops around."""
    atoms, outside = part.atoms, set(part.outside)
    inner = {loop.var for loop in loops}
    form = atoms.form(e, outside - inner)
    if form is not None:
        low, high = (ends([form], loops, atoms, outside, last) for last in (False, True))
        return [f for f in low if atoms.names(f) <= outside], [f for f in high if atoms.names(f) <= outside]
    match e:
        case Binary(op="min" | "max", a=a, b=b):
            moving = [x for x in (a, b) if names_in((x,)) & (inner | varying)]
            return _bounds(part, moving[0], loops, varying) if len(moving) == 1 else None
        case Binary(op="+" | "-" as op, a=a, b=b):
            one, two = _bounds(part, a, loops, varying), _bounds(part, b, loops, varying)
            if one is None or two is None:
                return None
            if op == "-":
                two = [-f for f in two[1]], [-f for f in two[0]]
            return [x + y for x in one[0] for y in two[0]], [x + y for x in one[1] for y in two[1]]
        case Binary(op="//", a=a, b=Const(value=by)) if by > 0:
            one = _bounds(part, a, loops, varying)
            return None if one is None else _quotients(part, one, int(by))
        case _:
            return None


def _quotients(part: Box, bounds: Bounds, by: int) -> Bounds:
    """Bounds of a quotient from those of the dividend."""
    lows = [part.floor(f, by) for f in bounds[0]]
    highs = [part.floor(f, by) for f in bounds[1]]
    for low, start in zip(bounds[0], lows):
        for high in bounds[1]:
            gap = high - low
            if gap.is_const:
                highs.append(start + -(-gap.const // by))
    return lows, highs
