"""Small kernels to tune, with schedules whose parameters are choices."""

# mypy: disable-error-code="no-untyped-def, valid-type"

from __future__ import annotations

from typing import Any

import numpy as np

import kdsl
from kdsl import f32, i64

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


def tiles(s: Any, rows=kdsl.choice(2, 4), lanes=kdsl.choice(8, 16), parallel=kdsl.choice(False, True)):
    s = kdsl.recipes.register_tile(s, "i", "j", ["k"], (rows, 16), lanes)
    return s.parallel("i_o") if parallel else s


@kdsl.kernel
def scale(X: f32[N], Y: f32[N], a: f32):
    for i in range(N):
        Y[i] = a * X[i]


def vectors(s: Any, lanes=kdsl.choice(4, 8, 16)):
    return s.vectorize("i", lanes)


@kdsl.kernel
def grow(X: f32[N]):
    for i in range(N):
        X[i] = X[i] * 1.5 + 1.0


@kdsl.kernel
def gather(X: f32[N], at: i64[M], Y: f32[M]):
    for i in range(M):
        Y[i] = X[at[i]]


@kdsl.kernel
def double(X: f32[M, N]) -> f32[M, N]:
    Y = kdsl.empty((M, N), f32)
    for i in range(M):
        for j in range(N):
            Y[i, j] = 2 * X[i, j]
    return Y


def product(m: int, n: int, k: int) -> tuple[Any, ...]:
    """Arguments of `matmul`."""
    rng = np.random.default_rng(0)
    A, B = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((k, n), dtype=np.float32)
    return A, B, np.zeros((m, n), np.float32)


def vector(n: int) -> tuple[Any, ...]:
    """Arguments of `scale`."""
    return np.arange(n, dtype=np.float32), np.zeros(n, np.float32), 2.0


@kdsl.kernel
def transposed(X: f32[M, N], Y: f32[N, M]):
    for i in range(M):
        for j in range(N):
            Y[j, i] = X[i, j] + 1


@kdsl.kernel
def columns(X: f32[M, N], y: f32[N]):
    for j in range(N):
        y[j] = 0.0
        for i in range(M):
            y[j] += X[i, j]


@kdsl.kernel
def running(X: f32[M, N], w: f32[N], Y: f32[M, N]):
    for i in range(M):
        s = f32(0)
        for j in range(N):
            s += X[i, j] * w[j]
            Y[i, j] = s


@kdsl.kernel
def square_relu(A: f32[N, N], b: f32[N], Y: f32[N, N]):
    for i in range(N):
        for j in range(N):
            s = b[j]
            for k in range(N):
                s += A[i, k] * A[k, j]
            Y[i, j] = max(s, f32(0))
