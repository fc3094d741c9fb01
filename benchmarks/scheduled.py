"""Kernels under hand-written schedules against NumPy, on one thread and on all.

Each row is one process, contenders interleaved, medians, results compared before. NumPy's side is what a
careful user writes: results go to arrays made before (`out=`), ufuncs work in place. Its ufuncs run on one
thread, its BLAS on as many as kdsl. OpenBLAS may not know a new processor and then runs older kernels (AVX2
on Zen 5): OPENBLAS_CORETYPE=SkylakeX gives it AVX-512, which is the fair opponent.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import kdsl
from benchmarks import kernels as k
from benchmarks.timing import duration, medians_by_threads, table

Array = np.ndarray[Any, Any]
Run = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Case:
    """A row: `ours` and `numpy` compute what `results` then find, each its own."""

    name: str
    ours: Run
    numpy: Run
    results: tuple[Run, Run]
    tolerance: float = 1e-3


def np_gelu(X: Array, Y: Array, T: Array) -> None:
    np.multiply(X, X, out=T)
    np.multiply(T, X, out=T)
    np.multiply(T, np.float32(0.044715), out=T)
    np.add(T, X, out=T)
    np.multiply(T, np.float32(0.7978845608), out=T)
    np.tanh(T, out=T)
    np.add(T, np.float32(1), out=T)
    np.multiply(X, np.float32(0.5), out=Y)
    np.multiply(Y, T, out=Y)


def np_saxpy(a: np.float32, X: Array, Y: Array, T: Array) -> None:
    np.multiply(X, a, out=T)
    np.add(T, Y, out=Y)


def np_softmax(X: Array, Y: Array, R: Array) -> None:
    np.max(X, axis=1, keepdims=True, out=R)
    np.subtract(X, R, out=Y)
    np.exp(Y, out=Y)
    np.sum(Y, axis=1, keepdims=True, out=R)
    np.divide(Y, R, out=Y)


def np_layernorm(X: Array, g: Array, b: Array, Y: Array, T: Array, R: Array) -> None:
    np.mean(X, axis=1, keepdims=True, out=R)
    np.subtract(X, R, out=Y)
    np.multiply(Y, Y, out=T)
    np.mean(T, axis=1, keepdims=True, out=R)
    np.add(R, np.float32(1e-5), out=R)
    np.sqrt(R, out=R)
    np.divide(Y, R, out=Y)
    np.multiply(Y, g, out=Y)
    np.add(Y, b, out=Y)


def np_conv2d(X: Array, F: Array, Y: Array, columns: Array) -> None:
    """im2col into `columns`: f32[C, 3, 3, H, W], then BLAS."""
    d, h, w = Y.shape
    for ky in range(3):
        for kx in range(3):
            columns[:, ky, kx] = X[:, ky : ky + h, kx : kx + w]
    np.matmul(F.reshape(d, -1), columns.reshape(-1, h * w), out=Y.reshape(d, -1))


def np_jacobi(A: Array, B: Array, S: Array, steps: int) -> None:
    for _ in range(steps):
        for X, Y in ((A, B), (B, A)):
            np.add(X[1:-1, 1:-1], X[1:-1, :-2], out=S)
            np.add(S, X[1:-1, 2:], out=S)
            np.add(S, X[:-2, 1:-1], out=S)
            np.add(S, X[2:, 1:-1], out=S)
            np.multiply(S, np.float32(0.2), out=Y[1:-1, 1:-1])


def np_blur(A: Array, B: Array, P: Array, S: Array) -> None:
    """Two stages on slices; divided by 3 as the element type divides."""
    third = np.multiply if A.dtype.kind == "f" else np.floor_divide
    factor = A.dtype.type(1 / 3 if A.dtype.kind == "f" else 3)
    np.add(A[:, :-2], A[:, 1:-1], out=P)
    np.add(P, A[:, 2:], out=P)
    third(P, factor, out=P)
    np.add(P[:-2], P[1:-1], out=S)
    np.add(S, P[2:], out=S)
    third(S, factor, out=B)


def normal(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(0).standard_normal(shape, dtype=dtype)


def product(name: str, kernel: Any, m: int, n: int, terms: int, dtype: Any = np.float32) -> Case:
    A, B = normal(m, terms, dtype=dtype), normal(terms, n, dtype=dtype)
    mine, theirs = np.empty((m, n), dtype), np.empty((m, n), dtype)
    return Case(
        name,
        lambda: kernel(A, B, mine),
        lambda: np.matmul(A, B, out=theirs),
        (lambda: mine, lambda: theirs),
        1e-2,
    )


def products() -> list[Case]:
    """Matrix products against OpenBLAS."""
    single = k.matmul.with_schedule(k.blocked(k.matmul.schedule()))
    double = k.matmul_f64.with_schedule(k.blocked_f64(k.matmul_f64.schedule()))
    row = k.matmul.with_schedule(k.few_rows(k.matmul.schedule()))
    narrow = k.matmul_dots.with_schedule(k.few_columns(k.matmul_dots.schedule()))
    return [
        *[product(f"matmul {n}³", single, n, n, n) for n in (512, 1024, 2048)],
        product("matmul 1000x999x1001", single, 1000, 1001, 999),
        *[product(f"matmul {n}³ f64", double, n, n, n, np.float64) for n in (512, 1024, 2048)],
        product("matmul 1x1024x1024", row, 1, 1024, 1024),
        product("matmul 1024x8x1024", narrow, 1024, 8, 1024),
    ]


def elements() -> list[Case]:
    """Element by element, and sums."""
    gelu = k.gelu.with_schedule(k.elements(k.gelu.schedule()))
    saxpy = k.saxpy.with_schedule(k.streamed(k.saxpy.schedule()))
    total = k.total.with_schedule(k.one_sum(k.total.schedule()))
    large = k.total.with_schedule(k.shared_sum(k.total.schedule()))
    X, mine, theirs, T = normal(1 << 22), np.empty(1 << 22, "f4"), np.empty(1 << 22, "f4"), normal(1 << 22)
    L, small = normal(1 << 24), normal(1 << 18)
    mine_l, theirs_l, T_l = np.zeros(1 << 24, "f4"), np.zeros(1 << 24, "f4"), np.empty(1 << 24, "f4")
    a = np.float32(1e-3)
    return [
        Case(
            "gelu 2²²",
            lambda: gelu(X, mine),
            lambda: np_gelu(X, theirs, T),
            (lambda: mine, lambda: theirs),
        ),
        Case(
            "saxpy 2²⁴",
            lambda: saxpy(a, L, mine_l),
            lambda: np_saxpy(a, L, theirs_l, T_l),
            (lambda: mine_l, lambda: theirs_l),
        ),
        Case("sum 2²⁴", lambda: large(L), lambda: np.sum(L), (lambda: large(L), lambda: np.sum(L)), 1.0),
        Case(
            "sum 2¹⁸",
            lambda: total(small),
            lambda: np.sum(small),
            (lambda: total(small), lambda: np.sum(small)),
            0.1,
        ),
    ]


def rows() -> list[Case]:
    """Rows of 1024."""
    softmax = k.softmax.with_schedule(k.by_rows(k.softmax.schedule()))
    layernorm = k.layernorm.with_schedule(k.streamed_rows(k.layernorm.schedule()))
    X = normal(4096, 1024)
    mine, theirs, T = (np.empty((4096, 1024), "f4") for _ in range(3))
    R, g, b = np.empty((4096, 1), "f4"), normal(1024), normal(1024)
    return [
        Case(
            "softmax 4096x1024",
            lambda: softmax(X, mine),
            lambda: np_softmax(X, theirs, R),
            (lambda: mine, lambda: theirs),
        ),
        Case(
            "layernorm 4096x1024",
            lambda: layernorm(X, g, b, mine),
            lambda: np_layernorm(X, g, b, theirs, T, R),
            (lambda: mine, lambda: theirs),
        ),
    ]


def blurred(name: str, kernel: Any, A: Array) -> Case:
    fast = kernel.with_schedule(k.window(kernel.schedule(), 64 // A.itemsize))
    h, w = A.shape[0] - 2, A.shape[1] - 2
    mine, theirs, S = (np.empty((h, w), A.dtype) for _ in range(3))
    P = np.empty((h + 2, w), A.dtype)
    return Case(
        name,
        lambda: fast(A, mine),
        lambda: np_blur(A, theirs, P, S),
        (lambda: mine, lambda: theirs),
    )


def neighbours() -> list[Case]:
    """A convolution, a stencil, two stages of a blur."""
    conv = k.conv2d.with_schedule(k.channels(k.conv2d.schedule()))
    jacobi = k.jacobi.with_schedule(k.all_steps(k.jacobi.schedule()))
    X, F, columns = normal(64, 58, 58), normal(64, 64, 3, 3), np.empty((64, 3, 3, 56, 56), "f4")
    Y, Z = np.empty((64, 56, 56), "f4"), np.empty((64, 56, 56), "f4")
    A, S = normal(2048, 2048), np.empty((2046, 2046), "f4")
    mine, theirs = (A.copy(), A.copy()), (A.copy(), A.copy())
    pixels = np.random.default_rng(0).integers(0, 1 << 14, (2050, 2050)).astype(np.uint16)
    return [
        blurred("blur 3x3, 2048²", k.blur, normal(2050, 2050)),
        blurred("blur 3x3, 2048², u16", k.blur_u16, pixels),
        Case(
            "conv2d 3x3, 64 to 64, 56²",
            lambda: conv(X, F, Y),
            lambda: np_conv2d(X, F, Z, columns),
            (lambda: Y, lambda: Z),
            1e-2,
        ),
        Case(
            "Jacobi 2048², 10 sweeps",
            lambda: jacobi(*mine),
            lambda: np_jacobi(*theirs, S, 5),
            (lambda: mine[0], lambda: theirs[0]),
        ),
    ]


def main(seconds: float = 2.0) -> str:
    """Runs all rows; returns the Markdown table."""
    wanted = os.environ.get("KDSL_BENCHMARK", "")
    lines = []
    for family in (products, elements, rows, neighbours):
        for case in family():
            if wanted not in case.name:
                continue
            case.ours()
            case.numpy()
            ours, theirs = (find() for find in case.results)
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=case.tolerance, err_msg=case.name)
            cells = [case.name]
            contenders = {"kdsl": case.ours, "numpy": case.numpy}
            for medians in medians_by_threads(contenders, seconds=seconds).values():
                cells += [duration(medians["kdsl"]), f"{medians['numpy'] / medians['kdsl']:.2f} x"]
            lines.append(cells)
    threads = kdsl.get_num_threads()
    heads = ["f32 unless said", "1 thread", "faster than NumPy"]
    return table(heads + ([f"{threads} threads", "faster than NumPy"] if threads > 1 else []), lines)


if __name__ == "__main__":
    print(main())
