"""The interpreter's lower half: the frame, poison, buffers, and closures of expressions."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from kdsl.dtypes import DType
from kdsl.errors import KernelIndexError
from kdsl.ir import scalar_ops
from kdsl.ir.builtins import TABLE
from kdsl.ir.faults import fault, index_error, part_name
from kdsl.ir.nodes import (
    Binary,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Let,
    Load,
    Logic,
    Select,
    Unary,
    Var,
)
from kdsl.ir.races import Note, Touch, Watch
from kdsl.source import Loc

Frame = list[Any]
Eval = Callable[[Frame], Any]

PRINT = 0  # the frame's slot that holds `on_print`
RECORDER = 1  # the frame's slot that holds the `races.Recorder`


# ---------------------------------------------------------------------- poison


@dataclass(frozen=True, slots=True, eq=False)
class Poison:
    """The value of a cell that was never set. Using it as a number raises `Used`."""

    buffer: str
    made: Loc | None

    def use(self, *_: object) -> NoReturn:
        raise Used(self)


class Used(Exception):
    """A poison value was used; the statement around turns this into the error."""

    def __init__(self, poison: Poison) -> None:
        self.poison = poison


_OPERATORS = ("add", "sub", "mul", "truediv", "floordiv", "mod", "and", "or", "xor", "lshift", "rshift")
_OTHERS = (
    *("eq", "ne", "lt", "le", "gt", "ge", "neg", "pos", "invert", "abs"),
    *("bool", "int", "float", "index", "round", "floor", "ceil", "trunc"),
)
for _name in (*_OPERATORS, *(f"r{name}" for name in _OPERATORS), *_OTHERS):
    setattr(Poison, f"__{_name}__", Poison.use)


# --------------------------------------------------------------------- buffers


@dataclass(frozen=True, slots=True)
class Buffer:
    """Where a buffer lives: `array`: an ndarray in `slot`; `local`: a flat list in `slot`, of rank 0 the
    value itself. `extents` is the slot of the shape, `token` that of a number which tells it apart from all
    others, 0 when `slot` does (no other one lives there while a concurrent loop runs). `shared`: an array
    that may overlap others.
    """

    name: str
    kind: str
    slot: int
    extents: int
    rank: int
    token: int = 0
    shared: bool = False


def make(f: Frame, b: Buffer, extents: tuple[int, ...], poison: Poison) -> None:
    """A new local buffer, all poison."""
    f[b.slot] = [poison] * math.prod(extents) if b.rank else poison
    f[b.extents] = extents


def unflattened(number: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of an element, from its number in the flat list."""
    at: list[int] = []
    for extent in reversed(shape):
        number, i = divmod(number, extent)
        at.insert(0, i)
    return tuple(at)


def _noted_bytes(b: Buffer, at: Eval, note: Note) -> Eval:
    """`at`, with a note for each byte of the element: arrays of other types may lie there too."""
    slot = b.slot

    def noted(f: Frame) -> Any:
        place, array = at(f), f[slot]
        cell = (place,) if b.rank == 1 else place
        first = array.ctypes.data + sum(i * step for i, step in zip(cell, array.strides))
        for byte in range(first, first + array.itemsize):
            note(f, ("byte", byte), cell)
        return place

    return noted


def first_outside(
    name: str, at: tuple[int, ...], shape: tuple[int, ...], loc: Loc | None
) -> KernelIndexError:
    """The error for the first of the indices `at` that is outside its extent."""
    dim = next(d for d, (i, extent) in enumerate(zip(at, shape)) if not 0 <= i < extent)
    return index_error(name, dim, at[dim], shape[dim], loc)


@dataclass(slots=True)
class ExprCompiler:
    """Gives names their slots, and makes closures of expressions."""

    scope: dict[str, int | Buffer] = field(default_factory=dict)
    slots: int = RECORDER + 1
    watch: Watch = field(default_factory=lambda: Watch(RECORDER))

    def name(self, name: str) -> int:
        """A new slot for a variable."""
        self.scope[name] = slot = self.fresh()
        return slot

    def fresh(self) -> int:
        """A new slot."""
        self.slots += 1
        return self.slots - 1

    def buffer(self, name: str, kind: str, rank: int, shared: bool = False) -> Buffer:
        """New slots for a buffer."""
        self.watch.homes[name] = len(self.watch.around)
        slot, extents = self.fresh(), self.fresh()
        token = self.fresh() if self.watch.around else 0
        self.scope[name] = b = Buffer(name, kind, slot, extents, rank, token, shared)
        return b

    def slot(self, name: str) -> int:
        found = self.scope[name]
        assert isinstance(found, int), f"{name} is a buffer"
        return found

    def found(self, name: str) -> Buffer:
        found = self.scope[name]
        assert isinstance(found, Buffer), f"{name} is no buffer"
        return found

    # --------------------------------------------------------- expressions

    def expr(self, e: Expr) -> Eval:
        match e:
            case Const():
                value = e.value
                return lambda f: value
            case Var():
                return operator.itemgetter(self.slot(e.name))
            case Load():
                return self.load(e)
            case Unary():
                op1, x = scalar_ops.unary(e.op, e.dtype), self.expr(e.x)
                return lambda f: op1(x(f))
            case Binary():
                return self.binary(e)
            case Compare():
                op2, a, b = scalar_ops.COMPARE[e.op], self.expr(e.a), self.expr(e.b)
                return lambda f: op2(a(f), b(f))
            case Logic(op="and"):
                a, b = self.expr(e.a), self.expr(e.b)
                return lambda f: a(f) and b(f)
            case Logic():
                a, b = self.expr(e.a), self.expr(e.b)
                return lambda f: a(f) or b(f)
            case Select():
                cond, a, b = self.expr(e.cond), self.expr(e.a), self.expr(e.b)
                return lambda f: a(f) if cond(f) else b(f)
            case Cast():
                convert, x = scalar_ops.cast(e.x.dtype, e.type), self.expr(e.x)
                return lambda f: convert(x(f))
            case Call():
                return self.call(e)
            case Let():
                return self.let(e)
            case _:
                raise AssertionError(f"unknown expression {type(e).__name__}")

    def load(self, e: Load) -> Eval:
        b = self.found(e.buffer)
        slot = b.slot
        noted = self.watched(b, e.index, e.loc, "read", e.type)
        if b.kind == "local" and b.rank == 0:
            return operator.itemgetter(slot) if noted is None else lambda f: (noted(f), f[slot])[1]
        at = noted or self.position(b, e.index, e.loc)
        if b.kind == "local":
            return lambda f: f[slot][at(f)]
        return lambda f: f[slot].item(at(f))

    def watched(
        self, b: Buffer, index: tuple[Expr, ...], loc: Loc | None, touch: Touch, dtype: DType, op: str = ""
    ) -> Eval | None:
        """As `position`, and the touch is noted; None when nobody else can see the buffer now."""
        note = self.watch.note(b.name, touch, loc, dtype, op, index)
        if note is None:
            return None
        at = self.position(b, index, loc)
        if b.shared:
            return _noted_bytes(b, at, note)
        slot, extents, token, flat = b.slot, b.extents, b.token, b.kind == "local"

        def noted(f: Frame) -> Any:
            place = at(f)
            cell = unflattened(place, f[extents]) if flat else place if b.rank != 1 else (place,)
            note(f, (f[token] if token else slot, place), cell)
            return place

        return noted

    def position(self, b: Buffer, index: tuple[Expr, ...], loc: Loc | None) -> Eval:
        """The tested place in a buffer: an array's index, a local's number in its flat list."""
        name, extents = b.name, b.extents
        ix = [self.expr(e) for e in index]
        flat = b.kind == "local"
        if len(ix) == 1:
            (only,) = ix

            def place1(f: Frame) -> int:
                i: int = only(f)
                if not 0 <= i < f[extents][0]:
                    raise index_error(name, 0, i, f[extents][0], loc)
                return i

            return place1

        if len(ix) == 2:
            row, column = ix

            def place2(f: Frame) -> int | tuple[int, int]:
                i, j = row(f), column(f)
                m, n = f[extents]
                if 0 <= i < m and 0 <= j < n:
                    return i * n + j if flat else (i, j)
                raise first_outside(name, (i, j), (m, n), loc)

            return place2

        def place(f: Frame) -> int | tuple[int, ...]:
            at = tuple([i(f) for i in ix])
            shape = f[extents]
            number = 0
            for i, extent in zip(at, shape):
                if not 0 <= i < extent:
                    raise first_outside(name, at, shape, loc)
                number = number * extent + i
            return number if flat else at

        return place

    def binary(self, e: Binary) -> Eval:
        t = e.dtype
        op, a, b = scalar_ops.binary(e.op, t), self.expr(e.a), self.expr(e.b)
        if t.is_float or e.op not in ("//", "%"):
            return lambda f: op(a(f), b(f))
        loc = e.loc

        def divide(f: Frame) -> Any:
            x, y = a(f), b(f)
            if y == 0:
                raise fault("zero_division", loc)
            return op(x, y)

        return divide

    def call(self, e: Call) -> Eval:
        assert TABLE[e.fn].kind == "primitive", f"{e.fn} is expanded before the IR runs"
        args = [self.expr(a) for a in e.args]
        t, loc = e.args[0].dtype, e.loc
        if e.fn == "within":
            index, extent, dim = args

            def within(f: Frame) -> int:
                i: int = index(f)
                if not 0 <= i < extent(f):
                    raise index_error(part_name(loc), dim(f), i, extent(f), loc)
                return i

            return within
        if e.fn == "bitcast":
            fn: Callable[..., Any] = scalar_ops.bitcast(t, e.type)
        else:
            fn = scalar_ops.function(e.fn, t)
        if e.fn == "ipow":

            def power(f: Frame) -> Any:
                x, y = args[0](f), args[1](f)
                if y < 0:
                    raise fault("negative_power", loc, value=y)
                return fn(x, y)

            return power
        if len(args) == 1:
            (x,) = args
            return lambda f: fn(x(f))
        return lambda f: fn(*[a(f) for a in args])

    def let(self, e: Let) -> Eval:
        links = []
        body: Expr = e
        while isinstance(body, Let):
            value = self.expr(body.value)
            links.append((self.name(body.name), value))
            body = body.body
        result = self.expr(body)

        def run_let(f: Frame) -> Any:
            for slot, v in links:
                f[slot] = v(f)
            return result(f)

        return run_let
