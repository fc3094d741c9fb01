"""The box of a buffer's cells that one iteration of a loop touches, and proofs about it.

For each dimension the index, affine in the loops inside, is taken to its ends:

    for i_i in range(6):                        A[i_o * 6 + i_i, k]
        for k in range(K):             ->       i_o * 6 and 6 of them; 0 and K of them
            ... A[i_o * 6 + i_i, k]

The start is affine in what stands outside of the loop, the extent a constant or made of sizes; where there
are none such, the box has the whole dimension. Conditions inside are not looked at: who copies clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdsl.analysis.accesses import Access, Accesses
from kdsl.analysis.affine import (
    Form,
    Formula,
    affine_throughout,
    all_of,
    any_of,
    at_least,
    conjuncts,
    constant,
    equal,
    formula_names,
    symbol,
)
from kdsl.analysis.answers import Question
from kdsl.analysis.linear import faultless
from kdsl.analysis.polyhedra import Polyhedra
from kdsl.analysis.ranges import Facts, prove
from kdsl.dtypes import i64
from kdsl.ir.nodes import Accumulate, Binary, Body, Const, Expr, Load, Loop, Store, Var
from kdsl.ir.walk import expr_children, stmt_bodies, stmt_exprs, subexprs

CANDIDATES = 8
"""So many ends of one index are compared."""


@dataclass(frozen=True, slots=True)
class Range:
    """`extent` indices from `lo` on; `whole`: the array's dimension, as nothing less is known."""

    lo: Form
    extent: Form
    whole: bool = False


@dataclass(slots=True)
class Atoms:
    """Affine forms of expressions over names and over atoms: faultless expressions that are not affine."""

    exprs: dict[str, Expr] = field(default_factory=dict)

    def form(self, e: Expr, atomic: set[str] | None) -> Form | None:
        """`e` as a form. Atoms may be made of the names `atomic` (None: of any)."""
        match e:
            case Const(type=t, value=value) if t == i64:
                return constant(int(value))
            case Var(type=t) if t == i64:
                return symbol(e.name)
            case Binary(op="+" | "-" | "*" as op, a=x, b=y):
                a, b = self.form(x, atomic), self.form(y, atomic)
                if a is not None and b is not None and (op != "*" or a.is_const or b.is_const):
                    return a * b if op == "*" else a + b if op == "+" else a - b
            case _:
                pass
        names = {x.name for x in subexprs(e) if isinstance(x, Var)}
        if not faultless(e) or (atomic is not None and not names <= atomic):
            return None
        for name, known in self.exprs.items():
            if known == e:
                return symbol(name)
        name = f"${len(self.exprs)}"
        self.exprs[name] = e
        return symbol(name)

    def names(self, form: Form) -> set[str]:
        """The names in a form, those in its atoms included."""
        out: set[str] = set()
        for name in form.names():
            atom = self.exprs.get(name)
            out |= {name} if atom is None else {x.name for x in subexprs(atom) if isinstance(x, Var)}
        return out


Site = Load | Store | Accumulate


def sites(body: Body, buffer: str, loops: tuple[Loop, ...] = ()) -> Iterator[tuple[Site, tuple[Loop, ...]]]:
    """The loads and stores of a buffer in `body` with the loops inside `body` around each."""
    for s in body:
        for e in stmt_exprs(s):
            for x in subexprs(e):
                if isinstance(x, Load) and x.buffer == buffer:
                    yield x, loops
        if isinstance(s, (Store, Accumulate)) and s.buffer == buffer:
            yield s, loops
        for inner in stmt_bodies(s):
            yield from sites(inner, buffer, (*loops, s) if isinstance(s, Loop) else loops)


def box(
    found: Sequence[tuple[Site, tuple[Loop, ...]]],
    shape: Sequence[Form],
    atoms: Atoms,
    outside: set[str],
    sizes: set[str],
) -> tuple[Range, ...]:
    """The box of `found` in an array of this shape. `outside`: the names that may stand in a start."""
    return tuple(_range(n, found, whole, atoms, outside, sizes) for n, whole in enumerate(shape))


def _range(
    dim: int,
    found: Sequence[tuple[Site, tuple[Loop, ...]]],
    whole: Form,
    atoms: Atoms,
    outside: set[str],
    sizes: set[str],
) -> Range:
    lows: list[list[Form]] = []
    highs: list[list[Form]] = []
    for site, loops in found:
        inner = {loop.var for loop in loops}
        form = atoms.form(site.index[dim], outside - inner)
        if form is None:
            return Range(constant(0), whole, True)
        for found_, last in ((lows, False), (highs, True)):
            found_.append([f for f in ends([form], loops, atoms, outside, last) if atoms.names(f) <= outside])
    return spanned(lows, highs, whole, atoms, sizes)


def spanned(
    lows: list[list[Form]], highs: list[list[Form]], whole: Form, atoms: Atoms, sizes: set[str]
) -> Range:
    """The shortest range around all accesses, for each of which bounds from below and above are given."""
    everything = Range(constant(0), whole, True)
    options: list[Range] = []
    for lo in _common(lows, min):
        for hi in _common(highs, max):
            extent = hi - lo + 1
            if atoms.names(extent) <= sizes:
                options.append(Range(lo, extent))
    best = min(options, key=lambda r: (not r.extent.is_const, r.extent.const), default=everything)
    if best.extent.is_const:
        too_long = whole.is_const and best.extent.const > whole.const
        return everything if too_long else Range(best.lo, constant(max(best.extent.const, 0)))
    rounded = bool(best.extent.names() & atoms.exprs.keys())
    return everything if rounded and atoms.names(best.lo) <= sizes else best


def upper_bounds(e: Expr, loops: Sequence[Loop], atoms: Atoms, sizes: set[str]) -> list[Form]:
    """Bounds from above, made of sizes alone, of `e` in the iterations of `loops`, outermost first."""
    form = atoms.form(e, sizes)
    found = [] if form is None else ends([form], loops, atoms, sizes, True)
    return [f for f in found if atoms.names(f) <= sizes]


def ends(forms: list[Form], loops: Sequence[Loop], atoms: Atoms, outside: set[str], last: bool) -> list[Form]:
    """Bounds of `forms` over `loops`: from above when `last`; each holds."""
    for n, loop in reversed(list(enumerate(loops))):
        known = outside | {outer.var for outer in loops[:n]}
        out: list[Form] = []
        for form in forms:
            factor = form.coefficient(loop.var)
            if factor is None or not factor.is_const:
                continue
            if not factor.terms:
                out.append(form)
                continue
            upper = last == (factor.const > 0)
            out += [form.substitute(loop.var, end) for end in _loop_ends(loop, atoms, known, upper)]
        forms = out[:CANDIDATES]
    return forms


def _loop_ends(loop: Loop, atoms: Atoms, known: set[str], upper: bool) -> list[Form]:
    """Bounds of the loop's variable."""
    step = int(loop.step.value) if isinstance(loop.step, Const) else 0
    if not step:
        return []
    edge = loop.hi if upper == (step > 0) else loop.lo
    beyond = 0 if edge is loop.lo else -1 if step > 0 else 1
    forms = [atoms.form(e, known - {loop.var}) for e in operands(edge, "min" if upper else "max")]
    return [f + beyond for f in forms if f is not None]


def operands(e: Expr, op: str) -> list[Expr]:
    """The operands of nested `min`s or `max`es."""
    if isinstance(e, Binary) and e.op == op:
        return [x for c in expr_children(e) for x in operands(c, op)]
    return [e]


def _common(ends: list[list[Form]], pick: Any) -> list[Form]:
    """Bounds of all accesses at once: those that differ by constants from one of each access."""
    out = []
    for first in ends[0]:
        gaps = [[(f - first).const for f in other if (f - first).is_const] for other in ends]
        if all(gaps):
            # Any bound of an access will do: the nearest one.
            nearest = [max(g) if pick is min else min(g) for g in gaps]
            out.append(first + pick(nearest))
    return out


# ------------------------------------------------------------------------ proofs


@dataclass(slots=True)
class Regions:
    """Questions about the accesses of one function, answered by facts or by isl. False: not proved."""

    accesses: Accesses
    _polyhedra: Polyhedra | None = None

    @property
    def polyhedra(self) -> Polyhedra:
        """The bridge to isl, which loads when there is something to prove."""
        if self._polyhedra is None:
            self._polyhedra = Polyhedra(self.accesses.values)
        return self._polyhedra

    def never(self, access: Access, formula: Formula) -> bool:
        """True: `formula` does not hold at any point at which `access` runs."""
        dims = tuple([loop.name for loop in access.loops])
        formulas = [*access.context, formula]

        def empty() -> bool:
            return bool(self.polyhedra.points(formulas, dims).is_empty())

        # All that is asked of isl, spelled out: symbols have no names that outlive this walk.
        values = self.accesses.values
        used = set(dims).union(*map(formula_names, formulas))
        symbols = sorted([values.symbols[n] for n in values.closure(used)], key=lambda s: s.rank)
        question = Question("never", repr(symbols), repr(formulas), repr(dims))
        known = question.recall()
        if known is None:
            known = [self.polyhedra.within_limit(empty) or False]
            question.keep(known)
        return bool(known[0])

    def within(self, access: Access, dim: int, lo: Form, extent: Form) -> bool:
        """True: that index is always one of `extent` from `lo` on."""
        at = access.index[dim]
        facts = Facts(self.accesses.values).extend([f for c in access.context for f in conjuncts(c)])
        if prove(at - lo, facts) and prove(lo + extent - 1 - at, facts):
            return True
        return self.never(access, any_of(at_least(lo - at - 1), at_least(at - lo - extent)))

    def exact(self, access: Access) -> bool:
        """True when the access runs, at that cell, wherever its formulas say so."""
        values = self.accesses.values
        used = {n for f in access.index for n in f.names()} | {loop.name for loop in access.loops}
        for formula in access.context:
            used |= formula_names(formula)
        closed = [values.symbols[n] for n in values.closure(used)]
        plain = all(s.kind in ("size", "scalar", "loop", "derived") for s in closed)
        formulas = (*access.context, *[s.definition for s in closed])
        affine = all(f.is_affine for f in access.index) and all(map(affine_throughout, formulas))
        return access.certain and plain and affine

    def cells(self, access: Access, depth: int) -> Any:
        """{ [the outer `depth` iterations, cell] }: the cells inside the array that are touched."""
        outer = tuple([loop.name for loop in access.loops[:depth]])
        inner = tuple([loop.name for loop in access.loops[depth:]])
        names = tuple([f"cell{n}" for n in range(len(access.index))])
        equations: list[Formula] = []
        for name, f, extent in zip(names, access.index, access.extent):
            inside = all_of(at_least(f), at_least(extent - f - 1))
            equations.append(all_of(equal(symbol(name) - f), inside))
        points = self.polyhedra.points([*access.context, *equations], outer + names + inner)
        kind = self.polyhedra.isl.dim_type.set
        return points.project_out(kind, depth + len(names), len(inner))

    def covered(self, access: Access, by: Sequence[Access], depth: int) -> bool:
        """True: each cell of `access` is one of `by` in the same iteration of the outer `depth` loops."""

        def subset() -> bool:
            total: Any = None
            for other in by:
                if self.exact(other):
                    cells = self.cells(other, depth)
                    total = cells if total is None else total.union(cells)
            return total is not None and bool(self.cells(access, depth).is_subset(total))

        return self.polyhedra.within_limit(subset) or False
