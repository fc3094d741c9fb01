"""Numerical simulation: n-body, tridiagonal solve, Newton, polynomials, Monte Carlo, ODEs."""

import math

import numpy as np
import scipy.integrate
import scipy.linalg
import scipy.special

import kdsl
from kdsl import f32, f64, i32, i64, u64
from tests.check import Draw, Program

N, M, D = kdsl.sizes("N M D")


@kdsl.kernel
def nbody_step(x: f64[N, 3], v: f64[N, 3], mass: f64[N], dt: f64, softening: f64 = 1e-3):
    for i in range(N):
        ax, ay, az = 0.0, 0.0, 0.0
        for j in range(N):
            dx = x[j, 0] - x[i, 0]
            dy = x[j, 1] - x[i, 1]
            dz = x[j, 2] - x[i, 2]
            r2 = dx * dx + dy * dy + dz * dz + softening
            inv = 1.0 / kdsl.sqrt(r2)
            w = mass[j] * inv * inv * inv
            ax += w * dx
            ay += w * dy
            az += w * dz
        v[i, 0] += dt * ax
        v[i, 1] += dt * ay
        v[i, 2] += dt * az
    for i in range(N):
        for k in range(3):
            x[i, k] += dt * v[i, k]


def nbody_oracle(x, v, mass, dt, softening=1e-3):
    between = x[None] - x[:, None]
    r2 = (between**2).sum(axis=2) + softening
    v += dt * ((mass[None] * r2**-1.5)[..., None] * between).sum(axis=1)
    x += dt * v


@kdsl.kernel
def tridiagonal(a: f64[N], b: f64[N], c: f64[N], d: f64[N], x: f64[N]):
    """Thomas algorithm: a[i] x[i-1] + b[i] x[i] + c[i] x[i+1] = d[i]."""
    cp = kdsl.empty((N,), f64)
    dp = kdsl.empty((N,), f64)
    for i in range(N):
        if i == 0:
            cp[0] = c[0] / b[0]
            dp[0] = d[0] / b[0]
        else:
            m = 1.0 / (b[i] - a[i] * cp[i - 1])
            cp[i] = c[i] * m
            dp[i] = (d[i] - a[i] * dp[i - 1]) * m
    for k in range(N):
        i = N - 1 - k
        x[i] = dp[i] - cp[i] * x[i + 1] if i < N - 1 else dp[i]


def tridiagonal_oracle(a, b, c, d, x):
    if len(x) == 1:
        x[:] = d / b
    elif len(x):
        bands = np.array([np.roll(c, 1), b, np.roll(a, -1)])
        x[:] = scipy.linalg.solve_banded((1, 1), bands, d)


@kdsl.kernel
def newton_cube_root(x: f64[N], root: f64[N]):
    for i in range(N):
        guess = x[i]
        for _ in range(100):
            if guess == 0:
                break
            better = guess - (guess * guess * guess - x[i]) / (3.0 * guess * guess)
            if abs(better - guess) <= 1e-15 * abs(guess):
                break
            guess = better
        root[i] = guess


def cube_root_oracle(x, root):
    root[:] = np.cbrt(x)


@kdsl.func
def horner(x: f64, c0: f64, c1: f64, c2: f64, c3: f64) -> f64:
    return ((c3 * x + c2) * x + c1) * x + c0


@kdsl.func
def sinc(x: f64) -> f64:
    if abs(x) < 1e-4:
        return 1.0 - x * x / 6
    return kdsl.sin(x) / x


@kdsl.kernel
def polynomial(x: f64[N], c: f64[4], y: f64[N]):
    for i in range(N):
        y[i] = horner(x[i], c[0], c[1], c[2], c[3])


def polynomial_oracle(x, c, y):
    y[:] = np.polynomial.Polynomial(c)(x)


@kdsl.kernel
def sincs(x: f64[N], y: f64[N]):
    for i in range(N):
        y[i] = sinc(x[i])


def sincs_oracle(x, y):
    y[:] = scipy.special.spherical_jn(0, np.abs(x))


@kdsl.kernel
def legendre(x: f64[N], out: f64[M, N]):
    for i in range(N):
        previous, current = 1.0, x[i]
        for n in range(M):
            out[n, i] = previous
            previous, current = current, ((2 * n + 3) * x[i] * current - (n + 1) * previous) / (n + 2)


def legendre_oracle(x, out):
    for n in range(len(out)):
        out[n] = scipy.special.eval_legendre(n, x)


@kdsl.func
def lorenz_x(x: f64, y: f64, z: f64) -> f64:
    return 10.0 * (y - x)


@kdsl.func
def lorenz_y(x: f64, y: f64, z: f64) -> f64:
    return x * (28.0 - z) - y


@kdsl.func
def lorenz_z(x: f64, y: f64, z: f64) -> f64:
    return x * y - 8.0 / 3.0 * z


@kdsl.kernel
def lorenz_rk4(path: f64[N + 1, 3], h: f64):
    for n in range(N):
        x, y, z = path[n, 0], path[n, 1], path[n, 2]
        x1, y1, z1 = lorenz_x(x, y, z), lorenz_y(x, y, z), lorenz_z(x, y, z)
        u, v, w = x + h / 2 * x1, y + h / 2 * y1, z + h / 2 * z1
        x2, y2, z2 = lorenz_x(u, v, w), lorenz_y(u, v, w), lorenz_z(u, v, w)
        u, v, w = x + h / 2 * x2, y + h / 2 * y2, z + h / 2 * z2
        x3, y3, z3 = lorenz_x(u, v, w), lorenz_y(u, v, w), lorenz_z(u, v, w)
        u, v, w = x + h * x3, y + h * y3, z + h * z3
        x4, y4, z4 = lorenz_x(u, v, w), lorenz_y(u, v, w), lorenz_z(u, v, w)
        path[n + 1, 0] = x + h / 6 * (x1 + 2 * x2 + 2 * x3 + x4)
        path[n + 1, 1] = y + h / 6 * (y1 + 2 * y2 + 2 * y3 + y4)
        path[n + 1, 2] = z + h / 6 * (z1 + 2 * z2 + 2 * z3 + z4)


def lorenz_oracle(path, h):
    def f(p):
        return np.array([10 * (p[1] - p[0]), p[0] * (28 - p[2]) - p[1], p[0] * p[1] - 8 / 3 * p[2]])

    for n in range(len(path) - 1):
        p = path[n]
        k1 = f(p)
        k2 = f(p + h / 2 * k1)
        k3 = f(p + h / 2 * k2)
        k4 = f(p + h * k3)
        path[n + 1] = p + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


@kdsl.kernel
def simpson(lo: f64, hi: f64, intervals: i64) -> f64:
    h = (hi - lo) / intervals
    total = 0.0
    for i in range(intervals + 1):
        x = lo + i * h
        weight = 1.0 if i == 0 or i == intervals else 4.0 if i % 2 == 1 else 2.0
        total += weight * math.exp(-x * x)
    return total * h / 3


def simpson_oracle(lo, hi, intervals):
    x = np.linspace(lo, hi, intervals + 1)
    return np.float64(scipy.integrate.simpson(np.exp(-x * x), x=x))


@kdsl.kernel
def pi_monte_carlo(seed: u64, samples: i64) -> f64:
    inside = 0
    for i in range(samples):
        x = kdsl.uniform(seed, 2 * i)
        y = kdsl.uniform(seed, 2 * i + 1)
        if x * x + y * y < 1:
            inside += 1
    return 4 * inside / samples


@kdsl.kernel
def power_iteration(A: f64[N, N], v: f64[N], iterations: i32) -> f64:
    w = kdsl.zeros((N,), f64)
    eigenvalue = 0.0
    for _ in range(iterations):
        norm = 0.0
        for i in range(N):
            w[i] = 0.0
            for j in range(N):
                w[i] += A[i, j] * v[j]
            norm += w[i] * w[i]
        eigenvalue = kdsl.sqrt(norm)
        for i in range(N):
            v[i] = w[i] / eigenvalue
    return eigenvalue


def power_iteration_oracle(A, v, iterations):
    w = np.linalg.matrix_power(A, iterations) @ v
    before = np.linalg.matrix_power(A, iterations - 1) @ v
    v[:] = w / np.linalg.norm(w)
    return np.float64(np.linalg.norm(w) / np.linalg.norm(before))


@kdsl.kernel
def distances(x: f32[N, D], y: f32[M, D], out: f32[N, M]):
    for i, j in kdsl.grid(N, M):
        total = f32(0)
        for d in range(D):
            total += (x[i, d] - y[j, d]) ** 2
        out[i, j] = kdsl.sqrt(total)


def distances_oracle(x, y, out):
    if out.size:
        out[:] = np.linalg.norm(x[:, None].astype(np.float64) - y[None], axis=2)


def bands(d: Draw, n: int):
    return d.f64(n), d.f64(n) + 3, d.f64(n), d.f64(n), d.f64(n)


LINES = [(0,), (1,), (37,)]

PROGRAMS = [
    Program(
        nbody_step,
        nbody_oracle,
        lambda d, n: (d.f64(n, 3), d.f64(n, 3), d.f64(n) + 2, 0.01),
        [(0,), (1,), (7,), (13,)],
        terms=8,  # close pairs amplify the rounding of their distance
    ),
    Program(tridiagonal, tridiagonal_oracle, bands, LINES),
    Program(newton_cube_root, cube_root_oracle, lambda d, n: (10 * d.f64(n), d.f64(n)), [(0,), (1,), (37,)]),
    Program(polynomial, polynomial_oracle, lambda d, n: (d.f64(n), d.f64(4), d.f64(n)), LINES),
    Program(sincs, sincs_oracle, lambda d, n: (d.f64(n) * np.logspace(-6, 1, n), d.f64(n)), LINES),
    Program(
        legendre, legendre_oracle, lambda d, m, n: (d.f64(n), d.f64(m, n)), [(7, 5), (0, 3), (1, 1), (3, 0)]
    ),
    Program(
        lorenz_rk4, lorenz_oracle, lambda d, n: (10 * d.f64(n + 1, 3), 0.01), [(0,), (1,), (20,)], terms=8
    ),
    Program(simpson, simpson_oracle, lambda d, n: (-1.0, 2.0, n), [(2,), (10,), (64,)]),
    Program(
        pi_monte_carlo, lambda *args: pi_monte_carlo.py(*args), lambda d, n: (42, n), [(1,), (101,), (1000,)]
    ),
    Program(
        power_iteration,
        power_iteration_oracle,
        lambda d, n: (d.f64(n, n) + 2, d.f64(n) + 2, 3),
        [(1,), (2,), (11,)],
    ),
    Program(
        distances,
        distances_oracle,
        lambda d, n, m, k: (d.f32(n, k), d.f32(m, k), d.f32(n, m)),
        [(5, 7, 3), (1, 1, 1), (0, 3, 2), (2, 3, 0)],
    ),
]
