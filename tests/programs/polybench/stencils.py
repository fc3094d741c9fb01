"""stencils: adi, fdtd-2d, heat-3d, jacobi-1d, jacobi-2d, seidel-2d."""

import numpy as np
import scipy.linalg
import scipy.signal

import kdsl
from kdsl import f32, f64, i64
from tests.check import Program

N, NX, NY, TMAX = kdsl.sizes("N NX NY TMAX")


@kdsl.kernel
def adi(tsteps: i64, u: f64[N, N], v: f64[N, N], p: f64[N, N], q: f64[N, N]):
    DX = 1.0 / N
    DY = 1.0 / N
    DT = 1.0 / tsteps
    B1 = 2.0
    B2 = 1.0
    mul1 = B1 * DT / (DX * DX)
    mul2 = B2 * DT / (DY * DY)
    a = -mul1 / 2.0
    b = 1.0 + mul1
    c = a
    d = -mul2 / 2.0
    e = 1.0 + mul2
    f = d
    for t in range(1, tsteps + 1):
        # Column sweep
        for i in range(1, N - 1):
            v[0, i] = 1.0
            p[i, 0] = 0.0
            q[i, 0] = v[0, i]
            for j in range(1, N - 1):
                p[i, j] = -c / (a * p[i, j - 1] + b)
                q[i, j] = (
                    -d * u[j, i - 1] + (1.0 + 2.0 * d) * u[j, i] - f * u[j, i + 1] - a * q[i, j - 1]
                ) / (a * p[i, j - 1] + b)
            v[N - 1, i] = 1.0
            for j in range(N - 2, 0, -1):
                v[j, i] = p[i, j] * v[j + 1, i] + q[i, j]
        # Row sweep
        for i in range(1, N - 1):
            u[i, 0] = 1.0
            p[i, 0] = 0.0
            q[i, 0] = u[i, 0]
            for j in range(1, N - 1):
                p[i, j] = -f / (d * p[i, j - 1] + e)
                q[i, j] = (
                    -a * v[i - 1, j] + (1.0 + 2.0 * a) * v[i, j] - c * v[i + 1, j] - d * q[i, j - 1]
                ) / (d * p[i, j - 1] + e)
            u[i, N - 1] = 1.0
            for j in range(N - 2, 0, -1):
                u[i, j] = p[i, j] * u[i, j + 1] + q[i, j]


def adi_oracle(tsteps, u, v, p, q):
    """Each sweep is one tridiagonal system a, b, a with boundary values 1 for all lines at once."""
    n = len(u)
    if n < 3:
        return
    mul1, mul2 = 2.0 / tsteps * n * n, 1.0 / tsteps * n * n
    inner = slice(1, n - 1)

    def sweep(x, side, off, diag, other):
        """Solves along axis 0 of the result for the inner lines; `side` supplies the explicit half."""
        rhs = -other * side[inner, :-2] + (1 + 2 * other) * side[inner, inner] - other * side[inner, 2:]
        rhs[0] -= off
        rhs[-1] -= off
        m = n - 2
        bands = np.array([np.full(m, off), np.full(m, diag), np.full(m, off)])
        x[inner, inner] = scipy.linalg.solve_banded((1, 1), bands, rhs)
        x[0, inner] = x[-1, inner] = 1.0
        coefficients = np.zeros(n - 1)
        for j in range(1, n - 1):
            coefficients[j] = -off / (off * coefficients[j - 1] + diag)
        p[inner, :-1] = coefficients
        q[inner, 0] = 1.0
        q[inner, 1:-1] = (x[1:-1, inner] - coefficients[1:, None] * x[2:, inner]).T

    for _ in range(tsteps):
        sweep(v, u, -mul1 / 2, 1 + mul1, -mul2 / 2)
        sweep(u.T, v.T, -mul2 / 2, 1 + mul2, -mul1 / 2)


@kdsl.kernel
def fdtd_2d(ex: f64[NX, NY], ey: f64[NX, NY], hz: f64[NX, NY], fict: f64[TMAX]):
    for t in range(TMAX):
        for j in range(NY):
            ey[0, j] = fict[t]
        for i in range(1, NX):
            for j in range(NY):
                ey[i, j] = ey[i, j] - 0.5 * (hz[i, j] - hz[i - 1, j])
        for i in range(NX):
            for j in range(1, NY):
                ex[i, j] = ex[i, j] - 0.5 * (hz[i, j] - hz[i, j - 1])
        for i in range(NX - 1):
            for j in range(NY - 1):
                hz[i, j] = hz[i, j] - 0.7 * (ex[i, j + 1] - ex[i, j] + ey[i + 1, j] - ey[i, j])


def fdtd_2d_oracle(ex, ey, hz, fict):
    for value in fict:
        ey[0] = value
        ey[1:] -= 0.5 * np.diff(hz, axis=0)
        ex[:, 1:] -= 0.5 * np.diff(hz, axis=1)
        hz[:-1, :-1] -= 0.7 * (np.diff(ex, axis=1)[:-1] + np.diff(ey, axis=0)[:, :-1])


@kdsl.kernel
def heat_3d(tsteps: i64, A: f64[N, N, N], B: f64[N, N, N]):
    for t in range(1, tsteps + 1):
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                for k in range(1, N - 1):
                    B[i, j, k] = (
                        0.125 * (A[i + 1, j, k] - 2.0 * A[i, j, k] + A[i - 1, j, k])
                        + 0.125 * (A[i, j + 1, k] - 2.0 * A[i, j, k] + A[i, j - 1, k])
                        + 0.125 * (A[i, j, k + 1] - 2.0 * A[i, j, k] + A[i, j, k - 1])
                        + A[i, j, k]
                    )
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                for k in range(1, N - 1):
                    A[i, j, k] = (
                        0.125 * (B[i + 1, j, k] - 2.0 * B[i, j, k] + B[i - 1, j, k])
                        + 0.125 * (B[i, j + 1, k] - 2.0 * B[i, j, k] + B[i, j - 1, k])
                        + 0.125 * (B[i, j, k + 1] - 2.0 * B[i, j, k] + B[i, j, k - 1])
                        + B[i, j, k]
                    )


def heat_3d_oracle(tsteps, A, B):
    if len(A) < 3:
        return
    c = slice(1, -1)

    def step(dst, src):
        laplacian = sum(np.diff(src, 2, axis=axis)[tuple(c if d != axis else slice(None) for d in range(3))]
                        for axis in range(3))  # fmt: skip
        dst[c, c, c] = src[c, c, c] + 0.125 * laplacian

    for _ in range(tsteps):
        step(B, A)
        step(A, B)


@kdsl.kernel
def jacobi_1d(tsteps: i64, A: f64[N], B: f64[N]):
    for t in range(tsteps):
        for i in range(1, N - 1):
            B[i] = 0.33333 * (A[i - 1] + A[i] + A[i + 1])
        for i in range(1, N - 1):
            A[i] = 0.33333 * (B[i - 1] + B[i] + B[i + 1])


def jacobi_1d_oracle(tsteps, A, B):
    if len(A) < 3:
        return
    for _ in range(tsteps):
        B[1:-1] = np.convolve(A, np.full(3, 0.33333), "valid")
        A[1:-1] = np.convolve(B, np.full(3, 0.33333), "valid")


@kdsl.kernel
def jacobi_2d(tsteps: i64, A: f64[N, N], B: f64[N, N]):
    for t in range(tsteps):
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                B[i, j] = 0.2 * (A[i, j] + A[i, j - 1] + A[i, 1 + j] + A[1 + i, j] + A[i - 1, j])
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                A[i, j] = 0.2 * (B[i, j] + B[i, j - 1] + B[i, 1 + j] + B[1 + i, j] + B[i - 1, j])


@kdsl.kernel
def jacobi_2d_f32(tsteps: i64, A: f32[N, N], B: f32[N, N]):
    for t in range(tsteps):
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                B[i, j] = 0.2 * (A[i, j] + A[i, j - 1] + A[i, 1 + j] + A[1 + i, j] + A[i - 1, j])
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                A[i, j] = 0.2 * (B[i, j] + B[i, j - 1] + B[i, 1 + j] + B[1 + i, j] + B[i - 1, j])


def jacobi_2d_oracle(tsteps, A, B):
    if len(A) < 3:
        return
    cross = 0.2 * np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], A.dtype)
    for _ in range(tsteps):
        B[1:-1, 1:-1] = scipy.signal.convolve2d(A, cross, "valid")
        A[1:-1, 1:-1] = scipy.signal.convolve2d(B, cross, "valid")


@kdsl.kernel
def seidel_2d(tsteps: i64, A: f64[N, N]):
    for t in range(tsteps):
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                A[i, j] = (
                    A[i - 1, j - 1] + A[i - 1, j] + A[i - 1, j + 1]
                    + A[i, j - 1] + A[i, j] + A[i, j + 1]
                    + A[i + 1, j - 1] + A[i + 1, j] + A[i + 1, j + 1]
                ) / 9.0  # fmt: skip


def seidel_2d_oracle(tsteps, A):
    """Each row is a first-order recursion y[j] = y[j - 1] / 9 + b[j], which is an IIR filter."""
    for _ in range(tsteps):
        for i in range(1, len(A) - 1):
            rows = np.convolve(A[i - 1] + A[i + 1], np.ones(3), "valid")
            b = (rows + A[i, 1:-1] + A[i, 2:]) / 9.0
            A[i, 1:-1], _ = scipy.signal.lfilter([1.0], [1.0, -1.0 / 9.0], b, zi=[A[i, 0] / 9.0])


STEPS = [(3, 7), (0, 5), (2, 0), (2, 1), (2, 2), (1, 3), (3, 11)]

PROGRAMS = [
    # The systems' condition grows with the grid: the recurrence and LAPACK round differently.
    Program(
        adi,
        adi_oracle,
        lambda d, t, n: (t, *(d.f64(n, n) for _ in range(4))),
        [(3, 7), (1, 3), (2, 2), (2, 11)],
        terms=64,
    ),
    Program(
        fdtd_2d,
        fdtd_2d_oracle,
        lambda d, t, x, y: (d.f64(x, y), d.f64(x, y), d.f64(x, y), d.f64(t)),
        [(3, 5, 7), (1, 1, 1), (0, 3, 3), (2, 4, 0), (4, 11, 6)],
    ),
    Program(
        heat_3d,
        heat_3d_oracle,
        lambda d, t, n: (t, d.f64(n, n, n), d.f64(n, n, n)),
        [(2, 5), (0, 4), (2, 0), (2, 1), (2, 2), (1, 3)],
    ),
    Program(jacobi_1d, jacobi_1d_oracle, lambda d, t, n: (t, d.f64(n), d.f64(n)), STEPS),
    Program(jacobi_2d, jacobi_2d_oracle, lambda d, t, n: (t, d.f64(n, n), d.f64(n, n)), STEPS),
    Program(jacobi_2d_f32, jacobi_2d_oracle, lambda d, t, n: (t, d.f32(n, n), d.f32(n, n)), STEPS),
    Program(seidel_2d, seidel_2d_oracle, lambda d, t, n: (t, d.f64(n, n)), STEPS),
]
