"""linear-algebra/solvers: cholesky, durbin, gramschmidt, lu, ludcmp, trisolv."""

import numpy as np
import scipy.linalg

import kdsl
from kdsl import f64
from tests.check import Draw, Program

M, N = kdsl.sizes("M N")


@kdsl.kernel
def cholesky(A: f64[N, N]):
    for i in range(N):
        for j in range(i):
            for k in range(j):
                A[i, j] -= A[i, k] * A[j, k]
            A[i, j] /= A[j, j]
        for k in range(i):
            A[i, i] -= A[i, k] * A[i, k]
        A[i, i] = kdsl.sqrt(A[i, i])


def cholesky_oracle(A):
    if len(A):
        A[:] = np.linalg.cholesky(A) + np.triu(A, 1)


def positive_definite(d: Draw, n: int):
    B = d.f64(n, n)
    return B @ B.T + n * np.eye(n)


@kdsl.kernel
def durbin(r: f64[N], y: f64[N]):
    z = kdsl.empty((N,), f64)
    y[0] = -r[0]
    beta = 1.0
    alpha = -r[0]
    for k in range(1, N):
        beta = (1 - alpha * alpha) * beta
        total = 0.0
        for i in range(k):
            total += r[k - i - 1] * y[i]
        alpha = -(r[k] + total) / beta
        for i in range(k):
            z[i] = y[i] + alpha * y[k - i - 1]
        for i in range(k):
            y[i] = z[i]
        y[k] = alpha


def durbin_oracle(r, y):
    y[:] = scipy.linalg.solve_toeplitz(np.concatenate([[1.0], r[:-1]]), -r)


@kdsl.kernel
def gramschmidt(A: f64[M, N], R: f64[N, N], Q: f64[M, N]):
    for k in range(N):
        nrm = 0.0
        for i in range(M):
            nrm += A[i, k] * A[i, k]
        R[k, k] = kdsl.sqrt(nrm)
        for i in range(M):
            Q[i, k] = A[i, k] / R[k, k]
        for j in range(k + 1, N):
            R[k, j] = 0.0
            for i in range(M):
                R[k, j] += Q[i, k] * A[i, j]
            for i in range(M):
                A[i, j] = A[i, j] - Q[i, k] * R[k, j]


def gramschmidt_oracle(A, R, Q):
    if not A.size:
        return
    q, r = np.linalg.qr(A)
    sign = np.sign(np.diag(r))
    Q[:] = q * sign
    R[:] = np.triu(r * sign[:, None]) + np.tril(R, -1)
    A[:] = Q * np.diag(R)


@kdsl.kernel
def lu(A: f64[N, N]):
    for i in range(N):
        for j in range(i):
            for k in range(j):
                A[i, j] -= A[i, k] * A[k, j]
            A[i, j] /= A[j, j]
        for j in range(i, N):
            for k in range(i):
                A[i, j] -= A[i, k] * A[k, j]


def lu_oracle(A):
    """Column by column through Schur complements."""
    for k in range(len(A)):
        A[k + 1 :, k] /= A[k, k]
        A[k + 1 :, k + 1 :] -= np.outer(A[k + 1 :, k], A[k, k + 1 :])


def dominant(d: Draw, n: int):
    return d.f64(n, n) + n * np.eye(n)


@kdsl.kernel
def ludcmp(A: f64[N, N], b: f64[N], x: f64[N], y: f64[N]):
    for i in range(N):
        for j in range(i):
            w = A[i, j]
            for k in range(j):
                w -= A[i, k] * A[k, j]
            A[i, j] = w / A[j, j]
        for j in range(i, N):
            w = A[i, j]
            for k in range(i):
                w -= A[i, k] * A[k, j]
            A[i, j] = w
    for i in range(N):
        w = b[i]
        for j in range(i):
            w -= A[i, j] * y[j]
        y[i] = w
    for i in range(N - 1, -1, -1):
        w = y[i]
        for j in range(i + 1, N):
            w -= A[i, j] * x[j]
        x[i] = w / A[i, i]


def ludcmp_oracle(A, b, x, y):
    if not len(A):
        return
    x[:] = np.linalg.solve(A, b)
    lu_oracle(A)
    y[:] = np.triu(A) @ x


@kdsl.kernel
def trisolv(L: f64[N, N], x: f64[N], b: f64[N]):
    for i in range(N):
        x[i] = b[i]
        for j in range(i):
            x[i] -= L[i, j] * x[j]
        x[i] = x[i] / L[i, i]


def trisolv_oracle(L, x, b):
    if len(L):
        x[:] = scipy.linalg.solve_triangular(L, b, lower=True)


SQUARE = [(7,), (1,), (0,), (13,)]

PROGRAMS = [
    Program(cholesky, cholesky_oracle, lambda d, n: (positive_definite(d, n),), SQUARE, terms=4),
    # No array element 0 exists at N = 0, and y[0] is always touched: sizes start at 1.
    Program(
        durbin,
        durbin_oracle,
        lambda d, n: (0.5 * d.f64(n) / max(n, 1), d.f64(n)),
        [(7,), (1,), (2,), (13,)],
        terms=4,
    ),
    # Modified Gram-Schmidt loses orthogonality with the condition number, Householder (NumPy) does not.
    Program(
        gramschmidt,
        gramschmidt_oracle,
        lambda d, m, n: (d.f64(m, n) + 2 * np.eye(m, n), d.f64(n, n), d.f64(m, n)),
        [(7, 5), (1, 1), (5, 0), (13, 11)],
        terms=64,
    ),
    Program(lu, lu_oracle, lambda d, n: (dominant(d, n),), SQUARE, terms=4),
    Program(
        ludcmp, ludcmp_oracle, lambda d, n: (dominant(d, n), d.f64(n), d.f64(n), d.f64(n)), SQUARE, terms=8
    ),
    Program(trisolv, trisolv_oracle, lambda d, n: (dominant(d, n), d.f64(n), d.f64(n)), SQUARE, terms=4),
]
