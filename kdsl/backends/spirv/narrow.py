"""Which i64 expressions can be computed in 32 bits: interval analysis, and what is known of sizes.

Devices have slow 64-bit integers or none, while loop variables, sizes and indices are i64 in the IR. At each
call every size, every extent of an array and its number of elements are below 2**30 (`LARGEST`, which the run
time checks). From that follow intervals for what is made of them:

    i_o in range((M + 63) // 64)       [0, (2**30 + 62) // 64 - 1]
    i_o * 64 + i_i                     [0, 2**30 + 62]: fits

`+ - *` and shifts to the left need no more than that their result fits, for they wrap; what compares, divides
or converts needs operands that fit. Local i64 scalars and arrays have the union of what is stored to them,
found by iterating; one that grows in a loop is unbounded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from math import gcd

from kdsl.analysis.affine import Form, constant, symbol
from kdsl.dtypes import Size, i64
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Binary,
    Body,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from kdsl.ir.walk import stmts

LARGEST = 1 << 30
"""Every size, every extent and the number of elements of every array are below this."""
_ROUNDS = 6
"""Joins of intervals at loops before what still grows counts as unbounded."""


@dataclass(frozen=True, slots=True)
class Interval:
    """The integers from `lo` to `hi`, both included; none when hi < lo."""

    lo: int
    hi: int

    @property
    def fits(self) -> bool:
        """Whether a signed number of 32 bits holds them all."""
        return self.lo >= -(1 << 31) and self.hi < 1 << 31

    def __or__(self, other: Interval) -> Interval:
        return Interval(min(self.lo, other.lo), max(self.hi, other.hi))

    def __and__(self, other: Interval) -> Interval:
        return Interval(max(self.lo, other.lo), min(self.hi, other.hi))


WHOLE = Interval(-(1 << 63), (1 << 63) - 1)


@dataclass(slots=True)
class Ranges:
    """Intervals of expressions. `vars` holds those of names in scope, `locals` of private i64 buffers.

    `products` are sums of products of names that are known to be below `LARGEST`, without their constants.
    `steps`: names are multiples of these.
    """

    vars: dict[str, Interval] = field(default_factory=dict)
    locals: dict[str, Interval] = field(default_factory=dict)
    products: dict[frozenset[tuple[tuple[str, ...], int]], int] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of_call(sizes: Iterable[str], shapes: Iterable[tuple[Size, ...]]) -> Ranges:
        """What is known at every call with these sizes and arrays of these shapes."""
        ranges = Ranges({name: Interval(0, LARGEST - 1) for name in sizes})
        for shape in shapes:
            whole = constant(1)
            for extent in shape:
                ranges.know(_form(extent))
                whole = whole * _form(extent)
            ranges.know(whole)
        return ranges

    def know(self, form: Form) -> None:
        """Notes that a form is an extent or a number of elements."""
        if not form.is_const:
            key, const = _split(form)
            self.products[key] = max(self.products.get(key, const), const)

    def know_shape(self, shape: Iterable[Expr]) -> None:
        """Notes the extents of a buffer."""
        whole: Form | None = constant(1)
        for e in shape:
            form = polynomial(e)
            if form is not None:
                self.know(form)
            whole = whole * form if whole is not None and form is not None else None
        if whole is not None:
            self.know(whole)

    # -- multiples

    gcd = staticmethod(gcd)

    def multiple(self, e: Expr) -> int:
        """A number of which an i64 expression is a multiple; 0 of 0. Powers of 2 stay so when it wraps."""
        match e:
            case Const(value=value):
                return abs(int(value))
            case Var():
                return self.steps.get(e.name, 1)
            case Binary(op="*"):
                return self.multiple(e.a) * self.multiple(e.b)
            case Binary(op="+" | "-"):
                return gcd(self.multiple(e.a), self.multiple(e.b))
            case Binary(op="max" | "min"):
                return gcd(self.multiple(e.a), self.multiple(e.b))
            case _:
                return 1

    def step_of(self, s: Loop) -> int:
        """A number of which a loop's variable is a multiple."""
        return gcd(self.multiple(s.lo), self.multiple(s.step))

    def assume(self, condition: Expr) -> None:
        """Takes over what a condition of the call says of multiples: `N % 4 == 0`."""
        match condition:
            case Logic(op="and"):
                self.assume(condition.a)
                self.assume(condition.b)
            case Compare(op="==", a=Binary(op="%", a=Var(name=name), b=Const(value=by)), b=Const(value=0)):
                old = self.steps.get(name, 1)
                self.steps[name] = old * abs(int(by)) // max(1, gcd(old, int(by)))

    # -- expressions

    def fits(self, e: Expr) -> bool:
        """Whether the i64 expression is always a number of 32 bits."""
        return self.of(e).fits

    def of(self, e: Expr) -> Interval:
        """The interval of an integer expression; of one that may wrap, all."""
        found = self._of(e)
        if not (WHOLE.lo <= found.lo and found.hi <= WHOLE.hi):
            found = WHOLE
        if not found.fits and self.products and isinstance(e, Binary) and e.op in ("+", "-", "*"):
            found &= self._known(e)
        return found

    def _known(self, e: Expr) -> Interval:
        """From the extents of arrays."""
        form = polynomial(e)
        if form is None or form.is_const:
            return WHOLE
        key, const = _split(form)
        if key not in self.products:
            return WHOLE
        # extent = form - const + its own constant, which lies in [0, LARGEST)
        own = self.products[key]
        return Interval(const - own, LARGEST - 1 + const - own)

    def _of(self, e: Expr) -> Interval:
        match e:
            case Const(value=value) if not e.type.is_float:
                return Interval(int(value), int(value))
            case Var() if e.type == i64:
                return self.vars.get(e.name, WHOLE)
            case Cast():
                return self._cast(e)
            case Load() if e.type == i64:
                return self.locals.get(e.buffer, WHOLE)
            case Select():
                return self.of(e.a) | self.of(e.b)
            case Let():
                with_name = replace(self, vars={**self.vars, e.name: self.of(e.value)})
                return with_name.of(e.body)
            case Unary(op="-") if e.dtype == i64:
                x = self.of(e.x)
                return Interval(-x.hi, -x.lo)
            case Unary(op="~") if e.dtype == i64:
                x = self.of(e.x)
                return Interval(-1 - x.hi, -1 - x.lo)
            case Binary() if e.dtype == i64:
                return _binary(e.op, self.of(e.a), self.of(e.b))
            case Call(fn="within"):
                return self.of(e.args[0])
            case Call(fn="abs") if e.dtype == i64:
                x = self.of(e.args[0])
                return Interval(0 if x.lo <= 0 <= x.hi else min(abs(x.lo), abs(x.hi)), max(-x.lo, x.hi))
            case Call(fn="minimum" | "maximum") if e.dtype == i64:
                op = "min" if e.fn == "minimum" else "max"
                return _binary(op, self.of(e.args[0]), self.of(e.args[1]))
            case _:
                t = e.dtype
                return WHOLE if t.is_float else Interval(t.min, t.max)

    def _cast(self, e: Cast) -> Interval:
        source, target = e.x.dtype, e.type
        bounds = Interval(target.min, target.max) if not target.is_float else WHOLE
        if source.is_float or target.is_float:
            return bounds
        inner = Interval(0, 1) if source.kind == "bool" else self.of(e.x)
        inside = bounds.lo <= inner.lo and inner.hi <= bounds.hi
        return inner if inside else bounds

    # -- statements

    def of_loop(self, s: Loop) -> Interval:
        """The values that a loop's variable takes."""
        lo, hi, step = self.of(s.lo), self.of(s.hi), self.of(s.step)
        up = Interval(lo.lo, hi.hi - 1)
        down = Interval(hi.lo + 1, lo.hi)
        if step.lo > 0:
            return up
        return down if step.hi < 0 else up | down

    def learn(self, body: Body) -> None:
        """Finds the intervals of the local i64 buffers of `body`, whose names are in `vars`."""
        names = {s.name for s in stmts(body) if isinstance(s, Alloc) and s.dtype == i64}
        self.locals = dict.fromkeys(names, Interval(0, 0))
        for n in range(_ROUNDS):
            found = dict(self.locals)
            self._visit(body, found)
            if found == self.locals:
                return
            grown = {name for name in names if found[name] != self.locals[name]}
            self.locals = found
            if n == _ROUNDS - 2:
                self.locals |= dict.fromkeys(grown, WHOLE)
        self.locals = dict.fromkeys(names, WHOLE)

    def _visit(self, body: Body, found: dict[str, Interval]) -> None:
        for s in body:
            match s:
                case Loop():
                    before = self.vars.get(s.var)
                    self.vars[s.var] = self.of_loop(s)
                    self._visit(s.body, found)
                    del self.vars[s.var]
                    if before is not None:
                        self.vars[s.var] = before
                case While():
                    self._visit(s.body, found)
                case If():
                    self._visit(s.then, found)
                    self._visit(s.orelse, found)
                case _:
                    stored = self._stored(s)
                    if stored is not None and stored[0] in found:
                        found[stored[0]] |= stored[1]

    def _stored(self, s: Stmt) -> tuple[str, Interval] | None:
        """The buffer that a statement writes, and what it writes if that is an i64."""
        match s:
            case Store():
                return s.buffer, self.of(s.value) if s.value.dtype == i64 else WHOLE
            case Accumulate() if s.value.dtype == i64:
                old = self.locals.get(s.buffer, WHOLE)
                new = _binary(s.op, old, self.of(s.value))
                inside = WHOLE.lo <= new.lo and new.hi <= WHOLE.hi
                return s.buffer, new if inside else WHOLE
            case Atomic():
                if s.old:
                    return s.old, WHOLE
                return s.buffer, WHOLE
            case _:
                return None


def polynomial(e: Expr) -> Form | None:
    """An i64 expression as a polynomial of names; None when it is anything else."""
    match e:
        case Const(type=t, value=value) if t == i64:
            return constant(int(value))
        case Var(type=t) if t == i64:
            return symbol(e.name)
        case Binary(op="+" | "-" | "*" as op, a=x, b=y):
            a, b = polynomial(x), polynomial(y)
            if a is None or b is None:
                return None
            return a * b if op == "*" else a + b if op == "+" else a - b
        case _:
            return None


def _form(size: Size) -> Form:
    form = constant(size.const)
    for name, factor in size.terms.items():
        form = form + symbol(name) * constant(factor)
    return form


def _split(form: Form) -> tuple[frozenset[tuple[tuple[str, ...], int]], int]:
    return frozenset((m, c) for m, c in form.terms.items() if m), form.const


def _binary(op: str, a: Interval, b: Interval) -> Interval:
    """The interval of `a op b` before it wraps."""
    match op:
        case "+":
            return Interval(a.lo + b.lo, a.hi + b.hi)
        case "-":
            return Interval(a.lo - b.hi, a.hi - b.lo)
        case "*":
            corners = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
            return Interval(min(corners), max(corners))
        case "//":
            return _quotient(a, b)
        case "%":
            if b.lo > 0:
                return Interval(0, min(b.hi - 1, a.hi) if a.lo >= 0 else b.hi - 1)
            if b.hi < 0:
                return Interval(b.lo + 1, 0)
            return Interval(min(b.lo + 1, 0), max(b.hi - 1, 0))
        case "min":
            return Interval(min(a.lo, b.lo), min(a.hi, b.hi))
        case "max":
            return Interval(max(a.lo, b.lo), max(a.hi, b.hi))
        case "&":
            if a.lo >= 0 and b.lo >= 0:
                return Interval(0, min(a.hi, b.hi))
            if a.lo >= 0 or b.lo >= 0:
                return Interval(0, a.hi if a.lo >= 0 else b.hi)
            return WHOLE
        case "|" | "^":
            if a.lo >= 0 and b.lo >= 0:
                return Interval(0, (1 << max(a.hi, b.hi).bit_length()) - 1)
            return WHOLE if not (a.fits and b.fits) else Interval(-(1 << 31), (1 << 31) - 1)
        case ">>":
            if b.lo >= 0:
                n, m = min(b.lo, 63), min(b.hi, 63)
                return Interval(min(a.lo >> n, a.lo >> m), max(a.hi >> n, a.hi >> m))
            return Interval(min(a.lo, -1), max(a.hi, 0))
        case "<<":
            if b.lo >= 0 and b.hi < 64:
                corners = [x << n for x in (a.lo, a.hi) for n in (b.lo, b.hi)]
                return Interval(min(corners), max(corners))
            return WHOLE
        case _:
            return WHOLE


def _quotient(a: Interval, b: Interval) -> Interval:
    divisors = [d for d in (b.lo, b.hi, -1 if b.lo <= -1 <= b.hi else 0, 1 if b.lo <= 1 <= b.hi else 0) if d]
    if not divisors:
        return Interval(0, 0)
    corners = [x // d for x in (a.lo, a.hi) for d in divisors]
    return Interval(min(corners), max(corners))
