"""Integer polynomials over names, and formulas made of `polynomial >= 0`.

Affine forms are the polynomials of degree 1; products of names are kept because `A[i * N + j]` needs them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import gcd
from typing import Literal

Monomial = tuple[str, ...]
"""A sorted tuple of names; () is the constant."""


class Form:
    """An exact integer polynomial: `terms` maps each monomial to its nonzero coefficient. Immutable."""

    __slots__ = ("_hash", "terms")
    terms: Mapping[Monomial, int]

    def __init__(self, terms: Mapping[Monomial, int]) -> None:
        """`terms` without zero coefficients."""
        self.terms = terms
        self._hash = -1

    @property
    def const(self) -> int:
        return self.terms.get((), 0)

    @property
    def is_const(self) -> bool:
        return not self.terms or (len(self.terms) == 1 and () in self.terms)

    @property
    def is_affine(self) -> bool:
        return all(len(m) <= 1 for m in self.terms)

    def names(self) -> set[str]:
        """The names that occur."""
        return {name for m in self.terms for name in m}

    def coefficient(self, name: str) -> Form | None:
        """The polynomial that multiplies `name`; None when `name` occurs squared."""
        out: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            if name in m:
                at = m.index(name)
                rest = m[:at] + m[at + 1 :]
                if name in rest:
                    return None
                out[rest] = c
        return Form(out)

    def substitute(self, name: str, value: Form) -> Form:
        """This polynomial with `value` for `name`."""
        factor = self.coefficient(name)
        if factor is None:
            out = Form({})
            for m, c in self.terms.items():
                term = constant(c)
                for n in m:
                    term = term * (value if n == name else symbol(n))
                out = out + term
            return out
        if not factor.terms:
            return self
        return Form({m: c for m, c in self.terms.items() if name not in m}) + factor * value

    def renamed(self, names: Mapping[str, str]) -> Form:
        """This polynomial over other names."""
        return Form({tuple(sorted([names.get(n, n) for n in m])): c for m, c in self.terms.items()})

    def __add__(self, other: Form | int) -> Form:
        if isinstance(other, int):
            other = constant(other)
        out = dict(self.terms)
        for m, c in other.terms.items():
            total = out.get(m, 0) + c
            if total:
                out[m] = total
            else:
                out.pop(m, None)
        return Form(out)

    def __neg__(self) -> Form:
        return Form({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Form | int) -> Form:
        return self + (-other)

    def __mul__(self, other: Form | int) -> Form:
        if isinstance(other, int):
            return Form({m: c * other for m, c in self.terms.items()}) if other else ZERO
        if self.is_const or other.is_const:
            a, b = (other, self) if self.is_const else (self, other)
            return a * b.const
        out: dict[Monomial, int] = {}
        for m, c in self.terms.items():
            for n, d in other.terms.items():
                product = tuple(sorted(m + n))
                out[product] = out.get(product, 0) + c * d
        return Form({m: c for m, c in out.items() if c})

    def tightened(self) -> Form:
        """A form that is >= 0 for the same integers, with coprime coefficients."""
        g = gcd(*[c for m, c in self.terms.items() if m])
        if g <= 1:
            return self
        out = {m: c // g for m, c in self.terms.items() if m}
        const = self.const // g
        if const:
            out[()] = const
        return Form(out)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Form) and self.terms == other.terms

    def __hash__(self) -> int:
        if self._hash == -1:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __repr__(self) -> str:
        text = ""
        for m, c in self.terms.items():
            body = " * ".join(([] if abs(c) == 1 and m else [str(abs(c))]) + list(m))
            text += (" - " if c < 0 else " + ") + body if text else ("-" if c < 0 else "") + body
        return text or "0"


ZERO = Form({})


def constant(value: int) -> Form:
    """The polynomial that is `value` everywhere."""
    return Form({(): value}) if value else ZERO


def symbol(name: str) -> Form:
    """The polynomial that is `name`'s value."""
    return Form({(name,): 1})


# --------------------------------------------------------------------- formulas


@dataclass(frozen=True, slots=True)
class Atom:
    """`form >= 0`."""

    form: Form


@dataclass(frozen=True, slots=True)
class Group:
    """All or any of `parts`."""

    kind: Literal["all", "any"]
    parts: tuple[Formula, ...]


Formula = Atom | Group

TRUE = Group("all", ())
FALSE = Group("any", ())


def at_least(form: Form) -> Formula:
    """`form >= 0`, decided when `form` is constant."""
    if form.is_const:
        return TRUE if form.const >= 0 else FALSE
    return Atom(form.tightened())


def equal(form: Form) -> Formula:
    """`form == 0`."""
    return all_of(at_least(form), at_least(-form))


def all_of(*parts: Formula) -> Formula:
    """The conjunction, flattened."""
    return _group("all", parts, TRUE, FALSE)


def any_of(*parts: Formula) -> Formula:
    """The disjunction, flattened."""
    return _group("any", parts, FALSE, TRUE)


def _group(kind: Literal["all", "any"], parts: tuple[Formula, ...], unit: Group, zero: Group) -> Formula:
    out: list[Formula] = []
    for p in parts:
        if p == zero:
            return zero
        if isinstance(p, Group) and p.kind == kind:
            out.extend(p.parts)
        elif p != unit:
            out.append(p)
    return out[0] if len(out) == 1 else Group(kind, tuple(out))


def negate(formula: Formula) -> Formula:
    """The complement, over the integers."""
    if isinstance(formula, Atom):
        return at_least(-formula.form - 1)
    parts = [negate(p) for p in formula.parts]
    return any_of(*parts) if formula.kind == "all" else all_of(*parts)


def conjuncts(formula: Formula) -> Iterator[Form]:
    """The forms that `formula` forces to be >= 0 directly (disjunctions are passed over)."""
    if isinstance(formula, Atom):
        yield formula.form
    elif formula.kind == "all":
        for p in formula.parts:
            yield from conjuncts(p)


def affine_throughout(formula: Formula) -> bool:
    """True when no product of names occurs in `formula`."""
    if isinstance(formula, Atom):
        return formula.form.is_affine
    return all(affine_throughout(p) for p in formula.parts)


def formula_names(formula: Formula) -> set[str]:
    """The names that occur in `formula`."""
    if isinstance(formula, Atom):
        return formula.form.names()
    return set().union(*[formula_names(p) for p in formula.parts]) if formula.parts else set()
