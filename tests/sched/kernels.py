"""Kernels to be scheduled."""

from __future__ import annotations

import kdsl
from kdsl import f32, i64

M, N, K, T = kdsl.sizes("M N K T")


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


@kdsl.kernel
def axpy(a: f32, X: f32[N], Y: f32[N]):
    for i in range(N):
        Y[i] += a * X[i]


@kdsl.kernel
def offset(X: i64[N], Y: i64[N]):
    for i in range(3, N):
        Y[i] = X[i - 3] + i


@kdsl.kernel
def strided(X: i64[N], Y: i64[N]):
    for i in range(1, N, 3):
        Y[i] = X[i] * i


@kdsl.kernel
def backwards(X: i64[N]):
    for i in range(N - 1, 0, -1):
        X[i] = X[i] + X[i - 1]


@kdsl.kernel
def add(A: i64[M, N], B: i64[M, N], C: i64[M, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] = A[i, j] + 2 * B[i, j]


@kdsl.kernel
def triangle(A: i64[N, N], B: i64[N, N]):
    for i in range(N):
        for j in range(i, N):
            B[i, j] = A[j, i] + i


@kdsl.kernel
def pair(X: i64[N], Y: i64[N], Z: i64[N]):
    for i in range(N):
        Y[i] = X[i] + 1
    for k in range(N):
        Z[k] = Y[k] * 2


@kdsl.kernel
def blur(X: i64[N], Y: i64[N], Z: i64[N]):
    for i in range(N - 1):
        Y[i] = X[i] + X[i + 1]
    for k in range(N - 1):
        Z[k] = Y[k] * 2 + (Y[k - 1] if k > 0 else 0)


@kdsl.kernel
def ahead(X: i64[N + 1], Y: i64[N + 1], Z: i64[N]):
    for i in range(N):
        Y[i + 1] = X[i]
    for k in range(N):
        Z[k] = Y[k + 1] + Y[k]


@kdsl.kernel
def both(X: i64[N], Y: i64[N], Z: i64[N]):
    for i in range(N):
        t = X[i] * 3
        Y[i] = t + 1
        Z[i] = t - Y[i]


@kdsl.kernel
def prefix(X: i64[N]):
    for i in range(1, N):
        X[i] = X[i] + X[i - 1]


@kdsl.kernel
def shifted(A: i64[M, N]):
    for i in range(1, M):
        for j in range(N - 1):
            A[i, j] = A[i - 1, j + 1] + 1


@kdsl.kernel
def jacobi(A: i64[N], B: i64[N], steps: i64[T]):
    for t in range(T):
        for i in range(1, N - 1):
            B[i] = A[i - 1] + A[i] + A[i + 1] + steps[t]
        for j in range(1, N - 1):
            A[j] = B[j]


@kdsl.kernel
def seidel(A: i64[N], steps: i64[T]):
    for t in range(T):
        for i in range(1, N - 1):
            A[i] = A[i - 1] + A[i + 1] - steps[t]


@kdsl.kernel
def guarded(A: i64[M, N], B: i64[M, N]):
    for i in range(M):
        for j in range(N):
            if A[i, j] > 1:
                B[i, j] = A[i, j] - i


@kdsl.kernel
def until(X: i64[N], Y: i64[N]):
    for i in range(N):
        if X[i] == 2:
            break
        Y[i] = X[i]


@kdsl.kernel
def skipping(X: i64[N], Y: i64[N]):
    for i in range(N):
        if X[i] == 2:
            continue
        Y[i] = X[i]


@kdsl.kernel
def rows(A: i64[M, N], total: i64[M]):
    for i in range(M):
        total[i] = 0
        for j in range(N):
            total[i] += A[i, j]


@kdsl.kernel
def fixed(A: i64[4, N], B: i64[N]):
    for j in range(N):
        B[j] = 0
        for i in range(4):
            x = A[i, j] * i
            B[j] += x + 1


@kdsl.kernel
def scalar_bound(n: i64, X: i64[N]):
    for i in range(n):
        if i < N:
            X[i] += 1


@kdsl.kernel
def moving(X: i64[N]):
    n = 3
    for i in range(n):
        n += 1
        if i < N:
            X[i] = n


@kdsl.kernel
def upwind(X: i64[N], Y: i64[N + 1], Z: i64[N]):
    for i in range(N):
        Y[i] = X[i]
    for k in range(N):
        Z[k] = Y[k + 1] - Y[k]


@kdsl.kernel
def carried(X: i64[N], Y: i64[N]):
    for i in range(1, N):
        Y[i] = X[i - 1]
        X[i] = Y[i] + 1


@kdsl.kernel
def stepped(n: i64, X: i64[N]):
    for i in range(0, N, n):
        X[i] += 1


@kdsl.kernel
def ways(X: i64[N], Y: i64[N]):
    for i in range(N):
        X[i] += 1
    for k in range(N - 1, -1, -1):
        Y[k] += 1


@kdsl.kernel
def deep(A: i64[M, M, N]):
    for i in range(M):
        for j in range(i):
            for k in range(N):
                A[i, j, k] += 1


@kdsl.kernel
def by_data(n: i64[M], A: i64[M, N]):
    for i in range(M):
        for j in range(n[0]):
            if j < N:
                A[i, j] += 1


@kdsl.kernel
def searched(A: i64[M, N], B: i64[M, N]):
    for i in range(M):
        for j in range(N):
            if A[i, j] == 2:
                break
            B[i, j] += 1


@kdsl.kernel
def adding(A: i64[M, N], s: i64[M]):
    for i in range(M):
        for j in range(N):
            s[i] += A[i, j]


@kdsl.kernel(strict=True)
def strict_dot(X: f32[N], Y: f32[N], out: f32[1]):
    for i in range(N):
        out[0] += X[i] * Y[i]
