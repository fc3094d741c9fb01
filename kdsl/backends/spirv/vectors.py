"""Vector loops: all lanes of a statement at once, in vectors of 2 or 4.

    for v in vectorize(range(4)):            %x = Load (f32x4 view of X)[i / 4]
        Y[i + v] = a * X[i + v]       ->     %y = FMul f32x4 (CompositeConstruct a a a a) %x
                                             Store (f32x4 view of Y)[i / 4] %y

Elements of a binding that follow each other, from a multiple of the lanes on, are one load or store; others,
and those of local arrays, are taken lane by lane, as is what has no vector form. Longer vectors are several.
A local scalar of the body is a vector; its statements run in order, each for all lanes: lockstep.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kdsl.analysis.linear import extent, linear
from kdsl.backends.spirv.arith import Arith, kind_of
from kdsl.backends.spirv.expressions import Expressions, can_fault, is_product
from kdsl.backends.spirv.memory import Buffer, Memory
from kdsl.backends.spirv.module import vector
from kdsl.backends.spirv.opcodes import Storage
from kdsl.dtypes import i64
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Binary,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Let,
    Load,
    Loop,
    Select,
    Stmt,
    Store,
    Unary,
    Var,
)
from kdsl.ir.walk import expr_children, stmt_exprs, subexprs, substitute

LANES = (4, 2)
"""The lengths of vectors, longest first."""


def vector_lanes(loop: Loop) -> int | None:
    """How many lanes of a vector loop are done at a time; None when its iterations run one by one."""
    count = extent(loop)
    if loop.mark is None or loop.mark.kind != "vectorize" or not count:
        return None
    if loop.lo != Const(0, i64) or loop.step != Const(1, i64):
        return None
    lanes = next((n for n in LANES if count % n == 0), None)
    own: set[str] = set()
    for s in loop.body:
        match s:
            case Alloc(shape=()) if s.dtype != i64:
                own.add(s.name)
            case Store() | Accumulate():
                pass
            case _:
                return None
    return lanes if all(_possible(s, own) for s in loop.body) else None


def _possible(s: Stmt, own: set[str]) -> bool:
    """Whether what has no vector form depends on no value that exists as a vector alone."""
    if isinstance(s, (Store, Accumulate)) and _apart(s, own):
        return False
    return all(_whole(e, own) for e in stmt_exprs(s))


def _apart(s: Store | Accumulate, own: set[str]) -> bool:
    """Whether a store takes its lanes one by one: wide integers, places that are values of lanes."""
    return s.value.dtype == i64 or any(_uses(i, own) for i in s.index)


def _whole(e: Expr, own: set[str]) -> bool:
    if not _has_form(e, own):
        return not _uses(e, own)
    if isinstance(e, Let):
        return _whole(e.value, own) and _whole(e.body, own | {e.name})
    return all(_whole(c, own) for c in expr_children(e))


def _uses(e: Expr, own: set[str]) -> bool:
    return any(
        (isinstance(x, Load) and x.buffer in own) or (isinstance(x, Var) and x.name in own)
        for x in subexprs(e)
    )


def _has_form(e: Expr, own: Container[str]) -> bool:
    """Whether `e`, its operands given, is one operation on vectors. `own`: scalars that are vectors."""
    match e:
        case Const() | Var() | Load():
            return e.dtype != i64 and not can_fault(e)
        case Unary() | Binary() | Compare():
            return all(c.dtype != i64 for c in expr_children(e)) and not can_fault(e)
        case Select():
            # Both sides are computed: neither may touch memory that the program would not.
            parts = [x for c in (e.a, e.b) for x in subexprs(c)]
            loads = any(isinstance(x, Load) and x.buffer not in own for x in parts)
            return not loads and not any(map(can_fault, parts))
        case Cast():
            return e.type != i64 and e.x.dtype != i64
        case Call():
            return e.fn not in ("within", "ipow") and all(c.dtype != i64 for c in e.args)
        case Let():
            return e.value.dtype != i64
        case _:
            return False


@dataclass(slots=True)
class Vectors:
    """Emits one vector loop through `x`: from lane `first` on, `lanes` of them."""

    x: Expressions
    loop: Loop
    lanes: int
    first: int
    arith: Arith = field(init=False)
    memory: Memory = field(init=False)
    own: dict[str, int] = field(default_factory=dict)
    lets: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.arith = self.x.arith.over(self.lanes)
        self.memory = Memory(self.arith, self.x.memory.bindings)

    # -- statements

    def run(self) -> None:
        """Emits the body for these lanes."""
        for s in self.loop.body:
            match s:
                case Alloc():
                    self.own[s.name] = self.arith.const(kind_of(s.dtype), 0)
                case Store():
                    self.store(s, self.value(s.value))
                case Accumulate():
                    self.accumulate(s)
                case _:
                    raise AssertionError("seen before")

    def store(self, s: Store | Accumulate, value: int) -> None:
        if s.buffer in self.own:
            self.own[s.buffer] = value
            return
        buffer = self.x.buffers[s.buffer]
        if self.together(buffer, s.index, s.checked):
            self.memory.store(buffer, self.pointer(buffer, s.index), value)
            return
        for n in range(self.lanes):
            part = self.x.code.pure("CompositeExtract", kind_of(buffer.dtype), value, n)
            place, at = self.x.place(s.buffer, self.at(s.index, n), s.checked, s.loc)
            self.x.memory.store(place, self.x.memory.pointer(place, at), part)

    def accumulate(self, s: Accumulate) -> None:
        free = s.op == "+" and is_product(s.value)
        value = self.operand(s.value, free)
        buffer, t = self.x.buffers.get(s.buffer), s.value.dtype
        if buffer is None or self.varies(s.index):
            old = self.load(Load(s.buffer, s.index, t, s.checked, loc=s.loc))
            self.store(s, self.arith.binary(s.op, t, old, value, free=free))
            return
        # One cell for all lanes.
        place, at = self.x.place(s.buffer, s.index, s.checked, s.loc)
        pointer = self.x.memory.pointer(place, at)
        total = self.x.memory.load(place, pointer)
        for n in range(self.lanes):
            part = self.x.code.pure("CompositeExtract", kind_of(t), value, n)
            total = self.x.arith.binary(s.op, t, total, part, free=free)
        self.x.memory.store(place, pointer, total)

    # -- places

    def at(self, index: Sequence[Expr], lane: int) -> tuple[Expr, ...]:
        """An index in a lane."""
        values: dict[str, Expr] = {self.loop.var: Const(self.first + lane, i64)}
        return tuple([substitute(i, values) for i in index])

    def varies(self, es: Sequence[Expr]) -> bool:
        """Whether lanes differ in these."""
        names = {self.loop.var, *self.lets}
        return any(
            (isinstance(x, Var) and x.name in names) or (isinstance(x, Load) and x.buffer in self.own)
            for e in es
            for x in subexprs(e)
        )

    def together(self, buffer: Buffer, index: Sequence[Expr], checked: Sequence[int]) -> bool:
        """Whether the lanes' elements are one vector in memory."""
        if buffer.storage is not Storage.StorageBuffer or checked or not index or buffer.narrow:
            return False
        if self.varies(index[:-1]):
            return False
        form = linear(index[-1])
        var = (self.loop.var,)
        if form is None or form.terms.get(var) != 1:
            return False
        starts = all(c % self.lanes == 0 for m, c in form.terms.items() if m != var)
        return starts and (len(index) == 1 or self.whole_rows(buffer.shape[-1]))

    def whole_rows(self, columns: Expr) -> bool:
        """Whether every row starts at a multiple of the lanes."""
        form = linear(columns)
        return form is not None and all(c % self.lanes == 0 for c in form.terms.values())

    def pointer(self, buffer: Buffer, index: Sequence[Expr]) -> int:
        """The address of the vector that starts at the first lane's element."""
        _, at = self.x.place(buffer.name, self.at(index, 0), (), None)
        assert at is not None
        scalar = self.x.arith
        number = scalar.divide_positive("//", "i32", at, scalar.const("i32", self.lanes))
        return self.memory.pointer(buffer, number, vector(buffer.kind, self.lanes))

    # -- values

    def value(self, e: Expr) -> int:
        """The values of all lanes."""
        if not self.varies((e,)):
            return self.joined(e, [self.x.emit(e)] * self.lanes)
        if not _has_form(e, self.own):
            return self.joined(e, [self.x.emit(self.at((e,), n)[0]) for n in range(self.lanes)])
        a = self.arith
        match e:
            case Var():
                return self.lets[e.name]
            case Load():
                return self.load(e)
            case Unary():
                return a.unary(e.op, e.dtype, self.value(e.x))
            case Binary():
                free = e.dtype.is_float and e.op in ("+", "-") and (is_product(e.a) or is_product(e.b))
                return a.binary(e.op, e.dtype, self.operand(e.a, free), self.operand(e.b, free), free=free)
            case Compare():
                return a.compare(e.op, e.a.dtype, self.value(e.a), self.value(e.b))
            case Select():
                return a.pick(kind_of(e.dtype), self.value(e.cond), self.value(e.a), self.value(e.b))
            case Cast():
                return a.cast(self.value(e.x), e.x.dtype, e.type)
            case Call():
                return a.call(e.fn, e.args[0].dtype, [self.value(x) for x in e.args], e.type)
            case Let():
                with self.exact():
                    self.lets[e.name] = self.value(e.value)
                    result = self.value(e.body)
                del self.lets[e.name]
                return result
        raise AssertionError("seen before")

    def operand(self, e: Expr, free: bool) -> int:
        if free and is_product(e) and isinstance(e, Binary):
            return self.arith.binary("*", e.dtype, self.value(e.a), self.value(e.b), free=True)
        return self.value(e)

    def load(self, e: Load) -> int:
        if e.buffer in self.own:
            return self.own[e.buffer]
        buffer = self.x.buffers[e.buffer]
        if self.together(buffer, e.index, e.checked):
            return self.memory.load(buffer, self.pointer(buffer, e.index))
        places = [self.x.place(e.buffer, self.at(e.index, n), e.checked, e.loc) for n in range(self.lanes)]
        loads = [self.x.memory.load(b, self.x.memory.pointer(b, at)) for b, at in places]
        return self.joined(e, loads)

    def joined(self, e: Expr, parts: Sequence[int]) -> int:
        """A vector of scalars."""
        return self.x.code.pure("CompositeConstruct", self.arith.kind(kind_of(e.dtype)), *parts)

    @contextmanager
    def exact(self) -> Iterator[None]:
        """As in `Expressions`: inlined functions are never contracted."""
        both = (self.arith, self.x.arith)
        before = [(a.contract, a.fastmath) for a in both]
        for a in both:
            a.contract = a.fastmath = False
        yield
        for a, (contract, fastmath) in zip(both, before):
            a.contract, a.fastmath = contract, fastmath


def emit_vectors(x: Expressions, loop: Loop, lanes: int) -> None:
    """Emits a vector loop, `lanes` at a time."""
    for first in range(0, extent(loop) or 0, lanes):
        Vectors(x, loop, lanes, first).run()
