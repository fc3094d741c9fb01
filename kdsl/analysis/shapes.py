"""Do two contexts describe the same points, but for the names of their loops?

A context becomes a set of formulas in which loops are numbers and derived symbols their definitions: what isl
sees of it, without names. Equal sets are equal points; nothing is said where symbols have no
definition, or where two of one context look alike.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from kdsl.analysis.affine import TRUE, Atom, Form, Formula
from kdsl.analysis.polyhedra import is_param
from kdsl.analysis.turns import Numbers
from kdsl.analysis.values import Values


def shape(values: Values, context: Iterable[Formula], numbers: Numbers) -> frozenset[Hashable] | None:
    """The formulas of a context over the loops in `numbers`; None where they have no such form."""
    form = _Shape(values, numbers)
    try:
        parts = [form.formula(f) for f in context]
    except _NotKnownError:
        return None
    flat: set[Hashable] = set()
    for part in parts:
        flat |= part[1] if isinstance(part, tuple) and part[0] == "all" else {part}
    return frozenset(flat)


def shapes(values: Values, forms: Iterable[Form], numbers: Numbers) -> tuple[Hashable, ...] | None:
    """Values over the loops in `numbers`: equal ones are the same in the same iterations."""
    form = _Shape(values, numbers)
    try:
        return tuple([form.form(f) for f in forms])
    except _NotKnownError:
        return None


class _NotKnownError(Exception):
    """A symbol without a definition."""


@dataclass(slots=True)
class _Shape:
    values: Values
    numbers: Numbers
    known: dict[str, Hashable] = field(default_factory=dict)
    taken: dict[Hashable, str] = field(default_factory=dict)

    def formula(self, f: Formula) -> Hashable:
        if isinstance(f, Atom):
            return self.form(f.form)
        return f.kind, frozenset([self.formula(p) for p in f.parts])

    def form(self, form: Form) -> Hashable:
        return frozenset(
            [(frozenset([(self.symbol(n), m.count(n)) for n in m]), c) for m, c in form.terms.items()]
        )

    def symbol(self, name: str) -> Hashable:
        found = self.known.get(name)
        if found is None:
            found = self.known[name] = self.meaning(name)
            if self.taken.setdefault(found, name) != name:
                raise _NotKnownError
        return found

    def meaning(self, name: str) -> Hashable:
        s = self.values.symbols[name]
        if name in self.numbers:
            return "loop", self.numbers[name]
        if is_param(s):
            return "parameter", name
        if s.kind != "derived" or s.definition == TRUE:
            raise _NotKnownError
        # A definition speaks of its own symbol and of older ones, which do not know this one.
        self.known[name] = "this"
        cases = tuple([(self.formula(guard), self.form(value)) for guard, value in s.cases])
        return "derived", self.formula(s.definition), cases
