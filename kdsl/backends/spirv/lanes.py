"""Vector loops: lanes in lockstep, statement by statement, with their neighbours loaded together.

    for j_v in vectorize(range(4)):                    %b = Load f32x4 (B seen as f32x4, (k * N + j * 4) >> 2)
        C[i, j * 4 + j_v] += A[i, k] * B[k, j * 4 + j_v]
                                                       4 x FMul, FAdd on its components and those of C
                                                       Store f32x4

That needs an index that is a multiple of the lanes for the first one. Where only sizes of arrays stand in
the way, the body is there twice, and the sizes choose (`entry`). Lanes are computed one by one: drivers do so
with vectors too. A loop with anything but stores, and inner loops and ifs that are the same for all lanes,
stays a loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kdsl.analysis.linear import extent
from kdsl.backends.spirv.expressions import can_fault, is_product
from kdsl.backends.spirv.memory import Buffer
from kdsl.backends.spirv.opcodes import Storage
from kdsl.backends.spirv.statements import Statements
from kdsl.dtypes import i32
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Binary,
    Body,
    Call,
    Compare,
    Expr,
    If,
    Load,
    Loop,
    Prefetch,
    Stmt,
    Store,
    Var,
)
from kdsl.ir.walk import stmt_exprs, stmts, subexprs

_MOST = 32
"""Longer vector loops stay loops."""


def lanes_of(s: Loop) -> int:
    """The lanes that a vector loop is done in at a time: 4, 2, or 0 when it stays a loop."""
    if s.mark is None or s.mark.kind != "vectorize":
        return 0
    count = extent(s)
    if count is None or not 2 <= count <= _MOST or count % 2 or s.step.dtype != s.lo.dtype:
        return 0
    body = guarded(s)[1]
    made = {a.name for a in stmts(body) if isinstance(a, Alloc)}
    plain = all(_plain(inner, s.var, made) for inner in stmts(body))
    return (4 if count % 4 == 0 else 2) if plain and _unit(s) else 0


def guarded(s: Loop) -> tuple[Expr | None, Body]:
    """What all of a loop's body depends on, for each iteration by itself, and that body."""
    match s.body:
        case (If(cond=cond, then=then, orelse=()),):
            pure = not any(isinstance(x, (Load, Call)) for x in subexprs(cond))
            if pure and _varies(cond, s.var, ()) and not any(map(can_fault, subexprs(cond))):
                return cond, then
    return None, s.body


def _unit(s: Loop) -> bool:
    return getattr(s.step, "value", 0) == 1


def _plain(s: Stmt, var: str, made: set[str]) -> bool:
    """Whether the lanes can do a statement in lockstep."""
    match s:
        case Store() | Accumulate() | Prefetch():
            return True
        case Alloc():
            return s.memory != "shared"
        case Loop():
            own = s.mark is None or s.mark.kind in ("unroll", "parallel")
            return own and not any(_varies(e, var, made) for e in stmt_exprs(s))
        case If():
            return not _varies(s.cond, var, made)
        case _:
            return False


def _varies(e: Expr, var: str, made: Iterable[str]) -> bool:
    """Whether an expression may differ from lane to lane; `made`: the buffers that each lane has."""
    return any(
        (isinstance(x, Var) and x.name == var) or (isinstance(x, Load) and x.buffer in made)
        for x in subexprs(e)
    )


def neighbours(index: tuple[Expr, ...], var: str, made: Iterable[str]) -> bool:
    """Whether the elements of the lanes follow each other, in the order of the lanes."""
    if not index or any(isinstance(x, Load) for i in index for x in subexprs(i)):
        return False
    return not any(_varies(i, var, made) for i in index[:-1]) and _plus(index[-1], var)


def _plus(e: Expr, var: str) -> bool:
    """Whether `e` is `var` plus what does not depend on it."""
    match e:
        case Var(name=name):
            return name == var
        case Binary(op="+", a=a, b=b):
            if not _varies(b, var, ()):
                return _plus(a, var)
            return not _varies(a, var, ()) and _plus(b, var)
        case Binary(op="-", a=a, b=b):
            return not _varies(b, var, ()) and _plus(a, var)
        case _:
            return False


def wanted_sizes(body: Body, buffers: dict[str, Buffer], multiple: Callable[[Expr], int]) -> dict[str, int]:
    """The sizes that were better multiples of so many, for vector loops to load elements together."""
    found: dict[str, int] = {}
    for s in stmts(body):
        if not isinstance(s, Loop) or not (lanes := lanes_of(s)):
            continue
        made = {a.name for a in stmts(s.body) if isinstance(a, Alloc)}
        for inner in stmts(s.body):
            accesses: list[tuple[str, tuple[Expr, ...]]] = [
                (e.buffer, e.index) for top in stmt_exprs(inner) for e in subexprs(top) if isinstance(e, Load)
            ]
            if isinstance(inner, (Store, Accumulate)):
                accesses.append((inner.buffer, inner.index))
            for name, index in accesses:
                buffer = buffers.get(name)
                if buffer is None or name in made or not _packable(buffer):
                    continue
                if len(index) > 1 and neighbours(index, s.var, made) and multiple(buffer.shape[-1]) % lanes:
                    for x in subexprs(buffer.shape[-1]):
                        if isinstance(x, Var):
                            found[x.name] = max(lanes, found.get(x.name, 0))
    return found


def _packable(buffer: Buffer) -> bool:
    return buffer.storage is Storage.StorageBuffer and buffer.kind in ("f32", "i32")


@dataclass(slots=True)
class Lockstep(Statements):
    """Statements of a vector loop. `start` is the lane variable's value in the first of the `lanes`.

    `made` has the buffers of the lanes that they have for themselves, `number` tells statements apart.
    """

    var: str = ""
    start: int = 0
    kind: str = "i32"
    lanes: int = 0
    made: dict[str, list[Buffer]] = field(default_factory=dict)
    number: int = 0

    def statement(self, s: Stmt) -> None:
        """Emits one statement for all lanes."""
        match s:
            case Alloc():
                self.made[s.name] = [self._own(s) for _ in range(self.lanes)]
            case Store():
                self._write(s)
            case Accumulate():
                self._write(s)
            case Prefetch():
                pass
            case _:
                # `super()` knows no slots of dataclasses.
                Statements.statement(self, s)

    def _own(self, s: Alloc) -> Buffer:
        self._alloc(s)
        return self.x.buffers[s.name]

    @contextmanager
    def lane(self, n: int) -> Iterator[None]:
        """Names mean what they mean in lane `n`."""
        self._turn_to(n)
        self.x.packed = lambda e: self._part(e, n)
        yield
        self.x.packed = None

    def _together(self, name: str, index: tuple[Expr, ...], checked: tuple[int, ...]) -> bool:
        """Whether the lanes' elements can be loaded and stored together."""
        if checked or name in self.made or not neighbours(index, self.var, self.made):
            return False
        buffer = self.x.buffers[name]
        if not _packable(buffer):
            return False
        ranges, at = self.x.ranges, 0
        for n, i in enumerate(index):
            at = ranges.gcd(at * ranges.multiple(buffer.shape[n]) if n else 0, ranges.multiple(i))
        return at % self.lanes == 0

    def _vector(self, name: str, index: tuple[Expr, ...]) -> int:
        """The address of the lanes' elements, together."""
        x = self.x
        with self.lane(0):
            x.packed = None
            buffer, at = x.place(name, index, (), None)
        assert at is not None
        shift = x.arith.const("i32", self.lanes.bit_length() - 1)
        element = x.arith.op("ShiftRightLogical", "i32", at, shift)
        return x.memory.pointer(buffer, element, f"{buffer.kind}x{self.lanes}")

    def _part(self, e: Load, n: int) -> int | None:
        """The element of lane `n`, if it was loaded with the others."""
        if not self._together(e.buffer, e.index, e.checked):
            return None
        x, packed = self.x, self.x.packed
        kind = x.buffers[e.buffer].kind
        key = ("lanes", e.buffer, self.number, *e.index)
        whole = x.code.recall(key)
        if whole is None:
            pointer = self._vector(e.buffer, e.index)
            whole = x.code.value("Load", f"{kind}x{self.lanes}", pointer)
            x.code.remember(key, whole)
            x.packed = packed
            self._turn_to(n)
        return x.code.pure("CompositeExtract", kind, whole, n)

    def _turn_to(self, n: int) -> None:
        """Binds the lane variable and the buffers of lane `n`."""
        x = self.x
        x.vars[self.var] = x.arith.op("IAdd", self.kind, self.start, x.arith.const(self.kind, n)), self.kind
        for name, buffers in self.made.items():
            x.buffers[name] = buffers[n]

    def _write(self, s: Store | Accumulate) -> None:
        """All lanes evaluate and load, then all store."""
        x = self.x
        self.number = x.code.module.new()
        values, places = [], []
        free = isinstance(s, Accumulate) and s.op == "+" and self._free(s)
        together = self._together(s.buffer, s.index, s.checked)
        for n in range(self.lanes):
            with self.lane(n):
                values.append(self._value(s, free))
                places.append(None if together else x.place(s.buffer, s.index, s.checked, s.loc))
        buffer = x.buffers[s.buffer]

        def act() -> None:
            new = list(values)
            if isinstance(s, Accumulate):
                t = i32 if buffer.narrow else buffer.dtype
                for n in range(self.lanes):
                    with self.lane(n):
                        old = self._old(s, places[n], n)
                        new[n] = x.arith.binary(s.op, t, old, values[n], free=free)
                    if not together:
                        self._put(places[n], new[n])
            if together:
                kind = f"{buffer.kind}x{self.lanes}"
                whole = x.code.value("CompositeConstruct", kind, *new)
                x.code.do("Store", self._vector(s.buffer, s.index), whole)
            elif isinstance(s, Store):
                for n in range(self.lanes):
                    self._put(places[n], new[n])

        self.alone(buffer, act)

    def _value(self, s: Store | Accumulate, free: bool) -> int:
        return self.x.operand(s.value, free) if free else self._stored(self.x.buffers[s.buffer], s.value)

    def _old(self, s: Accumulate, place: tuple[Buffer, int | None] | None, n: int) -> int:
        if place is None:
            part = self._part(Load(s.buffer, s.index, s.value.dtype), n)
            assert part is not None
            return part
        return self.x.memory.load(place[0], self.x.memory.pointer(*place))

    def _put(self, place: tuple[Buffer, int | None] | None, value: int) -> None:
        assert place is not None
        self.x.memory.store(place[0], self.x.memory.pointer(*place), value)

    def _free(self, s: Accumulate) -> bool:
        return is_product(s.value)


def vector_loop(outer: Statements, s: Loop) -> bool:
    """Emits a vector loop, if it can be more than a loop."""
    lanes, count = lanes_of(s), extent(s)
    if not lanes or count is None:
        return False
    x = outer.x
    values = x.ranges.of_loop(s)
    kind = "i32" if x.narrow(s.lo) and values.fits else "i64"
    lo = x.low(s.lo) if kind == "i32" else x.emit(s.lo)
    cond, body = guarded(s)

    def every() -> int:
        """Whether the guard holds in all iterations."""
        assert cond is not None
        result = x.arith.const("bool", True)
        for n in _deciding(cond, s.var, count):
            x.vars[s.var] = x.arith.op("IAdd", kind, lo, x.arith.const(kind, n)), kind
            result = x.arith.op("LogicalAnd", "bool", result, x.emit(cond))
        return result

    def run() -> None:
        for first in range(0, count, lanes):
            start = x.arith.op("IAdd", kind, lo, x.arith.const(kind, first))
            inner = Lockstep(
                x, outer.axes, outer.block, outer.shared, outer.device,
                var=s.var, start=start, kind=kind, lanes=lanes,
            )  # fmt: skip
            x.ranges.steps[s.var] = x.ranges.gcd(x.ranges.multiple(s.lo), first)
            inner.body(body)

    def vectors() -> None:
        with outer.named(s, values):
            run()

    if cond is None:
        vectors()
        return True
    with outer.named(s, values):
        whole = every()
    outer.code.select(whole, vectors, lambda: outer.plain_loop(s, rare=True))
    return True


def _deciding(cond: Expr, var: str, count: int) -> Iterable[int]:
    """The iterations that decide whether a guard holds in all of them."""
    match cond:
        case Compare(op="<" | "<=", a=a, b=b) if _plus(a, var) and not _varies(b, var, ()):
            return (count - 1,)
        case _:
            return range(count)
