"""Numba's side, as its documentation advises: parallel loops, fast math.

It has no product of matrices of its own: its `@` is the BLAS of SciPy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit, prange

Array = np.ndarray[Any, Any]
Run = Callable[[], object]
F = np.float32


def gelu(X: Array, Y: Array) -> Run:
    return partial(_gelu, X, Y)


def saxpy(a: np.float32, X: Array, Y: Array) -> Run:
    return partial(_saxpy, a, X, Y)


def total(X: Array) -> Run:
    return partial(_total, X)


def softmax(X: Array, Y: Array) -> Run:
    return partial(_softmax, X, Y)


def layernorm(X: Array, g: Array, b: Array, Y: Array) -> Run:
    return partial(_layernorm, X, g, b, Y)


def blur(A: Array, B: Array) -> Run:
    return partial(_blur, A, np.empty((A.shape[0], B.shape[1]), A.dtype), B)


def blur_u16(A: Array, B: Array) -> Run:
    return partial(_blur_u16, A, np.empty((A.shape[0], B.shape[1]), A.dtype), B)


def conv2d(X: Array, W: Array, Y: Array) -> Run:
    return partial(_conv2d, X, W, Y)


def jacobi(A: Array, B: Array) -> Run:
    return partial(_jacobi, A, B, 5)


@njit(parallel=True, fastmath=True)
def _gelu(X: Array, Y: Array) -> None:
    for i in prange(X.shape[0]):
        x = X[i]
        Y[i] = F(0.5) * x * (F(1) + np.tanh(F(0.7978845608) * (x + F(0.044715) * x * x * x)))


@njit(parallel=True, fastmath=True)
def _saxpy(a: float, X: Array, Y: Array) -> None:
    for i in prange(X.shape[0]):
        Y[i] = a * X[i] + Y[i]


@njit(parallel=True, fastmath=True)
def _total(X: Array) -> float:
    s = F(0)
    for i in prange(X.shape[0]):
        s += X[i]
    return s  # type: ignore[return-value, unused-ignore]


@njit(parallel=True, fastmath=True)
def _softmax(X: Array, Y: Array) -> None:
    for i in prange(X.shape[0]):
        top = F(-3e38)
        for j in range(X.shape[1]):
            top = max(top, X[i, j])
        s = F(0)
        for j in range(X.shape[1]):
            e = np.exp(X[i, j] - top)
            Y[i, j] = e
            s += e
        scale = F(1) / s
        for j in range(X.shape[1]):
            Y[i, j] *= scale


@njit(parallel=True, fastmath=True)
def _layernorm(X: Array, g: Array, b: Array, Y: Array) -> None:
    for i in prange(X.shape[0]):
        s = F(0)
        for j in range(X.shape[1]):
            s += X[i, j]
        mean = s / F(X.shape[1])
        q = F(0)
        for j in range(X.shape[1]):
            q += (X[i, j] - mean) * (X[i, j] - mean)
        scale = F(1) / np.sqrt(q / F(X.shape[1]) + F(1e-5))
        for j in range(X.shape[1]):
            Y[i, j] = (X[i, j] - mean) * scale * g[j] + b[j]


@njit(parallel=True, fastmath=True)
def _blur(A: Array, P: Array, B: Array) -> None:
    for y in prange(P.shape[0]):
        for x in range(P.shape[1]):
            P[y, x] = (A[y, x] + A[y, x + 1] + A[y, x + 2]) * F(1 / 3)
    for i in prange(B.shape[0]):
        for j in range(B.shape[1]):
            B[i, j] = (P[i, j] + P[i + 1, j] + P[i + 2, j]) * F(1 / 3)


@njit(parallel=True, fastmath=True)
def _blur_u16(A: Array, P: Array, B: Array) -> None:
    for y in prange(P.shape[0]):
        for x in range(P.shape[1]):
            P[y, x] = np.uint16(A[y, x] + A[y, x + 1] + A[y, x + 2]) // np.uint16(3)
    for i in prange(B.shape[0]):
        for j in range(B.shape[1]):
            B[i, j] = np.uint16(P[i, j] + P[i + 1, j] + P[i + 2, j]) // np.uint16(3)


@njit(parallel=True, fastmath=True)
def _conv2d(X: Array, W: Array, Y: Array) -> None:
    """Rows of pixels are summed in place, so that the innermost loop runs along them."""
    for d in prange(Y.shape[0]):
        for y in range(Y.shape[1]):
            for x in range(Y.shape[2]):
                Y[d, y, x] = F(0)
            for c in range(X.shape[0]):
                for ky in range(3):
                    for kx in range(3):
                        for x in range(Y.shape[2]):
                            Y[d, y, x] += X[c, y + ky, x + kx] * W[d, c, ky, kx]


@njit(parallel=True, fastmath=True)
def _jacobi(A: Array, B: Array, steps: int) -> None:
    n = A.shape[0]
    for _ in range(steps):
        for i in prange(1, n - 1):
            for j in range(1, n - 1):
                B[i, j] = F(0.2) * (A[i, j] + A[i, j - 1] + A[i, j + 1] + A[i - 1, j] + A[i + 1, j])
        for i in prange(1, n - 1):
            for j in range(1, n - 1):
                A[i, j] = F(0.2) * (B[i, j] + B[i, j - 1] + B[i, j + 1] + B[i - 1, j] + B[i + 1, j])
