"""The fast prover: is a form >= 0 under facts (forms known to be >= 0)? Sound, incomplete, no isl.

It eliminates symbols, latest first, by adding multiples of facts (`N - 1 - i` under the fact `M - 1 - i`
leaves `N - M`) until the ranges of the remaining symbols decide.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import gcd

from kdsl.analysis.affine import Form, conjuncts, constant, symbol
from kdsl.analysis.values import Values

DEPTH = 10
BUDGET = 120


@dataclass(slots=True)
class Facts:
    """Facts by symbol: `by_name[s]` lists (fact, coefficient of s), those where `s` is latest first."""

    values: Values
    by_name: dict[str, list[tuple[Form, int]]] = field(default_factory=dict)
    _seen: set[Form] = field(default_factory=set)
    _symbols: set[str] = field(default_factory=set)

    def extend(self, facts: Iterable[Form]) -> Facts:
        """These facts and more; the symbols in them bring their own."""
        out = Facts(
            self.values, {k: list(v) for k, v in self.by_name.items()}, set(self._seen), set(self._symbols)
        )
        out.add(facts)
        return out

    def add(self, facts: Iterable[Form]) -> None:
        for f in facts:
            f = f.tightened()
            if f in self._seen or f.is_const:
                continue
            self._seen.add(f)
            names = f.names()
            latest = max(names, key=self._rank)
            for name in names:
                c = f.coefficient(name)
                if c is not None and c.is_const and c.terms:
                    entries = self.by_name.setdefault(name, [])
                    if name == latest:
                        entries.insert(0, (f, c.const))
                    else:
                        entries.append((f, c.const))
            self.know(names)

    def know(self, names: Iterable[str]) -> None:
        """Brings in the facts of symbols that have been evaluated."""
        for name in names:
            if name not in self._symbols:
                self._symbols.add(name)
                self.add(self.values.symbols[name].facts)

    def knowing(self, names: Iterable[str]) -> Facts:
        """These facts and those of the symbols `names`, which have been evaluated where a goal is asked.

        A copy if that is more: the facts of a context serve other points too, which may not evaluate them.
        """
        if self._symbols.issuperset(names):
            return self
        out = self.extend(())
        out.know(names)
        return out

    def _rank(self, name: str) -> int:
        return self.values.symbols[name].rank


def prove(goal: Form, facts: Facts) -> bool:
    """True: `goal >= 0` wherever the facts hold. False says nothing."""
    return _Search(facts.values).nonnegative(goal, facts.knowing(goal.names()), DEPTH)


FAR = 1 << 16


def may_hold(goal: Form, facts: Facts) -> bool:
    """False: `goal` has no lower bound at all under the facts, so that no prover needs to be asked.

    Guesses True in doubt; what only disjunctions bound is not seen.
    """
    seen: set[tuple[str, bool]] = set()

    facts = facts.knowing(goal.names())

    def limited(name: str, below: bool) -> bool:
        """True when `name` may have a useful lower (else upper) bound."""
        s = facts.values.symbols[name]
        if s.kind in ("size", "scalar") or s.cases or (s.lo > -FAR if below else s.hi < FAR):
            return True
        if (name, below) in seen:
            return False
        seen.add((name, below))
        return any(
            all(limited(m[0], c < 0) for m, c in f.terms.items() if len(m) == 1 and m[0] != name)
            for f, c in facts.by_name.get(name, ())
            if (c > 0) == below
        )

    return all(limited(name, c > 0) for m, c in goal.terms.items() for name in m)


@dataclass(slots=True)
class _Search:
    values: Values
    left: int = BUDGET
    failed: set[Form] = field(default_factory=set)

    def nonnegative(self, goal: Form, facts: Facts, depth: int) -> bool:
        goal = goal.tightened()
        if self.values.interval(goal)[0] >= 0:
            return True
        if depth == 0 or self.left == 0 or goal.is_const or goal in self.failed:
            return False
        self.left -= 1
        symbols = self.values.symbols
        name = max(goal.names(), key=lambda n: symbols[n].rank)
        factor = goal.coefficient(name)
        if factor is not None:
            for rest in self._eliminate(goal, name, factor, facts, depth):
                if self.nonnegative(rest, facts, depth - 1):
                    return True
        cases = symbols[name].cases
        if cases and all(
            self._case(goal.substitute(name, form), facts.extend(conjuncts(guard)), depth)
            for guard, form in cases
        ):
            return True
        self.failed.add(goal)
        return False

    def _case(self, goal: Form, facts: Facts, depth: int) -> bool:
        facts.know(goal.names())
        search = _Search(self.values, self.left)
        found = search.nonnegative(goal, facts, depth - 1)
        self.left = search.left
        return found

    def _eliminate(self, goal: Form, name: str, factor: Form, facts: Facts, depth: int) -> list[Form]:
        """Forms without `name` whose being >= 0 would prove the goal, one for each usable fact."""
        out = self._undivided(goal, name, factor)
        if factor.is_const:
            a = factor.const
            for f, b in facts.by_name.get(name, ()):
                if (a > 0) == (b > 0):
                    g = gcd(a, b)
                    times = abs(b) // g
                    # The goal is an integer: it is >= 0 when `times` of it are > -times.
                    out.append(goal * times - f * (abs(a) // g) + (times - 1))
            # The symbol's own range.
            s = self.values.symbols[name]
            end = s.lo if a > 0 else s.hi
            out.append(goal.substitute(name, constant(end)))
            return out
        for sign in (1, -1):
            if not self.nonnegative(factor * sign, facts, depth - 1):
                continue
            for f, b in facts.by_name.get(name, ()):
                if b == sign:
                    out.append(goal - f * factor * sign)
            break
        return out

    def _undivided(self, goal: Form, name: str, factor: Form) -> list[Form]:
        """As `_eliminate`, for a quotient or remainder, by what it is: `q <= g` where `a < (g + 1) * b`."""
        division = self.values.divisions.get(name)
        if division is None:
            return []
        a, b = division.dividend, division.divisor
        if name == division.remainder:
            return [goal.substitute(name, a - symbol(division.quotient) * b)]
        if not factor.is_const:
            return []
        c = factor.const
        rest = goal - symbol(name) * c
        if abs(c) == 1:
            return [(rest + 1) * b - 1 - a] if c < 0 else [a + rest * b]
        return [rest * b + (a if c < 0 else a - b + 1) * c]
