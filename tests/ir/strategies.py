"""Random verified `Func`s: every kind of node, every dtype. They need not terminate when run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from kdsl.dtypes import ALL, DType, Size, bool_, f32, i64, u32, u64
from kdsl.ir import instructions
from kdsl.ir.builtins import TABLE
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    ArrayParam,
    Assert,
    Atomic,
    Barrier,
    Binary,
    Body,
    Break,
    Call,
    Cast,
    Compare,
    Condition,
    Const,
    Continue,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Mark,
    Options,
    Param,
    Prefetch,
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
from kdsl.ir.numbers import round_float
from kdsl.ir.verify import AXES

NAMES = (
    *("i", "j", "k", "A", "B", "acc", "x", "y", "M", "N", "T", "idx", "m"),
    # Names that mean something in the text, in another place.
    *("f32", "nan", "inf", "min", "range", "check", "store", "let", "print", "exp", "match", "é"),
)
DTYPES = st.sampled_from(ALL)
TEXTS = st.text(max_size=8)
ARITHMETIC = {"float": "+ - * / // % min max", "int": "+ - * // % & | ^ << >> min max", "bool": "& | ^ + *"}


@st.composite
def constants(draw: st.DrawFn, dtype: DType) -> Const:
    """A constant of `dtype`, edges first."""
    if dtype.kind == "bool":
        return Const(draw(st.booleans()), dtype)
    if dtype.is_int:
        edges = st.sampled_from([0, 1, dtype.min, dtype.max])
        return Const(draw(edges | st.integers(dtype.min, dtype.max)), dtype)
    edges_f = st.sampled_from([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 0.1, 1e-40, 65504.0])
    return Const(round_float(draw(edges_f | st.floats()), dtype), dtype)


class _Maker:
    """Draws nodes that are valid in the scope it keeps."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.vars: dict[str, DType] = {}
        self.buffers: dict[str, tuple[DType, int, bool]] = {}
        self.sizes: tuple[str, ...] = ()
        self.fuel = 40
        self.readable = True

    def pick(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def fresh(self) -> str:
        free = [n for n in NAMES if n not in self.vars and n not in self.buffers]
        return str(self.pick(free)) if free else f"v{len(self.vars) + len(self.buffers)}"

    # -------------------------------------------------------- expressions

    def expr(self, t: DType, depth: int = 3, shape: bool = False) -> Expr:
        """An expression of type `t`; of a `shape`, it uses sizes only."""
        self.fuel -= 1
        leaves: list[Callable[[], Expr]] = [lambda: self.draw(constants(t))]
        names = [n for n, v in self.vars.items() if v == t and (n in self.sizes or not shape)]
        if names:
            leaves += [lambda: Var(self.pick(names), t)] * 2
        cells = [n for n, (v, _, _) in self.buffers.items() if v == t]
        if cells and self.readable and not shape:
            leaves += [lambda: self.load(self.pick(cells), depth)] * 2
        if depth <= 0 or self.fuel <= 0:
            return (
                leaves[self.draw(st.integers(0, len(leaves) - 1))]()
                if depth >= 0
                else self.draw(constants(t))
            )

        def sub(of: DType) -> Expr:
            return self.expr(of, depth - 1, shape)

        def binary() -> Expr:
            family = "float" if t.is_float else "int" if t.is_int else "bool"
            return Binary(self.pick(ARITHMETIC[family].split()), sub(t), sub(t))

        def cast() -> Expr:
            return Cast(sub(self.draw(DTYPES)), t)

        def select() -> Expr:
            return Select(sub(bool_), sub(t), sub(t))

        def let() -> Expr:
            name, of = self.fresh(), self.draw(DTYPES)
            value = sub(of)
            if name in self.vars or name in self.buffers:
                return value if of == t else Cast(value, t)
            self.vars[name] = of
            body = sub(t)
            del self.vars[name]
            return Let(name, value, body)

        inner = [binary, binary, cast, select, let]
        if t.is_float or t.is_int:
            inner.append(lambda: Unary("-", sub(t)))
            inner.append(lambda: self.call(t, sub))
        if t.is_int:
            inner.append(lambda: Unary("~", sub(t)))
        if t == bool_:
            inner += [lambda: Logic(self.pick(["and", "or"]), sub(bool_), sub(bool_))] * 2
            inner += [lambda: Unary("not", sub(bool_)), lambda: self.compare(sub), lambda: self.compare(sub)]
            inner.append(lambda: self.test(sub))
        every = leaves + inner
        return every[self.draw(st.integers(0, len(every) - 1))]()

    def compare(self, sub: Callable[[DType], Expr]) -> Expr:
        of = self.draw(DTYPES)
        return Compare(self.pick(["==", "!=", "<", "<=", ">", ">="]), sub(of), sub(of))

    def test(self, sub: Callable[[DType], Expr]) -> Expr:
        of = self.pick(t for t in ALL if t.is_float)
        return Call(self.pick(["isnan", "isinf", "isfinite"]), (sub(of),), bool_)

    def call(self, t: DType, sub: Callable[[DType], Expr]) -> Expr:
        fits = [r for r in TABLE.values() if r.rule == "number" and (t.is_int or r.name != "ipow")]
        if t.is_float:
            fits += [r for r in TABLE.values() if r.rule == "float"]
        fits.append(TABLE["bitcast"])
        if t in (u32, f32):
            fits.append(TABLE["random_bits" if t == u32 else "uniform"])
        row = self.pick(fits)
        if row.name == "bitcast":
            same = [s for s in ALL if s.bits == t.bits and s != bool_]
            return Call("bitcast", (sub(self.pick(same)),), t)
        of = u64 if row.rule == "any" else t
        return Call(row.name, tuple(sub(of) for _ in range(row.arity)), t)

    def load(self, name: str, depth: int) -> Load:
        dtype, rank, _ = self.buffers[name]
        return Load(name, self.index(rank, depth - 1), dtype, self.checked(rank))

    def index(self, rank: int, depth: int = 1) -> tuple[Expr, ...]:
        return tuple(self.expr(i64, min(depth, 1)) for _ in range(rank))

    def checked(self, rank: int) -> tuple[int, ...]:
        return tuple(d for d in range(rank) if self.draw(st.booleans()))

    # --------------------------------------------------------- statements

    def body(self, depth: int, in_loop: bool) -> Body:
        outer = dict(self.buffers)
        body = [self.stmt(depth, in_loop) for _ in range(self.draw(st.integers(0, 3)))]
        self.buffers = outer
        return tuple(body)

    def stmt(self, depth: int, in_loop: bool) -> Stmt:
        self.fuel = 12
        writable = [n for n, (_, _, w) in self.buffers.items() if w]
        kinds: list[Callable[[], Stmt]] = [
            self.alloc,
            lambda: Assert(self.expr(bool_), self.draw(TEXTS)),
            self.print,
            lambda: Return(),
            lambda: Barrier(),
        ]
        arrays = [n for n, (_, rank, _) in self.buffers.items() if rank]
        if arrays:
            kinds.append(lambda: self.prefetch(self.pick(arrays)))
        if writable:
            kinds += [lambda: self.write(self.pick(writable))] * 5
        if in_loop:
            kinds += [lambda: Break(), lambda: Continue()]
        if depth > 0:
            kinds += [lambda: self.loop(depth)] * 2
            kinds += [lambda: While(self.expr(bool_), self.body(depth - 1, True))]
            kinds += [
                lambda: If(self.expr(bool_), self.body(depth - 1, in_loop), self.body(depth - 1, in_loop))
            ] * 2
        return kinds[self.draw(st.integers(0, len(kinds) - 1))]()

    def alloc(self) -> Alloc:
        name, dtype = self.fresh(), self.draw(DTYPES)
        shape = tuple(self.expr(i64, 2, shape=True) for _ in range(self.draw(st.integers(0, 2))))
        self.buffers[name] = dtype, len(shape), True
        return Alloc(name, dtype, shape, self.pick(["auto", "auto", "register", "local", "shared"]))

    def prefetch(self, name: str) -> Prefetch:
        readable, self.readable = self.readable, False
        index = self.index(self.buffers[name][1])
        self.readable = readable
        return Prefetch(name, index)

    def print(self) -> Print:
        items = [
            self.draw(TEXTS) if self.draw(st.booleans()) else self.expr(self.draw(DTYPES), 1)
            for _ in range(self.draw(st.integers(0, 3)))
        ]
        return Print(tuple(items), self.draw(st.just(" ") | TEXTS), self.draw(st.just("\n") | TEXTS))

    def write(self, name: str) -> Stmt:
        dtype, rank, _ = self.buffers[name]
        value, index, checked = self.expr(dtype), self.index(rank), self.checked(rank)
        kinds: list[Callable[[], Stmt]] = [lambda: Store(name, index, value, checked)] * 2
        ops = ["+", "*"] if dtype == bool_ else ["+", "*", "min", "max"]
        together = self.draw(st.booleans())
        kinds.append(lambda: Accumulate(self.pick(ops), name, index, value, checked, together))
        if dtype != bool_:
            cell = Load(name, index, dtype, checked)
            like = Binary(self.pick(["min", "max"]), cell, value)
            kinds.append(lambda: Store(name, index, like, checked))
            cells = [n for n, (t, r, w) in self.buffers.items() if (t, r, w) == (dtype, 0, True)]
            old = self.pick(["", *cells])
            kinds.append(lambda: Atomic(self.pick(["+", "min", "max"]), name, index, value, old, checked))
        return kinds[self.draw(st.integers(0, len(kinds) - 1))]()

    def loop(self, depth: int) -> Loop:
        lo, hi, step = self.expr(i64, 1), self.expr(i64, 2), self.expr(i64, 1)
        if self.draw(st.booleans()):
            lo, step = Const(0, i64), Const(1, i64)
        kind = self.pick([None, None, "unroll", "vectorize", "parallel", "bind", "tensorize"])
        axis = self.pick(AXES) if kind == "bind" else ""
        done_by = instructions.find("dot4_u8s8") if kind == "tensorize" else None
        mark = Mark(kind, axis, self.draw(st.booleans()), done_by) if kind else None
        var = self.fresh()
        self.vars[var] = i64
        body = self.body(depth - 1, True)
        del self.vars[var]
        return Loop(var, lo, hi, step, body, mark)

    # ------------------------------------------------------------- header

    def condition(self) -> Condition:
        """Reads no buffer."""
        arrays, self.readable = self.readable, False
        expr = self.expr(bool_, 2)
        self.readable = arrays
        return Condition(expr, self.draw(TEXTS))

    def param(self, result: bool) -> Param:
        name, dtype = self.fresh(), self.draw(DTYPES)
        if not result and self.draw(st.integers(0, 3)) == 0:
            self.vars[name] = dtype
            return ScalarParam(name, dtype)
        shape = tuple(self.size() for _ in range(self.draw(st.integers(0, 2))))
        written = result or self.draw(st.booleans())
        self.buffers[name] = dtype, len(shape), written
        return ArrayParam(name, dtype, shape, self.draw(st.booleans()), written, result)

    def size(self) -> Size:
        small = st.integers(-3, 3)
        terms = {s: self.draw(small) for s in self.sizes if self.draw(st.booleans())}
        return Size(terms, self.draw(small))

    def func(self) -> Func:
        self.sizes = tuple(self.draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True)))
        self.vars = dict.fromkeys(self.sizes, i64)
        params = [self.param(False) for _ in range(self.draw(st.integers(0, 3)))]
        params += [self.param(True) for _ in range(self.draw(st.integers(0, 1)))]
        self.fuel = 20
        conditions = tuple(self.condition() for _ in range(self.draw(st.integers(0, 2))))
        arrays = [p.name for p in params if isinstance(p, ArrayParam)]
        flags = [self.draw(st.integers(0, 4)) == 0 for _ in range(3)]
        aliases = tuple(self.draw(st.lists(st.sampled_from(arrays), max_size=2))) if arrays else ()
        body = self.body(3, False)
        return Func("kernel", tuple(params), body, self.sizes, conditions, Options(*flags, aliases))


@st.composite
def funcs(draw: st.DrawFn) -> Func:
    """A verified `Func`."""
    return _Maker(draw).func()
