"""Statements: loops in the form that LLVM's loop passes know, and everything that ends a kernel early.

    for i in range(lo, hi):                 br i1 (lo < hi), label %i.body, label %i.end
        ...                                i.body:
                                              %i = phi i64 [ lo, %start ], [ %i.next, %i.latch ]
                                              ...
                                              br label %i.latch
                                            i.latch:
                                              %i.next = add nsw i64 %i, 1
                                              br i1 (i.next < hi), label %i.body, label %i.end
                                            i.end:

Another step counts iterations beside `i`, so that nothing overflows. A loop that holds another one, and
each `while`, polls the stop word at its back edge.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from kdsl.analysis.linear import extent
from kdsl.backends.base import FaultKind, Site
from kdsl.backends.llvm import memory
from kdsl.backends.llvm.builder import LIKELY, identifier
from kdsl.backends.llvm.expressions import Expressions
from kdsl.backends.llvm.gil import print_helper
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.partial_sums import Cell, Sum, partial_sums
from kdsl.backends.llvm.tensor import instruction
from kdsl.backends.llvm.types import memory_type, value_type
from kdsl.backends.llvm.uniformity import has_constant_places, is_instruction, is_vector, loops_apart
from kdsl.dtypes import DType
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Assert,
    Atomic,
    Barrier,
    Body,
    Break,
    Const,
    Continue,
    Expr,
    If,
    Loop,
    Prefetch,
    Print,
    Return,
    Stmt,
    Store,
    While,
)
from kdsl.ir.walk import stmts
from kdsl.source import Loc

_FEW = 16
"""A loop over vectors of so many iterations counts as straight code where its surroundings poll the stop
word: a call in reach of a tile of sums costs it registers."""
_REGISTER_BYTES = 4096
"""More than the vector registers of any CPU hold, by a factor of two."""


@dataclass(slots=True)
class SiteTable:
    """Numbers the places of a kernel that can fault or print, from 1."""

    sites: dict[Site, int] = field(default_factory=dict)

    def number(self, site: Site) -> int:
        """The number of `site`; equal sites share one."""
        return self.sites.setdefault(site, len(self.sites) + 1)

    def fault(self, kind: FaultKind, text: str, dim: int, loc: Loc | None) -> int:
        """The number of a fault's site."""
        return self.number(Site(kind, text, dim, loc))


@dataclass(slots=True)
class Statements:
    """Emits statements through `x`. `locals` gives the memory of each `Alloc`, by its id.

    `parallel(statements, loop, lo, hi, step)` emits a parallel loop; without it they run one iteration after
    the other. `ask` is the call that answers a set stop word instead of the table's `poll`.
    `sums` are the cells that vector loops now reduce into partial results for.
    """

    x: Expressions
    sites: SiteTable
    locals: dict[int, Buffer]
    parallel: Callable[[Statements, Loop, str, str, str], None] | None = None
    ask: str = ""
    polls: bool = False
    sums: dict[Cell, Sum] = field(default_factory=dict)
    _loops: list[tuple[str, str]] = field(default_factory=list)

    def body(self, body: Body) -> None:
        """Emits a body, with a scope of its own for buffers. Code after a jump is dropped."""
        outer = dict(self.x.buffers)
        for s in body:
            if not self.x.b.open:
                break
            self.statement(s)
            if isinstance(s, Alloc) and s.shape:
                self._settle(s, body)
        self.x.buffers = outer

    def statement(self, s: Stmt) -> None:
        """Emits one statement."""
        b = self.x.b
        match s:
            case Loop():
                with partial_sums(self, s):
                    self._loop(s)
            case While():
                self._while(s)
            case If():
                self._if(s)
            case Break():
                b.br(self._loops[-1][1])
            case Continue():
                b.br(self._loops[-1][0])
            case Return():
                b.leave("0")
            case Alloc():
                self._alloc(s)
            case Store():
                value = self.x.emit(s.value)
                buffer, pointer = self._target(s)
                memory.store(self.x.arith, buffer, pointer, value)
            case Accumulate():
                value = self.x.emit(s.value)
                buffer, pointer = self._target(s)
                old = memory.load(self.x.arith, buffer, pointer)
                memory.store(self.x.arith, buffer, pointer, self._combine(s.op, buffer.dtype, old, value))
            case Atomic():
                self._atomic(s)
            case Prefetch():
                buffer = self.x.buffers[s.buffer]
                if not buffer.registers:
                    index = [self.x.emit(i) for i in s.index]
                    memory.prefetch(b, buffer, memory.address(b, buffer, index, inside=False))
            case Barrier():
                pass  # one thread does the whole work-group
            case Assert():
                number = self.sites.fault("assertion", s.message, 0, s.loc)
                b.guard(self.x.emit(s.cond), number)
            case Print():
                self._print(s)
            case _:
                raise AssertionError(f"unknown statement {type(s).__name__}")

    def _target(self, s: Store | Accumulate | Atomic) -> tuple[Buffer, str]:
        buffer = self.x.buffers[s.buffer]
        return buffer, self.x.place(buffer, s.index, s.checked, s.loc)

    def _combine(self, op: str, t: DType, old: str, value: str) -> str:
        """`old op value`; min and max keep `old` unless the value is smaller / larger."""
        return self.x.arith.binary(op, t, old, value)

    def _alloc(self, s: Alloc) -> None:
        buffer = self.locals[s.id]
        self.x.buffers[s.name] = buffer
        if not s.shape:
            # A scalar read before it is written is 0, not an undefined value; LLVM drops the store otherwise.
            memory.store(self.x.arith, buffer, buffer.pointer, memory.zero(s.dtype))

    def _settle(self, s: Alloc, scope: Body) -> None:
        """Starts an array that LLVM will keep in registers with zeros, which costs nothing there.

        Its loads then need no `freeze`, which would keep operands of the code around it out of memory.
        """
        buffer = self.x.buffers[s.name]
        count = max(1, buffer.lanes)
        for e in s.shape:
            count *= max(0, int(e.value)) if isinstance(e, Const) else _REGISTER_BYTES
        size = count * s.dtype.bytes
        if buffer.loose and 0 < size <= _REGISTER_BYTES and has_constant_places(s.name, scope):
            self.x.b.module.declare("void @llvm.memset.p0.i64(ptr, i8, i64, i1)")
            self.x.b.do(f"call void @llvm.memset.p0.i64(ptr {buffer.pointer}, i8 0, i64 {size}, i1 false)")
            self.x.buffers[s.name] = replace(buffer, loose=False, registers=True)

    # -- control flow

    def _if(self, s: If) -> None:
        b = self.x.b
        cond = self.x.emit(s.cond)
        then, end = b.fresh("then"), b.fresh("end")
        orelse = b.fresh("else") if s.orelse else end
        b.cbr(cond, then, orelse)
        falls_through = not s.orelse
        for label, body in ((then, s.then), (orelse, s.orelse)):
            if not body and label == end:
                continue
            b.block(label)
            self.body(body)
            if b.open:
                b.br(end)
                falls_through = True
        if falls_through:
            b.block(end)

    def _while(self, s: While) -> None:
        b = self.x.b
        test, body, latch, end = (b.fresh(f"while.{part}") for part in ("test", "body", "latch", "end"))
        b.br(test)
        b.block(test)
        b.cbr(self.x.emit(s.cond), body, end)
        b.block(body)
        self._inside(s.body, latch, end)
        b.block(latch)
        self._poll()
        b.br(test)
        b.block(end)

    def _inside(self, body: Body, latch: str, end: str) -> None:
        self._loops.append((latch, end))
        self.body(body)
        self._loops.pop()
        if self.x.b.open:
            self.x.b.br(latch)

    def _loop(self, s: Loop) -> None:
        if s.mark is not None and s.mark.kind == "vectorize":
            from kdsl.backends.llvm.vectors import vector_loop

            vector_loop(self, s)
            return
        if s.mark is not None and s.mark.kind == "tensorize":
            if not instruction(self, s):
                self._loop(replace(s, mark=None))
            return
        assert s.mark is None or s.mark.kind == "parallel", "other marks are lowered before"
        b = self.x.b
        lo, hi, step = self.x.emit(s.lo), self.x.emit(s.hi), self.x.emit(s.step)
        if not (isinstance(s.step, Const) and s.step.value != 0):
            ok = b.value(f"icmp ne i64 {step}, 0")
            b.guard(ok, self.sites.fault("zero_step", "", 0, s.loc))
        if s.mark is not None and self.parallel is not None:
            self.parallel(self, s, lo, hi, step)
        else:
            self.iterate(s, lo, hi, step)

    def iterate(self, s: Loop, lo: str, hi: str, step: str) -> None:
        """Runs the iterations of `s` between these bounds one after the other; `step` is not 0."""
        if isinstance(s.step, Const) and s.step.value == 1:
            self._unit_loop(s, lo, hi)
        else:
            self._counted_loop(s, lo, hi, step)

    def _names(self, s: Loop) -> tuple[str, str, str, str]:
        name = self.x.b.fresh(identifier(s.var) + ".")
        return name, f"{name}.body", f"{name}.latch", f"{name}.end"

    def _unit_loop(self, s: Loop, lo: str, hi: str) -> None:
        b = self.x.b
        name, body, latch, end = self._names(s)
        flags = "nuw nsw" if isinstance(s.lo, Const) and s.lo.value >= 0 else "nsw"
        any_ = b.value(f"icmp slt i64 {lo}, {hi}")
        before = b.label
        b.cbr(any_, body, end)
        b.block(body)
        self.x.vars[s.var] = b.named(name, f"phi i64 [ {lo}, %{before} ], [ %{name}.next, %{name}.back ]")
        self._inside(s.body, latch, end)
        del self.x.vars[s.var]
        b.block(latch)
        self._poll_if_nested(s)
        b.br(f"{name}.back")
        b.block(f"{name}.back")
        b.named(f"{name}.next", f"add {flags} i64 %{name}, 1")
        b.cbr(b.value(f"icmp slt i64 %{name}.next, {hi}"), body, end, self._tag(s))
        b.block(end)

    def _counted_loop(self, s: Loop, lo: str, hi: str, step: str) -> None:
        """Counts from 0 to the number of iterations - 1, which fits in 64 bits as an unsigned number."""
        b = self.x.b
        name, body, latch, end = self._names(s)
        any_, steps = self.trips(s, lo, hi, step)
        before = b.label
        b.cbr(any_, body, end)
        b.block(body)
        count = b.named(f"{name}.count", f"phi i64 [ 0, %{before} ], [ %{name}.more, %{name}.back ]")
        self.x.vars[s.var] = b.named(name, f"phi i64 [ {lo}, %{before} ], [ %{name}.next, %{name}.back ]")
        self._inside(s.body, latch, end)
        del self.x.vars[s.var]
        b.block(latch)
        self._poll_if_nested(s)
        b.br(f"{name}.back")
        b.block(f"{name}.back")
        b.named(f"{name}.next", f"add i64 %{name}, {step}")
        b.named(f"{name}.more", f"add i64 {count}, 1")
        b.cbr(b.value(f"icmp eq i64 {count}, {steps}"), end, body, self._tag(s))
        b.block(end)

    def _tag(self, s: Loop) -> str:
        """Names the loop to who watches."""
        module = self.x.b.module
        return module.watch.tag(module, s.loc) if module.watch is not None else ""

    def trips(self, s: Loop, lo: str, hi: str, step: str) -> tuple[str, str]:
        """Whether the loop has an iteration, and then their number less one."""
        b = self.x.b
        if isinstance(s.step, Const):
            up = "true" if s.step.value > 0 else "false"
            size = str(abs(int(s.step.value)))
        else:
            up = b.value(f"icmp sgt i64 {step}, 0")
            size = b.value(f"select i1 {up}, i64 {step}, i64 {b.value(f'sub i64 0, {step}')}")
        first = b.value(f"select i1 {up}, i64 {lo}, i64 {hi}")
        last = b.value(f"select i1 {up}, i64 {hi}, i64 {lo}")
        any_ = b.value(f"icmp slt i64 {first}, {last}")
        span = b.value(f"sub i64 {b.value(f'sub i64 {last}, {first}')}, 1")
        return any_, b.value(f"udiv i64 {span}, {size}")

    def _poll_if_nested(self, s: Loop) -> None:
        if any(isinstance(inner, While) or _iterates(inner) for inner in loops_apart(s.body)):
            self._poll()

    def _poll(self) -> None:
        """Reads the stop word; when it is set, asks `poll` whether to end with -1.

        `poll` touches no memory of the kernel, so that it does not keep values out of registers.
        """
        self.polls = True
        b = self.x.b
        word = b.value("load volatile i32, ptr %stop, align 4")
        ask, go = b.fresh("poll"), b.fresh("go")
        b.cbr(b.value(f"icmp eq i32 {word}, 0"), go, ask, LIKELY)
        slot, fn, answer, stop = (b.fresh("%v") for _ in range(4))
        poll = [
            f"{slot} = getelementptr i8, ptr %table, i64 8",
            f"{fn} = load ptr, ptr {slot}, align 8",
            f"{answer} = call i64 {fn}(ptr %table) nounwind memory(inaccessiblemem: readwrite)",
        ]
        if self.ask:
            touched = "memory(argmem: readwrite, inaccessiblemem: readwrite)"
            poll = [f"{answer} = call i64 {self.ask} nounwind {touched}"]
        b.cold(
            ask,
            [
                *poll,
                f"{stop} = icmp eq i64 {answer}, 0",
                f"br i1 {stop}, label %{go}, label %leave",
            ],
        )
        b.leave_from(ask, "-1")
        b.block(go)

    # -- print and atomics

    def _print(self, s: Print) -> None:
        self.print_values(s, [self.x.emit(item) for item in s.items if isinstance(item, Expr)])

    def print_values(self, s: Print, args: Sequence[str]) -> None:
        """Prints with these values of the expressions."""
        b = self.x.b
        exprs = [item for item in s.items if isinstance(item, Expr)]
        items = tuple([item if isinstance(item, str) else item.dtype for item in s.items])
        number = self.sites.number(Site("print", loc=s.loc, items=items, sep=s.sep, end=s.end))
        values = [self.x.arith.widened(e.dtype, arg) for e, arg in zip(exprs, args)]
        buffer = b.alloca(f"[{max(1, len(values))} x i64]", 8)
        for n, value in enumerate(values):
            b.do(f"store i64 {value}, ptr {b.value(f'getelementptr i64, ptr {buffer}, i64 {n}')}, align 8")
        fn = print_helper(b.module)
        failed = b.value(f"call i64 @{fn}(ptr %table, i64 {number}, i64 {len(values)}, ptr {buffer})")
        b.guard(b.value(f"icmp eq i64 {failed}, 0"), -1)

    def _atomic(self, s: Atomic) -> None:
        value = self.x.emit(s.value)
        buffer, pointer = self._target(s)
        old = self.exchange(s, buffer, pointer, value)
        if s.old:
            cell = self.x.buffers[s.old]
            memory.store(self.x.arith, cell, cell.pointer, old)

    def exchange(self, s: Atomic, buffer: Buffer, pointer: str, value: str) -> str:
        """The atomic update of one element; gives the old value."""
        t, b = buffer.dtype, self.x.b
        ty = memory_type(t)
        if t.is_float:
            return self._compare_and_swap(s.op, buffer, pointer, value)
        kinds = {"+": "or", "min": "and", "max": "or"} if t.kind == "bool" else {"+": "add"}
        prefix = "u" if t.kind == "uint" else ""
        kind = kinds.get(s.op, prefix + s.op)
        stored = self.x.arith.to_memory(t, value)
        before = b.value(
            f"atomicrmw {kind} ptr {pointer}, {ty} {stored} monotonic, align {t.bytes}{buffer.alias}"
        )
        return self.x.arith.from_memory(t, before)

    def _compare_and_swap(self, op: str, buffer: Buffer, pointer: str, value: str) -> str:
        """Floats: computes on what was read until nobody has changed it; gives the old value."""
        b, t, arith = self.x.b, buffer.dtype, self.x.arith
        bits, ty = f"i{t.bits}", value_type(t)
        first = b.value(f"load atomic {bits}, ptr {pointer} monotonic, align {t.bytes}{buffer.alias}")
        again, done, before, seen = b.fresh("again"), b.fresh("done"), b.label, b.fresh("v")
        b.br(again)
        b.block(again)
        expected = b.fresh("v")
        b.named(expected, f"phi {bits} [ {first}, %{before} ], [ %{seen}, %{again} ]")
        plain = t.bits > 16
        old = (
            b.value(f"bitcast {bits} %{expected} to {ty}") if plain else arith.from_memory(t, f"%{expected}")
        )
        new = arith.binary(op, t, old, value)
        desired = b.value(f"bitcast {ty} {new} to {bits}") if plain else arith.to_memory(t, new)
        pair = b.value(
            f"cmpxchg ptr {pointer}, {bits} %{expected}, {bits} {desired} monotonic monotonic, "
            f"align {t.bytes}{buffer.alias}"
        )
        b.named(seen, f"extractvalue {{ {bits}, i1 }} {pair}, 0")
        b.cbr(b.value(f"extractvalue {{ {bits}, i1 }} {pair}, 1"), done, again)
        b.block(done)
        return old


def _iterates(s: Stmt) -> bool:
    """Whether `s` is a loop that takes its iterations one after the other. One of few vectors is none."""
    if not isinstance(s, Loop) or is_vector(s) or is_instruction(s):
        return False
    count = extent(s)
    vectors = any(is_vector(x) or is_instruction(x) for x in stmts(s.body))
    return count is None or count > _FEW or not vectors
