"""Symbolic integers: what an integer expression is worth, as a `Form` over symbols that know their range.

`+ - *` stay polynomials. `//`, `%`, `min`, `max` and selects make a *derived* symbol with an exact
definition; whatever is not affine makes an *opaque* one (equal operands give the same symbol), of which at
least the dtype's range is known. Arithmetic that could wrap is opaque.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from functools import partial
from math import prod
from typing import Literal

from kdsl.analysis.affine import (
    FALSE,
    TRUE,
    Form,
    Formula,
    Monomial,
    all_of,
    any_of,
    at_least,
    constant,
    equal,
    formula_names,
    symbol,
)
from kdsl.dtypes import DType, Size, i64, u64

SIZE_MAX = (1 << 47) - 1
ASSUMED = 1 << 62
"""64-bit scalar arguments in index arithmetic are taken to be in [-ASSUMED, ASSUMED]; the call checks it."""

SymbolKind = Literal["size", "scalar", "fixed", "loop", "derived", "opaque"]
"""`fixed`: not known, but the same during the whole call."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """`lo <= form <= hi`, to be checked at the call. 64-bit forms are bare scalars of type `dtype`."""

    form: Form
    dtype: DType
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Symbol:
    """A name in forms. `rank` grows with time of creation: definitions use lower ranks only.

    `lo <= symbol <= hi` always. `facts` (each >= 0) hold wherever the symbol has been evaluated,
    `definition` everywhere. `cases`, if any, are exhaustive: in one of them the guard holds and the symbol
    equals the form. `assumes` is what must hold at the call for all this to be true.
    """

    name: str
    kind: SymbolKind
    rank: int
    lo: int
    hi: int
    facts: tuple[Form, ...] = ()
    definition: Formula = TRUE
    cases: tuple[tuple[Formula, Form], ...] = ()
    assumes: tuple[Assumption, ...] = ()


@dataclass(frozen=True, slots=True)
class Division:
    """`dividend == quotient * divisor + remainder` with `0 <= remainder < divisor`, wherever `divisor > 0`.

    The divisor varies with sizes or loops, so that no affine constraint says this. `width` is equal to it and
    affine: a symbol for each product.
    """

    dividend: Form
    divisor: Form
    width: Form
    quotient: str
    remainder: str


@dataclass(frozen=True, slots=True)
class Truth:
    """A symbolic boolean: `yes` holds wherever it is true, `no` wherever it is false.

    `exact`: the two are each other's complement.
    """

    yes: Formula
    no: Formula
    exact: bool

    def negated(self) -> Truth:
        return Truth(self.no, self.yes, self.exact)

    def both(self, other: Truth) -> Truth:
        """`self and other`."""
        return Truth(all_of(self.yes, other.yes), any_of(self.no, other.no), self.exact and other.exact)

    def either(self, other: Truth) -> Truth:
        """`self or other`."""
        return self.negated().both(other.negated()).negated()


UNKNOWN = Truth(TRUE, TRUE, False)


def decided(value: bool) -> Truth:
    """A boolean known to be `value`."""
    return Truth(TRUE, FALSE, True) if value else Truth(FALSE, TRUE, True)


def size_form(size: Size) -> Form:
    """A symbolic size as a form over the size symbols."""
    return Form({(): size.const} if size.const else {}) + Form({(s,): c for s, c in size.terms.items()})


@dataclass(slots=True)
class Values:
    """The symbols of one function, and arithmetic on forms over them.

    `assuming`: arithmetic on scalar arguments is taken not to wrap, as the symbols' `assumes` say.
    `divisions` holds quotients and remainders by a divisor that is no constant, under both names; `quotients`
    those by a constant, as dividend and divisor. `limits` gives the largest value of products of
    factors >= 0 that a condition at the call keeps small.
    """

    symbols: dict[str, Symbol] = field(default_factory=dict)
    assuming: bool = True
    divisions: dict[str, Division] = field(default_factory=dict)
    quotients: dict[str, tuple[Form, int]] = field(default_factory=dict)
    limits: dict[Form, int] = field(default_factory=dict)
    _memo: dict[Hashable, Form] = field(default_factory=dict)

    def fork(self) -> Values:
        """The same symbols; what is added to one of the two is not in the other."""
        return Values(
            dict(self.symbols),
            self.assuming,
            dict(self.divisions),
            dict(self.quotients),
            dict(self.limits),
            dict(self._memo),
        )

    def add(
        self,
        stem: str,
        kind: SymbolKind,
        lo: int,
        hi: int,
        *,
        facts: Callable[[Form], tuple[Form, ...]] = lambda _: (),
        cases: tuple[tuple[Formula, Form], ...] = (),
        assumes: tuple[Assumption, ...] = (),
        exact: bool = False,
        definition: Callable[[Form], Formula] | None = None,
    ) -> Form:
        """A new symbol called `stem`, or `stem#2` and so on when that is taken.

        `facts` gives, for the symbol, forms that are >= 0; with `exact` they hold everywhere and define it.
        `definition` gives, for the symbol, what holds everywhere.
        """
        name, n = stem, 1
        while name in self.symbols:
            n += 1
            name = f"{stem}#{n}"
        me = symbol(name)
        known = facts(me)
        holds = all_of(*map(at_least, known)) if exact else TRUE
        if definition is not None:
            holds = definition(me)
        if cases:
            holds = any_of(*[all_of(guard, equal(me - form)) for guard, form in cases])
        self.symbols[name] = Symbol(name, kind, len(self.symbols), lo, hi, known, holds, cases, assumes)
        return me

    def interval(self, form: Form) -> tuple[int, int]:
        """Constants that enclose `form`, from the ranges of its symbols and the known products."""
        lo, hi = self._ranges(form)
        for product, top in self.limits.items():
            (largest, per), *_ = sorted(product.terms.items(), key=lambda t: -len(t[0]))
            times, rest = divmod(form.terms.get(largest, 0), per)
            if times and not rest:
                low, high = self._ranges(form - product * times)
                lo = max(lo, low + min(0, times * top))
                hi = min(hi, high + max(0, times * top))
        return lo, hi

    def _ranges(self, form: Form) -> tuple[int, int]:
        lo = hi = 0
        symbols = self.symbols
        for m, c in form.terms.items():
            a = b = c
            for name in m:
                s = symbols[name]
                if a == b:
                    a, b = (a * s.lo, a * s.hi) if a >= 0 else (a * s.hi, a * s.lo)
                else:
                    ends = a * s.lo, a * s.hi, b * s.lo, b * s.hi
                    a, b = min(ends), max(ends)
            lo += a
            hi += b
        return lo, hi

    def linear(self, form: Form) -> Form:
        """`form` with a symbol for each product."""
        out = Form({m: c for m, c in form.terms.items() if len(m) < 2})
        for m, c in form.terms.items():
            if len(m) > 1:
                out = out + self._product(m) * c
        return out

    def _product(self, factors: Monomial) -> Form:
        """The symbol of a product. Where no factor may be negative, it is at least as large as each."""
        signs = [1 if self.symbols[n].lo >= 0 else -1 if self.symbols[n].hi <= 0 else 0 for n in factors]
        sizes = [symbol(n) * sign for n, sign in zip(factors, signs)]

        def is_positive(me: Form) -> Formula:
            if 0 in signs:
                return TRUE
            mine = me * prod(signs)
            zero = all_of(equal(me), any_of(*[at_least(-n) for n in sizes]))
            return any_of(
                zero, all_of(*[part for n in sizes for part in (at_least(n - 1), at_least(mine - n))])
            )

        form = Form({factors: 1})
        low, high = self.interval(form)
        return self._once(
            ("product", form), lambda: self.add("product", "opaque", low, high, definition=is_positive)
        )

    def opaque(
        self,
        key: Hashable,
        stem: str,
        lo: int,
        hi: int,
        facts: Callable[[Form], tuple[Form, ...]] = lambda _: (),
    ) -> Form:
        """The symbol for a value of which only this much is known; one symbol for each `key`."""
        return self._once(key, lambda: self.add(stem, "opaque", lo, hi, facts=facts))

    def keyed(self) -> list[tuple[tuple[Hashable, ...], Form]]:
        """The symbols that stand for an operation: a tuple of its name and operands, and the symbol."""
        return [(key, form) for key, form in self._memo.items() if isinstance(key, tuple)]

    def _once(self, key: Hashable, make: Callable[[], Form]) -> Form:
        form = self._memo.get(key)
        if form is None:
            form = self._memo[key] = make()
        return form

    def in_dtype(self, form: Form, dtype: DType) -> Form:
        """`form` wrapped to `dtype`: itself when it provably fits."""
        lo, hi = self.interval(form)
        if dtype.min <= lo and hi <= dtype.max:
            return form
        if self.assuming and form.is_affine and all(abs(c) <= 8 for m, c in form.terms.items() if m):
            fits = self._fits_if_small(form) if dtype == i64 else self._fits_narrow(form, dtype)
            if fits is not None:
                return fits
        return self.opaque(("wrap", form, dtype), "wrapped", dtype.min, dtype.max)

    def bounded(self, form: Form) -> Form:
        """`form` for a loop bound: 64-bit scalars in it are assumed to be small, so that sums with it fit."""
        lo, hi = self.interval(form)
        if (lo >= -ASSUMED and hi <= ASSUMED) or not form.is_affine or not self.assuming:
            return form
        return self._fits_if_small(form) or form

    def _fits_if_small(self, form: Form) -> Form | None:
        """A symbol equal to `form` if 64-bit scalars in it are small; None if that is not enough."""
        lo = hi = form.const
        assumes = []
        for m, c in form.terms.items():
            if not m:
                continue
            s = self.symbols[m[0]]
            low, high = s.lo, s.hi
            if s.kind == "scalar" and (low < -ASSUMED or high > ASSUMED):
                low, high = max(low, -ASSUMED), min(high, ASSUMED)
                assumes.append(Assumption(symbol(s.name), u64 if s.lo == 0 else i64, low, high))
            lo += min(c * low, c * high)
            hi += max(c * low, c * high)
        if not assumes or lo < i64.min or hi > i64.max:
            return None
        return self._alias(form, lo, hi, tuple(assumes))

    def _fits_narrow(self, form: Form, dtype: DType) -> Form | None:
        """A symbol equal to `form`, assuming that it does not wrap; None if it varies during the call."""
        used = [self.symbols[n] for n in form.names()]
        if dtype.bits > 32 or any(s.kind not in ("size", "scalar") or s.hi > SIZE_MAX for s in used):
            return None
        return self._alias(form, dtype.min, dtype.max, (Assumption(form, dtype, dtype.min, dtype.max),))

    def _alias(self, form: Form, lo: int, hi: int, assumes: tuple[Assumption, ...]) -> Form:
        make = partial(self.add, "sum", "derived", lo, hi, cases=((TRUE, form),), assumes=assumes)
        return self._once(("alias", form, assumes), lambda: make(facts=lambda me: (me - form, form - me)))

    # ---------------------------------------------------------------- arithmetic

    def floordiv(self, a: Form, b: Form, dtype: DType) -> Form:
        """`a // b`, floored; where `b` is 0 nothing is evaluated."""
        if b.is_const and b.const > 0:
            return self._quotient(a, b.const)
        lo, hi = self.interval(a)
        if self.interval(b)[0] < 0:
            return self.opaque(("//", a, b), "quotient", dtype.min, dtype.max)
        if not self.varies(a, b):
            facts = (lambda me: (a - me, b - 1)) if lo >= 0 else (lambda me: (b - 1,))
            return self.opaque(("//", a, b), "quotient", min(lo, 0), max(hi, -1), facts)
        return symbol(self._division(a, b).quotient)

    def mod(self, a: Form, b: Form, dtype: DType) -> Form:
        """`a % b` with the sign of `b`; where `b` is 0 nothing is evaluated."""
        if b.is_const and b.const > 0:
            return a - self._quotient(a, b.const) * b.const
        lo, hi = self.interval(b)
        if lo < 0:
            return self.opaque(("%", a, b), "remainder", dtype.min, dtype.max)
        if not self.varies(a, b):
            return self.opaque(("%", a, b), "remainder", 0, max(hi - 1, 0), lambda me: (b - 1 - me,))
        return symbol(self._division(a, b).remainder)

    def varies(self, *forms: Form) -> bool:
        """True when the forms may differ from one point of the program to another."""
        used = [self.symbols[n].kind for f in forms for n in self.closure(f.names())]
        return any(kind in ("loop", "opaque") for kind in used)

    def _division(self, a: Form, b: Form) -> Division:
        """`a` by `b >= 0`; where `b` is 0 nothing is evaluated, and nothing is known of the two symbols."""
        found = self._memo.get(("division", a, b))
        if found is not None:
            return self.divisions[next(iter(found.names()))]
        lo, hi = self.interval(a)
        width = self.linear(b)

        def quotient_is(me: Form) -> Formula:
            low = (at_least(me), at_least(a - me)) if lo >= 0 else ()
            exact = at_least(a - me * b), at_least(me * b + b - 1 - a)
            return any_of(at_least(-width), all_of(*low, *exact))

        def remainder_is(me: Form) -> Formula:
            inside = at_least(me), at_least(width - 1 - me)
            return any_of(at_least(-width), all_of(*inside, equal(a - quotient * b - me)))

        quotient = self.add(
            "quotient",
            "derived",
            min(lo, 0),
            max(hi, -1),
            facts=lambda me: (a - me, b - 1) if lo >= 0 else (b - 1,),
            definition=quotient_is,
        )
        remainder = self.add(
            "remainder",
            "derived",
            0,
            max(self.interval(b)[1] - 1, 0),
            facts=lambda me: (b - 1 - me,),
            definition=remainder_is,
        )
        (q,), (r,) = quotient.names(), remainder.names()
        self.divisions[q] = self.divisions[r] = Division(a, b, width, q, r)
        self._memo["division", a, b] = quotient
        return self.divisions[q]

    def _quotient(self, a: Form, b: int) -> Form:
        if all(c % b == 0 for c in a.terms.values()):
            return Form({m: c // b for m, c in a.terms.items()})
        lo, hi = self.interval(a)
        if lo // b == hi // b:
            return constant(lo // b)

        def facts(me: Form) -> tuple[Form, ...]:
            return a - me * b, me * b + (b - 1) - a

        made = self._once(
            ("//", a, b), lambda: self.add("quotient", "derived", lo // b, hi // b, facts=facts, exact=True)
        )
        for name in made.names():
            self.quotients[name] = a, b
        return made

    def smaller(self, a: Form, b: Form) -> Form:
        """`min(a, b)`."""
        (alo, ahi), (blo, bhi) = self.interval(a), self.interval(b)
        gap = self.interval(b - a)
        if gap[0] >= 0 or gap[1] <= 0:
            return a if gap[0] >= 0 else b
        cases = (at_least(b - a), a), (at_least(a - b - 1), b)
        make = partial(self.add, "least", "derived", min(alo, blo), min(ahi, bhi), cases=cases)
        return self._once(("min", frozenset((a, b))), lambda: make(facts=lambda me: (a - me, b - me)))

    def larger(self, a: Form, b: Form) -> Form:
        """`max(a, b)`."""
        return -self.smaller(-a, -b)

    def select(self, cond: Truth, a: Form, b: Form) -> Form:
        """`a if cond else b`."""
        if a == b:
            return a
        if FALSE in (cond.yes, cond.no):
            return b if cond.yes == FALSE else a
        (alo, ahi), (blo, bhi) = self.interval(a), self.interval(b)
        cases = (cond.yes, a), (cond.no, b)
        kind: SymbolKind = "derived" if cond.exact else "opaque"
        # Two inexact conditions with the same bounds need not be equal: a symbol each.
        key = ("select", cond, a, b) if cond.exact else ("select", len(self.symbols))
        return self._once(key, lambda: self.add("chosen", kind, min(alo, blo), max(ahi, bhi), cases=cases))

    def compare(self, op: str, a: Form, b: Form) -> Truth:
        """`a op b`."""
        match op:
            case "<":
                yes, no = self._at_least(b - a - 1), self._at_least(a - b)
            case "<=":
                yes, no = self._at_least(b - a), self._at_least(a - b - 1)
            case ">":
                return self.compare("<", b, a)
            case ">=":
                return self.compare("<=", b, a)
            case "!=":
                return self.compare("==", a, b).negated()
            case _:
                gap = a - b
                yes = all_of(self._at_least(gap), self._at_least(-gap))
                no = any_of(self._at_least(gap - 1), self._at_least(-gap - 1))
        return Truth(yes, no, True)

    def _at_least(self, form: Form) -> Formula:
        """`form >= 0`, decided where the ranges of its symbols do."""
        lo, hi = self.interval(form)
        return TRUE if lo >= 0 else FALSE if hi < 0 else self.positive_factors(form)

    def positive_factors(self, form: Form) -> Formula:
        """`form >= 0`, and what follows for the factors of a product in it that must be positive.

        `i < M * N` with i >= 0 says that M >= 1 and N >= 1.
        """
        out = [at_least(form)]
        for m, c in form.terms.items():
            signs = [1 if self.symbols[n].lo >= 0 else -1 if self.symbols[n].hi <= 0 else 0 for n in m]
            if len(m) < 2 or c * prod(signs) <= 0 or self.interval(form - Form({m: c}))[1] >= 0:
                continue
            for name, sign in zip(m, signs):
                out.append(at_least(symbol(name) * sign - 1))
                cases = self.symbols[name].cases
                left = [(guard, to) for guard, to in cases if self.interval(to * sign)[1] >= 1]
                if len(left) == 1:
                    out += [left[0][0], equal(symbol(name) - left[0][1])]
        for name in sorted(form.names()):
            c = form.terms.get((name,), 0)
            dividend, divisor = self.quotients.get(name, (form, 0))
            if c > 0 and not dividend.is_affine and self.interval(form - symbol(name) * c)[1] < 0:
                out.append(self.positive_factors(dividend - divisor))
            if c > 0 and self.symbols[name].cases:
                # A minimum: what is below it is below both.
                above = [f for f in self.symbols[name].facts if f.terms.get((name,)) == -1]
                out += [self.positive_factors(form + f * c) for f in above if not f.is_affine]
        return all_of(*out)

    # ------------------------------------------------------------------ closures

    def closure(self, names: Iterable[str]) -> set[str]:
        """`names` and every symbol that their definitions, facts and cases use."""
        seen: set[str] = set()
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            s = self.symbols[name]
            for f in s.facts:
                todo.extend(f.names())
            todo.extend(formula_names(s.definition))
            for guard, form in s.cases:
                todo.extend(formula_names(guard))
                todo.extend(form.names())
        return seen
