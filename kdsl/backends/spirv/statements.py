"""Statements in structured control flow, and loops bound to the axes of the grid and of a work-group.

    for i in range(lo, hi):          header: %i = Phi lo, %next;  LoopMerge %end %again;  Branch %test
        ...                          test:   BranchConditional (i < hi) %body %end
                                     body:   ...                                 continue: Branch %again
                                     again:  %next = IAdd %i step;  Branch %header
                                     end:                                        break: Branch %end

    for i in bind(range(N), "grid.x"):     if WorkgroupId.x < N: i = WorkgroupId.x; ...

Where an axis of several work-groups or invocations is not bound by a loop around a statement, each of them
runs it; stores to memory that they share are then done by the first one alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kdsl.analysis.axes import meeting, waits
from kdsl.analysis.linear import extent
from kdsl.backends.spirv.arith import kind_of
from kdsl.backends.spirv.atomics import exchange
from kdsl.backends.spirv.expressions import Expressions, can_fault, is_product
from kdsl.backends.spirv.memory import Buffer, elements
from kdsl.backends.spirv.module import Code
from kdsl.backends.spirv.narrow import WHOLE, Interval
from kdsl.backends.spirv.opcodes import (
    ACQUIRE_RELEASE,
    DONT_UNROLL,
    UNIFORM_MEMORY,
    UNROLL,
    WORKGROUP_MEMORY,
    WORKGROUP_SCOPE,
    Storage,
)
from kdsl.dtypes import i32, i64
from kdsl.errors import TargetError
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Assert,
    Atomic,
    Barrier,
    Binary,
    Body,
    Break,
    Const,
    Continue,
    Expr,
    If,
    Load,
    Loop,
    Prefetch,
    Print,
    Return,
    Stmt,
    Store,
    While,
)
from kdsl.ir.walk import stmt_bodies, stmt_exprs, stmts, subexprs

_UNROLLED = 64
"""Loops that make no more statements than this are unrolled by the driver, which takes time."""
_COPIES = 128
"""Unless that makes more copies of statements than these: drivers take minutes for large bodies."""


@dataclass(slots=True)
class Statements:
    """Emits statements through `x`. `axes` gives the id (an i32) of each axis ("grid.x") longer than 1.

    `block`: the invocations along x, y, z. `shared` makes the buffer of an Alloc in work-group memory.
    """

    x: Expressions
    axes: dict[str, int]
    block: tuple[int, int, int]
    shared: Callable[[Alloc, int], Buffer]
    device: str
    _loops: list[tuple[int, int]] = field(default_factory=list)

    @property
    def code(self) -> Code:
        return self.x.code

    # -- bodies

    def body(self, body: Body) -> None:
        """Emits a body, with a scope of its own for buffers. Code after a jump is dropped."""
        outer = dict(self.x.buffers)
        for s in body:
            if not self.code.open:
                break
            self.statement(s)
        self.x.buffers = outer

    def statement(self, s: Stmt) -> None:
        """Emits one statement."""
        x, code = self.x, self.code
        if s.loc is not None:
            code.module.place = s.loc
        match s:
            case Loop() if s.mark is not None and s.mark.kind == "bind":
                self._bound(s, s.mark.axis)
            case Loop():
                self._loop(s)
            case While():
                self._while(s)
            case If():
                orelse = (lambda: self.body(s.orelse)) if s.orelse else None
                code.select(x.emit(s.cond), lambda: self.body(s.then), orelse)
            case Break():
                code.branch(self._loops[-1][1])
            case Continue():
                code.branch(self._loops[-1][0])
            case Return():
                code.end("Return")
            case Alloc():
                self._alloc(s)
            case Store():
                value = self._stored(x.buffers[s.buffer], s.value)
                buffer, at = x.place(s.buffer, s.index, s.checked, s.loc)
                self.alone(buffer, lambda: x.memory.store(buffer, x.memory.pointer(buffer, at), value))
            case Accumulate():
                self._accumulate(s)
            case Atomic():
                self._atomic(s)
            case Barrier():
                self.barrier()
            case Assert():
                x.check(x.emit(s.cond), "assertion", s.message, 0, s.loc)
            case Prefetch():
                pass
            case Print():
                raise TargetError(
                    "K0510",
                    f"`print` cannot run on {self.device}: a kernel there has no way to the terminal",
                    loc=s.loc,
                    help='store what is to be shown in an array, or run the kernel on "cpu"',
                )
            case _:
                raise AssertionError(f"unknown statement {type(s).__name__}")

    def _stored(self, buffer: Buffer, value: Expr) -> int:
        """A value as `Memory.store` takes it."""
        return self.x.low(value) if buffer.narrow else self.x.emit(value)

    def alone(self, buffer: Buffer, act: Callable[[], None]) -> None:
        """Acts on memory that others share only in the first of those who run this statement."""
        first = None if buffer.private else self._first(self.axes)
        if first is None:
            act()
        else:
            self.code.select(first, act)

    def _first(self, axes: dict[str, int]) -> int | None:
        """Whether this is the first one along all axes; None where there are none."""
        a, result = self.x.arith, None
        for id in axes.values():
            zero = a.op("IEqual", "bool", id, a.const("i32", 0))
            result = zero if result is None else a.op("LogicalAnd", "bool", result, zero)
        return result

    def _accumulate(self, s: Accumulate) -> None:
        x = self.x
        buffer = x.buffers[s.buffer]
        free = s.op == "+" and is_product(s.value)
        value = x.operand(s.value, free) if free else self._stored(buffer, s.value)
        buffer, at = x.place(s.buffer, s.index, s.checked, s.loc)

        def act() -> None:
            pointer = x.memory.pointer(buffer, at)
            old = x.memory.load(buffer, pointer)
            t = i32 if buffer.narrow else buffer.dtype
            x.memory.store(buffer, pointer, x.arith.binary(s.op, t, old, value, free=free))

        self.alone(buffer, act)

    def _atomic(self, s: Atomic) -> None:
        x = self.x
        value = self._stored(x.buffers[s.buffer], s.value)
        buffer, at = x.place(s.buffer, s.index, s.checked, s.loc)
        old = x.buffers[s.old] if s.old else None

        def act() -> None:
            before = exchange(x, s, buffer, at, value)
            if old is not None:
                if old.narrow and not buffer.narrow:
                    before = x.arith.narrowed(before)
                x.memory.store(old, x.memory.pointer(old, None), before)

        self.alone(buffer, act)

    def barrier(self) -> None:
        """All invocations of the work-group meet."""
        barrier(self.code)
        if self.x.state is not None:
            self.x.state.step(self.code)

    def _alloc(self, s: Alloc) -> None:
        x, m = self.x, self.code.module
        count = elements(s.shape)
        if count is None:
            raise TargetError(
                "K0514",
                f"the local array `{s.name}` has no constant shape, and {self.device} has no memory for it "
                "in an invocation",
                loc=s.loc,
                help="give it a constant shape",
            )
        if s.memory == "shared":
            x.buffers[s.name] = self.shared(s, count)
            return
        narrow = s.dtype == i64 and x.ranges.locals.get(s.name, WHOLE).fits
        kind = "i32" if narrow else kind_of(s.dtype)
        type = m.type(kind) if not s.shape else m.array(m.type(kind), count)
        buffer = Buffer(
            s.name, s.dtype, s.shape, Storage.Function, kind, self.code.variable(type, s.name), narrow
        )
        x.buffers[s.name] = buffer
        if not s.shape:
            # A scalar read before it is written is 0, not an undefined value.
            self.code.do("Store", buffer.variable, m.constant(kind, 0))

    # -- loops

    def _inside(self, body: Body) -> Callable[[Sequence[int], int, int], None]:
        """What a loop does in each iteration."""

        def run(values: Sequence[int], again: int, end: int) -> None:
            self._loops.append((again, end))
            self.body(body)
            self._loops.pop()

        return run

    def _going(self, cond: int, body: Body) -> int:
        """`cond`, and no fault so far, which may differ between invocations: not where they meet inside."""
        if self.x.state is None or any(map(waits, stmts(body))):
            return cond
        return self.code.pure("LogicalAnd", "bool", cond, self.x.state.none(self.code))

    def _while(self, s: While) -> None:
        self.code.loop(
            (), (), lambda _: self._going(self.x.emit(s.cond), s.body), self._inside(s.body), lambda _: ()
        )

    def _loop(self, s: Loop) -> None:
        from kdsl.backends.spirv.lanes import vector_loop

        if not vector_loop(self, s):
            self.plain_loop(s)

    def plain_loop(self, s: Loop, *, rare: bool = False) -> None:
        """A loop whose iterations are run one after the other. `rare`: mostly it is not run at all."""
        x = self.x
        ends = (s.lo, s.hi, s.step)
        kind = "i32" if all(map(x.narrow, ends)) else "i64"
        lo, hi, step = (x.low(e) if kind == "i32" else x.emit(e) for e in ends)
        by = int(s.step.value) if isinstance(s.step, Const) else 0
        last = x.ranges.of(s.hi)
        # The value behind the last one still is a number of this type.
        most = 31 if kind == "i32" else 63
        simple = abs(by) == 1 or (by and -(1 << most) <= last.lo + by and last.hi + by < 1 << most)
        count = extent(s)
        few = count is not None and count <= _UNROLLED and _copies((s,)) <= _COPIES
        # Drivers that run both sides of an `if` should not do many iterations of what is not run.
        control = DONT_UNROLL if rare else UNROLL if few else 0
        with self.named(s, x.ranges.of_loop(s)):
            if simple:
                self._simple(s, kind, by, lo, hi, control)
            else:
                self._counted(s, kind, lo, hi, step, control)

    @contextmanager
    def named(self, s: Loop, values: Interval) -> Iterator[None]:
        """The interval of a loop's variable, while it is in scope."""
        self.x.ranges.vars[s.var] = values
        self.x.ranges.steps[s.var] = self.x.ranges.step_of(s)
        yield
        del self.x.ranges.vars[s.var], self.x.ranges.steps[s.var]
        self.x.vars.pop(s.var, None)

    def _simple(self, s: Loop, kind: str, by: int, lo: int, hi: int, control: int) -> None:
        x, t = self.x, i32 if kind == "i32" else i64
        data = any(isinstance(e, Load) for bound in (s.lo, s.hi) for e in subexprs(bound))

        def test(v: Sequence[int]) -> int:
            more = x.arith.compare("<" if by > 0 else ">", t, v[0], hi)
            return self._going(more, s.body) if data else more

        def body(v: Sequence[int], again: int, end: int) -> None:
            x.vars[s.var] = v[0], kind
            self._inside(s.body)(v, again, end)

        def step(v: Sequence[int]) -> Sequence[int]:
            return (x.arith.op("IAdd", kind, v[0], x.arith.const(kind, by)),)

        self.code.loop((kind,), (lo,), test, body, step, control)

    def _counted(self, s: Loop, kind: str, lo: int, hi: int, step: int, control: int) -> None:
        """Counts the iterations beside the variable, so that nothing overflows; the step may be anything."""
        x, a, t = self.x, self.x.arith, i32 if kind == "i32" else i64
        zero, one = a.const(kind, 0), a.const(kind, 1)
        up = a.compare(">", t, step, zero)
        size = a.pick(kind, up, step, a.op("ISub", kind, zero, step))
        first, last = a.pick(kind, up, lo, hi), a.pick(kind, up, hi, lo)
        some = a.compare("<", t, first, last)
        if not isinstance(s.step, Const):
            ok = a.compare("!=", t, step, zero)
            x.check(ok, "zero_step", "", 0, s.loc)
            size = a.pick(kind, ok, size, one)
            some = a.op("LogicalAnd", "bool", some, ok)
        span = a.op("ISub", kind, a.op("ISub", kind, last, first), one)
        trips = a.op("IAdd", kind, a.op("UDiv", kind, span, size), one)
        trips = a.pick(kind, some, trips, zero)

        def test(v: Sequence[int]) -> int:
            return self._going(a.op("ULessThan", "bool", v[1], trips), s.body)

        def body(v: Sequence[int], again: int, end: int) -> None:
            x.vars[s.var] = v[0], kind
            self._inside(s.body)(v, again, end)

        def step_(v: Sequence[int]) -> Sequence[int]:
            return a.op("IAdd", kind, v[0], step), a.op("IAdd", kind, v[1], one)

        self.code.loop((kind, kind), (lo, zero), test, body, step_, control)

    # -- the grid and the block

    def _bound(self, s: Loop, axis: str) -> None:
        """A loop of which each work-group, or each invocation, does one iteration."""
        if meeting(s) is not None:
            from kdsl.backends.spirv.subgroups import combine

            combine(self, s)
            return
        idle = self._idle(s) if axis.startswith("block") else {}
        first = self._first(idle)
        if first is None:
            self._one_of(s, axis)
        else:
            self.code.select(first, lambda: self._one_of(s, axis))

    def _idle(self, s: Loop) -> dict[str, int]:
        """The axes of the block that are long, and along which nothing is to be done in this nest.

        Where the nest fills an array that each invocation has for itself, all of them fill theirs.
        """
        inner = {b.mark.axis for b in stmts((s,)) if isinstance(b, Loop) and b.mark is not None}
        idle = {n: id for n, id in self.axes.items() if n.startswith("block") and n not in inner}
        mine = {b.name for b in stmts(s.body) if isinstance(b, Alloc)}
        for b in stmts(s.body):
            names = [b.buffer] if isinstance(b, (Store, Accumulate, Atomic)) else []
            names += [b.old] if isinstance(b, Atomic) and b.old else []
            if any(n not in mine and self.x.buffers[n].private for n in names):
                return {}
        return idle

    def _one_of(self, s: Loop, axis: str) -> None:
        x, a = self.x, self.x.arith
        at = self.axes.pop(axis, None)
        before = at
        if at is None:
            at = a.const("i32", 0)
        by = _step(s)
        count, known = _iterations(s), extent(s)
        values = x.ranges.of_loop(s)
        kind = "i32" if x.narrow(s.lo) and values.fits else "i64"

        def run() -> None:
            lo = x.low(s.lo) if kind == "i32" else x.emit(s.lo)
            index = at if kind == "i32" else a.widened(at, signed=False)
            scaled = a.op("IMul", kind, index, a.const(kind, by))
            with self.named(s, values):
                x.vars[s.var] = a.op("IAdd", kind, lo, scaled), kind
                self.body(s.body)

        whole = self.block["xyz".index(axis[-1])] if axis.startswith("block") else 0
        if known is not None and known == max(whole, 1) and (whole or before is None):
            run()
        elif x.narrow(count):
            self.code.select(a.op("SLessThan", "bool", at, x.low(count)), run)
        else:
            self.code.select(a.op("SLessThan", "bool", a.widened(at, signed=False), x.emit(count)), run)
        if before is not None:
            self.axes[axis] = before


def _step(s: Loop) -> int:
    """The step of a loop that is bound to an axis."""
    assert isinstance(s.step, Const), "loops bound to an axis have constant steps"
    return int(s.step.value)


def _iterations(s: Loop) -> Expr:
    """The number of iterations of a loop with a constant step; not positive where there are none."""
    by = _step(s)
    first, last = (s.lo, s.hi) if by > 0 else (s.hi, s.lo)
    span: Expr = last if first == Const(0, i64) else Binary("-", last, first)
    if abs(by) == 1:
        return span
    return Binary("//", Binary("+", span, Const(abs(by) - 1, i64)), Const(abs(by), i64))


def _unrolled(s: Loop) -> bool:
    """Whether a loop is to be unrolled."""
    count = extent(s)
    return count is not None and count * _written_out(s.body) <= _UNROLLED


def _written_out(body: Body) -> int:
    """The statements of `body`, its short loops unrolled."""
    total = 0
    for s in body:
        inner = sum(map(_written_out, stmt_bodies(s)))
        total += 1 + inner * (extent(s) or 1 if isinstance(s, Loop) and _unrolled(s) else 1)
    return total


def barrier(code: Code) -> None:
    """All invocations of a work-group meet, and see what the others wrote."""
    m = code.module
    scope = m.constant("i32", WORKGROUP_SCOPE)
    order = m.constant("i32", ACQUIRE_RELEASE | UNIFORM_MEMORY | WORKGROUP_MEMORY)
    code.do("ControlBarrier", scope, scope, order)


def body_can_fault(body: Body) -> bool:
    """Whether something in `body` is tested when it runs."""
    for s in stmts(body):
        match s:
            case Assert():
                return True
            case Store() | Accumulate() | Atomic() if s.checked:
                return True
            case Loop() if not isinstance(s.step, Const):
                return True
        if any(can_fault(e) for top in stmt_exprs(s) for e in subexprs(top)):
            return True
    return False


def _copies(body: Body) -> int:
    """How many copies of its statements the loops of `body` make when they are unrolled."""
    total = 0
    for s in body:
        inside = sum(_copies(part) for part in stmt_bodies(s))
        if isinstance(s, Loop):
            count = extent(s)
            inside *= count if count is not None and count <= _UNROLLED else 1
        total += inside or 1
    return total
