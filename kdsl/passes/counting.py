"""How often bound loops run, as expressions of the host.

for i in bind(range(3, N, 2), "grid.x")      (N - 3 + 1) // 2 work-groups
for j in bind(range(i + 1), "grid.y")        at most N, where i runs over range(N)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kdsl.analysis.affine import Form
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
    """`a sign b`, simplified: sums with like terms put together, exact quotients of sums."""
    other = Const(b, i64) if isinstance(b, int) else b
    if sign in ("+", "-", "*"):
        whole = Binary(sign, a, other)
        terms = _terms(whole)
        return simplify_expr(whole) if list(terms) == [whole] else _sum(terms)
    if sign == "//" and isinstance(other, Const) and other.value > 0:
        terms, by = _terms(a), int(other.value)
        if all(c % by == 0 for c in terms.values()):
            return _sum({e: c // by for e, c in terms.items()})
    return simplify_expr(Binary(sign, a, other))


def _terms(e: Expr) -> dict[Expr | None, int]:
    """A sum of expressions as these and their factors; the constant is the term None."""
    match e:
        case Const(value=value):
            return {None: int(value)} if value else {}
        case Binary(op="+" | "-" as sign, a=a, b=b):
            out = _terms(a)
            for term, factor in _terms(b).items():
                out[term] = out.get(term, 0) + (factor if sign == "+" else -factor)
            return {term: factor for term, factor in out.items() if factor}
        case Binary(op="*", a=a, b=Const(value=by)) | Binary(op="*", a=Const(value=by), b=a):
            return {term: factor * int(by) for term, factor in _terms(a).items()} if by else {}
        case _:
            return {e: 1}


def _sum(terms: Mapping[Expr | None, int]) -> Expr:
    """The sum of terms, what is added before what is taken away, the constant last."""
    out: Expr | None = None
    for term, factor in sorted(terms.items(), key=lambda t: (t[0] is None, t[1] < 0)):
        size = Const(abs(factor), i64)
        part: Expr = size if term is None else term if size.value == 1 else Binary("*", term, size)
        if out is not None:
            out = Binary("+" if factor > 0 else "-", out, part)
        elif factor > 0:
            out = part
        else:
            minus = Const(factor, i64)
            out = minus if term is None else Binary("*", term, minus)
    return ZERO if out is None else simplify_expr(out)


def from_form(form: Form) -> Expr:
    """An affine form as an expression: `N + i * 2 - 1`."""
    return _sum({Var(m[0], i64) if m else None: c for m, c in form.terms.items()})


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


def _greatest(form: Form, around: Mapping[str, Loop], host: frozenset[str], depth: int = 6) -> Expr | None:
    """The largest value of `form` where the variables of the loops `around` have their values, or more."""
    others = [n for n in form.names() if n not in host]
    if not others:
        e = from_form(form)
        return e if is_host(e, host) else None
    loop, factor = around.get(others[0]), form.coefficient(others[0])
    if loop is None or factor is None or not factor.is_const or not depth:
        return None
    up = step_of(loop) > 0
    to_end = (factor.const > 0) == up
    ends = operands(loop.hi, "min" if up else "max") if to_end else operands(loop.lo, "max" if up else "min")
    for e in ends:
        last = linear(e)
        if last is not None:
            if to_end:
                last = last - (1 if up else -1)
            found = _greatest(form.substitute(others[0], last), around, host, depth - 1)
            if found is not None:
                return found
    return None
