"""Loops marked `vectorize`: all iterations at once, statement after statement.

    for j in vectorize(range(16)):          %m = fcmp ogt <16 x float> %a, zeroinitializer
        if A[j] > 0:                        call void @llvm.masked.store.v16f32.p0(... %m)
            C[j] = A[j]

An `if` whose condition varies runs both sides under masks. A loop that lanes leave at different times runs
until none is left; `live` and `skipped` are its lanes that are still in it, and those that are done with
this iteration. Inside loops, and behind what may have taken lanes out, at least one lane is on: a branch
sees to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from kdsl.backends.llvm import lane_access, memory, partial_sums
from kdsl.backends.llvm.builder import identifier
from kdsl.backends.llvm.lane_access import Place
from kdsl.backends.llvm.lanes import Lanes, identity, reduce
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.statements import Statements
from kdsl.backends.llvm.types import memory_type, value_type
from kdsl.backends.llvm.uniformity import Uniformity, exits, lane_count, uniformity
from kdsl.dtypes import i64
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Assert,
    Atomic,
    Body,
    Break,
    Compare,
    Const,
    Continue,
    Expr,
    If,
    Logic,
    Loop,
    Prefetch,
    Print,
    Return,
    Stmt,
    Store,
    Var,
    While,
)
from kdsl.ir.walk import stmts


def vector_loop(outer: Statements, s: Loop) -> None:
    """Emits a loop marked `vectorize`; ScheduleError for what has no vector form."""
    count = lane_count(s)
    _refuse(s)
    if not count:
        return
    x, facts = outer.x, uniformity(s)
    assert isinstance(s.step, Const)
    step = int(s.step.value)
    lo = x.emit(s.lo)
    lanes = Lanes(x, count, s.var, step, facts, s.loc)
    x.vars[s.var] = lo
    first = lanes.operand("i64", lanes.splat("i64", lo)).split("> ", 1)[1]
    lanes.values[s.var] = x.b.value(f"add {lanes.numbers(step)}, {first}")
    inner = VectorStatements(
        x, outer.sites, outer.locals, ask=outer.ask, sums=outer.sums, lanes=lanes, facts=facts
    )
    inner.iteration(s)
    outer.polls |= inner.polls
    del x.vars[s.var]


def _refuse(s: Loop) -> None:
    """ScheduleError for exits of the whole loop, and for marked loops inside."""
    for inner in stmts(s.body):
        what = ""
        if isinstance(inner, Return):
            what = "`return` leaves it"
        elif isinstance(inner, Loop) and inner.mark is not None and inner.mark.kind != "unroll":
            what = f"loop `{inner.var}` inside is marked `{inner.mark.kind}`"
        elif inner in s.body and _breaks(inner):
            what = "`break` leaves it"
        if what:
            raise ScheduleError(
                "K0381",
                f"cannot vectorize loop `{s.var}`: {what}",
                loc=inner.loc,
                notes=((s.loc, "all iterations of this loop run at once"),) if s.loc else (),
                help="vectorize another loop",
            )


def _breaks(s: Stmt) -> bool:
    """Whether `s` holds a `break` of the loop that it stands in."""
    if isinstance(s, If):
        return any(_breaks(inner) for inner in (*s.then, *s.orelse))
    return isinstance(s, Break)


STACK_LIMIT_BYTES = 32 * 1024
"""For one local array with its lanes."""


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where an open loop keeps its masks; "" where all lanes leave it together.

    `var`: a variable that is uniform here, but varies in another loop of that name.
    """

    live: str = ""
    skipped: str = ""
    var: str = ""


@dataclass(slots=True, kw_only=True)
class VectorStatements(Statements):
    """Emits the statements of a vector loop."""

    lanes: Lanes
    facts: Uniformity
    _frames: list[_Frame] = field(default_factory=list)

    def iteration(self, s: Loop) -> None:
        """The body of the vector loop itself, once."""
        b = self.x.b
        end = b.fresh("lanes.end")
        frame = self._frame(s)
        self._frames.append(frame)
        if frame.live:
            self._set(frame.live, "true")
            self._set(frame.skipped, "false")
        self._loops.append((end, end))
        self.body(s.body)
        self._loops.pop()
        self._frames.pop()
        if b.open:
            b.br(end)
        b.block(end)

    def body(self, body: Body) -> None:
        """As for scalars; behind what may take lanes out, the others go on under a smaller mask."""
        b, frame = self.x.b, self._frames[-1]
        buffers, mask, active = dict(self.x.buffers), self.lanes.mask, self.x.active
        end = ""
        for n, s in enumerate(body):
            if not b.open:
                break
            self.statement(s)
            if isinstance(s, Alloc) and s.shape:
                self._settle(s, body)
            if isinstance(s, (Break, Continue)):
                break
            if frame.live and exits(s) and n + 1 < len(body):
                inside = self.lanes.both(self._get(frame.live), self.lanes.inverse(self._get(frame.skipped)))
                self.lanes.mask = self.lanes.both(mask, inside)
                rest, end = b.fresh("rest"), end or b.fresh("end")
                b.cbr(self.lanes.any(self.lanes.mask), rest, end)
                b.block(rest)
                self.x.active = ""
        if end:
            b.br(end)
            b.block(end)
        self.x.buffers, self.lanes.mask, self.x.active = buffers, mask, active

    def statement(self, s: Stmt) -> None:
        """Emits one statement for all lanes that are on."""
        match s:
            case Break() if self._frames[-1].live:
                self._take_out(self._frames[-1].live)
            case Continue() if self._frames[-1].live:
                self._take_out(self._frames[-1].skipped)
            case Store():
                self._store(s)
            case Accumulate():
                self._accumulate(s)
            case Prefetch():
                self._prefetch(s)
            case Assert():
                self._assert(s)
            case _:
                Statements.statement(self, s)

    # -- masks of loops

    def _frame(self, s: Loop | While) -> _Frame:
        var = s.var if isinstance(s, Loop) and s.var in self.facts.varying else ""
        if s.id not in self.facts.masked:
            return _Frame(var=var)
        ty = self.lanes.vector("i1")
        return _Frame(self.x.b.alloca(ty, 64), self.x.b.alloca(ty, 64), var)

    def _get(self, slot: str) -> str:
        return self.x.b.value(f"load {self.lanes.vector('i1')}, ptr {slot}, align 64")

    def _set(self, slot: str, mask: str) -> None:
        self.x.b.do(f"store {self.lanes.operand('i1', mask)}, ptr {slot}, align 64")

    def _take_out(self, slot: str) -> None:
        """The lanes that are on leave the loop, or are done with this iteration."""
        on = self.lanes.mask or "true"
        frame = self._frames[-1]
        if slot == frame.live:
            self._set(slot, self.lanes.both(self._get(slot), self.lanes.inverse(on)))
        else:
            b = self.x.b
            self._set(slot, b.value(f"or {self.lanes.operand('i1', self._get(slot))}, {self._text(on)}"))

    def _text(self, mask: str) -> str:
        return self.lanes.operand("i1", mask).split("> ", 1)[1]

    # -- memory

    def _alloc(self, s: Alloc) -> None:
        """What differs between lanes lies on the stack, whatever memory the local has otherwise."""
        if s.name not in self.facts.varying:
            Statements._alloc(self, s)
            return
        b, count, scalar = self.x.b, self.lanes.count, self.locals[s.id]
        elements = count
        for e in s.shape:
            elements *= max(0, int(e.value)) if isinstance(e, Const) else STACK_LIMIT_BYTES
        if elements * s.dtype.bytes > STACK_LIMIT_BYTES:
            raise ScheduleError(
                "K0382",
                f"cannot vectorize loop `{self.lanes.var}`: its local array `{s.name}` is too big",
                loc=s.loc,
                label=f"each of the {count} lanes has its own, and all share {STACK_LIMIT_BYTES // 1024} KiB",
                help="make the array outside the loop, or vectorize another loop",
            )
        row, align = self.lanes.vector(memory_type(s.dtype)), 64
        pointer = b.alloca(f"[{elements} x {memory_type(s.dtype)}]" if s.shape else row, align)
        self.x.buffers[s.name] = replace(scalar, pointer=pointer, loose=bool(s.shape), lanes=count)
        if not s.shape:
            b.do(f"store {row} zeroinitializer, ptr {pointer}, align {s.dtype.bytes}")

    def _store(self, s: Store) -> None:
        value, buffer, at = self._access(s)
        if at.step == 0 and not self.lanes.varies(s.value):
            lane_access.write_scalar(self.lanes, buffer, at.pointer, value)
        else:
            lane_access.write(self.lanes, buffer, at, value)

    def _access(self, s: Store | Accumulate) -> tuple[str, Buffer, Place]:
        """The value (a scalar when it is uniform and all lanes share the place), and where it goes."""
        buffer = self.x.buffers[s.buffer]
        alone = not self.lanes.varies(s.value) and not buffer.lanes
        alone = alone and not any(self.lanes.varies(i) for i in s.index)
        value = self.x.emit(s.value) if alone else self.lanes.emit(s.value)
        at = lane_access.place(self.lanes, buffer, s.index, s.checked, s.loc)
        lane_access.note(self.lanes, s, at)
        return value, buffer, at

    def _accumulate(self, s: Accumulate) -> None:
        lanes, buffer = self.lanes, self.x.buffers[s.buffer]
        t = buffer.dtype
        ty = value_type(t)
        if s.buffer in self.facts.private and not buffer.lanes:
            value, buffer, at = self._access(s)
            old = memory.load(self.x.arith, buffer, at.pointer)
            lane_access.write_scalar(lanes, buffer, at.pointer, self._combine(s.op, t, old, value))
            return
        value = lanes.emit(s.value)
        found = self.sums.get((s.buffer, s.index, lanes.count))
        if found is not None:
            lane_access.note(lanes, s, None, "partial sums")
            partial_sums.add(lanes, s, value, found)
            return
        at = lane_access.place(lanes, buffer, s.index, s.checked, s.loc)
        lane_access.note(lanes, s, at, "sum of lanes" if at.step == 0 else None)
        if at.step == 0:
            terms = lanes.where(lanes.mask, ty, value, identity(s.op, t))
            total = reduce(self.x, lanes.count, s.op, t, terms)
            old = memory.load(self.x.arith, buffer, at.pointer)
            lane_access.write_scalar(lanes, buffer, at.pointer, self._combine(s.op, t, old, total))
            return
        before = lane_access.read(lanes, buffer, at)
        lane_access.write(lanes, buffer, at, lanes.wide.binary(s.op, t, before, value))

    def _assert(self, s: Assert) -> None:
        number = self.sites.fault("assertion", s.message, 0, s.loc)
        if self.lanes.varies(s.cond):
            self.lanes.guard(self.lanes.emit(s.cond), number)
        else:
            self.x.b.guard(self.x.when_active(self.x.emit(s.cond)), number)

    def _prefetch(self, s: Prefetch) -> None:
        """Each line that the lanes want, once if it is known how far they are apart. Masks do not matter."""
        b, lanes, buffer = self.x.b, self.lanes, self.x.buffers[s.buffer]
        if buffer.registers:
            return
        at = lane_access.place(lanes, buffer, s.index, (), s.loc)
        if at.step is None:
            for lane in range(lanes.count):
                memory.prefetch(b, buffer, lanes.extract("ptr", at.pointer, lane))
            return
        size = buffer.dtype.bytes * (buffer.lanes or 1)
        span = (lanes.count - 1) * abs(at.step) * size
        for offset in range(0, span + 1, memory.LINE_BYTES):
            ahead = offset if at.step > 0 else -offset
            pointer = b.value(f"getelementptr i8, ptr {at.pointer}, i64 {ahead}") if ahead else at.pointer
            memory.prefetch(b, buffer, pointer)

    # -- one lane after the other

    def _each_lane(self) -> Iterator[int]:
        """The numbers of the lanes; what is emitted meanwhile runs for those that are on."""
        b = self.x.b
        for lane in range(self.lanes.count):
            if not self.lanes.mask:
                yield lane
                continue
            on, next_ = b.fresh("lane"), b.fresh("next")
            b.cbr(self.lanes.extract("i1", self.lanes.mask, lane), on, next_)
            b.block(on)
            active, self.x.active = self.x.active, ""
            yield lane
            self.x.active = active
            b.br(next_)
            b.block(next_)

    def _print(self, s: Print) -> None:
        exprs = [item for item in s.items if isinstance(item, Expr)]
        values = [(value_type(e.dtype), self.lanes.emit(e)) for e in exprs]
        for lane in self._each_lane():
            self.print_values(s, [self.lanes.extract(ty, v, lane) for ty, v in values])

    def _atomic(self, s: Atomic) -> None:
        b, lanes, buffer = self.x.b, self.lanes, self.x.buffers[s.buffer]
        ty = value_type(buffer.dtype)
        value = lanes.emit(s.value)
        at = lane_access.place(lanes, buffer, s.index, s.checked, s.loc)
        lane_access.note(lanes, s, at, "lane by lane")
        pointers = "" if at.step == 0 else lane_access.pointers(lanes, buffer, at)
        slot = b.alloca(lanes.vector(ty), 64)
        b.do(f"store {lanes.vector(ty)} zeroinitializer, ptr {slot}, align 64")
        for lane in self._each_lane():
            pointer = lanes.extract("ptr", pointers, lane) if pointers else at.pointer
            old = self.exchange(s, buffer, pointer, lanes.extract(ty, value, lane))
            if s.old:
                so_far = b.value(f"load {lanes.vector(ty)}, ptr {slot}, align 64")
                more = b.value(f"insertelement {lanes.vector(ty)} {so_far}, {ty} {old}, i64 {lane}")
                b.do(f"store {lanes.vector(ty)} {more}, ptr {slot}, align 64")
        if s.old:
            cell = self.x.buffers[s.old]
            olds = b.value(f"load {lanes.vector(ty)}, ptr {slot}, align 64")
            lane_access.write(lanes, cell, Place(cell.pointer, 1 if cell.lanes else 0, True), olds)

    # -- control flow

    def _if(self, s: If) -> None:
        if not self.lanes.varies(s.cond):
            Statements._if(self, s)
            return
        test = self.lanes.emit(s.cond)
        other = self.lanes.inverse(test) if s.orelse else ""
        if s.then:
            self._under(test, s.then, some=not self.lanes.mask and self._has_first(s.cond))
        if s.orelse:
            self._under(other, s.orelse)

    def _has_first(self, cond: Expr) -> bool:
        """Whether a condition says `v == 0 or ...`: the first lane meets it (see `passes.tail_vectors`)."""
        match cond:
            case Logic(op="or", a=Compare(op="==", a=Var(name=name), b=Const(value=first))):
                return name == self.lanes.var and self.x.vars[name] == str(first)
            case _:
                return False

    def _under(self, test: str, body: Body, *, some: bool = False) -> None:
        """Runs a body in the lanes where `test` is (`some`: there is one); one with loops only when there is
        such a lane."""
        b, end = self.x.b, ""
        apart = any(isinstance(s, (Loop, While)) for s in stmts(body))
        with self.lanes.under(test, some=some):
            if apart and self.x.active:
                on, end = b.fresh("some"), b.fresh("none")
                b.cbr(self.x.active, on, end)
                b.block(on)
                self.x.active = ""
            self.body(body)
            if end:
                b.br(end)
                b.block(end)

    def _while(self, s: While) -> None:
        frame = self._frame(s)
        self._frames.append(frame)
        if frame.live:
            self._masked_while(s, frame)
        else:
            Statements._while(self, s)
        self._frames.pop()

    def _masked_while(self, s: While, frame: _Frame) -> None:
        b = self.x.b
        test, body, latch, end = (b.fresh(f"while.{part}") for part in ("test", "body", "latch", "end"))
        self._set(frame.live, self.lanes.mask or "true")
        b.br(test)
        b.block(test)
        live = self._get(frame.live)
        with self.lanes.only(live, some=True):
            cond = self.lanes.emit(s.cond)
        self._set(frame.live, self.lanes.both(live, cond))
        b.cbr(self.lanes.any(self._get(frame.live)), body, end)
        b.block(body)
        self._inside(s.body, latch, end)
        b.block(latch)
        self._poll()
        b.br(test)
        b.block(end)

    def iterate(self, s: Loop, lo: str, hi: str, step: str) -> None:
        """As for scalars: the bounds are uniform, but lanes may leave at different times."""
        frame = self._frame(s)
        self._frames.append(frame)
        if frame.live:
            self._set(frame.live, self.lanes.mask or "true")
        Statements.iterate(self, s, lo, hi, step)
        self._frames.pop()

    def _inside(self, body: Body, latch: str, end: str) -> None:
        frame = self._frames[-1]
        if frame.var in self.x.vars:
            self.lanes.values[frame.var] = self.lanes.splat("i64", self.x.vars[frame.var])
        if not frame.live:
            Statements._inside(self, body, latch, end)
            return
        self._set(frame.skipped, "false")
        self._loops.append((latch, end))
        with self.lanes.only(self._get(frame.live), some=True):
            self.body(body)
        self._loops.pop()
        self.x.b.cbr(self.lanes.any(self._get(frame.live)), latch, end)

    def _loop(self, s: Loop) -> None:
        if any(self.lanes.varies(e) for e in (s.lo, s.hi, s.step)):
            self._varying_loop(s)
        else:
            Statements._loop(self, s)

    def _varying_loop(self, s: Loop) -> None:
        """Each lane counts down from its own number of iterations - 1."""
        b, lanes, wide = self.x.b, self.lanes, self.lanes.wide
        ty = lanes.vector("i64")
        lo, hi, step = (lanes.emit(e) for e in (s.lo, s.hi, s.step))
        if not (isinstance(s.step, Const) and s.step.value):
            ok = b.value(f"icmp ne {lanes.operand('i64', step)}, zeroinitializer")
            lanes.guard(ok, self.sites.fault("zero_step", "", 0, s.loc))
            step = lanes.where(lanes.mask, "i64", step, "1")
        up = b.value(f"icmp sgt {lanes.operand('i64', step)}, zeroinitializer")
        first, last = lanes.where(up, "i64", lo, hi), lanes.where(up, "i64", hi, lo)
        size = lanes.where(up, "i64", step, wide.unary("-", i64, step))
        any_ = b.value(f"icmp slt {ty} {first}, {last}")
        span = b.value(f"sub {ty} {b.value(f'sub {ty} {last}, {first}')}, splat (i64 1)")
        unit = isinstance(s.step, Const) and abs(int(s.step.value)) == 1
        counts = span if unit else b.value(f"udiv {ty} {span}, {size}")
        frame, at, left = self._frame(s), b.alloca(ty, 64), b.alloca(ty, 64)
        self._set(frame.live, lanes.both(lanes.mask, any_))
        b.do(f"store {lanes.operand('i64', lo)}, ptr {at}, align 64")
        b.do(f"store {ty} {counts}, ptr {left}, align 64")
        name = b.fresh(identifier(s.var) + ".")
        body, latch, end = f"{name}.body", f"{name}.latch", f"{name}.end"
        b.cbr(lanes.any(self._get(frame.live)), body, end)
        b.block(body)
        i = b.value(f"load {ty}, ptr {at}, align 64")
        lanes.values[s.var] = i
        self._frames.append(frame)
        self._inside(s.body, latch, end)
        self._frames.pop()
        del lanes.values[s.var]
        b.block(latch)
        n = b.value(f"load {ty}, ptr {left}, align 64")
        more = b.value(f"icmp ne {ty} {n}, zeroinitializer")
        self._set(frame.live, lanes.both(self._get(frame.live), more))
        b.do(f"store {ty} {wide.binary('+', i64, i, step)}, ptr {at}, align 64")
        b.do(f"store {ty} {b.value(f'sub {ty} {n}, splat (i64 1)')}, ptr {left}, align 64")
        self._poll()
        b.cbr(lanes.any(self._get(frame.live)), body, end)
        b.block(end)
