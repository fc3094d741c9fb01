"""Expressions: each `emit` appends what computes a value and gives its id; `low` gives an i64's low 32 bits.

    A[i * 64 + j]                   IMul, IAdd in 32 bits: an index lies inside, and wraps to itself
    i < N                           SLessThan in 32 bits, for intervals say that both fit (`narrow`)
    n // d   (both unbounded)       in 64 bits: asks for shaderInt64

`a if c else b`, `and`, `or` are branches with a phi when the operand that may not run could touch memory that
the program would not touch, or fault, and a plain `Select` otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kdsl.analysis.evaluated import nonzero, unconditional_loads
from kdsl.backends.base import FaultKind
from kdsl.backends.spirv.arith import Arith, kind_of
from kdsl.backends.spirv.faults import Number, SiteTable, State
from kdsl.backends.spirv.memory import Buffer, Memory
from kdsl.backends.spirv.module import Code
from kdsl.backends.spirv.narrow import Ranges
from kdsl.dtypes import DType, i32, i64
from kdsl.ir.faults import part_name
from kdsl.ir.nodes import Binary, Call, Cast, Compare, Const, Expr, Let, Load, Logic, Select, Unary, Var
from kdsl.ir.walk import expr_children
from kdsl.source import Loc

_LOW = ("+", "-", "*", "&", "|", "^")
"""Operators whose low bits depend on the low bits of their operands alone."""


@dataclass(slots=True)
class Expressions:
    """Emits expressions into `code`. `vars` gives id and type of names in scope; an i64's may be "i32".

    `state` holds the invocation's fault; None: nothing can fault here. `packed` gives the value of a load
    that was done together with others. `zero`: an i32 that is 0, which the driver does not know.
    """

    code: Code
    arith: Arith
    memory: Memory
    ranges: Ranges
    sites: SiteTable
    state: State | None = None
    vars: dict[str, tuple[int, str]] = field(default_factory=dict)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    packed: Callable[[Load], int | None] | None = None
    zero: int | None = None

    # -- values

    def emit(self, e: Expr) -> int:
        """The value of `e`, as `kind_of` its dtype."""
        if e.dtype == i64:
            return self._wide(e)
        match e:
            case Const():
                return self._constant(e)
            case Var():
                return self.vars[e.name][0]
            case Load():
                part = self.packed(e) if self.packed is not None else None
                return self._load(e) if part is None else part
            case Unary():
                return self.arith.unary(e.op, e.dtype, self.emit(e.x))
            case Binary():
                return self._binary(e)
            case Compare():
                return self._compare(e)
            case Logic():
                return self._logic(e)
            case Select():
                return self._select(e, kind_of(e.dtype), self.emit)
            case Cast():
                return self._cast(e)
            case Call():
                return self._call(e)
            case Let():
                return self._let(e, self.emit)
        raise AssertionError(f"unknown expression {type(e).__name__}")

    def _constant(self, e: Const) -> int:
        """A literal. A zero of floats is one that the driver does not know, where it makes too much of it."""
        a, kind = self.arith, kind_of(e.type)
        plain = a.const(kind, e.value)
        if self.zero is None or not e.type.is_float or e.value != 0.0:
            return plain
        whole = f"i{kind[1:]}"
        bits = a.const(whole, 0 if math.copysign(1.0, e.value) > 0 else 1 << (int(kind[1:]) - 1))
        unknown = self.zero if kind == "f32" else a.widened(self.zero, signed=False)
        return a.op("Bitcast", kind, a.op("BitwiseOr", whole, unknown, bits))

    def _compared(self, e: Expr) -> int:
        """An operand that is compared only."""
        return self.arith.const(kind_of(e.type), e.value) if isinstance(e, Const) else self.emit(e)

    def narrow(self, e: Expr) -> bool:
        """Whether an i64 is a number of 32 bits, and made without any of 64."""
        if not self.ranges.fits(e):
            return False
        match e:
            case Const():
                return True
            case Var():
                return self.vars[e.name][1] == "i32"
            case Load():
                return self.buffers[e.buffer].narrow
            case Binary(op="//" | "%" | ">>" | "min" | "max"):
                return self.narrow(e.a) and self.narrow(e.b)
            case Binary(op="<<"):
                return isinstance(e.b, Const) and self.narrow(e.a)
            case Unary() | Binary():
                return all(map(self.narrow, expr_children(e)))
            case Select():
                return self.narrow(e.a) and self.narrow(e.b)
            case Let():
                return False
            case Cast():
                return e.x.dtype.bits < 64 and not e.x.dtype.is_float
            case Call(fn="within"):
                return self.narrow(e.args[0])
            case Call(fn="abs" | "minimum" | "maximum"):
                return all(map(self.narrow, e.args))
            case _:
                return False

    def number(self, e: Expr) -> Number:
        """An i64 in the shorter of its forms."""
        return (self.low(e), "i32") if self.narrow(e) else (self._wide(e), "i64")

    def low(self, e: Expr) -> int:
        """The low 32 bits of an i64."""
        a = self.arith
        match e:
            case Const():
                return a.const("i32", int(e.value))
            case Var():
                id, kind = self.vars[e.name]
                return id if kind == "i32" else a.narrowed(id)
            case Unary():
                return a.unary(e.op, i32, self.low(e.x))
            case Binary(op=op) if op in _LOW:
                return a.binary(op, i32, self.low(e.a), self.low(e.b))
            case Binary(op="<<", b=Const(value=n)):
                return a.binary("<<", i32, self.low(e.a), a.const("i32", n if 0 <= n < 32 else 32))
            case Binary() if self._operands_narrow(e):
                return self._divided(e, i32, self.low(e.a), self.low(e.b))
            case Load() if self.buffers[e.buffer].narrow:
                return self._load(e)
            case Select():
                return self._select(e, "i32", self.low)
            case Let():
                return self._let(e, self.low)
            case Cast() if e.x.dtype.kind == "bool" or (e.x.dtype.is_int and e.x.dtype.bits < 64):
                x = self.emit(e.x)
                return a.cast(x, e.x.dtype, i32) if e.x.dtype.kind == "bool" else x
            case Call(fn="within"):
                value, kind = self._within(e)
                return value if kind == "i32" else a.narrowed(value)
            case Call(fn="abs" | "minimum" | "maximum") if all(map(self.narrow, e.args)):
                return a.call(e.fn, i32, [self.low(x) for x in e.args], i32)
            case _:
                return a.narrowed(self._wide(e))

    def _operands_narrow(self, e: Binary) -> bool:
        return e.op in ("//", "%", ">>", "min", "max") and self.narrow(e.a) and self.narrow(e.b)

    def _wide(self, e: Expr) -> int:
        """An i64 in 64 bits."""
        a = self.arith
        if not isinstance(e, (Const, Load)) and self.narrow(e):
            return a.widened(self.low(e), signed=True)
        match e:
            case Const():
                return a.const("i64", e.value)
            case Var():
                id, kind = self.vars[e.name]
                return id if kind == "i64" else a.widened(id, signed=True)
            case Load():
                value = self._load(e)
                return a.widened(value, signed=True) if self.buffers[e.buffer].narrow else value
            case Unary():
                return a.unary(e.op, i64, self._wide(e.x))
            case Binary():
                return self._binary(e)
            case Select():
                return self._select(e, "i64", self._wide)
            case Let():
                return self._let(e, self._wide)
            case Cast():
                return self._cast(e)
            case Call(fn="within"):
                value, kind = self._within(e)
                return value if kind == "i64" else a.widened(value, signed=True)
            case Call():
                return self._call(e)
        raise AssertionError(f"unknown expression {type(e).__name__}")

    # -- places and faults

    def _load(self, e: Load) -> int:
        buffer, at = self.place(e.buffer, e.index, e.checked, e.loc)
        return self.memory.load(buffer, self.memory.pointer(buffer, at))

    def place(
        self, name: str, index: tuple[Expr, ...], checked: tuple[int, ...], loc: Loc | None
    ) -> tuple[Buffer, int | None]:
        """The buffer and the number of the element `index` in it (None: rank 0), after its tests."""
        buffer = self.buffers[name]
        if not index:
            return buffer, None
        a = self.arith
        at = a.const("i32", 0)
        inside = []
        for dim, i in enumerate(index):
            if dim in checked:
                low, ok = self._tested(buffer, dim, i, loc)
                inside.append(ok)
            else:
                low = self.low(i)
            if dim:
                at = a.op("IMul", "i32", at, self.low(buffer.shape[dim]))
            at = a.op("IAdd", "i32", at, low)
        for ok in inside:
            at = a.pick("i32", ok, at, a.const("i32", 0))
        return buffer, at

    def _tested(self, buffer: Buffer, dim: int, i: Expr, loc: Loc | None) -> tuple[int, int]:
        """The low bits of an index, and whether it lies inside."""
        value, size, kind = self._pair(i, buffer.shape[dim])
        ok = self.arith.op("ULessThan", "bool", value, size)
        self.check(ok, "index", buffer.name, dim, loc, (value, kind), (size, kind))
        return value if kind == "i32" else self.arith.narrowed(value), ok

    def _pair(self, x: Expr, y: Expr) -> tuple[int, int, str]:
        """Two i64 in the same of their forms."""
        if self.narrow(x) and self.narrow(y):
            return self.low(x), self.low(y), "i32"
        return self._wide(x), self._wide(y), "i64"

    def check(
        self,
        ok: int,
        kind: FaultKind,
        text: str,
        dim: int,
        loc: Loc | None,
        value: Number | None = None,
        extent: Number | None = None,
    ) -> None:
        """A fault unless `ok`."""
        assert self.state is not None, "faults were looked for before"
        self.state.note(self.code, ok, self.sites.number(kind, text, dim, loc), value, extent)

    def _within(self, e: Call) -> Number:
        """The index, after the test that it lies inside; else 0."""
        index, extent, dim = e.args
        assert isinstance(dim, Const)
        a = self.arith
        value, size, kind = self._pair(index, extent)
        t = i32 if kind == "i32" else i64
        start = a.compare(">=", t, value, a.const(kind, 0))
        ok = a.op("LogicalAnd", "bool", start, a.compare("<", t, value, size))
        self.check(ok, "index", part_name(e.loc), int(dim.value), e.loc, (value, kind), (size, kind))
        return a.pick(kind, ok, value, a.const(kind, 0)), kind

    # -- operators

    def _binary(self, e: Binary) -> int:
        t = e.dtype
        free = t.is_float and e.op in ("+", "-") and (is_product(e.a) or is_product(e.b))
        x = self.operand(e.a, free)
        y = self.operand(e.b, free)
        if t.is_float:
            return self.arith.binary(e.op, t, x, y, free=free)
        return self._divided(e, t, x, y)

    def operand(self, e: Expr, free: bool) -> int:
        """An operand; a product of a sum that may be contracted is free as well."""
        if free and is_product(e):
            assert isinstance(e, Binary)
            return self.arith.binary("*", e.dtype, self.emit(e.a), self.emit(e.b), free=True)
        return self.emit(e)

    def _divided(self, e: Binary, t: DType, x: int, y: int) -> int:
        """An operator on integers of type `t`, after the test of a divisor."""
        a = self.arith
        if e.op in ("//", "%") and t.is_int:
            base = kind_of(t)
            if not nonzero(e.b):
                ok = a.compare("!=", t, y, a.const(base, 0))
                self.check(ok, "zero_division", "", 0, e.loc)
                y = a.pick(base, ok, y, a.const(base, 1))
            elif e.dtype == i64 and self.ranges.of(e.a).lo >= 0 and self.ranges.of(e.b).lo > 0:
                return a.divide_positive(e.op, base, x, y)
        return a.binary(e.op, t, x, y)

    def _compare(self, e: Compare) -> int:
        t = e.a.dtype
        if t == i64 and self.narrow(e.a) and self.narrow(e.b):
            return self.arith.compare(e.op, i32, self.low(e.a), self.low(e.b))
        return self.arith.compare(e.op, t, self._compared(e.a), self._compared(e.b))

    def _cast(self, e: Cast) -> int:
        a, t = self.arith, e.type
        if e.x.dtype == i64:
            if t.is_int and t.bits <= 32:
                return a.wrapped(t, self.low(e.x))
            if self.narrow(e.x) and t.name != "bf16":
                return a.cast(self.low(e.x), i32, t)
        return a.cast(self.emit(e.x), e.x.dtype, t)

    def _call(self, e: Call) -> int:
        t = e.args[0].dtype
        args = [self.emit(x) for x in e.args]
        if e.fn == "ipow" and t.kind == "int" and not _not_negative(e.args[1]):
            base = kind_of(t)
            ok = self.arith.compare(">=", t, args[1], self.arith.const(base, 0))
            self.check(ok, "negative_power", "", 0, e.loc, (args[1], base))
            args[1] = self.arith.pick(base, ok, args[1], self.arith.const(base, 0))
        return self.arith.call(e.fn, t, args, e.type)

    def _let(self, e: Let, emit: Callable[[Expr], int]) -> int:
        """Inlined functions keep their order of operations, and are never contracted."""
        with self._exact():
            before = self.ranges.vars.get(e.name)
            if e.value.dtype == i64:
                self.vars[e.name] = self.number(e.value)
                self.ranges.vars[e.name] = self.ranges.of(e.value)
            else:
                self.vars[e.name] = self.emit(e.value), kind_of(e.value.dtype)
            result = emit(e.body)
        del self.vars[e.name]
        self.ranges.vars.pop(e.name, None)
        if before is not None:
            self.ranges.vars[e.name] = before
        return result

    @contextmanager
    def _exact(self) -> Iterator[None]:
        contract, fastmath = self.arith.contract, self.arith.fastmath
        self.arith.contract = self.arith.fastmath = False
        yield
        self.arith.contract, self.arith.fastmath = contract, fastmath

    # -- what is not always run

    def _logic(self, e: Logic) -> int:
        x = self.emit(e.a)
        if self._anyway(e.b, unconditional_loads(e.a)):
            op = "LogicalAnd" if e.op == "and" else "LogicalOr"
            return self.code.pure(op, "bool", x, self.emit(e.b))
        known = self.arith.const("bool", e.op == "or")
        if e.op == "and":
            return self.code.choose(x, "bool", lambda: self.emit(e.b), lambda: known)
        return self.code.choose(x, "bool", lambda: known, lambda: self.emit(e.b))

    def _select(self, e: Select, kind: str, emit: Callable[[Expr], int]) -> int:
        cond = self.emit(e.cond)
        known = unconditional_loads(e.cond)
        if self._anyway(e.a, known) and self._anyway(e.b, known):
            return self.arith.pick(kind, cond, emit(e.a), emit(e.b))
        return self.code.choose(cond, kind, lambda: emit(e.a), lambda: emit(e.b))

    def _anyway(self, e: Expr, known: frozenset[Load]) -> bool:
        """Whether `e` may be computed where the program would not: it cannot fault and is cheap.

        A load may only when it reads a local scalar or the very element that is read in any case.
        """
        match e:
            case Load():
                return e in known or (not e.index and self.buffers[e.buffer].private)
            case Binary() if e.op in ("//", "%"):
                if e.dtype.is_float or not nonzero(e.b):
                    return False
            case Call() if e.fn in ("ipow", "fmod", "within", "fma"):
                return False
        return all(self._anyway(c, known) for c in expr_children(e))


def is_product(e: Expr) -> bool:
    """Whether a float is a product, which may be contracted with a sum around it."""
    return isinstance(e, Binary) and e.op == "*" and e.dtype.is_float


def _not_negative(e: Expr) -> bool:
    return isinstance(e, Const) and e.value >= 0


def can_fault(e: Expr) -> bool:
    """Whether evaluating `e` itself, not its operands, tests something."""
    match e:
        case Load():
            return bool(e.checked)
        case Binary(op="//" | "%"):
            return e.dtype.is_int and not nonzero(e.b)
        case Call(fn="within"):
            return True
        case Call(fn="ipow"):
            return e.dtype.kind == "int" and not _not_negative(e.args[1])
        case _:
            return False
