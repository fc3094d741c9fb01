"""Loops end where all that they hold is guarded off, and guards that the bounds now imply go away.

    for k_o in range((K + 511) // 512):            for k_o in range((K + 511) // 512):
        for k_i in range(512):                         for k_i in range(min(512, K - k_o * 512)):
            if k_o * 512 + k_i < K:          ->            S
                S

A guard that names loops further in is taken where it is weakest: the bounds then leave out what it never lets
through, and it stays. Loops that are written out, or vectors, keep their constant number of iterations.
Known as: bounds tightening, simplification of domains.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kdsl.analysis.affine import Form
from kdsl.analysis.floors import Floors, Limit, conjuncts
from kdsl.analysis.linear import faultless
from kdsl.dtypes import i64
from kdsl.ir.nodes import Alloc, Body, Const, Expr, Func, If, Logic, Loop, Stmt
from kdsl.ir.walk import map_stmt, stmt_bodies

MOST = 16
"""So many conditions of one statement are followed."""


def trim(func: Func) -> Func:
    """`func` with narrower bounds and fewer guards; itself when nothing changes."""
    floors = Floors()
    body, _ = _Trim(floors).body(func.body)
    body = _Drop(floors).body(body, frozenset())
    return func if body is func.body else replace(func, body=body)


def _plain(loop: Loop) -> bool:
    """Whether the bounds may change: they cannot fault, and no mark wants them constant."""
    free = loop.mark is None or loop.mark.kind == "parallel"
    return free and loop.step == Const(1, i64) and faultless(loop.lo) and faultless(loop.hi)


@dataclass(slots=True)
class _Trim:
    """Narrows bounds from the inside out.

    Each method gives also the forms that must be >= 0 for the statement to do anything at all; None for what
    never does anything.
    """

    floors: Floors

    def body(self, body: Body) -> tuple[Body, list[Form] | None]:
        found: list[Form] | None = None
        out: list[Stmt] = []
        for s in body:
            new, needs = self.statement(s)
            out.append(new)
            if needs is not None:
                found = needs if found is None else [f for f in found if f in needs]
        return (body if all(a is b for a, b in zip(body, out)) else tuple(out)), found

    def statement(self, s: Stmt) -> tuple[Stmt, list[Form] | None]:
        match s:
            case Alloc():
                return s, None
            case If():
                then, one = self.body(s.then)
                orelse, two = self.body(s.orelse)
                new = s if then is s.then and orelse is s.orelse else replace(s, then=then, orelse=orelse)
                if not faultless(s.cond):
                    return new, []
                if s.orelse:
                    return new, one if two is None else two if one is None else [f for f in one if f in two]
                return new, None if one is None else self.some([*self.tests(s.cond), *one])
            case Loop():
                return self.loop(s)
            case _:
                if not stmt_bodies(s):
                    return s, []
                return map_stmt(s, lambda e: e, lambda b: self.body(b)[0]), []

    def tests(self, cond: Expr) -> list[Form]:
        """What a guard's comparisons need."""
        parts = [self.floors.at_least_zero(test) for test in conjuncts(cond)]
        return [f for part in parts if part for f in part]

    def loop(self, s: Loop) -> tuple[Stmt, list[Form] | None]:
        body, needs = self.common(s, s.body)
        new = s if body is s.body else replace(s, body=body)
        if s.step != Const(1, i64) or not (faultless(s.lo) and faultless(s.hi)):
            return new, []
        if needs is None:
            return new, None
        if _plain(s):
            for limit in [m for m in (self.floors.limit(f, s.var) for f in needs) if m is not None]:
                new = self.narrowed(new, limit)
        lows, highs = self.floors.ends(new.lo, "max"), self.floors.ends(new.hi, "min")
        outer = [high - low - 1 for low in lows for high in highs]
        for f in needs:
            outer += self.without(f, s.var, lows, highs)
        return new, self.some(outer)

    def common(self, s: Loop, body: Body) -> tuple[Body, list[Form] | None]:
        """As `body`, with the needs of its statements compared by what they say of the loop's variable."""
        found: dict[Form | Limit, Form] | None = None
        out: list[Stmt] = []
        for inner in body:
            new, needs = self.statement(inner)
            out.append(new)
            if needs is not None:
                keyed = {self.floors.limit(f, s.var) or f: f for f in needs}
                found = keyed if found is None else {key: f for key, f in found.items() if key in keyed}
        kept = body if all(a is b for a, b in zip(body, out)) else tuple(out)
        return kept, None if found is None else list(found.values())

    def narrowed(self, s: Loop, limit: Limit) -> Loop:
        bound = limit.bound
        if s.var in self.floors.names(bound) or not self.floors.small(bound):
            return s
        if limit.upper:
            hi = self.floors.tighter("min", s.hi, bound + 1)
            return s if hi is s.hi else replace(s, hi=hi)
        lo = self.floors.tighter("max", s.lo, bound)
        return s if lo is s.lo else replace(s, lo=lo)

    def without(self, form: Form, name: str, lows: list[Form], highs: list[Form]) -> list[Form]:
        """What `form >= 0` needs, wherever in its range the variable `name` is."""
        if name not in self.floors.names(form):
            return [form]
        factor = form.coefficient(name)
        if self.floors.limit(form, name) is None or factor is None:
            return []
        ends = lows if factor.const < 0 else [h - 1 for h in highs]
        ends = [e for e in ends if e.is_const] or ends
        return [form.substitute(name, end) for end in ends]

    def some(self, forms: Iterable[Form]) -> list[Form]:
        """The forms that can be used further out, without those that always hold."""
        kept = [f for f in dict.fromkeys(forms) if self.floors.small(f)]
        return [f for f in kept if not (f.is_const and f.const >= 0)][:MOST]


@dataclass(slots=True)
class _Drop:
    """Drops guards that the bounds of the loops around them imply, from the outside in."""

    floors: Floors

    def body(self, body: Body, facts: frozenset[Limit]) -> Body:
        out: list[Stmt] = []
        for s in body:
            inside = facts
            if isinstance(s, Loop) and s.step == Const(1, i64):
                inside = facts | set(self.floors.range_of(s))
            new = map_stmt(s, lambda e: e, lambda b, inside=inside: self.body(b, inside))  # type: ignore[misc]
            if isinstance(new, If) and not new.orelse:
                tests = list(conjuncts(new.cond))
                left = [t for t in tests if not self.holds(t, facts)]
                if not left and (len(body) == 1 or not any(isinstance(x, Alloc) for x in new.then)):
                    out += new.then
                    continue
                if left and len(left) < len(tests):
                    cond = left[0]
                    for t in left[1:]:
                        cond = Logic("and", cond, t)
                    new = replace(new, cond=cond)
            out.append(new)
        return body if len(out) == len(body) and all(a is b for a, b in zip(body, out)) else tuple(out)

    def holds(self, test: Expr, facts: frozenset[Limit]) -> bool:
        forms = self.floors.at_least_zero(test)
        if forms is None:
            return False
        return all(
            any(self.floors.limit(f, name) in facts for name in f.names()) or (f.is_const and f.const >= 0)
            for f in forms
        )
