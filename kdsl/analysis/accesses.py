"""Every array access of a function with the points at which it runs, as formulas over symbols.

A walk in program order carries the context (loop ranges, conditions), and the values of local integer and
boolean scalars as far as they are known: a scalar stored once before its use is replaced by what was stored.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from kdsl.analysis.affine import Form, Formula, all_of, any_of, at_least, constant, equal
from kdsl.analysis.values import SIZE_MAX, UNKNOWN, Truth, Values, decided, size_form
from kdsl.dtypes import DType, bool_, i64
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Assert,
    Atomic,
    Binary,
    Body,
    Break,
    Call,
    Cast,
    Compare,
    Const,
    Continue,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Print,
    Return,
    ScalarParam,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
    While,
)
from kdsl.ir.walk import expr_children, stmt_bodies, stmt_exprs, stmts

Site = Load | Store | Accumulate | Atomic
Value = Form | Truth


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
    """

    site: Site
    stmt: int
    mode: Literal["read", "write", "update"]
    index: tuple[Form, ...]
    extent: tuple[Form, ...]
    loops: tuple[Iteration, ...]
    context: tuple[Formula, ...]
    certain: bool


@dataclass(frozen=True, slots=True)
class Accesses:
    """All accesses in program order, their symbols, and what holds at every call."""

    values: Values
    accesses: tuple[Access, ...]
    assumptions: tuple[Formula, ...]


def collect(func: Func) -> Accesses:
    """The accesses of `func`; those of rank-0 buffers, which cannot fault, are left out."""
    walk = _Walk(Values())
    assumptions = walk.start(func)
    walk.body(func.body)
    return Accesses(walk.values, tuple(walk.found), assumptions)


@dataclass(slots=True)
class _Walk:
    values: Values
    found: list[Access] = field(default_factory=list)
    # The context, restored on leaving a construct.
    context: tuple[Formula, ...] = ()
    loops: tuple[Iteration, ...] = ()
    names: dict[str, Value] = field(default_factory=dict)
    extents: dict[str, tuple[Form, ...]] = field(default_factory=dict)
    certain: bool = True
    stmt: int = 0
    # The flow: `reachable` by falling through; `lost`: an earlier statement may have left.
    reachable: bool = True
    lost: bool = False
    # Memory: a buffer's version changes when it may have been written.
    versions: dict[str, int] = field(default_factory=dict)
    known: dict[str, Value] = field(default_factory=dict)
    clock: int = 0
    # Values are tracked through local buffers only: other threads may write the arrays of the caller, and
    # iterations that run side by side those in `shared`.
    local: set[str] = field(default_factory=set)
    shared: frozenset[str] = frozenset()

    def start(self, func: Func) -> tuple[Formula, ...]:
        for size in func.sizes:
            self.names[size] = self.values.add(size, "size", 0, SIZE_MAX)
        for p in func.params:
            if isinstance(p, ScalarParam) and not p.dtype.is_float:
                form = self.values.add(p.name, "scalar", p.dtype.min, p.dtype.max)
                boolean = p.dtype == bool_
                self.names[p.name] = self.values.compare("!=", form, constant(0)) if boolean else form
        for a in func.arrays:
            self.extents[a.name] = tuple([size_form(s) for s in a.shape])
        shapes = [at_least(e) for a in func.arrays if not a.result for e in self.extents[a.name]]
        assumptions = tuple([self.truth(c.expr).yes for c in func.conditions] + shapes)
        self.context = assumptions
        return assumptions

    # ---------------------------------------------------------------- statements

    def body(self, body: Body) -> None:
        context, certain = self.context, self.certain
        for s in body:
            if not self.reachable:
                break
            self.stmt = s.id
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
                self.extents[s.name] = tuple([self.modular(e) for e in s.shape])
                self.local.add(s.name)
                self.forget(s.name)
            case Store() | Accumulate() | Atomic():
                self.write(s)
            case Assert():
                self.visit(s.cond)
                truth = self.truth(s.cond)
                self.context = (*self.context, truth.yes)
                if self.loops or not truth.exact:
                    self.lost = True
            case Break() | Continue() | Return():
                self.reachable = False
            case Print():
                self.visit_all(s)
            case _:
                raise AssertionError(type(s).__name__)

    def write(self, s: Store | Accumulate | Atomic) -> None:
        self.visit_all(s)
        if s.index:
            self.record(s, "write" if isinstance(s, Store) else "update", s.index)
        value: Value | None = None
        if isinstance(s, Store) and not s.index and not s.value.dtype.is_float:
            value = self.stored(s.value)
        self.forget(s.buffer)
        if isinstance(s, Atomic) and s.old:
            self.forget(s.old)
        if value is not None and self.tracked(s.buffer):
            self.known[s.buffer] = value

    def tracked(self, buffer: str) -> bool:
        return buffer in self.local and buffer not in self.shared

    def stored(self, e: Expr) -> Value:
        if e.dtype == bool_:
            return self.truth(e)
        return self.modular(e) if e.dtype == i64 else self.value(e)

    def forget(self, buffer: str) -> None:
        """The buffer may hold other values from here on."""
        self.clock += 1
        self.versions[buffer] = self.clock
        self.known.pop(buffer, None)

    def forget_written(self, body: Body) -> None:
        for name in sorted(written(body)):
            self.forget(name)

    def loop(self, s: Loop) -> None:
        self.visit_all(s)
        v = self.values
        lo, hi, step = v.bounded(self.value(s.lo)), v.bounded(self.value(s.hi)), self.value(s.step)
        self.forget_written(s.body)
        names, loops, context, certain, lost = self.names, self.loops, self.context, self.certain, self.lost
        shared = self.shared
        if s.mark is not None and s.mark.kind != "unroll":
            self.shared = shared | written(s.body)
        (lo_min, lo_max), (hi_min, hi_max) = v.interval(lo), v.interval(hi)
        up, down = v.interval(step)[0] >= 0, v.interval(step)[1] <= 0
        if up:
            var = v.add(s.var, "loop", lo_min, max(hi_max - 1, lo_min))
        elif down:
            var = v.add(s.var, "loop", min(hi_min + 1, lo_max), lo_max)
        else:
            var = v.add(s.var, "loop", min(lo_min, hi_min + 1), max(lo_max, hi_max - 1))
        rising = all_of(at_least(var - lo), at_least(hi - 1 - var))
        falling = all_of(at_least(lo - var), at_least(var - hi - 1))
        points = rising if up else falling if down else any_of(rising, falling)
        stride = step.const if step.is_const else 0
        if abs(stride) > 1:
            turn = v.add(f"{s.var}_turn", "derived", 0, 1 << i64.bits)
            last = (hi - 1 - lo - turn * stride) if stride > 0 else (lo - hi - 1 + turn * stride)
            points = all_of(points, equal(var - lo - turn * stride), at_least(turn), at_least(last))
        (name,) = var.names()
        self.names = {**names, s.var: var}
        self.loops = (*loops, Iteration(name, s.id, lo, hi, stride, points))
        self.context = (*context, points)
        leaves = may_leave(s.body)
        self.certain = certain and stride != 0 and not leaves and not breaks(s.body)
        self.body(s.body)
        self.names, self.loops, self.context, self.certain = names, loops, context, certain
        self.lost, self.reachable, self.shared = lost or leaves, True, shared
        self.forget_written(s.body)

    def while_loop(self, s: While) -> None:
        self.forget_written(s.body)
        self.visit(s.cond)
        truth = self.truth(s.cond)
        with self.under(Truth(truth.yes, truth.no, False)):
            self.body(s.body)
        self.lost = self.reachable = True
        self.forget_written(s.body)
        if not breaks(s.body):
            self.context = (*self.context, self.truth(s.cond).no)

    def branch(self, s: If) -> None:
        self.visit(s.cond)
        truth = self.truth(s.cond)
        versions, known = dict(self.versions), dict(self.known)
        with self.under(truth):
            self.body(s.then)
        then = self.reachable, self.versions, self.known
        self.reachable, self.versions, self.known = True, versions, known
        with self.under(truth.negated()):
            self.body(s.orelse)
        if not then[0] or not self.reachable:
            # What follows runs on the branch that falls through only.
            self.context = (*self.context, truth.no if self.reachable else truth.yes)
            self.certain = self.certain and truth.exact
            if then[0]:
                self.reachable, self.versions, self.known = then
            return
        if exits(s.then) or exits(s.orelse):
            self.lost = True
        self.join(truth, then[1], then[2])

    def join(self, truth: Truth, versions: dict[str, int], known: dict[str, Value]) -> None:
        """Memory after a condition: `versions` and `known` where it was true, the present ones where not."""
        for name in versions.keys() | self.versions.keys():
            if versions.get(name) == self.versions.get(name):
                continue
            a, b = known.get(name), self.known.get(name)
            self.clock += 1
            self.versions[name] = self.clock
            self.known.pop(name, None)
            if isinstance(a, Form) and isinstance(b, Form):
                self.known[name] = self.values.select(truth, a, b)
            elif isinstance(a, Truth) and isinstance(b, Truth):
                self.known[name] = truth.both(a).either(truth.negated().both(b))

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
            case Logic():
                self.visit(e.a)
                truth = self.truth(e.a)
                with self.under(truth if e.op == "and" else truth.negated()):
                    self.visit(e.b)
            case Select():
                self.visit(e.cond)
                truth = self.truth(e.cond)
                with self.under(truth):
                    self.visit(e.a)
                with self.under(truth.negated()):
                    self.visit(e.b)
            case Let():
                self.visit(e.value)
                names = self.names
                self.bind(e)
                self.visit(e.body)
                self.names = names
            case _:
                for c in expr_children(e):
                    self.visit(c)

    def bind(self, e: Let) -> None:
        if not e.value.dtype.is_float:
            value = self.truth(e.value) if e.value.dtype == bool_ else self.value(e.value)
            self.names = {**self.names, e.name: value}

    def record(self, site: Site, mode: Literal["read", "write", "update"], index: tuple[Expr, ...]) -> None:
        forms = tuple([self.modular(e) for e in index])
        certain = self.certain and not self.lost
        extent = self.extents[site.buffer]
        self.found.append(Access(site, self.stmt, mode, forms, extent, self.loops, self.context, certain))

    def modular(self, e: Expr) -> Form:
        """A form equal to the i64 expression `e` modulo 2**64: `+ - *` that wrap need no care yet.

        Where the form's true value is proved to be in range, the two are equal.
        """
        match e:
            case Binary(op="+"):
                return self.modular(e.a) + self.modular(e.b)
            case Binary(op="-"):
                return self.modular(e.a) - self.modular(e.b)
            case Binary(op="*"):
                return self.modular(e.a) * self.modular(e.b)
            case Unary(op="-"):
                return -self.modular(e.x)
            case Load(index=()):
                stored = self.known.get(e.buffer)
                return stored if isinstance(stored, Form) else self.value(e)
            case _:
                return self.value(e)

    def value(self, e: Expr) -> Form:
        """What the integer expression `e` is worth here."""
        match e:
            case Const():
                return constant(int(e.value))
            case Var():
                found = self.names[e.name]
                assert isinstance(found, Form)
                return found
            case Load():
                stored = self.known.get(e.buffer) if not e.index else None
                if isinstance(stored, Form):
                    return self.values.in_dtype(stored, e.type)
                return self.unknown(self.load_key(e), e.buffer, e.type)
            case Unary(op="-"):
                return self.values.in_dtype(-self.value(e.x), e.dtype)
            case Unary(op="~"):
                return self.values.in_dtype(-self.value(e.x) - 1, e.dtype)
            case Binary():
                return self.binary(e)
            case Select():
                return self.values.select(self.truth(e.cond), self.value(e.a), self.value(e.b))
            case Cast(x=x) if x.dtype.is_int:
                return self.values.in_dtype(self.value(x), e.type)
            case Cast(x=x) if x.dtype == bool_:
                return self.values.select(self.truth(x), constant(1), constant(0))
            case Call(fn="abs", args=(x,)):
                form = self.value(x)
                return self.values.in_dtype(self.values.larger(form, -form), e.dtype)
            case Call(fn="minimum", args=(a, b)):
                return self.values.smaller(self.value(a), self.value(b))
            case Call(fn="maximum", args=(a, b)):
                return self.values.larger(self.value(a), self.value(b))
            case Let():
                names = self.names
                self.bind(e)
                form = self.value(e.body)
                self.names = names
                return form
            case _:
                self.clock += 1
                return self.unknown(self.clock, "unknown", e.dtype)

    def unknown(self, key: Hashable, stem: str, dtype: DType) -> Form:
        return self.values.opaque(key, stem, dtype.min, dtype.max)

    def load_key(self, e: Load) -> Hashable:
        if not self.tracked(e.buffer):
            self.clock += 1
            return self.clock
        index = tuple([self.value(i) for i in e.index])
        return "load", e.buffer, self.versions.get(e.buffer, 0), index

    def binary(self, e: Binary) -> Form:
        v, t = self.values, e.dtype
        a, b = self.value(e.a), self.value(e.b)
        match e.op:
            case "+":
                return v.in_dtype(a + b, t)
            case "-":
                return v.in_dtype(a - b, t)
            case "*":
                return v.in_dtype(a * b, t)
            case "//":
                return v.in_dtype(v.floordiv(a, b, t), t)
            case "%":
                return v.mod(a, b, t)
            case "min":
                return v.smaller(a, b)
            case "max":
                return v.larger(a, b)
            case "<<" if b.is_const and 0 <= b.const < t.bits:
                return v.in_dtype(a * (1 << b.const), t)
            case ">>" if b.is_const and 0 <= b.const < t.bits:
                return v.floordiv(a, constant(1 << b.const), t)
            case "&" if b.is_const and b.const >= 0 and (b.const + 1) & b.const == 0:
                return v.mod(a, constant(b.const + 1), t)
            case "|" | "^" if v.interval(a)[0] >= 0 and v.interval(b)[0] >= 0:
                bits = max(v.interval(a)[1].bit_length(), v.interval(b)[1].bit_length())
                return v.opaque((e.op, a, b), "bits", 0, (1 << bits) - 1)
            case "&" if v.interval(a)[0] >= 0 or v.interval(b)[0] >= 0:
                (alo, ahi), (blo, bhi) = v.interval(a), v.interval(b)
                top = min([hi for lo, hi in ((alo, ahi), (blo, bhi)) if lo >= 0])
                return v.opaque(("&", a, b), "masked", 0, top)
            case _:
                return self.unknown((e.op, a, b, t), "bits", t)

    def truth(self, e: Expr) -> Truth:
        """What is known where the boolean `e` is true, and where it is false."""
        match e:
            case Const():
                return decided(bool(e.value))
            case Var():
                found = self.names.get(e.name)
                return found if isinstance(found, Truth) else UNKNOWN
            case Load(index=()):
                stored = self.known.get(e.buffer)
                return stored if isinstance(stored, Truth) else self.flag(e)
            case Load():
                return self.flag(e)
            case Unary():
                return self.truth(e.x).negated()
            case Compare() if e.a.dtype.is_int:
                return self.values.compare(e.op, self.value(e.a), self.value(e.b))
            case Logic(op="and") | Binary(op="&" | "*"):
                return self.truth(e.a).both(self.truth(e.b))
            case Logic() | Binary(op="|" | "+"):
                return self.truth(e.a).either(self.truth(e.b))
            case Select():
                cond = self.truth(e.cond)
                return cond.both(self.truth(e.a)).either(cond.negated().both(self.truth(e.b)))
            case Cast(x=x) if x.dtype.is_int:
                return self.values.compare("!=", self.value(x), constant(0))
            case Cast(x=x) if x.dtype == bool_:
                return self.truth(x)
            case Let():
                names = self.names
                self.bind(e)
                truth = self.truth(e.body)
                self.names = names
                return truth
            case _:
                return UNKNOWN

    def flag(self, e: Load) -> Truth:
        """A boolean in memory: unknown, but the same until it is written."""
        return self.values.compare("!=", self.values.opaque(self.load_key(e), e.buffer, 0, 1), constant(0))


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
