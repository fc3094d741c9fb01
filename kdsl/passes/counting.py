"""How often bound loops run, as expressions of the host.

for i in bind(range(3, N, 2), "grid.x")      (N - 3 + 1) // 2 work-groups
for j in bind(range(i + 1), "grid.y")        at most N, where i runs over range(N)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kdsl.analysis.affine import Form, constant
from kdsl.analysis.linear import difference, linear
from kdsl.analysis.state import State
from kdsl.analysis.values import Values
from kdsl.dtypes import i64
from kdsl.ir.host import is_host
from kdsl.ir.nodes import Binary, BinaryOp, Const, Expr, Func, Loop, ScalarParam, Var
from kdsl.passes.simplify import simplify_expr

MOST = 1 << 30
"""Sizes are smaller than this on a GPU: the call checks it."""

ONE = Const(1, i64)
ZERO = Const(0, i64)


def op(sign: BinaryOp, a: Expr, b: Expr | int) -> Expr:
    """`a sign b`, simplified."""
    other = Const(b, i64) if isinstance(b, int) else b
    if sign == "//" and isinstance(other, Const):
        form, by = linear(a), int(other.value)
        if form is not None and by > 0 and all(c % by == 0 for c in form.terms.values()):
            return from_form(Form({m: c // by for m, c in form.terms.items()}))
    whole = linear(Binary(sign, a, other))
    return simplify_expr(Binary(sign, a, other)) if whole is None else from_form(whole)


def from_form(form: Form) -> Expr:
    """An affine form as an expression: `N + 2 * i - 1`."""
    out: Expr | None = None
    for m, c in sorted(form.terms.items(), key=lambda t: (not t[0], t[1] < 0)):
        size = abs(c)
        term: Expr = Const(size, i64) if not m else Var(m[0], i64)
        if m and size != 1:
            term = Binary("*", term, Const(size, i64))
        if out is None:
            out = term if c > 0 else Const(c, i64) if not m else Binary("*", Var(m[0], i64), Const(c, i64))
        else:
            out = Binary("+" if c > 0 else "-", out, term)
    return out if out is not None else ZERO


@dataclass(slots=True)
class Ranges:
    """Intervals of host expressions: sizes are in [0, `MOST`), scalars have the range of their dtype."""

    func: Func
    state: State = field(init=False)

    def __post_init__(self) -> None:
        self.state = State(Values())
        for name in self.func.sizes:
            self.state.names[name] = self.state.values.add(name, "size", 0, MOST - 1)
        for p in self.func.params:
            if isinstance(p, ScalarParam) and p.dtype.is_int:
                self.state.names[p.name] = self.state.values.add(p.name, "scalar", p.dtype.min, p.dtype.max)

    def host_loop(self, loop: Loop) -> None:
        """Makes the variable of a host loop known."""
        (a, b), (c, d) = self.of(loop.lo), self.of(loop.hi)
        self.state.names[loop.var] = self.state.values.add(loop.var, "loop", min(a, c), max(b, d))

    def of(self, e: Expr) -> tuple[int, int]:
        """Constants that enclose `e`."""
        return self.state.values.interval(self.state.value(e))


def step_of(loop: Loop) -> int:
    """The constant step of a loop; 0 when it is none."""
    return int(loop.step.value) if isinstance(loop.step, Const) else 0


def trip_count(loop: Loop, ranges: Ranges) -> Expr:
    """The number of iterations of a loop whose bounds are host expressions and whose step is a constant."""
    step = step_of(loop)
    first, end = (loop.lo, loop.hi) if step > 0 else (loop.hi, loop.lo)
    return per_step(op("-", end, first), abs(step), ranges)


def per_step(span: Expr, step: int, ranges: Ranges) -> Expr:
    """The number of steps in a span, which may be negative: then 0."""
    count = span if step == 1 else op("//", op("+", span, step - 1), step)
    return count if ranges.of(count)[0] >= 0 else op("max", count, 0)


def operands(e: Expr, sign: str) -> list[Expr]:
    """The parts of a minimum (or maximum) of several; `[e]` when it is none."""
    if isinstance(e, Binary) and e.op == sign:
        return [*operands(e.a, sign), *operands(e.b, sign)]
    return [e]


def most_iterations(loop: Loop, around: Sequence[Loop], host: frozenset[str], ranges: Ranges) -> Expr | None:
    """A host expression for a number of iterations that `loop` never exceeds, whatever the variables of the
    loops `around` it are; None when there is no simple one."""
    step = step_of(loop)
    if not step:
        return None
    first, end = (loop.lo, loop.hi) if step > 0 else (loop.hi, loop.lo)
    ends = {s.var: s for s in around}
    found: list[Expr] = []
    for hi in operands(end, "min"):
        for lo in operands(first, "max"):
            gap = difference(hi, lo)
            if gap is not None:
                return per_step(Const(max(gap, 0), i64), abs(step), ranges)
            form = linear(Binary("-", hi, lo))
            bound = None if form is None else _greatest(form, ends, host)
            if bound is not None:
                found.append(per_step(bound, abs(step), ranges))
    return found[0] if found else None


def _greatest(form: Form, around: Mapping[str, Loop], host: frozenset[str]) -> Expr | None:
    """The largest value of `form` where the variables of the loops `around` have their values."""
    left = len(around) + 1
    while others := [n for n in form.names() if n not in host]:
        loop = around.get(others[0])
        factor = form.coefficient(others[0])
        left -= 1
        if loop is None or factor is None or not factor.is_const or left < 0:
            return None
        rising = (factor.const > 0) == (step_of(loop) > 0)
        end = linear(loop.hi if rising else loop.lo)
        if end is None:
            return None
        last = end - constant(1 if step_of(loop) > 0 else -1) if rising else end
        form = form.substitute(others[0], last)
    e = from_form(form)
    return e if is_host(e, host) else None
