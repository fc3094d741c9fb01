"""Leaves, places and uses as isl sets and maps; all spaces are without tuple names, parameters are shared.

domain(leaf)            { [dims] : the leaf runs }
cells(leaf, use)        { [dims] -> [hidden and own subscripts] }
time(leaf, place)       { [dims] -> [c0, d1, c1, ...] }, padded to one length
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from kdsl.analysis.affine import Atom, Form, Formula, all_of, any_of, at_least, equal, symbol
from kdsl.analysis.polyhedra import Polyhedra
from kdsl.analysis.program import Dim, Leaf, Place, Use
from kdsl.analysis.values import Symbol, Values

T = TypeVar("T")

OPERATIONS = 4_000_000
"""isl's own count for one question."""


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

    def cells(self, leaf: Leaf, use: Use) -> Any:
        subscripts = [*[symbol(d.name) for d in use.buffer.hidden], *use.index]
        out = tuple([f"cell{n}" for n in range(len(subscripts))])
        equations = [equal(symbol(c) - f) for c, f in zip(out, subscripts) if f.is_affine]
        context = *leaf.context, *[f for f in use.context if f not in leaf.context], *equations
        return self.relation(context, names(leaf.dims), out)

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


def names(dims: tuple[Dim, ...]) -> tuple[str, ...]:
    """The symbols of `dims`."""
    return tuple([d.name for d in dims])
