"""Leaves, places and uses as isl sets and maps; all spaces are without tuple names, parameters are shared.

domain(leaf)            { [dims] : the leaf runs }
cells(leaf, use)        { [dims] -> [hidden and own subscripts] }
meetings(leaf, use, leaf, use)   { [dims] -> [dims] : the same cell }
time(leaf, place)       { [dims] -> [c0, d1, c1, ...] }, padded to one length
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from kdsl.analysis.affine import Atom, Form, Formula, all_of, any_of, at_least, equal, formula_names, symbol
from kdsl.analysis.polyhedra import Polyhedra, is_param
from kdsl.analysis.program import Dim, Leaf, Place, Use
from kdsl.analysis.values import Division, Symbol, Values

T = TypeVar("T")

OPERATIONS = 4_000_000
"""isl's own count for one question."""


@dataclass(frozen=True, slots=True)
class Divided:
    """Divisions by sizes, and the symbols in them that are not loops around."""

    divisions: tuple[Division, ...]
    symbols: tuple[str, ...]


class Relations:
    """Builds and keeps the isl objects of the programs over one `Values`."""

    def __init__(self, values: Values, width: int) -> None:
        """`width` is the length of the longest place."""
        self.polyhedra = Polyhedra(values)
        self.isl: Any = self.polyhedra.isl
        self.values = values
        self.width = width
        self._sets: dict[tuple[tuple[Formula, ...], tuple[str, ...]], Any] = {}
        self._plain: dict[Formula, Formula] = {}
        self._times: dict[tuple[tuple[str, ...], Place], Any] = {}
        self._divisions: dict[tuple[frozenset[str], tuple[str, ...]], Divided] = {}
        self._steps: dict[object, Any] = {}

    def within_limit(self, compute: Callable[[], T]) -> T | None:
        """The result of `compute`, or None when isl gave up."""
        return self.polyhedra.within_limit(compute, OPERATIONS)

    def points(self, context: tuple[Formula, ...], dims: tuple[str, ...]) -> Any:
        key = context, dims
        found = self._sets.get(key)
        if found is None:
            plain = [self.without_cases(f) for f in context]
            found = self._sets[key] = self.polyhedra.points(plain, dims)
        return found

    def without_cases(self, formula: Formula) -> Formula:
        """`formula` without symbols for minima and choices: `x < min(a, b)` is `x < a and x < b`.

        The same set, made of fewer pieces.
        """
        found = self._plain.get(formula)
        if found is None:
            if isinstance(formula, Atom):
                found = self._without_cases(formula.form)
            else:
                parts = [self.without_cases(p) for p in formula.parts]
                found = all_of(*parts) if formula.kind == "all" else any_of(*parts)
            self._plain[formula] = found
        return found

    def _without_cases(self, form: Form) -> Formula:
        symbols = [self.values.symbols[n] for n in form.names() if n in self.values.symbols]
        chosen = [s for s in symbols if s.kind == "derived" and s.cases]
        if not chosen or not form.is_affine:
            return at_least(form)
        latest = max(chosen, key=lambda s: s.rank)
        parts = [form.substitute(latest.name, value) for _, value in latest.cases]
        factor = form.terms[(latest.name,)]
        if len(latest.cases) == 2 and least(latest):
            pieces = [self._without_cases(part) for part in parts]
            return all_of(*pieces) if factor > 0 else any_of(*pieces)
        return any_of(
            *[
                all_of(self.without_cases(guard), self._without_cases(part))
                for (guard, _), part in zip(latest.cases, parts)
            ]
        )

    def relation(self, context: tuple[Formula, ...], dims: tuple[str, ...], out: tuple[str, ...]) -> Any:
        """{ [dims] -> [out] : context }."""
        isl = self.isl
        pairs = isl.Map.from_domain(self.points(context, dims + out))
        return pairs.move_dims(isl.dim_type.out, 0, isl.dim_type.in_, len(dims), len(out))

    def domain(self, leaf: Leaf) -> Any:
        return self.points(leaf.context, names(leaf.dims))

    def cells(self, leaf: Leaf, use: Use, more: tuple[str, ...] = ()) -> Any:
        """With `more` symbols as dimensions after those of the loops."""
        subscripts = [*[symbol(d.name) for d in use.buffer.hidden], *use.index]
        out = tuple([f"cell{n}" for n in range(len(subscripts))])
        equations = [equal(symbol(c) - f) for c, f in zip(out, subscripts) if f.is_affine]
        context = *leaf.context, *[f for f in use.context if f not in leaf.context], *equations
        return self.relation(context, (*names(leaf.dims), *more), out)

    def meetings(self, source: Leaf, first: Use, target: Leaf, second: Use) -> Any:
        """{ source dims -> target dims : the two uses, of one buffer, are of one cell }, or more pairs."""
        near, far = self.divided(source, first), self.divided(target, second)
        if not near.divisions or not far.divisions:
            return self.cells(source, first).apply_range(self.cells(target, second).reverse())
        pairs = self.cells(source, first, near.symbols)
        pairs = pairs.apply_range(self.cells(target, second, far.symbols).reverse())
        pairs = pairs.intersect(self.in_step((names(source.dims), near), (names(target.dims), far)))
        dim = self.isl.dim_type
        pairs = pairs.project_out(dim.in_, len(source.dims), len(near.symbols))
        return pairs.project_out(dim.out, len(target.dims), len(far.symbols))

    def divided(self, leaf: Leaf, use: Use) -> Divided:
        """The quotients and remainders by sizes on which the use depends."""
        formulas = (*leaf.context, *use.context)
        used = set().union(*[f.names() for f in use.index], *map(formula_names, formulas))
        return self._divided(frozenset(used), names(leaf.dims))

    def _divided(self, used: frozenset[str], dims: tuple[str, ...]) -> Divided:
        found = self._divisions.get((used, dims))
        if found is None:
            values = self.values
            divisions = tuple(
                dict.fromkeys([values.divisions[n] for n in values.closure(used) if n in values.divisions])
            )
            operands = [n for d in divisions for n in (*d.dividend.names(), d.quotient, d.remainder)]
            symbols = [values.symbols[n] for n in set(operands) if n not in dims]
            inner = sorted([s for s in symbols if not is_param(s)], key=lambda s: s.rank)
            found = self._divisions[used, dims] = Divided(divisions, tuple([s.name for s in inner]))
        return found

    def in_step(
        self, source: tuple[tuple[str, ...], Divided], target: tuple[tuple[str, ...], Divided]
    ) -> Any:
        """{ source -> target : quotients and remainders by one divisor keep step with what was divided }.

        The dividends of q * b + r and q' * b + r' differ by (q' - q) * b + r' - r, which is affine for each
        q' - q that is not far from 0.
        """
        key = source, target
        found = self._steps.get(key)
        if found is None:
            sides = [{n: f"{n}'{side}" for n in (*dims, *of.symbols)} for side, (dims, of) in enumerate(key)]
            parts = [
                _apart(one, two, *sides)
                for one in source[1].divisions
                for two in target[1].divisions
                if one.divisor == two.divisor
                and not self.values.varies(one.divisor)
                and one.dividend.is_affine
                and two.dividend.is_affine
            ]
            found = self.relation(tuple(parts), tuple(sides[0].values()), tuple(sides[1].values()))
            self._steps[key] = found
        return found

    def time(self, dims: tuple[Dim, ...], place: Place) -> Any:
        """{ [dims] -> time }; later components are 0."""
        key = names(dims), place
        found = self._times.get(key)
        if found is None:
            found = self._times[key] = self._time(dims, place)
        return found

    def _time(self, dims: tuple[Dim, ...], place: Place) -> Any:
        isl, p = self.isl, self.polyhedra
        space = isl.Space.set_alloc(p.context, 0, len(dims))
        local = isl.LocalSpace.from_space(space)
        at = {d.name: n for n, d in enumerate(dims)}
        components = []
        for part in place:
            if isinstance(part, int):
                components.append(isl.Aff.zero_on_domain(local).set_constant_val(part))
            else:
                aff = isl.Aff.var_on_domain(local, isl.dim_type.set, at[part.name])
                components.append(aff if part.direction >= 0 else aff.neg())
        while len(components) < self.width:
            components.append(isl.Aff.zero_on_domain(local))
        affs = isl.AffList.alloc(p.context, len(components))
        for aff in components:
            affs = affs.add(aff)
        target = isl.Space.alloc(p.context, 0, len(dims), len(components))
        return isl.Map.from_multi_aff(isl.MultiAff.from_aff_list(target, affs))


def least(s: Symbol) -> bool:
    """True when the two cases of `s` make it their minimum."""
    (first, a), (second, b) = s.cases
    return first == at_least(b - a) and second == at_least(a - b - 1)


def _apart(one: Division, two: Division, near: dict[str, str], far: dict[str, str]) -> Formula:
    """How far apart two dividends are, by their quotients and remainders; names changed for each side."""
    b = one.width
    gap = two.dividend.renamed(far) - one.dividend.renamed(near)
    rows = symbol(far[two.quotient]) - symbol(near[one.quotient])
    columns = symbol(far[two.remainder]) - symbol(near[one.remainder])
    return any_of(
        at_least(-b),
        *[all_of(equal(rows - n), equal(gap - b * n - columns)) for n in (-1, 0, 1)],
        all_of(at_least(rows - 2), at_least(gap - b * 2 - columns)),
        all_of(at_least(-rows - 2), at_least(-gap - b * 2 + columns)),
    )


def names(dims: tuple[Dim, ...]) -> tuple[str, ...]:
    """The symbols of `dims`."""
    return tuple([d.name for d in dims])
