"""Running a `Func` made by hand: compiled, and by the interpreter; short names for its nodes."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdsl.backends import llvm
from kdsl.backends.base import FrameLayout, Site
from kdsl.backends.llvm.symbols import address_of
from kdsl.dtypes import ALL, DType, Size, i64
from kdsl.ir import interpreter
from kdsl.ir.nodes import (
    Accumulate,
    ArrayParam,
    Binary,
    Body,
    Const,
    Expr,
    Func,
    Load,
    Loop,
    Store,
    Var,
)
from kdsl.target import Target

N = Size({"N": 1})
INTS = tuple(t for t in ALL if t.is_int)
FLOATS = tuple(t for t in ALL if t.is_float)


def const(value: bool | int | float, t: DType = i64) -> Const:
    return Const(value, t)


def var(name: str) -> Var:
    return Var(name, i64)


def loop(name: str, hi: Expr | int, *body: Any, lo: int = 0, step: int = 1) -> Loop:
    end = const(hi) if isinstance(hi, int) else hi
    return Loop(name, const(lo), end, const(step), tuple(body))


def add(a: Expr, b: Expr) -> Binary:
    return Binary("+", a, b)


def mul(a: Expr, b: Expr) -> Binary:
    return Binary("*", a, b)


def array(name: str, t: DType, *shape: Size | int, **options: Any) -> ArrayParam:
    return ArrayParam(name, t, tuple(s if isinstance(s, Size) else Size({}, s) for s in shape), **options)


def at(name: str, t: DType, *index: Expr, checked: tuple[int, ...] = ()) -> Load:
    return Load(name, tuple(index), t, checked)


def put(name: str, value: Expr, *index: Expr, checked: tuple[int, ...] = ()) -> Store:
    return Store(name, tuple(index), value, checked)


def accumulate(op: Any, name: str, value: Expr, *index: Expr, checked: tuple[int, ...] = ()) -> Accumulate:
    return Accumulate(op, name, tuple(index), value, checked)


def elementwise(name: str, inputs: Mapping[str, DType], outputs: Mapping[str, Expr], **options: Any) -> Func:
    """`for i in range(N): out[i] = ...` for each output; inputs are `at(name, t, var("i"))`."""
    params = [array(n, t, N) for n, t in inputs.items()]
    params += [array(n, e.dtype, N, written=True) for n, e in outputs.items()]
    body: Body = (loop("i", var("N"), *[put(n, e, var("i")) for n, e in outputs.items()]),)
    return Func(name, tuple(params), body, ("N",), **options)


class Table:
    """A run-time table whose stop word can be set."""

    def __init__(self, executable: Any, poll: int | None = None, pool: int = 0) -> None:
        self.word = ctypes.c_uint32(0)
        self.printed: list[tuple[int, bytes]] = []
        self._print = lambda site, n, at: self.printed.append((site, ctypes.string_at(at, 8 * n)))
        self._wake = [].clear  # a C function, as the run time promises
        self.slots = (ctypes.c_size_t * 7)(
            ctypes.addressof(self.word),
            poll or executable.poll_address,
            id(self._print),
            address_of("aligned_alloc"),
            address_of("free"),
            id(self._wake),
            pool,
        )
        self.address = ctypes.addressof(self.slots)


@dataclass
class Outcome:
    """What a run gave: the code, and the index and extent of a fault."""

    code: int
    index: int
    extent: int
    sites: tuple[Site, ...]
    table: Table

    @property
    def site(self) -> Site:
        return self.sites[self.code - 1]


def fill(func: Func, table: Table, arguments: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
    """The frame of a call."""
    layout = FrameLayout.of(func)
    frame = (ctypes.c_int64 * layout.slots)()
    frame[2] = table.address
    for p, slot in zip(func.params, layout.params):
        value = arguments[p.name]
        if isinstance(p, ArrayParam):
            frame[slot] = value.ctypes.data
            if not p.contiguous:
                frame[slot + 1 : slot + 1 + value.ndim] = value.strides
        else:
            frame[slot] = int.from_bytes(np.asarray(value, p.dtype.np).tobytes(), "little")
    for name, slot in zip(func.sizes, layout.sizes):
        frame[slot] = sizes[name]
    return frame


def build(func: Func, target: Target | None = None) -> Any:
    return llvm.load(llvm.compile(func, target or llvm.host_target()))


def run(
    func: Func,
    arguments: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
    *,
    target: Target | None = None,
    executable: Any = None,
) -> Outcome:
    """Compiles (unless given) and runs on the arrays, in place."""
    executable = executable or build(func, target)
    table = Table(executable)
    frame = fill(func, table, arguments, sizes or {})
    code = executable.run(ctypes.addressof(frame))
    return Outcome(code, frame[0], frame[1], executable.artifact.sites, table)


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    """Equal bit for bit, but all NaN are one."""
    if a.dtype.kind in "fV" or a.dtype.name == "bfloat16":
        with np.errstate(all="ignore"):
            nan = np.isnan(a)
        if not np.array_equal(nan, np.isnan(b)):
            return False
        return a[~nan].tobytes() == b[~nan].tobytes()
    return a.tobytes() == b.tobytes()


def agree(
    func: Func,
    arguments: Mapping[str, Any],
    sizes: Mapping[str, int],
    target: Target | None = None,
    *,
    executable: Any = None,
) -> None:
    """Asserts that compiled code (or an executable made of it before) writes what the interpreter writes.

    Lanes may meet: a vector loop then is one in program order.
    """
    mine = {n: np.array(v) if isinstance(v, np.ndarray) else v for n, v in arguments.items()}
    arrays = {n: np.array(v) for n, v in arguments.items() if isinstance(v, np.ndarray)}
    scalars = {n: v for n, v in arguments.items() if not isinstance(v, np.ndarray)}
    with np.errstate(all="ignore"):
        interpreter.run(func, arrays, scalars, sizes, races=False)
    outcome = run(func, mine, sizes, target=target, executable=executable)
    assert outcome.code == 0, outcome
    for p in func.arrays:
        if not same_bits(mine[p.name], arrays[p.name]):
            wrong = [
                (
                    i,
                    mine[p.name].flat[i],
                    arrays[p.name].flat[i],
                    {n: v.flat[i] for n, v in arrays.items() if v.size > i},
                )
                for i in range(mine[p.name].size)
                if not same_bits(mine[p.name].reshape(-1)[i : i + 1], arrays[p.name].reshape(-1)[i : i + 1])
            ]
            raise AssertionError(f"{func.name}: {p.name}: (place, compiled, interpreted, all) {wrong[:5]}")


def edge_values(t: DType) -> np.ndarray[Any, Any]:
    """Values of `t` at which mistakes show, and some ordinary ones."""
    rng = np.random.default_rng(7)
    if t.kind == "bool":
        return np.array([False, True])
    if t.is_int:
        special = {
            t.min,
            t.min + 1,
            t.max,
            t.max - 1,
            0,
            1,
            2,
            3,
            7,
            t.bits - 1,
            t.bits,
            t.bits + 1,
            t.max // 2,
        }
        if t.kind == "int":
            special |= {-1, -2, -3, -7, -t.bits}
        ordinary = rng.integers(t.min, t.max, 12, dtype=t.np, endpoint=True).tolist()
        return np.array(
            sorted(special & set(range(t.min, t.max + 1)) if t.bits == 8 else special) + ordinary, t.np
        )
    big = {"f16": 65504.0, "bf16": 3.3895314e38, "f32": 3.4028235e38, "f64": 1.7976931348623157e308}[t.name]
    tiny = {"f16": 2.0**-24, "bf16": 2.0**-133, "f32": 2.0**-149, "f64": 5e-324}[t.name]
    normal = {"f16": 2.0**-14, "bf16": 2.0**-126, "f32": 2.0**-126, "f64": 2.2250738585072014e-308}[t.name]
    special = [
        0.0,
        1.0,
        0.5,
        1.5,
        2.5,
        3.0,
        0.1,
        127.7,
        255.9,
        32768.0,
        big,
        tiny,
        normal,
        7 * tiny,
        np.inf,
        2.0**31,
    ]
    values = [*special, *[-x for x in special], np.nan, *(rng.standard_normal(12) * 10).tolist()]
    with np.errstate(all="ignore"):
        return np.array(values).astype(t.np)


def pairs(
    a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """All pairs of elements."""
    return np.repeat(a, b.size), np.tile(b, a.size)
