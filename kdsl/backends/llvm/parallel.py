"""Parallel loops: the body becomes a function of its own, which the worker pool (`pool.py`) calls.

    for i in parallel(range(lo, hi)):       context: | fault | stopped | frame | captured values ... |
        ...                                 %code = call i64 @kdsl.fork(table, @kernel.name.body1, context,
                                                                        hi - lo, threads)

    define internal i64 @kernel.name.body1(ptr %context, i64 %first, i64 %last, i64 %worker) {
      ...                                   ; parameters from the frame, other values from the context
      for i in range(lo + first, lo + last): ...
    leave:                                  ; a fault: the first one of all threads is kept, and
      call void @kdsl.report(...)           ; its index and extent go to the frame
      ret i64 %code
    }

Worker 0 is the calling thread: at back edges it polls the stop word, which a fault of another sets too; the
others look whether the loop has failed. Loops nested in a parallel one run serially, and so does a loop whose
estimated work is small. A local scalar that the loop only reads is captured by value, other locals by their
address.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from kdsl.backends.llvm.builder import LIKELY, Builder, ModuleText
from kdsl.backends.llvm.expressions import Expressions
from kdsl.backends.llvm.locals import Scratch, Spot, allocs, by_size, in_arena, on_stack
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.parameters import arithmetic, load_arrays, load_scalars
from kdsl.backends.llvm.pool import FIELDS
from kdsl.backends.llvm.statements import Statements
from kdsl.backends.llvm.types import memory_type
from kdsl.backends.llvm.work import emit_work
from kdsl.ir.nodes import (
    Accumulate,
    Atomic,
    Body,
    Break,
    Func,
    Load,
    Loop,
    Prefetch,
    Return,
    Store,
    Var,
    While,
)
from kdsl.ir.walk import exprs, stmt_bodies, stmts
from kdsl.target import Target

PARALLEL_ABOVE = 262144.0
"""Estimated work (expression nodes) above which the pool is asked: some 80 us of scalar code, 5 us where LLVM
makes vectors of it. A fork and join costs 1 us, 20 when the workers have gone to sleep."""
POOL_SLOT = 48
"""Where the run-time table has the pool's state, in bytes."""

_FRAME, _CAPTURED = 16, 24
_ALL_THREADS = 1 << 31


def emit_threads(b: Builder) -> str:
    """The number of threads of the pool, 1 without one. It may change at any time."""
    return b.value(f"call i64 @{b.module.helper('kdsl.threads', lambda: _THREADS)}(ptr %table)")


@dataclass(slots=True)
class Parallel:
    """Emits the parallel loops of one kernel. `scratch` has those that threads may share, by id."""

    module: ModuleText
    func: Func
    symbol: str
    target: Target
    alias: dict[str, str]
    scratch: dict[int, Scratch]
    _count: int = 0

    def __call__(self, statements: Statements, s: Loop, lo: str, hi: str, step: str) -> None:
        """The loop `s` between these bounds; `step` is not 0."""
        if s.id not in self.scratch:
            statements.iterate(s, lo, hi, step)
            return
        if self.module.watch is not None:
            self.module.watch.parallel.add(s.loc)
        _assert_independent(s)
        b = statements.x.b
        some, more = statements.trips(s, lo, hi, step)
        fork, end = b.fresh("fork"), b.fresh("end")
        b.cbr(some, fork, end)
        b.block(fork)
        count = b.value(f"add i64 {more}, 1")
        self._count += 1
        name = f"{self.symbol}.body{self._count}"
        context = self._outline(statements, s, name, lo, hi, step, count)
        limit = self._limit(statements.x, s)
        arguments = f"ptr %table, ptr @{name}, ptr {context}, i64 {count}, i64 {limit}"
        code = b.value(f"call i64 @{self._helper('kdsl.fork', _FORK)}({arguments})")
        failed = b.fresh("failed")
        b.cold(failed, [], code)
        b.cbr(b.value(f"icmp eq i64 {code}, 0"), end, failed, LIKELY)
        b.block(end)

    def _limit(self, x: Expressions, s: Loop) -> str:
        """How many threads may take part: one when there is little to do."""
        limit = self.scratch[s.id].threads or str(_ALL_THREADS)
        work = emit_work(x, (s,))
        if work is None:
            return limit
        enough = x.b.value(f"fcmp ogt double {work}, {PARALLEL_ABOVE}")
        return x.b.value(f"select i1 {enough}, i64 {limit}, i64 1")

    def _helper(self, name: str, text: str) -> str:
        return self.module.helper(name, lambda: text)

    def _outline(self, outer: Statements, s: Loop, name: str, lo: str, hi: str, step: str, count: str) -> str:
        """Emits the function `name` for the body of `s`, and fills its context, whose address this gives."""
        signature = (
            f"internal i64 @{name}(ptr noundef nonnull %context, {_INDEX} %first, {_INDEX} %last, "
            "i64 noundef %worker) noinline"
        )
        b = Builder(self.module, signature, report="%report")
        x = Expressions(b, arithmetic(b, self.func, self.target), outer.sites.fault)
        load_scalars(x, self.func)
        load_arrays(x, self.func, self.alias)
        captured = _Captured(outer.x.b, b)
        loop_vars, buffers = _free(s, outer.x, x)
        x.vars.update({v: captured("i64", outer.x.vars[v]) for v in loop_vars})
        written = _written_cells(s.body)
        x.buffers.update({n: captured.buffer(outer.x, x, outer.x.buffers[n], n in written) for n in buffers})
        inner = Statements(
            x,
            outer.sites,
            self._private(captured, s),
            ask=f"@{self._helper('kdsl.ask', _ASK)}(ptr %context, ptr %table, i64 %worker)",
        )
        lo, hi, step, count = (captured("i64", value) for value in (lo, hi, step, count))
        first, last = b.value(f"mul i64 %first, {step}"), b.value(f"mul i64 %last, {step}")
        begin, end = b.value(f"add i64 {lo}, {first}"), b.value(f"add i64 {lo}, {last}")
        whole = b.value(f"icmp eq i64 %last, {count}")
        inner.iterate(s, begin, b.value(f"select i1 {whole}, i64 {hi}, i64 {end}"), step)
        if b.open:
            b.leave("0")
        self.module.functions.append(
            b.finish(
                [
                    "%report = alloca [2 x i64], align 8",
                    f"%frame.slot = getelementptr i8, ptr %context, i64 {_FRAME}",
                    "%frame = load ptr, ptr %frame.slot, align 8",
                    "%table.slot = getelementptr i8, ptr %frame, i64 16",
                    "%table = load ptr, ptr %table.slot, align 8",
                    "%word = load ptr, ptr %table, align 8",
                    "%caller = icmp eq i64 %worker, 0",
                    "%stop = select i1 %caller, ptr %word, ptr %context",
                    *captured.loads,
                ],
                [
                    f"call void @{self._helper('kdsl.report', _REPORT)}"
                    "(ptr %context, ptr %frame, ptr %report, ptr %word, i64 %code)"
                ],
            )
        )
        return captured.store(outer.x.b)

    def _private(self, captured: _Captured, s: Loop) -> dict[int, Buffer]:
        """The memory of the loop's own locals."""
        b, scratch = captured.inner, self.scratch[s.id]
        buffers = {a.id: on_stack(b, a, self.alias) for a in by_size(allocs(s.body))[0]}
        if scratch.spots:
            base, stride = captured("ptr", scratch.base), captured("i64", scratch.stride)
            skipped = b.value(f"mul i64 %worker, {stride}")
            mine = b.value(f"getelementptr inbounds i8, ptr {base}, i64 {skipped}")
            for spot in scratch.spots:
                extents = tuple([captured("i64", e) for e in spot.extents])
                here = Spot(spot.alloc, extents, captured("i64", spot.offset))
                buffers[spot.alloc.id] = in_arena(b, here, mine, self.alias)
        return buffers


@dataclass(slots=True)
class _Captured:
    """Values of the function around the loop, handed over in the context."""

    outer: Builder
    inner: Builder
    loads: list[str] = field(default_factory=list)
    _values: list[tuple[str, str]] = field(default_factory=list)
    _names: dict[str, str] = field(default_factory=dict)

    def __call__(self, type_: str, value: str) -> str:
        """The name, in the inner function, of what is `value` outside; constants are themselves."""
        if not value.startswith("%"):
            return value
        if value not in self._names:
            name, where = self.inner.fresh("%c"), self.inner.fresh("%c")
            offset = _CAPTURED + 8 * len(self._values)
            self.loads.append(f"{where} = getelementptr i8, ptr %context, i64 {offset}")
            self.loads.append(f"{name} = load {type_}, ptr {where}, align 8")
            self._values.append((type_, value))
            self._names[value] = name
        return self._names[value]

    def buffer(self, outer: Expressions, inner: Expressions, buffer: Buffer, written: bool) -> Buffer:
        """The inner view of a local that was made outside the loop."""
        assert buffer.local and buffer.strides is None
        if buffer.extents or written:
            extents = tuple([self("i64", e) for e in buffer.extents])
            return replace(buffer, pointer=self("ptr", buffer.pointer), extents=extents)
        ty, align = memory_type(buffer.dtype), buffer.dtype.bytes
        value = self(ty, outer.b.value(f"load {ty}, ptr {buffer.pointer}, align {align}"))
        pointer = inner.b.alloca(ty, align)
        inner.b.do(f"store {ty} {value}, ptr {pointer}, align {align}")
        return replace(buffer, pointer=pointer)

    def store(self, b: Builder) -> str:
        """Makes and fills the context in the function around the loop; gives its address."""
        context = b.alloca(f"[{_CAPTURED // 8 + len(self._values)} x i64]", 16)
        values = [("i64", "0"), ("i64", "0"), ("ptr", "%frame"), *self._values]
        for n, (type_, value) in enumerate(values):
            where = b.value(f"getelementptr i8, ptr {context}, i64 {8 * n}")
            b.do(f"store {type_} {value}, ptr {where}, align 8")
        return context


def _free(s: Loop, outer: Expressions, inner: Expressions) -> tuple[list[str], list[str]]:
    """Names that the body uses and the function around it has made: loop variables, local buffers."""
    used = list(exprs(s.body))
    names = {e.name for e in used if isinstance(e, Var)}
    buffers = {e.buffer for e in used if isinstance(e, Load)}
    for t in stmts(s.body):
        if isinstance(t, (Store, Accumulate, Atomic, Prefetch)):
            buffers.add(t.buffer)
        if isinstance(t, Atomic) and t.old:
            buffers.add(t.old)
    return (
        [n for n in outer.vars if n in names and n not in inner.vars],
        [n for n in outer.buffers if n in buffers and n not in inner.buffers],
    )


def _written_cells(body: Body) -> set[str]:
    """Names of the scalars that the body writes."""
    out = {t.buffer for t in stmts(body) if isinstance(t, (Store, Accumulate, Atomic)) and not t.index}
    return out | {t.old for t in stmts(body) if isinstance(t, Atomic)}


def _assert_independent(s: Loop) -> None:
    """What the legality of `parallel` has made sure of."""
    assert not any(isinstance(t, Return) for t in stmts(s.body)), "a parallel loop has one way out"
    assert not any(isinstance(t, Break) for t in _own(s.body)), "a parallel loop has one way out"
    own = {a.name for a in allocs(s.body)}
    raced = {t.buffer for t in stmts(s.body) if isinstance(t, (Store, Accumulate)) and not t.index} - own
    assert not raced or (s.mark is not None and s.mark.unsafe), f"iterations race for {raced}"


def _own(body: Body) -> Iterator[object]:
    """The statements whose `break` would end this loop."""
    for t in body:
        yield t
        if not isinstance(t, (Loop, While)):
            for nested in stmt_bodies(t):
                yield from _own(nested)


_INDEX = f"i64 noundef range(i64 0, {-(1 << 63)})"

_FORK = f"""\
define internal i64 @kdsl.fork(ptr %table, ptr %body, ptr %context, i64 %count, i64 %limit) noinline #0 {{
  %pool.at = getelementptr i8, ptr %table, i64 {POOL_SLOT}
  %pool = load ptr, ptr %pool.at, align 8
  %none = icmp eq ptr %pool, null
  %one = icmp ule i64 %limit, 1
  %alone = or i1 %none, %one
  br i1 %alone, label %serial, label %share
serial:
  %code = call i64 %body(ptr %context, i64 0, i64 %count, i64 0)
  ret i64 %code
share:
  %run = load ptr, ptr %pool, align 8
  %shared = call i64 %run(ptr %pool, ptr %table, ptr %body, ptr %context, i64 %count, i64 %limit)
  ret i64 %shared
}}
"""

_THREADS = f"""\
define internal i64 @kdsl.threads(ptr %table) noinline #0 {{
  %pool.at = getelementptr i8, ptr %table, i64 {POOL_SLOT}
  %pool = load ptr, ptr %pool.at, align 8
  %none = icmp eq ptr %pool, null
  br i1 %none, label %one, label %many
one:
  ret i64 1
many:
  %threads.at = getelementptr i8, ptr %pool, i64 {FIELDS["threads"]}
  %threads = load atomic i64, ptr %threads.at monotonic, align 8
  ret i64 %threads
}}
"""

_ASK = """\
define internal i64 @kdsl.ask(ptr %context, ptr %table, i64 %worker) cold noinline #0 {
  %fault = load atomic i64, ptr %context acquire, align 8
  %failed = icmp ne i64 %fault, 0
  br i1 %failed, label %end, label %go
go:
  %caller = icmp eq i64 %worker, 0
  br i1 %caller, label %poll, label %on
poll:
  %poll.at = getelementptr i8, ptr %table, i64 8
  %fn = load ptr, ptr %poll.at, align 8
  %answer = call i64 %fn(ptr %table)
  %stopped = icmp ne i64 %answer, 0
  br i1 %stopped, label %note, label %on
note:
  %stopped.at = getelementptr i8, ptr %context, i64 8
  store i64 1, ptr %stopped.at, align 8
  ret i64 -1
on:
  ret i64 0
end:
  ret i64 -1
}
"""

_REPORT = """\
define internal void @kdsl.report(ptr %context, ptr %frame, ptr %report, ptr %word, i64 %code) #0 {
  %good = icmp eq i64 %code, 0
  br i1 %good, label %out, label %bad
bad:
  %pair = cmpxchg ptr %context, i64 0, i64 %code acq_rel acquire, align 8
  %first = extractvalue { i64, i1 } %pair, 1
  br i1 %first, label %keep, label %out
keep:
  %words = load <2 x i64>, ptr %report, align 8
  store <2 x i64> %words, ptr %frame, align 8
  store atomic i32 1, ptr %word release, align 4
  br label %out
out:
  ret void
}
"""
