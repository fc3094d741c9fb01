"""Every array access of a function with the points at which it runs, as formulas over symbols.

A walk in program order carries the context: loop ranges, conditions, and what is known of memory (`state`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal

from kdsl.analysis.affine import Form, Formula, all_of, any_of, at_least, constant, equal, symbol
from kdsl.analysis.state import State, Value
from kdsl.analysis.values import ASSUMED, SIZE_MAX, Truth, Values, size_form
from kdsl.dtypes import bool_, i64
from kdsl.ir.faults import part_name
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Assert,
    Atomic,
    Barrier,
    Binary,
    Body,
    Break,
    Call,
    Const,
    Continue,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Prefetch,
    Print,
    Return,
    ScalarParam,
    Select,
    Stmt,
    Store,
    While,
)
from kdsl.ir.walk import expr_children, stmt_bodies, stmt_exprs, stmts

Site = Load | Store | Accumulate | Atomic


Mode = Literal["read", "write", "update"]


@dataclass(frozen=True, slots=True)
class Iteration:
    """An enclosing loop: its symbol runs from `lo` in steps of `step` (0: not known) and stays before `hi`.

    `points` says the same as a formula.
    """

    name: str
    id: int
    lo: Form
    hi: Form
    step: int
    points: Formula


@dataclass(frozen=True, slots=True)
class Access:
    """One access: `index` within `extent`, at each point of `loops` at which all of `context` holds.

    `certain`: it runs at exactly those points, provided that the symbols of `context` are not opaque;
    otherwise at some of them. `stmt` is the id of its statement.

    A `test` is a call of `within`, an index into a part of an array, as if the part were an array of rank 1.
    """

    site: Site
    stmt: int
    mode: Mode
    index: tuple[Form, ...]
    extent: tuple[Form, ...]
    loops: tuple[Iteration, ...]
    context: tuple[Formula, ...]
    certain: bool
    test: Call | None = None


@dataclass(frozen=True, slots=True)
class Divisor:
    """The divisor of an integer `//` or `%` at the points at which `context` holds.

    `plain`: it, and the sum that is divided, are far from wrapping (within +-2**62).
    """

    division: Binary
    form: Form
    context: tuple[Formula, ...]
    plain: bool


@dataclass(frozen=True, slots=True)
class Accesses:
    """All accesses in program order, `tests` apart, their symbols, and what holds at every call.

    `divisors` are those that are no constants.
    """

    values: Values
    accesses: tuple[Access, ...]
    assumptions: tuple[Formula, ...]
    tests: tuple[Access, ...] = ()
    divisors: tuple[Divisor, ...] = ()


def collect(func: Func, assuming: bool = True) -> Accesses:
    """The accesses of `func`; those of rank-0 buffers, which cannot fault, are left out.

    `assuming`: see `Values`; the accesses are the same ones in the same order.
    """
    walk = _Walk(State(Values(assuming=assuming)))
    assumptions = walk.start(func)
    walk.body(func.body)
    return Accesses(walk.values, tuple(walk.found), assumptions, tuple(walk.tests), tuple(walk.divisors))


@dataclass(slots=True)
class _Walk:
    state: State
    found: list[Access] = field(default_factory=list)
    tests: list[Access] = field(default_factory=list)
    divisors: list[Divisor] = field(default_factory=list)
    # The context, restored on leaving a construct.
    context: tuple[Formula, ...] = ()
    loops: tuple[Iteration, ...] = ()
    extents: dict[str, tuple[Form, ...]] = field(default_factory=dict)
    certain: bool = True
    stmt: int = 0
    # The flow: `reachable` by falling through; `lost`: an earlier statement may have left.
    reachable: bool = True
    lost: bool = False
    unchecked: bool = False

    @property
    def values(self) -> Values:
        return self.state.values

    def start(self, func: Func) -> tuple[Formula, ...]:
        self.unchecked = func.options.unchecked
        for size in func.sizes:
            self.state.names[size] = self.values.add(size, "size", 0, SIZE_MAX)
        for p in func.params:
            if isinstance(p, ScalarParam) and not p.dtype.is_float:
                form = self.values.add(p.name, "scalar", p.dtype.min, p.dtype.max)
                boolean = p.dtype == bool_
                self.state.names[p.name] = self.values.compare("!=", form, constant(0)) if boolean else form
        for a in func.arrays:
            self.extents[a.name] = tuple([size_form(s) for s in a.shape])
        shapes = [at_least(e) for a in func.arrays if not a.result for e in self.extents[a.name]]
        conditions = [c for c in func.conditions if not self.state.learned(c.expr)]
        assumptions = tuple([self.state.truth(c.expr).yes for c in conditions] + shapes)
        self.context = assumptions
        return assumptions

    # ---------------------------------------------------------------- statements

    def body(self, body: Body) -> None:
        context, certain = self.context, self.certain
        for s in body:
            if not self.reachable:
                break
            self.stmt = s.id
            self.state.tested.clear()
            self.statement(s)
        self.context, self.certain = context, certain

    def statement(self, s: Stmt) -> None:
        match s:
            case Loop():
                self.loop(s)
            case While():
                self.while_loop(s)
            case If():
                self.branch(s)
            case Alloc():
                self.visit_all(s)
                self.extents[s.name] = tuple([self.state.modular(e) for e in s.shape])
                self.state.local.add(s.name)
                self.state.forget(s.name)
            case Store() | Accumulate() | Atomic():
                self.write(s)
            case Assert():
                self.visit(s.cond)
                truth = self.state.truth(s.cond)
                self.context = (*self.context, truth.yes)
                if self.loops or not truth.exact:
                    self.lost = True
            case Break() | Continue() | Return():
                self.reachable = False
            case Print() | Prefetch() | Barrier():
                self.visit_all(s)
            case _:
                raise AssertionError(type(s).__name__)

    def write(self, s: Store | Accumulate | Atomic) -> None:
        self.visit_all(s)
        if s.index:
            self.record(s, "write" if isinstance(s, Store) else "update", s.index)
        value: Value | None = None
        if isinstance(s, Store) and not s.index and not s.value.dtype.is_float:
            value = self.state.stored(s.value)
        self.state.store(s.buffer, value)
        if isinstance(s, Atomic) and s.old:
            self.state.forget(s.old)

    def forget_written(self, body: Body) -> None:
        for name in sorted(written(body)):
            self.state.forget(name)

    def loop(self, s: Loop) -> None:
        self.visit_all(s)
        state = self.state
        iteration = iteration_of(s, state)
        self.forget_written(s.body)
        names, shared = state.names, state.shared
        loops, context, certain, lost = self.loops, self.context, self.certain, self.lost
        state.names = {**names, s.var: symbol(iteration.name)}
        if s.mark is not None and s.mark.kind not in ("unroll", "tensorize"):
            state.shared = shared | written(s.body)
        self.loops = (*loops, iteration)
        self.context = (*context, iteration.points)
        leaves = may_leave(s.body)
        self.certain = certain and iteration.step != 0 and not leaves and not breaks(s.body)
        self.body(s.body)
        state.names, state.shared = names, shared
        self.loops, self.context, self.certain = loops, context, certain
        self.lost, self.reachable = lost or leaves, True
        self.forget_written(s.body)

    def while_loop(self, s: While) -> None:
        self.forget_written(s.body)
        self.visit(s.cond)
        truth = self.state.truth(s.cond)
        with self.under(Truth(truth.yes, truth.no, False)):
            self.body(s.body)
        self.lost = self.reachable = True
        self.forget_written(s.body)
        self.state.tested.clear()
        if not breaks(s.body):
            self.context = (*self.context, self.state.truth(s.cond).no)

    def branch(self, s: If) -> None:
        self.visit(s.cond)
        truth = self.state.truth(s.cond)
        before = self.state.memory()
        with self.under(truth):
            self.body(s.then)
        then, after_then = self.reachable, self.state.memory()
        self.reachable = True
        self.state.restore(before)
        with self.under(truth.negated()):
            self.body(s.orelse)
        if not then or not self.reachable:
            # What follows runs on the branch that falls through only.
            self.context = (*self.context, truth.no if self.reachable else truth.yes)
            self.certain = self.certain and truth.exact
            if then:
                self.reachable = True
                self.state.restore(after_then)
            if exits(s.then if then else s.orelse):
                self.lost = True
            return
        if exits(s.then) or exits(s.orelse):
            self.lost = True
        self.state.join(truth, after_then)

    @contextmanager
    def under(self, truth: Truth) -> Iterator[None]:
        """The scope in which a condition is known to be true."""
        context, certain = self.context, self.certain
        self.context = (*context, truth.yes)
        self.certain = certain and truth.exact
        yield
        self.context, self.certain = context, certain

    # --------------------------------------------------------------- expressions

    def visit_all(self, s: Stmt) -> None:
        for e in stmt_exprs(s):
            self.visit(e)

    def visit(self, e: Expr) -> None:
        """Records the loads in `e`, each under the conditions inside `e` that lead to it."""
        match e:
            case Load():
                for i in e.index:
                    self.visit(i)
                if e.index:
                    self.record(e, "read", e.index)
            case Call(fn="within", args=(index, extent, _)):
                self.visit(index)
                self.visit(extent)
                self.test(e, index, extent)
            case Logic():
                self.visit(e.a)
                truth = self.state.truth(e.a)
                with self.under(truth if e.op == "and" else truth.negated()):
                    self.visit(e.b)
            case Select():
                self.visit(e.cond)
                truth = self.state.truth(e.cond)
                with self.under(truth):
                    self.visit(e.a)
                with self.under(truth.negated()):
                    self.visit(e.b)
            case Let():
                self.visit(e.value)
                names = self.state.names
                self.state.bind(e)
                self.visit(e.body)
                self.state.names = names
            case _:
                for c in expr_children(e):
                    self.visit(c)
                if isinstance(e, Binary) and e.op in ("//", "%") and e.dtype == i64:
                    self.divide(e)

    def divide(self, e: Binary) -> None:
        if not isinstance(e.b, Const):
            dividend, form = self.state.value(e.a), self.state.value(e.b)
            ends = (*self.values.interval(dividend), *self.values.interval(form))
            plain = dividend == self.state.modular(e.a) and all(-ASSUMED <= n <= ASSUMED for n in ends)
            self.divisors.append(Divisor(e, form, self.context, plain))

    def record(self, site: Site, mode: Mode, index: tuple[Expr, ...]) -> None:
        forms = tuple([self.state.modular(e) for e in index])
        self.found.append(self.access(site, mode, forms, self.extents[site.buffer]))

    def access(self, site: Site, mode: Mode, index: tuple[Form, ...], extent: tuple[Form, ...]) -> Access:
        certain = self.certain and not self.lost
        return Access(site, self.stmt, mode, index, extent, self.loops, self.context, certain)

    def test(self, call: Call, at: Expr, size: Expr) -> None:
        """An index into a part. One that depends on data is tested when it runs, so in range after.

        Its symbol has a range but no facts: those would hold only where the test has passed.
        """
        values = self.values
        index, extent = self.state.modular(at), self.state.modular(size)
        part = Load(part_name(call.loc), (at,), i64, loc=call.loc)
        self.tests.append(replace(self.access(part, "read", (index,), (extent,)), test=call))
        kinds = {values.symbols[n].kind for n in values.closure(index.names())}
        if extent.is_const and "opaque" in kinds and not self.unchecked:
            index = values.add("place", "opaque", 0, max(0, extent.const - 1))
        self.state.tested[id(call)] = index


def iteration_of(s: Loop, state: State) -> Iteration:
    """The loop with a new symbol for its variable."""
    v = state.values
    lo, hi = (v.bounded(state.value(e)) for e in (s.lo, s.hi))
    step = state.value(s.step)
    (lo_min, lo_max), (hi_min, hi_max) = v.interval(lo), v.interval(hi)
    up, down = v.interval(step)[0] >= 0, v.interval(step)[1] <= 0
    if up:
        least, most = lo_min, max(hi_max - 1, lo_min)
    elif down:
        least, most = min(hi_min + 1, lo_max), lo_max
    else:
        least, most = min(lo_min, hi_min + 1), max(lo_max, hi_max - 1)
    var = v.add(s.var, "loop", least, most)
    rising = all_of(at_least(var - lo), v.positive_factors(hi - 1 - var))
    falling = all_of(v.positive_factors(lo - var), at_least(var - hi - 1))
    points = rising if up else falling if down else any_of(rising, falling)
    stride = step.const if step.is_const else 0
    if abs(stride) > 1:
        turn = v.add(f"{s.var}_turn", "derived", 0, 1 << i64.bits)
        reached = turn * stride
        # The last comparison says nothing new, but its coefficients may have a common divisor.
        left = hi - 1 - lo - reached if stride > 0 else lo - hi - 1 + reached
        points = all_of(points, equal(var - lo - reached), at_least(turn), at_least(left))
    (name,) = var.names()
    return Iteration(name, s.id, lo, hi, stride, points)


def written(body: Body) -> frozenset[str]:
    """The buffers from outside that `body` may write."""
    inside = list(stmts(body))
    out = {s.buffer for s in inside if isinstance(s, (Store, Accumulate, Atomic))}
    out |= {s.old for s in inside if isinstance(s, Atomic) and s.old}
    return frozenset(out - {s.name for s in inside if isinstance(s, Alloc)})


def exits(body: Body) -> bool:
    """True when control may leave `body` before its end (`may_leave`, or a Break or Continue of its loop)."""
    for s in body:
        match s:
            case Break() | Continue() | Return():
                return True
            case Loop() | While():
                if may_leave((s,)):
                    return True
            case _:
                if isinstance(s, Assert) or any(exits(b) for b in stmt_bodies(s)):
                    return True
    return False


def breaks(body: Body) -> bool:
    """True when `body` holds a Break of the loop that it is the body of."""
    return any(
        isinstance(s, Break) or (isinstance(s, If) and (breaks(s.then) or breaks(s.orelse))) for s in body
    )


def may_leave(body: Body) -> bool:
    """True when what follows `body` may never run: it holds a Return, an Assert or a While."""
    return any(isinstance(s, (Return, Assert, While)) for s in stmts(body))
