"""Odd arguments: `ArgumentError` with nothing written, or the same result as NumPy.

Each call puts good arguments, and now and then odd ones, into kernels whose results are known; odd ones are
of the wrong type, rank, size, order, alignment or kind of object. Two rows of guards around every buffer that
the script owns show a write outside of it.
"""

from __future__ import annotations

import copy
import ctypes
import decimal
import fractions
import random
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import kdsl
from kdsl import f32, f64, i32, u8
from kdsl.errors import ArgumentError, KdslError
from tests.stress.driver import Run, main

M, N = kdsl.sizes("M N")
T = kdsl.typevar("T", f32, f64, i32)


@kdsl.kernel
def axpy(a: f64, X: f64[N], Y: f64[N]):
    for i in range(N):
        Y[i] += a * X[i]


@kdsl.kernel
def rows(A: T[M, N], total: T[M]):
    for i in range(M):
        for j in range(N):
            total[i] += A[i, j]


@kdsl.kernel
def untyped(x, n, out):
    for i in range(len(out)):
        out[i] = x[i] * n


@kdsl.kernel
def shifted(X: f32[N + 1], by: u8, Y: f32[N]):
    for i in range(N):
        Y[i] = X[i + 1] + by


@kdsl.kernel
def total(X: f64[N], scale: f64 = 1.0) -> f64:
    out = 0.0
    for i in range(N):
        out += X[i] * scale
    return out


class Sub(np.ndarray):
    """A subclass of ndarray."""


class Interface:
    """Only `__array_interface__`, sound or not."""

    def __init__(self, a: Any, **changes: Any) -> None:
        self.kept = a
        self.__array_interface__ = {**a.__array_interface__, **changes}


class Raising:
    """An object whose protocols fail."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __dlpack__(self, **kwargs: Any) -> Any:
        raise self.error("not today")

    def __dlpack_device__(self) -> Any:
        raise self.error("not today")

    def __index__(self) -> int:
        raise self.error("not today")


class Capsule:
    """Speaks DLPack through NumPy, or answers nonsense."""

    def __init__(self, a: Any, answer: Any = None) -> None:
        self.a, self.answer = a, answer

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self.a.__dlpack__(**kwargs) if self.answer is None else self.answer

    def __dlpack_device__(self) -> Any:
        return (1, 0)


def _readonly(a: Any) -> Any:
    a = a.copy()
    a.flags.writeable = False
    return a


def _memmap(a: Any) -> Any:
    with tempfile.NamedTemporaryFile() as file:
        out = np.memmap(file.name, dtype=a.dtype, mode="w+", shape=a.shape or (1,))
        out[...] = a
        return out


def _unaligned(a: Any) -> Any:
    raw = np.zeros(a.nbytes + 1, np.uint8)
    out = np.frombuffer(raw.data, a.dtype, a.size, offset=1).reshape(a.shape)
    out[...] = a
    return out


FORMS: tuple[Callable[[Any], Any], ...] = (
    lambda a: a[::-1].copy()[::-1] if a.ndim else a,
    lambda a: np.repeat(a, 2, 0)[::2] if a.ndim else a,
    np.asfortranarray,
    _readonly,
    _memmap,
    lambda a: a.view(Sub),
    Interface,
    Capsule,
    memoryview,
    lambda a: np.broadcast_to(a[:1], a.shape) if a.ndim and len(a) else a,
    lambda a: np.asmatrix(a) if a.ndim == 2 else a,
    lambda a: np.rec.array(a),
)
"""The same values in another form: right result or ArgumentError."""

WRONG: tuple[Callable[[Any], Any], ...] = (
    lambda a: a.tolist(),
    lambda a: None,
    lambda a: a.astype(np.complex128),
    lambda a: a.astype(object),
    lambda a: a.astype("S4"),
    lambda a: a.astype(a.dtype.newbyteorder()),
    lambda a: a.astype(np.float16),
    lambda a: a.astype(np.longdouble),
    lambda a: a[None],
    lambda a: a[0] if a.ndim else a,
    lambda a: a[:-1] if a.ndim and len(a) else a,
    lambda a: np.ma.masked_array(a, a > 0),
    _unaligned,
    lambda a: np.zeros(a.shape, [("x", "f8"), ("y", "i4")]),
    lambda a: np.array("2026-01-01", "M8[s]"),
    lambda a: a.tobytes(),
    lambda a: iter([]),
    lambda a: Interface(a, shape=(-1,)),
    lambda a: Interface(a, typestr="|V3"),
    lambda a: Interface(a, shape="x"),
    lambda a: Interface(a, data=(0, False)) if a.size else None,
    lambda a: Interface(a, strides=(3,) * a.ndim),
    lambda a: Interface(a, version=7),
    lambda a: Capsule(a, answer=3),
    lambda a: Capsule(a, answer=object()),
    lambda a: Raising(ValueError),
    lambda a: Raising(RuntimeError),
    lambda a: Raising(AttributeError),
    lambda a: Raising(KeyError),
    lambda a: Raising(ZeroDivisionError),
    lambda a: np.empty((2,) * 40),
    lambda a: np.lib.stride_tricks.as_strided(a, a.shape, (0,) * a.ndim),
    lambda a: np.broadcast_to(np.float64(1), (1 << 50,)),
    lambda a: ctypes.c_double(3),
    lambda a: type,
    lambda a: kdsl,
)

NUMBERS = (
    0, 1, -1, 255, 256, 2**31, 2**63, 2**64, -(2**63) - 1, 10**400, 10**5000, True, 0.5, float("nan"),
    float("inf"), 1e400, 1j, None, "2", b"2", [], [2], (2,), {}, np.float32(2), np.float64(2), np.int8(-3),
    np.uint64(2**64 - 1), np.bool_(True), np.longdouble(2), np.complex64(1), np.float16(2), np.array(2.0),
    np.array([2.0]), np.array(3), np.datetime64("2026-01-01"), decimal.Decimal(2), fractions.Fraction(1, 2),
    object(), ..., np.str_("2"), np.void(b"123"), np.array(2, ">i4"), np.ma.masked, Raising(ValueError),
    Raising(OverflowError), int, N,
)  # fmt: skip


def _snapshot(x: Any) -> Any:
    small = isinstance(x, np.ndarray) and x.nbytes < 1 << 20 and x.dtype != object
    return x.view(np.ndarray).tobytes() if small else None


def _arrays(draw: random.Random, n: int, m: int) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    rng = np.random.default_rng(draw.randrange(1 << 30))
    dtype = draw.choice((np.float32, np.float64, np.int32))

    def some(shape: Any, t: Any) -> Any:
        return rng.integers(-8, 8, shape).astype(t)

    return {
        "axpy": (axpy, (draw.choice((2.0, 3, np.float32(1.5))), some(n, "f8"), some(n, "f8"))),
        "rows": (rows, (some((m, n), dtype), some(m, dtype))),
        "untyped": (untyped, (some(n, "f8"), draw.choice((2, 2.5)), some(n, "f8"))),
        "shifted": (shifted, (some(n + 1, "f4"), 7, some(n, "f4"))),
        "total": (total, (some(n, "f8"), 3.0)),
    }


def _expected(name: str, given: tuple[Any, ...]) -> tuple[Any, Any]:
    """What NumPy says: (the last argument after the call, the result)."""
    values = [np.asarray(x) for x in given]
    match name:
        case "axpy":
            return values[2] + values[0] * values[1], None
        case "rows":
            return values[1] + values[0].sum(1, dtype=values[0].dtype), None
        case "untyped":
            return (values[0] * values[1]).astype(values[2].dtype), None
        case "shifted":
            return values[0][1:] + np.float32(values[1]), None
        case _:
            return None, (values[0] * values[1]).sum()


def stress(run: Run) -> None:
    """Until the budget is spent."""
    for number in run.rounds():
        draw = run.random
        n, m = draw.choice((0, 1, 2, 7, 33)), draw.choice((0, 1, 3))
        made = _arrays(draw, n, m)
        name = draw.choice(sorted(made))
        kernel, good = made[name]
        target = draw.choice(("cpu", "cpu", "cpu", "interpreter"))
        given = list(good)
        same, what = True, "good"
        for _ in range(draw.choice((0, 1, 1, 1, 2))):
            at = draw.randrange(len(given))
            if not isinstance(given[at], np.ndarray):
                given[at], same, what = draw.choice(NUMBERS), False, "number"
                continue
            same_values = draw.random() < 0.5
            change = draw.choice(FORMS if same_values else WRONG)
            try:
                given[at] = change(given[at])
            except Exception:
                continue
            same, what = same and same_values and change is not FORMS[9], f"form of argument {at}"
        kwargs: dict[str, Any] = {}
        if draw.random() < 0.05:
            given, same, what = given[:-1], False, "too few"
        if draw.random() < 0.05:
            kwargs, same, what = (
                {draw.choice(("a", "X", "out", "q", "total")): draw.choice(NUMBERS)},
                False,
                "keyword",
            )
        if (
            draw.random() < 0.1
            and len(given) > 1
            and isinstance(given[-1], np.ndarray)
            and given[-1].ndim == 1
        ):
            given[-1], same, what = given[-2], False, "overlap"
        before = [_snapshot(x) for x in given]
        wanted = _expected(name, copy.deepcopy(good)) if same else None
        shown = f"round {number}: {name} on {target}, {what}: {', '.join(map(_shown, given))} {list(kwargs)}"
        run.counts["calls"] += 1
        # What an argument without annotation may be, the kernel's body says.
        refused = KdslError if kernel is untyped else ArgumentError
        with run.guarded("a call", shown, refused):
            try:
                result = kernel.on(target)(*given, **kwargs)
            except KdslError:
                if before != [_snapshot(x) for x in given]:
                    run.find("a refused call has written", shown)
                raise
            run.counts["ran"] += 1
            if wanted is not None:
                last, value = wanted
                right = np.asarray(_plain(given[-1]) if last is not None else result)
                if not np.allclose(right, last if last is not None else value, equal_nan=True):
                    run.find("a wrong result", shown)


def _plain(x: Any) -> Any:
    return x.a if isinstance(x, Capsule) else x.kept if isinstance(x, Interface) else x


def _shown(x: Any) -> str:
    if isinstance(x, np.ndarray):
        return f"{type(x).__name__} {x.dtype}{x.shape} strides {x.strides}"
    if isinstance(x, int) and abs(x) > 2**128:
        return "a huge integer"
    return f"{type(x).__name__} {str(x)[:60]}"


if __name__ == "__main__":
    main(stress)
