"""linear-algebra/blas: gemm, gemver, gesummv, symm, syr2k, syrk, trmm."""

import numpy as np

import kdsl
from kdsl import f32, f64
from tests.check import Program

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def gemm(alpha: f64, beta: f64, C: f64[M, N], A: f64[M, K], B: f64[K, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] *= beta
        for k in range(K):
            for j in range(N):
                C[i, j] += alpha * A[i, k] * B[k, j]


@kdsl.kernel
def gemm_f32(alpha: f32, beta: f32, C: f32[M, N], A: f32[M, K], B: f32[K, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] *= beta
        for k in range(K):
            for j in range(N):
                C[i, j] += alpha * A[i, k] * B[k, j]


def gemm_oracle(alpha, beta, C, A, B):
    C[:] = beta * C + alpha * (A @ B)


@kdsl.kernel
def gemver(
    alpha: f64, beta: f64, A: f64[N, N], u1: f64[N], v1: f64[N], u2: f64[N], v2: f64[N],
    w: f64[N], x: f64[N], y: f64[N], z: f64[N],
):  # fmt: skip
    for i in range(N):
        for j in range(N):
            A[i, j] = A[i, j] + u1[i] * v1[j] + u2[i] * v2[j]
    for i in range(N):
        for j in range(N):
            x[i] = x[i] + beta * A[j, i] * y[j]
    for i in range(N):
        x[i] = x[i] + z[i]
    for i in range(N):
        for j in range(N):
            w[i] = w[i] + alpha * A[i, j] * x[j]


def gemver_oracle(alpha, beta, A, u1, v1, u2, v2, w, x, y, z):
    A += np.outer(u1, v1) + np.outer(u2, v2)
    x += beta * A.T @ y + z
    w += alpha * A @ x


@kdsl.kernel
def gesummv(alpha: f64, beta: f64, A: f64[N, N], B: f64[N, N], tmp: f64[N], x: f64[N], y: f64[N]):
    for i in range(N):
        tmp[i] = 0.0
        y[i] = 0.0
        for j in range(N):
            tmp[i] = A[i, j] * x[j] + tmp[i]
            y[i] = B[i, j] * x[j] + y[i]
        y[i] = alpha * tmp[i] + beta * y[i]


def gesummv_oracle(alpha, beta, A, B, tmp, x, y):
    tmp[:] = A @ x
    y[:] = alpha * tmp + beta * (B @ x)


@kdsl.kernel
def symm(alpha: f64, beta: f64, C: f64[M, N], A: f64[M, M], B: f64[M, N]):
    for i in range(M):
        for j in range(N):
            temp2 = 0.0
            for k in range(i):
                C[k, j] += alpha * B[i, j] * A[i, k]
                temp2 += B[k, j] * A[i, k]
            C[i, j] = beta * C[i, j] + alpha * B[i, j] * A[i, i] + alpha * temp2


def symm_oracle(alpha, beta, C, A, B):
    full = np.tril(A) + np.tril(A, -1).T
    C[:] = beta * C + alpha * (full @ B)


@kdsl.kernel
def syr2k(alpha: f64, beta: f64, C: f64[N, N], A: f64[N, M], B: f64[N, M]):
    for i in range(N):
        for j in range(i + 1):
            C[i, j] *= beta
        for k in range(M):
            for j in range(i + 1):
                C[i, j] += A[j, k] * alpha * B[i, k] + B[j, k] * alpha * A[i, k]


def syr2k_oracle(alpha, beta, C, A, B):
    C[:] = np.tril(beta * C + alpha * (A @ B.T + B @ A.T)) + np.triu(C, 1)


@kdsl.kernel
def syrk(alpha: f64, beta: f64, C: f64[N, N], A: f64[N, M]):
    for i in range(N):
        for j in range(i + 1):
            C[i, j] *= beta
        for k in range(M):
            for j in range(i + 1):
                C[i, j] += alpha * A[i, k] * A[j, k]


def syrk_oracle(alpha, beta, C, A):
    C[:] = np.tril(beta * C + alpha * (A @ A.T)) + np.triu(C, 1)


@kdsl.kernel
def trmm(alpha: f64, A: f64[M, M], B: f64[M, N]):
    for i in range(M):
        for j in range(N):
            for k in range(i + 1, M):
                B[i, j] += A[k, i] * B[k, j]
            B[i, j] = alpha * B[i, j]


def trmm_oracle(alpha, A, B):
    unit = np.tril(A, -1) + np.eye(len(A))
    B[:] = alpha * (unit.T @ B)


MNK = [(5, 7, 3), (1, 1, 1), (0, 4, 3), (3, 4, 0), (13, 8, 11)]
MN = [(6, 5), (1, 1), (0, 3), (4, 0), (11, 13)]
SQUARE = [(7,), (1,), (0,), (13,)]

PROGRAMS = [
    Program(gemm, gemm_oracle, lambda d, m, n, k: (1.5, 1.2, d.f64(m, n), d.f64(m, k), d.f64(k, n)), MNK),
    Program(gemm_f32, gemm_oracle, lambda d, m, n, k: (1.5, 1.2, d.f32(m, n), d.f32(m, k), d.f32(k, n)), MNK),
    Program(
        gemver, gemver_oracle, lambda d, n: (1.5, 1.2, d.f64(n, n), *(d.f64(n) for _ in range(8))), SQUARE
    ),
    Program(
        gesummv,
        gesummv_oracle,
        lambda d, n: (1.5, 1.2, d.f64(n, n), d.f64(n, n), d.f64(n), d.f64(n), d.f64(n)),
        SQUARE,
    ),
    Program(symm, symm_oracle, lambda d, m, n: (1.5, 1.2, d.f64(m, n), d.f64(m, m), d.f64(m, n)), MN),
    Program(syr2k, syr2k_oracle, lambda d, m, n: (1.5, 1.2, d.f64(n, n), d.f64(n, m), d.f64(n, m)), MN),
    Program(syrk, syrk_oracle, lambda d, m, n: (1.5, 1.2, d.f64(n, n), d.f64(n, m)), MN),
    Program(trmm, trmm_oracle, lambda d, m, n: (1.5, d.f64(m, m), d.f64(m, n)), MN),
]
