"""Polynomials with rational coefficients, and their sums: what counts of iterations are made of.

    sum of (i + 1) for i in range(N)     ->     1/2 * N^2 + 1/2 * N

Names are sizes, loop variables, or atoms: whole subexpressions such as `(N + 63) // 64`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from math import comb

Number = int | Fraction
"""Integers stay integers: they are ten times as fast."""

Monomial = tuple[str, ...]
"""A sorted tuple of names; () is the constant."""


class Polynomial:
    """`terms` maps each monomial to its nonzero coefficient. Immutable."""

    __slots__ = ("terms",)

    def __init__(self, terms: Mapping[Monomial, Number]) -> None:
        self.terms: dict[Monomial, Number] = {m: _plain(c) for m, c in terms.items() if c}

    @property
    def const(self) -> Number:
        """The term without names."""
        return self.terms.get((), 0)

    @property
    def is_const(self) -> bool:
        return all(not m for m in self.terms)

    def names(self) -> set[str]:
        """The names that occur."""
        return {name for m in self.terms for name in m}

    def degree(self, name: str) -> int:
        """The highest power of `name`."""
        return max((m.count(name) for m in self.terms), default=0)

    def coefficients(self, name: str) -> list[Polynomial]:
        """What multiplies the powers 0, 1, 2 ... of `name`."""
        rows: list[dict[Monomial, Number]] = [{} for _ in range(self.degree(name) + 1)]
        for m, c in self.terms.items():
            power = m.count(name)
            rows[power][tuple([n for n in m if n != name])] = c
        return [Polynomial(r) for r in rows]

    def substitute(self, name: str, value: Polynomial) -> Polynomial:
        """This polynomial with `value` for `name`."""
        if name not in self.names():
            return self
        total, power = ZERO, ONE
        for factor in self.coefficients(name):
            total, power = total + factor * power, power * value
        return total

    def evaluate(self, value: Callable[[str], Number]) -> Number:
        """The number that this is where each name has the value given."""
        total: Number = 0
        for m, c in self.terms.items():
            for name in m:
                c *= value(name)
            total += c
        return total

    def __add__(self, other: Polynomial | int) -> Polynomial:
        out = dict(self.terms)
        for m, c in _polynomial(other).terms.items():
            out[m] = out.get(m, 0) + c
        return Polynomial(out)

    def __neg__(self) -> Polynomial:
        return Polynomial({m: -c for m, c in self.terms.items()})

    def __sub__(self, other: Polynomial | int) -> Polynomial:
        return self + -_polynomial(other)

    def __mul__(self, other: Polynomial | Number) -> Polynomial:
        if isinstance(other, (int, Fraction)):
            return Polynomial({m: c * other for m, c in self.terms.items()})
        out: dict[Monomial, Number] = {}
        for m, c in self.terms.items():
            for n, d in other.terms.items():
                key = tuple(sorted(m + n))
                out[key] = out.get(key, 0) + c * d
        return Polynomial(out)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polynomial) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(frozenset(self.terms.items()))

    def __repr__(self) -> str:
        return self.text()

    def text(self, order: Sequence[str] = (), shown: Callable[[str], str] = str) -> str:
        """Python text: high powers first, names in this `order`, atoms as `shown` says."""
        rank = {name: n for n, name in enumerate(order)}

        def key(m: Monomial) -> tuple[int, list[int]]:
            return -len(m), sorted(rank.get(n, len(rank)) for n in m)

        text = ""
        for m in sorted(self.terms, key=key):
            c = self.terms[m]
            size = c if c > 0 else -c
            names = _powers(sorted(m, key=lambda n: (rank.get(n, len(rank)), n)), shown)
            number = [str(size.numerator)] if size.numerator != 1 or not m else []
            body = " * ".join(number + names) + (f" / {size.denominator}" if size.denominator != 1 else "")
            text += (" - " if c < 0 else " + ") + body if text else ("-" if c < 0 else "") + body
        return text or "0"


def _powers(names: list[str], shown: Callable[[str], str]) -> list[str]:
    out = []
    for name in dict.fromkeys(names):
        count = names.count(name)
        out.append(shown(name) + (f"**{count}" if count > 1 else ""))
    return out


def _polynomial(value: Polynomial | int) -> Polynomial:
    return constant(value) if isinstance(value, int) else value


def _plain(value: Number) -> Number:
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


def constant(value: Number) -> Polynomial:
    """The polynomial that is `value` everywhere."""
    return Polynomial({(): value})


def variable(name: str) -> Polynomial:
    """The polynomial that is `name`'s value."""
    return Polynomial({(name,): 1})


ZERO, ONE = constant(0), constant(1)


def product(factors: Iterable[Polynomial]) -> Polynomial:
    """The product, 1 of nothing."""
    out = ONE
    for f in factors:
        out = out * f
    return out


def summed(p: Polynomial, name: str, first: Polynomial, step: int, count: Polynomial) -> Polynomial:
    """The sum of `p` for `name` = first, first + step, ... of `count` terms (`count` >= 0)."""
    if name not in p.names():
        return p * count
    index = "#t"
    total = ZERO
    for power, factor in enumerate(p.substitute(name, first + variable(index) * step).coefficients(index)):
        total = total + factor * _power_sum(power).substitute(index, count)
    return total


@cache
def _power_sum(power: int) -> Polynomial:
    """1^power + ... + (t - 1)^power as a polynomial in `#t`; 0^0 is 1 (Pascal's identity)."""
    t = variable("#t")
    total = product([t] * (power + 1))
    for lower in range(power):
        total = total - _power_sum(lower) * comb(power + 1, lower)
    return total * Fraction(1, power + 1)
