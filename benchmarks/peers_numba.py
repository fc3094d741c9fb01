"""The kernels of the comparison with Numba, as its documentation advises: parallel loops, fast math."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

Array = np.ndarray[Any, Any]
F = np.float32


@njit(parallel=True, fastmath=True)
def gelu(X: Array, Y: Array) -> None:
    for i in prange(X.shape[0]):
        x = X[i]
        Y[i] = F(0.5) * x * (F(1) + np.tanh(F(0.7978845608) * (x + F(0.044715) * x * x * x)))


@njit(parallel=True, fastmath=True)
def saxpy(a: float, X: Array, Y: Array) -> None:
    for i in prange(X.shape[0]):
        Y[i] = a * X[i] + Y[i]


@njit(parallel=True, fastmath=True)
def total(X: Array) -> float:
    s = F(0)
    for i in prange(X.shape[0]):
        s += X[i]
    return s  # type: ignore[return-value, unused-ignore]


@njit(parallel=True, fastmath=True)
def softmax(X: Array, Y: Array) -> None:
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
def layernorm(X: Array, g: Array, b: Array, Y: Array) -> None:
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
def blur(A: Array, P: Array, B: Array) -> None:
    for y in prange(P.shape[0]):
        for x in range(P.shape[1]):
            P[y, x] = (A[y, x] + A[y, x + 1] + A[y, x + 2]) * F(1 / 3)
    for i in prange(B.shape[0]):
        for j in range(B.shape[1]):
            B[i, j] = (P[i, j] + P[i + 1, j] + P[i + 2, j]) * F(1 / 3)


@njit(parallel=True, fastmath=True)
def jacobi(A: Array, B: Array, steps: int) -> None:
    n = A.shape[0]
    for _ in range(steps):
        for i in prange(1, n - 1):
            for j in range(1, n - 1):
                B[i, j] = F(0.2) * (A[i, j] + A[i, j - 1] + A[i, j + 1] + A[i - 1, j] + A[i + 1, j])
        for i in prange(1, n - 1):
            for j in range(1, n - 1):
                A[i, j] = F(0.2) * (B[i, j] + B[i, j - 1] + B[i, j + 1] + B[i - 1, j] + B[i + 1, j])


__all__ = ["blur", "gelu", "jacobi", "layernorm", "saxpy", "softmax", "total"]
