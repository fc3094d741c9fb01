"""Affine forms with floor divisions: what guards and loop bounds say about one variable.

    i_o * 6 + i_i < M           i_o <= (M - i_i - 1) // 6,  i_i <= M - i_o * 6 - 1

A floor division is a name of its own in a form, the same name wherever the same quotient is meant: what the
divisor divides stands outside, and the constant inside is at least 0 and below the divisor.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from kdsl.analysis.affine import Form, constant, symbol
from kdsl.dtypes import i64
from kdsl.ir.nodes import Binary, BinaryOp, Compare, Const, Expr, Logic, Loop, Var

STEEPEST = 1 << 14
"""Coefficients up to this: sums of a few such multiples of sizes (below 2**47) fit in 64 bits."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`var <= bound` (`upper`) or `var >= bound`."""

    var: str
    upper: bool
    bound: Form


@dataclass(slots=True)
class Floors:
    """Makes forms of expressions and expressions of forms. `_atoms`: what the names of quotients mean.

    `divided`: names that count blocks, with how many elements a block has: they are so much below 2**47."""

    divided: Mapping[str, int] = field(default_factory=dict)
    _atoms: dict[str, tuple[Form, int]] = field(default_factory=dict)

    # ------------------------------------------------------------ to forms

    def form(self, e: Expr) -> Form | None:
        """`e` as a form; None when it is not made of sums, multiples and quotients of i64 names."""
        match e:
            case Const(type=t, value=value) if t == i64:
                return constant(int(value))
            case Var(type=t) if t == i64:
                return symbol(e.name)
            case Binary(op="+" | "-" | "*" as op, a=x, b=y):
                a, b = self.form(x), self.form(y)
                if a is None or b is None:
                    return None
                if op == "*":
                    return a * b if a.is_const or b.is_const else None
                return a + b if op == "+" else a - b
            case Binary(op="//", a=x, b=Const(value=by)) if by > 0:
                a = self.form(x)
                return None if a is None else self.floor(a, int(by))
            case _:
                return None

    def floor(self, form: Form, by: int) -> Form:
        """`form // by` for `by` > 0."""
        if by == 1:
            return form
        whole = {m: c // by for m, c in form.terms.items() if m and c % by == 0}
        rest = {m: c for m, c in form.terms.items() if m and c % by}
        quotient, left = divmod(form.const, by)
        out = Form(whole) + quotient
        if not rest:
            return out
        inner = self._atoms.get(next(iter(rest))[0]) if list(rest.values()) == [1] else None
        if inner is not None:
            # (x // a + c) // b is (x + a * c) // (a * b)
            return out + self.floor(inner[0] + left * inner[1], inner[1] * by)
        inside = (Form(rest) + left, by)
        for name, known in self._atoms.items():
            if known == inside:
                return out + symbol(name)
        name = f"${len(self._atoms)}"
        self._atoms[name] = inside
        return out + symbol(name)

    def ends(self, e: Expr, op: BinaryOp) -> list[Form]:
        """The forms whose minimum (or maximum: `op`) `e` is; those that are not affine are left out."""
        if isinstance(e, Binary) and e.op == op:
            return self.ends(e.a, op) + self.ends(e.b, op)
        form = self.form(e)
        return [] if form is None else [form]

    def at_least_zero(self, test: Expr) -> list[Form] | None:
        """Forms that are >= 0 exactly where a comparison holds; None for tests of another kind."""
        match test:
            case Compare(op="<" | "<=" as op, a=small, b=large):
                pass
            case Compare(op=">" | ">=" as op, a=large, b=small):
                pass
            case _:
                return None
        if small.dtype != i64:
            return None
        smalls, larges = self.ends(small, "max"), self.ends(large, "min")
        if len(smalls) != _count(small, "max") or len(larges) != _count(large, "min"):
            return None
        strict = -1 if op in ("<", ">") else 0
        return [b - a + strict for a in smalls for b in larges]

    def range_of(self, loop: Loop) -> list[Limit]:
        """What the bounds of a loop of step 1 say of its variable."""
        lows = [Limit(loop.var, False, f) for f in self.ends(loop.lo, "max")]
        return lows + [Limit(loop.var, True, f - 1) for f in self.ends(loop.hi, "min")]

    def at_most(self, a: Form, b: Form) -> bool:
        """True: `a <= b`, as their difference is a constant or one of quotients by the same divisor."""
        gap = b - a
        if gap.is_const:
            return gap.const >= 0
        if sorted(c for m, c in gap.terms.items() if m) != [-1, 1]:
            return False
        names = {c: m[0] for m, c in gap.terms.items() if len(m) == 1}
        large, small = self._atoms.get(names.get(1, "")), self._atoms.get(names.get(-1, ""))
        if large is None or small is None or large[1] != small[1]:
            return False
        inside = large[0] - small[0] + gap.const * large[1]
        return inside.is_const and inside.const >= 0

    def tighter(self, op: BinaryOp, old: Expr, bound: Form) -> Expr:
        """`old` or `bound`, whichever is the less (`op` is "min") or the greater ("max")."""
        for end in self.ends(old, op):
            if self.at_most(end, bound) if op == "min" else self.at_most(bound, end):
                return old
        new, form = self.expr(bound), self.form(old)
        if form is not None and (self.at_most(bound, form) if op == "min" else self.at_most(form, bound)):
            return new
        return Binary(op, old, new, loc=old.loc)

    def limit(self, form: Form, name: str) -> Limit | None:
        """What `form >= 0` says of a name; None when the name is no term with a constant factor."""
        factor = form.coefficient(name)
        if factor is None or not factor.is_const or not factor.const or name in self._inside(form):
            return None
        by = factor.const
        rest = form - symbol(name) * by
        if by < 0:
            return Limit(name, True, self.floor(rest, -by))
        return Limit(name, False, -self.floor(rest, by))

    # ---------------------------------------------------------- from forms

    def names(self, form: Form) -> set[str]:
        """The names of variables in a form, inside of quotients too."""
        return {n for n in form.names() if n not in self._atoms} | self._inside(form)

    def _inside(self, form: Form) -> set[str]:
        out: set[str] = set()
        for name in form.names():
            if name in self._atoms:
                out |= self.names(self._atoms[name][0])
        return out

    def small(self, form: Form) -> bool:
        """Whether the form is affine and cannot overflow for sizes below 2**47."""
        inside = [self._atoms[n][0] for n in form.names() if n in self._atoms]
        steep = any(abs(c) > STEEPEST * self.divided.get(m[0], 1) for m, c in form.terms.items() if m)
        return form.is_affine and not steep and all(self.small(f) for f in inside)

    def block(self, loop: Loop) -> int:
        """By how much at least the bounds of a loop divide sizes (`divided`)."""
        by = 1
        if not isinstance(loop.lo, Const):
            return by
        for f in self.ends(loop.hi, "min"):
            if list(f.terms.values()) == [1] and f.is_affine and not f.const:
                inside, divisor = self._atoms.get(next(iter(f.terms))[0], (f, 1))
                by = max(by, divisor if self.small(inside) else 1)
        return by

    def expr(self, form: Form) -> Expr:
        """A form as an expression: positive terms first."""
        out: Expr | None = None
        rest = form.const
        if rest > 0 and all(c < 0 for m, c in form.terms.items() if m):
            out, rest = Const(rest, i64), 0
        for m, c in sorted(((m, c) for m, c in form.terms.items() if m), key=lambda t: t[1] < 0):
            term = self._term(m[0], abs(c))
            if out is None:
                out = term if c > 0 else Binary("-", Const(0, i64), term)
            else:
                out = Binary("+" if c > 0 else "-", out, term)
        if out is None or not rest:
            return Const(rest, i64) if out is None else out
        return Binary("+" if rest > 0 else "-", out, Const(abs(rest), i64))

    def _term(self, name: str, factor: int) -> Expr:
        out: Expr = Var(name, i64)
        if name in self._atoms:
            inside, by = self._atoms[name]
            out = Binary("//", self.expr(inside), Const(by, i64))
        return out if factor == 1 else Binary("*", out, Const(factor, i64))


def conjuncts(cond: Expr) -> Iterator[Expr]:
    """What `and` joins."""
    if isinstance(cond, Logic) and cond.op == "and":
        yield from conjuncts(cond.a)
        yield from conjuncts(cond.b)
    else:
        yield cond


def _count(e: Expr, op: BinaryOp) -> int:
    return _count(e.a, op) + _count(e.b, op) if isinstance(e, Binary) and e.op == op else 1
