"""How often the innermost statement of a nest runs, as a polynomial in the sizes.

    for i_o in range((M + 5) // 6):
        for i_i in range(6):                      M: blocks of 6 and a test against M are one loop to M
            if i_o * 6 + i_i < M:
                for j in range(i_o * 6 + i_i):    M**2 / 2 - M / 2
                    S

Exact for affine bounds, for blocks, and for tests that narrow a range; a bound from above otherwise. A count
holds for sizes at which no range is shorter than empty (`N - 2 >= 0` for `range(1, N - 1)`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from typing import Literal

from kdsl.analysis.linear import faultless
from kdsl.analysis.polynomials import ONE, ZERO, Number, Polynomial, constant, summed, variable
from kdsl.dtypes import i64
from kdsl.ir import scalar_ops
from kdsl.ir.nodes import Binary, Compare, Const, Expr, Logic, Loop, Unary, Var
from kdsl.ir.printer import print_expr
from kdsl.ir.walk import expr_children, map_expr_children, subexprs

Bound = Literal["exact", "at most", "at least", "about"]


@dataclass(frozen=True, slots=True)
class Count:
    """A number that depends on the sizes, or a bound of it. `where`: polynomials that must be >= 0."""

    value: Polynomial = ZERO
    bound: Bound = "exact"
    where: frozenset[Polynomial] = frozenset()

    def __add__(self, other: Count) -> Count:
        return Count(self.value + other.value, _both(self.bound, other.bound), self.where | other.where)

    def __mul__(self, factor: int) -> Count:
        return replace(self, value=self.value * factor) if factor else Count()


def _both(a: Bound, b: Bound) -> Bound:
    if a == b or b == "exact":
        return a
    return b if a == "exact" else "about"


@dataclass(slots=True)
class Atoms:
    """Integer expressions as polynomials; what is none is an atom, `$3`, whose expression is kept here."""

    exprs: dict[str, Expr] = field(default_factory=dict)
    unknowns: set[str] = field(default_factory=set)
    _names: dict[Expr, str] = field(default_factory=dict)

    def polynomial(self, e: Expr) -> Polynomial | None:
        """`e` as a polynomial; None when it reads memory or could fault."""
        match e:
            case Const(type=t, value=value) if t == i64:
                return constant(int(value))
            case Var(type=t) if t == i64:
                return variable(e.name)
            case Unary(op="-", x=x):
                inner = self.polynomial(x)
                return None if inner is None else -inner
            case Binary(op="+" | "-" | "*" as op, a=x, b=y):
                a, b = self.polynomial(x), self.polynomial(y)
                if a is None or b is None:
                    return None
                return a * b if op == "*" else a + b if op == "+" else a - b
            case _:
                return self.atom(e) if faultless(e) and e.dtype == i64 else None

    def atom(self, e: Expr) -> Polynomial:
        """The polynomial that stands for `e` as a whole."""
        name = self._names.setdefault(e, f"${len(self._names)}")
        self.exprs[name] = e
        return variable(name)

    def unknown(self, what: str) -> Polynomial:
        """A number that the sizes do not tell."""
        self.unknowns.add(what)
        return variable(what)

    def names(self, p: Polynomial) -> set[str]:
        """The variables in `p`, those in its atoms included."""
        out: set[str] = set()
        for name in p.names():
            atom = self.exprs.get(name)
            out |= {name} if atom is None else {x.name for x in subexprs(atom) if isinstance(x, Var)}
        return out

    def text(self, p: Polynomial, order: Sequence[str] = ()) -> str:
        """`p` in Python's syntax."""

        def shown(name: str) -> str:
            atom = self.exprs.get(name)
            if atom is None:
                return name
            text = print_expr(atom, True)
            return f"({text})" if isinstance(atom, Binary) and atom.op in ("//", "%") else text

        return p.text(order, shown)

    def number(self, p: Polynomial, sizes: Mapping[str, int]) -> Number:
        """The value of `p` where its variables have these values."""

        def value(name: str) -> int:
            atom = self.exprs.get(name)
            return sizes[name] if atom is None else evaluate(atom, sizes)

        return p.evaluate(value)

    def is_negative(self, p: Polynomial, sizes: Mapping[str, int]) -> bool:
        """Whether `p` is below 0; what the sizes do not tell is a number of iterations, which is not."""
        return not self.names(p) & self.unknowns and self.number(p, sizes) < 0


def evaluate(e: Expr, values: Mapping[str, int]) -> int:
    """The value of a faultless i64 expression."""
    if isinstance(e, Const):
        return int(e.value)
    if isinstance(e, Var):
        return values[e.name]
    constants = map_expr_children(e, lambda c: Const(evaluate(c, values), i64))
    assert isinstance(constants, (Binary, Unary)), f"{type(e).__name__} is no integer arithmetic"
    operands = [c.value for c in expr_children(constants) if isinstance(c, Const)]
    if isinstance(constants, Binary):
        return int(scalar_ops.binary(constants.op, i64)(*operands))
    return int(scalar_ops.unary(constants.op, i64)(*operands))


@dataclass(frozen=True, slots=True)
class Dim:
    """A loop: `name` runs from `first` in `step`s, `count` times.

    When the loop is shorter than `count` in some iterations of outer ones, `given` is how long it is.
    """

    name: str
    first: Polynomial
    step: int
    count: Polynomial
    given: Polynomial | None = None


@dataclass(frozen=True, slots=True)
class Nest:
    """Loops, outermost first, and tests (each >= 0) around a statement. `bound`: how well they tell."""

    atoms: Atoms
    dims: tuple[Dim, ...] = ()
    tests: tuple[Polynomial, ...] = ()
    bound: Bound = "exact"
    where: frozenset[Polynomial] = frozenset()

    # -- building

    def entered(self, loop: Loop) -> Nest:
        """This nest with `loop` inside."""
        step = int(loop.step.value) if isinstance(loop.step, Const) else 0
        first, last = self._edge(loop.lo, upper=step < 0), self._edge(loop.hi, upper=step > 0)
        if first is None or last is None or not step:
            unknown = self.atoms.unknown(f"iterations of {loop.var}")
            return replace(self, dims=(*self.dims, Dim(loop.var, ZERO, 1, unknown)))
        span = last - first if step > 0 else first - last
        count, given = self._blocks(loop, span, abs(step))
        nest = self
        if count.is_const:
            count = max(count, ZERO, key=lambda p: p.const)
        elif not self._nonnegative(self.lowest(count)):
            nest, longer = self._clamped(count)
            count, given = longer, given or (None if longer == count else count)
        return replace(nest, dims=(*nest.dims, Dim(loop.var, first, step, count, given)))

    def under(self, cond: Expr, otherwise: bool = False) -> Nest:
        """This nest where `cond` holds (`otherwise`: does not hold)."""
        found = _conjuncts(cond, self.atoms, otherwise)
        if found is None:
            return self._looser()
        return replace(self, tests=(*self.tests, *found))

    def _clamped(self, count: Polynomial) -> tuple[Nest, Polynomial]:
        """A count that might be negative, for some sizes only or in some iterations."""
        inner = {d.name for d in self.dims}
        lowest = self.lowest(count)
        if lowest is None or self.atoms.names(lowest) & inner:
            return replace(self, bound="about"), count
        if lowest.is_const:
            return self, count - lowest
        return replace(self, where=self.where | {lowest}), count

    def _looser(self) -> Nest:
        return replace(self, bound=_both(self.bound, "at most"))

    def _varying(self, p: Polynomial) -> set[str]:
        """The atoms in `p` that depend on loops."""
        inner = {d.name for d in self.dims}
        return {n for n in p.names() if n in self.atoms.exprs and self.atoms.names(variable(n)) & inner}

    def _edge(self, e: Expr, upper: bool) -> Polynomial | None:
        """A polynomial without atoms that depend on loops, not below `e` (`upper`) or not above it."""
        p = self.atoms.polynomial(e)
        if p is None:
            return None
        for name in self._varying(p):
            factor = p.coefficients(name)
            if len(factor) != 2 or not factor[1].is_const:
                return None
            inside = self._relaxed(self.atoms.exprs[name], upper == (factor[1].const > 0))
            if inside is None:
                return None
            p = p.substitute(name, inside)
        return p

    def _relaxed(self, e: Expr, upper: bool) -> Polynomial | None:
        """A bound of an atom: one operand of a min or max, a quotient without rounding."""
        match e:
            case Binary(op="min" | "max" as op, a=a, b=b) if (op == "min") == upper:
                # Any operand bounds it; one that does not depend on loops sums best.
                options = [x for x in (self._edge(a, upper), self._edge(b, upper)) if x is not None]
                inner = {d.name for d in self.dims}
                return min(options, key=lambda p: len(p.names() & inner), default=None)
            case Binary(op="//", a=a, b=Const(value=by)) if by > 0:
                inside = self._edge(a, upper)
                if inside is None:
                    return None
                return (inside if upper else inside - (int(by) - 1)) * Fraction(1, int(by))
            case _:
                return None

    def _blocks(self, loop: Loop, span: Polynomial, size: int) -> tuple[Polynomial, Polynomial | None]:
        """The iterations of a loop that covers at most `span`, and, if they may be fewer, how many."""
        lo, hi = self.atoms.polynomial(loop.lo), self.atoms.polynomial(loop.hi)
        assert lo is not None and hi is not None and isinstance(loop.step, Const)
        exact = not self._varying(lo) and not self._varying(hi)
        if size == 1 or all(c % size == 0 for c in span.terms.values()):
            count = span * Fraction(1, size)
            rising = loop.step.value > 0
            return count, None if exact else (hi - lo if rising else lo - hi) * Fraction(1, size)
        if span.is_const and exact:
            return constant(-(-span.const // size)), None
        near, far = (loop.lo, loop.hi) if loop.step.value > 0 else (loop.hi, loop.lo)
        gap = far if near == Const(0, i64) else Binary("-", far, near)
        atom = self.atoms.atom(Binary("//", Binary("+", gap, Const(size - 1, i64)), Const(size, i64)))
        if self._varying(atom):
            return (span + (size - 1)) * Fraction(1, size), atom
        return atom, None

    # -- bounds

    def lowest(self, p: Polynomial, highest: bool = False) -> Polynomial | None:
        """The least (or greatest) value of `p` over all iterations, in outer names; None if not affine."""
        if self._varying(p):
            return None
        for dim in reversed(self.dims):
            if p.degree(dim.name) > 1:
                return None
            if p.degree(dim.name) == 1:
                factor = p.coefficients(dim.name)[1]
                if not factor.is_const:
                    return None
                at_end = (factor.const * dim.step > 0) == highest
                p = p.substitute(dim.name, dim.first + (dim.count - 1) * dim.step if at_end else dim.first)
        return p

    def _nonnegative(self, p: Polynomial | None) -> bool:
        """True: `p` is >= 0 for all sizes."""
        return p is not None and nonnegative(p, self.atoms, {d.name for d in self.dims})

    def simplified(self, *subjects: Polynomial) -> tuple[Nest, tuple[Polynomial, ...]]:
        """The same points with as few tests as possible: tests become part of the loops.

        `subjects` follow into the new loops; a name of the old ones that stays in them has no meaning.
        """
        nest = replace(self, tests=())
        for n, test in enumerate(self.tests):
            if nest._nonnegative(nest.lowest(test)):
                continue
            rest = self.tests[n + 1 :]
            merged = nest._merged(test, rest)
            if merged is not None:
                after = replace(merged.nest, tests=tuple(map(merged.replaced, rest)))
                return after.simplified(*map(merged.replaced, subjects))
            nest = nest._narrowed(test) or nest._looser()
        return nest, subjects

    def _merged(self, test: Polynomial, others: Iterable[Polynomial]) -> _Merged | None:
        """Loops that count in digits (`i_o * 6 + i_i`) up to the limit that `test` sets, as one loop."""
        used = [d for d in self.dims if d.name in test.names()]
        digits = []
        for dim in used:
            factor = test.coefficients(dim.name)
            if len(factor) != 2 or not factor[1].is_const:
                return None
            if factor[1].const < 0 and dim.first == ZERO and dim.step == 1:
                digits.append((-factor[1].const, dim))
        digits.sort(key=lambda d: -d[0])
        if len(digits) < 2 or digits[-1][0] != 1:
            return None
        for (weight, _), (below, dim) in pairwise(digits):
            if dim.given is not None or not dim.count.is_const or weight != below * dim.count.const:
                return None
        limit = test + 1
        for _, dim in digits:
            limit = limit.substitute(dim.name, ZERO)
        top_weight, top = digits[0]
        if not self._reaches(top.given or top.count, int(top_weight), limit):
            return None
        name = f"{top.name}*{int(top_weight)}"
        last = digits[-1][1].name
        value = variable(name)
        for weight, dim in digits[:-1]:
            value = value - variable(dim.name) * weight
        gone = {d.name for _, d in digits}

        def substituted(p: Polynomial) -> Polynomial:
            return p.substitute(last, value)

        merged = Dim(name, ZERO, 1, limit)
        where, least = self.where, self.lowest(limit)
        if not self._nonnegative(least):
            if least is None or self.atoms.names(least) & {d.name for d in self.dims}:
                return None
            where |= {least}
        dims: list[Dim] = []
        for dim in self.dims:
            if dim is top:
                dims.append(merged)
            if dim.name not in gone:
                given = None if dim.given is None else substituted(dim.given)
                dims.append(Dim(dim.name, substituted(dim.first), dim.step, substituted(dim.count), given))
        kept = [p for d in dims for p in (d.first, d.count)] + [substituted(t) for t in others]
        if any(self.atoms.names(p) & gone for p in kept) or any(self._varying(p) for p in (limit,)):
            return None
        return _Merged(replace(self, dims=_ordered(dims), where=where), substituted)

    def _reaches(self, count: Polynomial, weight: int, limit: Polynomial) -> bool:
        """True: `count` blocks of `weight` reach the limit."""
        if self._nonnegative(count * weight - limit):
            return True
        (name, *more) = count.names() or {""}
        atom = self.atoms.exprs.get(name)
        match atom:
            case Binary(op="//", a=a, b=Const(value=by)) if int(by) == weight and not more:
                inside = self.atoms.polynomial(a)
                if inside is None or count != variable(name):
                    return False
                return self._nonnegative(inside - limit - (weight - 1))
            case _:
                return False

    def _narrowed(self, test: Polynomial) -> Nest | None:
        """`test` as a new first or last value of one loop."""
        for n, dim in reversed(list(enumerate(self.dims))):
            if dim.step != 1 or dim.given is not None or test.degree(dim.name) != 1 or self._varying(test):
                continue
            factor = test.coefficients(dim.name)[1]
            if not factor.is_const or abs(factor.const) != 1:
                continue
            inside = {d.name for d in self.dims[n:]}
            edge = test.substitute(dim.name, ZERO)
            if edge.names() & inside:
                continue
            if factor.const < 0:
                first, count = dim.first, edge + 1 - dim.first
                cut = dim.count - count
            else:
                first = -edge
                cut = first - dim.first
                count = dim.count - cut
            outer = replace(self, dims=self.dims[:n])
            if all(map(self._nonnegative, map(outer.lowest, (cut, count)))):
                new = Dim(dim.name, first, 1, count)
                return replace(self, dims=(*self.dims[:n], new, *self.dims[n + 1 :]))
        return None

    # -- counting

    def total(self, value: Polynomial = ONE) -> Count:
        """The sum of `value`, which is 1 for a count, over all points."""
        nest, (value,) = self.simplified(value)
        for dim in reversed(nest.dims):
            value = summed(value, dim.name, dim.first, dim.step, dim.count)
        if any(d.given is not None for d in nest.dims):
            nest = nest._looser()
        return Count(value, nest.bound, nest.where)


@dataclass(frozen=True, slots=True)
class _Merged:
    nest: Nest
    replaced: Callable[[Polynomial], Polynomial]


def nonnegative(p: Polynomial, atoms: Atoms, inner: Iterable[str] = ()) -> bool:
    """True: `p` is >= 0 whatever the sizes are, by its coefficients. Names in `inner` are loops'."""
    inside = set(inner)
    if all(
        c >= 0 and all(n not in inside and _counts(atoms.exprs.get(n), atoms) for n in m)
        for m, c in p.terms.items()
    ):
        return True
    for name in p.names():
        match atoms.exprs.get(name):
            case Binary(op="//", a=a, b=Const(value=by)) if by > 0:
                # x // c is (x - r) / c with a remainder r >= 0.
                whole = atoms.polynomial(a)
                if whole is not None and name + "%" not in inside:
                    quotient = (whole - variable(name + "%")) * Fraction(1, int(by))
                    rest = p.substitute(name, quotient)
                    if rest.names() < p.names() | {name + "%"} and nonnegative(rest, atoms, inside):
                        return True
            case _:
                pass
    return False


def _counts(atom: Expr | None, atoms: Atoms) -> bool:
    """Whether an atom (None: a size) is >= 0."""
    match atom:
        case None:
            return True
        case Binary(op="//" | "%" as op, a=a, b=Const(value=by)) if by > 0:
            inside = atoms.polynomial(a)
            return op == "%" or (inside is not None and nonnegative(inside, atoms))
        case Binary(op="max", a=a, b=b):
            return any(p is not None and nonnegative(p, atoms) for p in map(atoms.polynomial, (a, b)))
        case Binary(op="min", a=a, b=b):
            return all(p is not None and nonnegative(p, atoms) for p in map(atoms.polynomial, (a, b)))
        case _:
            return False


def _ordered(dims: Sequence[Dim]) -> tuple[Dim, ...]:
    """Each loop behind those that its range depends on."""
    out: list[Dim] = []
    left = list(dims)
    while left:
        names = {d.name for d in left}
        free = next((d for d in left if not (d.first.names() | d.count.names()) & names), left[0])
        left.remove(free)
        out.append(free)
    return tuple(out)


_INVERSE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def _conjuncts(cond: Expr, atoms: Atoms, otherwise: bool) -> list[Polynomial] | None:
    """What must be >= 0 for `cond` to hold (or not to); None when that is no conjunction of affine tests."""
    match cond:
        case Const(value=value) if bool(value) != otherwise:
            return []
        case Unary(op="not", x=x):
            return _conjuncts(x, atoms, not otherwise)
        case Logic(op=word, a=left, b=right) if (word == "and") != otherwise:
            one, two = _conjuncts(left, atoms, otherwise), _conjuncts(right, atoms, otherwise)
            return None if one is None or two is None else one + two
        case Compare(op=relation, a=left, b=right) if left.dtype == i64:
            p, q = atoms.polynomial(left), atoms.polynomial(right)
            if p is None or q is None:
                return None
            match _INVERSE[relation] if otherwise else relation:
                case "<":
                    return [q - p - 1]
                case "<=":
                    return [q - p]
                case ">":
                    return [p - q - 1]
                case ">=":
                    return [p - q]
                case "==":
                    return [q - p, p - q]
                case _:
                    return None
        case _:
            pass
    return None
