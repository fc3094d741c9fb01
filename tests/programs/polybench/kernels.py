"""linear-algebra/kernels: 2mm, 3mm, atax, bicg, doitgen, mvt."""

import numpy as np

import kdsl
from kdsl import f64
from tests.check import Program

I, J, K, L, P = kdsl.sizes("I J K L P")
M, N, Q, R = kdsl.sizes("M N Q R")


@kdsl.kernel
def k2mm(alpha: f64, beta: f64, tmp: f64[I, J], A: f64[I, K], B: f64[K, J], C: f64[J, L], D: f64[I, L]):
    # D := alpha * A * B * C + beta * D
    for i in range(I):
        for j in range(J):
            tmp[i, j] = 0.0
            for k in range(K):
                tmp[i, j] += alpha * A[i, k] * B[k, j]
    for i in range(I):
        for j in range(L):
            D[i, j] *= beta
            for k in range(J):
                D[i, j] += tmp[i, k] * C[k, j]


def k2mm_oracle(alpha, beta, tmp, A, B, C, D):
    tmp[:] = alpha * (A @ B)
    D[:] = np.linalg.multi_dot([alpha * A, B, C]) + beta * D


@kdsl.kernel
def k3mm(E: f64[I, J], A: f64[I, K], B: f64[K, J], F: f64[J, L], C: f64[J, P], D: f64[P, L], G: f64[I, L]):
    for i in range(I):
        for j in range(J):
            E[i, j] = 0.0
            for k in range(K):
                E[i, j] += A[i, k] * B[k, j]
    for i in range(J):
        for j in range(L):
            F[i, j] = 0.0
            for k in range(P):
                F[i, j] += C[i, k] * D[k, j]
    for i in range(I):
        for j in range(L):
            G[i, j] = 0.0
            for k in range(J):
                G[i, j] += E[i, k] * F[k, j]


def k3mm_oracle(E, A, B, F, C, D, G):
    E[:] = A @ B
    F[:] = C @ D
    G[:] = E @ F


@kdsl.kernel
def atax(A: f64[M, N], x: f64[N], y: f64[N], tmp: f64[M]):
    for i in range(N):
        y[i] = 0
    for i in range(M):
        tmp[i] = 0.0
        for j in range(N):
            tmp[i] = tmp[i] + A[i, j] * x[j]
        for j in range(N):
            y[j] = y[j] + A[i, j] * tmp[i]


def atax_oracle(A, x, y, tmp):
    tmp[:] = A @ x
    y[:] = A.T @ tmp


@kdsl.kernel
def bicg(A: f64[N, M], s: f64[M], q: f64[N], p: f64[M], r: f64[N]):
    for i in range(M):
        s[i] = 0
    for i in range(N):
        q[i] = 0.0
        for j in range(M):
            s[j] = s[j] + r[i] * A[i, j]
            q[i] = q[i] + A[i, j] * p[j]


def bicg_oracle(A, s, q, p, r):
    s[:] = r @ A
    q[:] = A @ p


@kdsl.kernel
def doitgen(A: f64[R, Q, P], C4: f64[P, P], sum: f64[P]):
    for r in range(R):
        for q in range(Q):
            for p in range(P):
                sum[p] = 0.0
                for s in range(P):
                    sum[p] += A[r, q, s] * C4[s, p]
            for p in range(P):
                A[r, q, p] = sum[p]


def doitgen_oracle(A, C4, sum):
    A[:] = np.einsum("rqs,sp->rqp", A, C4)
    if A.size:
        sum[:] = A[-1, -1]


@kdsl.kernel
def mvt(x1: f64[N], x2: f64[N], y1: f64[N], y2: f64[N], A: f64[N, N]):
    for i in range(N):
        for j in range(N):
            x1[i] = x1[i] + A[i, j] * y1[j]
    for i in range(N):
        for j in range(N):
            x2[i] = x2[i] + A[j, i] * y2[j]


def mvt_oracle(x1, x2, y1, y2, A):
    x1 += A @ y1
    x2 += A.T @ y2


MN = [(5, 7), (1, 1), (0, 3), (4, 0), (13, 11)]

PROGRAMS = [
    Program(
        k2mm,
        k2mm_oracle,
        lambda d, i, j, k, m: (1.5, 1.2, d.f64(i, j), d.f64(i, k), d.f64(k, j), d.f64(j, m), d.f64(i, m)),
        [(5, 3, 7, 4), (1, 1, 1, 1), (3, 0, 2, 4), (11, 8, 5, 7)],
    ),
    Program(
        k3mm,
        k3mm_oracle,
        lambda d, i, j, k, m, p: (
            d.f64(i, j), d.f64(i, k), d.f64(k, j), d.f64(j, m), d.f64(j, p), d.f64(p, m), d.f64(i, m)
        ),
        [(5, 3, 7, 4, 2), (1, 1, 1, 1, 1), (3, 2, 0, 4, 0), (7, 8, 5, 9, 4)],
    ),
    Program(atax, atax_oracle, lambda d, m, n: (d.f64(m, n), d.f64(n), d.f64(n), d.f64(m)), MN),
    Program(bicg, bicg_oracle, lambda d, m, n: (d.f64(n, m), d.f64(m), d.f64(n), d.f64(m), d.f64(n)), MN),
    Program(
        doitgen,
        doitgen_oracle,
        lambda d, r, q, p: (d.f64(r, q, p), d.f64(p, p), d.f64(p)),
        [(3, 4, 5), (1, 1, 1), (0, 3, 4), (2, 3, 0), (5, 3, 7)],
    ),
    Program(
        mvt,
        mvt_oracle,
        lambda d, n: (d.f64(n), d.f64(n), d.f64(n), d.f64(n), d.f64(n, n)),
        [(7,), (1,), (0,), (17,)],
    ),
]  # fmt: skip
