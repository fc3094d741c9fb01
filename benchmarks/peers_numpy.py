"""NumPy's side, what a careful user writes: results go to arrays made before (`out=`), ufuncs work in place.

Its ufuncs run on one thread, its BLAS on as many as kdsl. OpenBLAS may not know a new processor and then runs
older kernels (AVX2): OPENBLAS_CORETYPE=SkylakeX gives it AVX-512, which is the fair opponent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Run = Callable[[], object]
F = np.float32


def matmul(A: Array, B: Array, C: Array) -> Run:
    return lambda: np.matmul(A, B, out=C)


def matmul_u8s8(A: Array, B: Array, C: Array) -> Run:
    """Of f32, which is what there is instead."""
    return matmul(A.astype(F), B.astype(F), np.empty(C.shape, F))


def matmul_bf16(A: Array, B: Array, C: Array) -> Run:
    """Of f32, which is what there is instead."""
    return matmul(A.astype(F), B.astype(F), C)


def gelu(X: Array, Y: Array) -> Run:
    T = np.empty_like(X)

    def run() -> None:
        np.multiply(X, X, out=T)
        np.multiply(T, X, out=T)
        np.multiply(T, F(0.044715), out=T)
        np.add(T, X, out=T)
        np.multiply(T, F(0.7978845608), out=T)
        np.tanh(T, out=T)
        np.add(T, F(1), out=T)
        np.multiply(X, F(0.5), out=Y)
        np.multiply(Y, T, out=Y)

    return run


def saxpy(a: np.float32, X: Array, Y: Array) -> Run:
    T = np.empty_like(X)

    def run() -> None:
        np.multiply(X, a, out=T)
        np.add(T, Y, out=Y)

    return run


def total(X: Array) -> Run:
    return lambda: np.sum(X)


def softmax(X: Array, Y: Array) -> Run:
    R = np.empty((len(X), 1), X.dtype)

    def run() -> None:
        np.max(X, axis=1, keepdims=True, out=R)
        np.subtract(X, R, out=Y)
        np.exp(Y, out=Y)
        np.sum(Y, axis=1, keepdims=True, out=R)
        np.divide(Y, R, out=Y)

    return run


def layernorm(X: Array, g: Array, b: Array, Y: Array) -> Run:
    T, R = np.empty_like(X), np.empty((len(X), 1), X.dtype)

    def run() -> None:
        np.mean(X, axis=1, keepdims=True, out=R)
        np.subtract(X, R, out=Y)
        np.multiply(Y, Y, out=T)
        np.mean(T, axis=1, keepdims=True, out=R)
        np.add(R, F(1e-5), out=R)
        np.sqrt(R, out=R)
        np.divide(Y, R, out=Y)
        np.multiply(Y, g, out=Y)
        np.add(Y, b, out=Y)

    return run


def blur(A: Array, B: Array) -> Run:
    return _blur(A, B, np.multiply, F(1 / 3))


def blur_u16(A: Array, B: Array) -> Run:
    return _blur(A, B, np.floor_divide, np.uint16(3))


def _blur(A: Array, B: Array, third: np.ufunc, factor: object) -> Run:
    """Two stages on slices."""
    P, S = np.empty((A.shape[0], B.shape[1]), A.dtype), np.empty_like(B)

    def run() -> None:
        np.add(A[:, :-2], A[:, 1:-1], out=P)
        np.add(P, A[:, 2:], out=P)
        third(P, factor, out=P)
        np.add(P[:-2], P[1:-1], out=S)
        np.add(S, P[2:], out=S)
        third(S, factor, out=B)

    return run


def conv2d(X: Array, W: Array, Y: Array) -> Run:
    """im2col, then BLAS."""
    d, h, w = Y.shape
    columns = np.empty((len(X), 3, 3, h, w), X.dtype)

    def run() -> None:
        for ky in range(3):
            for kx in range(3):
                columns[:, ky, kx] = X[:, ky : ky + h, kx : kx + w]
        np.matmul(W.reshape(d, -1), columns.reshape(-1, h * w), out=Y.reshape(d, -1))

    return run


def jacobi(A: Array, B: Array) -> Run:
    S = np.empty((len(A) - 2, len(A) - 2), A.dtype)

    def run() -> None:
        for _ in range(5):
            for X, Y in ((A, B), (B, A)):
                np.add(X[1:-1, 1:-1], X[1:-1, :-2], out=S)
                np.add(S, X[1:-1, 2:], out=S)
                np.add(S, X[:-2, 1:-1], out=S)
                np.add(S, X[2:, 1:-1], out=S)
                np.multiply(S, F(0.2), out=Y[1:-1, 1:-1])

    return run
