"""Ways to write and call kernels: results, views, kernels in kernels, generic types, constants."""

import math

import numpy as np

import kdsl
from kdsl import f32, f64, i8, i32, i64, u8
from tests.check import Draw, Program
from tests.programs.polybench.blas import gemm, gemm_oracle

M, N, K = kdsl.sizes("M N K")
T = kdsl.typevar("T", f32, f64)
I = kdsl.typevar("I", u8, i8, i32, i64)
TILE = 8
TWO_PI = 2 * math.pi


# ---------------------------------------------------------------- kernels that call kernels


@kdsl.kernel
def add_product(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for k in range(K):
            for j in range(N):
                C[i, j] += A[i, k] * B[k, j]


@kdsl.kernel
def clear(C: f32[M, N]):
    for i, j in kdsl.grid(M, N):
        C[i, j] = 0


@kdsl.kernel
def blocked_matmul(A: f32[8 * M, 8 * K], B: f32[8 * K, 8 * N], C: f32[8 * M, 8 * N]):
    clear(C)
    for i in range(0, 8 * M, 8):
        for j in range(0, 8 * N, 8):
            for k in range(0, 8 * K, 8):
                add_product(A[i : i + 8, k : k + 8], B[k : k + 8, j : j + 8], C[i : i + 8, j : j + 8])


@kdsl.kernel
def ragged_matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    """Blocks of TILE, the last ones smaller."""
    clear(C)
    for i in range(0, M, TILE):
        ie = min(i + TILE, M)
        for j in range(0, N, TILE):
            je = min(j + TILE, N)
            for k in range(0, K, TILE):
                ke = min(k + TILE, K)
                add_product(A[i:ie, k:ke], B[k:ke, j:je], C[i:ie, j:je])


def matmul_oracle(A, B, C):
    C[:] = A @ B


@kdsl.kernel
def dot(x: f64[N], y: f64[N]) -> f64:
    total = 0.0
    for i in range(N):
        total += x[i] * y[i]
    return total


@kdsl.kernel
def gram(A: f64[M, N], G: f64[M, M]):
    for i in range(M):
        for j in range(M):
            G[i, j] = dot(A[i, :], A[j, :])


def gram_oracle(A, G):
    G[:] = A @ A.T


@kdsl.kernel
def normalise(x: f64[N]):
    norm = kdsl.sqrt(dot(x, x))
    for i in range(N):
        x[i] /= norm


@kdsl.kernel
def normalise_columns(A: f64[M, N]):
    for j in range(N):
        normalise(A[:, j])


def normalise_oracle(A):
    if A.size:
        A /= np.linalg.norm(A, axis=0)


# ---------------------------------------------------------------- results


@kdsl.kernel
def matmul_result(A: f32[M, K], B: f32[K, N]) -> f32[M, N]:
    C = kdsl.zeros((M, N), f32)
    for i in range(M):
        for j in range(N):
            for k in range(K):
                C[i, j] += A[i, k] * B[k, j]
    return C


def matmul_result_oracle(A, B):
    return A @ B


@kdsl.kernel
def moments(x: f64[N]) -> (f64, f64):
    mean = 0.0
    for i in range(N):
        mean += x[i]
    mean /= N
    variance = 0.0
    for i in range(N):
        variance += (x[i] - mean) ** 2
    return mean, variance / N


def moments_oracle(x):
    return x.mean(), x.var()


@kdsl.kernel
def split_even_odd(x: i32[2 * N]) -> (i32[N], i32[N]):
    even = kdsl.empty((N,), i32)
    odd = kdsl.empty((N,), i32)
    for i in range(N):
        even[i] = x[2 * i]
        odd[i] = x[2 * i + 1]
    return even, odd


def split_oracle(x):
    return x[::2].copy(), x[1::2].copy()


@kdsl.kernel
def outer(x: f64[M], y: f64[N]) -> f64[M, N]:
    out = kdsl.empty((M, N), f64)
    for i in range(M):
        out[i, :] = x[i] * y
    return out


def outer_oracle(x, y):
    return np.outer(x, y)


# ---------------------------------------------------------------- generic types, compile-time values


@kdsl.kernel
def axpy(a: T, x: T[N], y: T[N]):
    for i in range(N):
        y[i] += a * x[i]


def axpy_oracle(a, x, y):
    y += x.dtype.type(a) * x


@kdsl.kernel
def sum_wrapping(x: I[N]) -> I:
    total = I(0)
    for i in range(N):
        total += x[i]
    return total


def sum_wrapping_oracle(x):
    return x.sum(dtype=x.dtype)


@kdsl.kernel
def cumulative(x: T[N]) -> T[N]:
    out = kdsl.empty((N,), T)
    running = T(0)
    for i in range(N):
        running += x[i]
        out[i] = running
    return out


def cumulative_oracle(x):
    return np.cumsum(x)


@kdsl.kernel
def transpose_blocked(A: f32[M, N], B: f32[N, M], BLOCK: kdsl.constexpr = 4):
    for i0 in range(0, M, BLOCK):
        for j0 in range(0, N, BLOCK):
            for i in range(i0, min(i0 + BLOCK, M)):
                for j in range(j0, min(j0 + BLOCK, N)):
                    B[j, i] = A[i, j]


def transpose_oracle(A, B, BLOCK=4):
    B[:] = A.T


@kdsl.kernel
def fir(x: f32[N + 4], taps: f32[5], y: f32[N], UNROLL: kdsl.constexpr = True):
    for i in range(N):
        acc = 0.0
        if UNROLL:
            for k in kdsl.static_range(5):
                acc += taps[k] * x[i + k]
        else:
            for k in range(5):
                acc += taps[k] * x[i + k]
        y[i] = acc


def fir_oracle(x, taps, y, UNROLL=True):
    if len(y):
        y[:] = np.convolve(x, taps[::-1], "valid")


@kdsl.kernel
def reduce_axis(x: f64[M, N], out: f64[M], how: kdsl.constexpr = "sum"):
    for i in range(M):
        if how == "sum":
            acc = 0.0
            for j in range(N):
                acc += x[i, j]
        elif how == "max":
            acc = -kdsl.inf
            for j in range(N):
                acc = max(acc, x[i, j])
        else:
            acc = 1.0
            for j in range(N):
                acc *= x[i, j]
        out[i] = acc


def reduce_oracle(x, out, how="sum"):
    out[:] = {"sum": np.sum, "max": lambda a, axis: np.max(a, axis, initial=-np.inf), "prod": np.prod}[how](
        x, axis=1
    )


# ---------------------------------------------------------------- arguments of all kinds


@kdsl.kernel
def unannotated(a, b, out, factor):
    for i in range(len(a)):
        for j in range(a.shape[1]):
            out[i, j] = a[i, j] * factor + b[j]


def unannotated_oracle(a, b, out, factor):
    out[:] = a * factor + b


@kdsl.kernel
def waves(n: i64, amplitude: f64, out: f64[N]):
    for i in range(N):
        total = 0.0
        for k in range(1, n + 1):
            total += math.sin(TWO_PI * k * i / N) / k
        out[i] = amplitude * total


def waves_oracle(n, amplitude, out):
    size = len(out)
    if size:
        k = np.arange(1, n + 1)
        out[:] = amplitude * (np.sin(2 * np.pi * np.outer(np.arange(size), k) / size) / k).sum(axis=1)


@kdsl.kernel
def negative_constants(x: i64[N + 2], out: i64[N + 2]):
    """Constant negative indices count from the end."""
    out[-1] = x[0]
    out[0] = x[-1]
    for i in range(N):
        out[i + 1] = x[i] - x[-2]


def negative_oracle(x, out):
    out[1:-1] = x[:-2] - x[-2]
    out[-1], out[0] = x[0], x[-1]


@kdsl.kernel
def views(A: f64[M, N], B: f64[N, M], row: f64[N]):
    """Slices, a transposed view, a row copied and elementwise expressions on slices."""
    V = A.T
    for j, i in kdsl.grid(N, M):
        B[j, i] = V[j, i] + 1.0
    row[:] = A[0, :]
    for i in range(1, M):
        A[i, :] = 2.0 * A[i, :] + row


def views_oracle(A, B, row):
    B[:] = A.T + 1
    row[:] = A[0]
    A[1:] = 2 * A[1:] + row


@kdsl.kernel
def householder(A: f64[M, N], diagonal: f64[N]):
    """QR in place by reflections; columns are updated through views."""
    for k in range(min(M, N)):
        v = A[k:, k]
        norm = kdsl.sqrt(dot(v, v))
        alpha = -norm if v[0] > 0 else norm
        v[0] -= alpha
        vv = dot(v, v)
        if vv > 0:
            for j in range(k + 1, N):
                w = A[k:, j]
                beta = 2.0 * dot(v, w) / vv
                for i in range(M - k):
                    w[i] -= beta * v[i]
        diagonal[k] = alpha


def householder_oracle(A, diagonal):
    """R from LAPACK, with its sign convention; the reflectors recomputed from their definition."""
    m, n = A.shape
    for k in range(min(m, n)):
        x = A[k:, k].copy()
        alpha = -math.copysign(np.linalg.norm(x), x[0]) if x[0] else np.linalg.norm(x)
        v = x - alpha * np.eye(len(x))[0]
        reflect = np.eye(len(v)) - 2 * np.outer(v, v) / (v @ v) if v @ v else np.eye(len(v))
        A[k:, k + 1 :] = reflect @ A[k:, k + 1 :]
        A[k:, k] = v
        diagonal[k] = alpha


def strided(d: Draw, m: int, n: int, k: int) -> tuple[object, ...]:
    """gemm on a transposed C, every second column of A and B upside down."""
    return 1.5, 1.2, d.f64(n, m).T, d.f64(m, 2 * k)[:, ::2], d.f64(k, n)[::-1]


def reversed_f32(d: Draw, m: int, n: int, k: int) -> tuple[object, ...]:
    return d.f32(k, m).T, d.f32(k, 2 * n)[:, ::-2], d.f32(m, n)[::-1, ::-1]


LINES = [(0,), (1,), (37,)]
MNK = [(5, 7, 3), (1, 1, 1), (0, 4, 3), (3, 4, 0), (13, 8, 11)]
MN = [(5, 7), (1, 1), (0, 3), (4, 0), (11, 13)]

PROGRAMS = [
    Program(
        blocked_matmul,
        matmul_oracle,
        lambda d, m, n, k: (d.f32(8 * m, 8 * k), d.f32(8 * k, 8 * n), d.f32(8 * m, 8 * n)),
        [(1, 2, 1), (1, 1, 0), (0, 1, 1)],
    ),
    Program(ragged_matmul, matmul_oracle, lambda d, m, n, k: (d.f32(m, k), d.f32(k, n), d.f32(m, n)), MNK),
    Program(
        ragged_matmul,
        matmul_oracle,
        reversed_f32,
        [(5, 7, 3), (13, 8, 11), (1, 1, 1)],
        name="ragged_matmul-strided",
    ),
    Program(gemm, gemm_oracle, strided, MNK, name="gemm-strided"),
    Program(gram, gram_oracle, lambda d, m, n: (d.f64(m, n), d.f64(m, m)), MN),
    Program(normalise_columns, normalise_oracle, lambda d, m, n: (d.f64(m, n),), MN),
    Program(matmul_result, matmul_result_oracle, lambda d, m, n, k: (d.f32(m, k), d.f32(k, n)), MNK),
    # Not at N = 0, where `mean` is a Python float and 0.0 / 0 a ZeroDivisionError in Python.
    Program(moments, moments_oracle, lambda d, n: (d.f64(n),), [(1,), (37,)]),
    Program(split_even_odd, split_oracle, lambda d, n: (d.ints(-9, 9, 2 * n, dtype=np.int32),), LINES),
    Program(outer, outer_oracle, lambda d, m, n: (d.f64(m), d.f64(n)), MN),
    Program(axpy, axpy_oracle, lambda d, n: (1.1, d.f32(n), d.f32(n)), LINES, name="axpy-f32"),
    Program(axpy, axpy_oracle, lambda d, n: (1.1, d.f64(n), d.f64(n)), LINES, name="axpy-f64"),
    Program(
        sum_wrapping,
        sum_wrapping_oracle,
        lambda d, n: (d.ints(0, 256, n, dtype=np.uint8),),
        LINES,
        name="sum-u8",
    ),
    Program(
        sum_wrapping,
        sum_wrapping_oracle,
        lambda d, n: (d.ints(-128, 128, n, dtype=np.int8),),
        LINES,
        name="sum-i8",
    ),
    Program(
        sum_wrapping,
        sum_wrapping_oracle,
        lambda d, n: (d.ints(-(2**63), 2**63 - 1, n),),
        LINES,
        name="sum-i64",
    ),
    Program(cumulative, cumulative_oracle, lambda d, n: (d.f32(n),), LINES, name="cumulative-f32"),
    Program(
        transpose_blocked,
        transpose_oracle,
        lambda d, m, n: (d.f32(m, n), d.f32(n, m)),
        MN,
    ),
    Program(
        transpose_blocked,
        transpose_oracle,
        lambda d, m, n: (d.f32(m, n), d.f32(n, m), 3),
        MN,
        name="transpose_blocked-3",
    ),
    Program(fir, fir_oracle, lambda d, n: (d.f32(n + 4), d.f32(5), d.f32(n)), LINES),
    Program(fir, fir_oracle, lambda d, n: (d.f32(n + 4), d.f32(5), d.f32(n), False), LINES, name="fir-loop"),
    Program(reduce_axis, reduce_oracle, lambda d, m, n: (d.f64(m, n), d.f64(m)), MN, name="reduce-sum"),
    Program(
        reduce_axis, reduce_oracle, lambda d, m, n: (d.f64(m, n), d.f64(m), "max"), MN, name="reduce-max"
    ),
    Program(
        reduce_axis, reduce_oracle, lambda d, m, n: (d.f64(m, n), d.f64(m), "prod"), MN, name="reduce-prod"
    ),
    Program(
        unannotated,
        unannotated_oracle,
        lambda d, m, n: (d.f32(m, n), d.f32(n), d.f32(m, n), 3),
        MN,
    ),
    Program(
        unannotated,
        unannotated_oracle,
        lambda d, m, n: (d.ints(-99, 99, m, n), d.ints(-99, 99, n), d.f64(m, n), 0.5),
        MN,
        name="unannotated-mixed",
    ),
    Program(waves, waves_oracle, lambda d, n: (5, 2.0, d.f64(n)), LINES, terms=4),
    Program(
        negative_constants, negative_oracle, lambda d, n: (d.ints(-9, 9, n + 2), d.ints(-9, 9, n + 2)), LINES
    ),
    Program(
        views,
        views_oracle,
        lambda d, m, n: (d.f64(m, n), d.f64(n, m), d.f64(n)),
        [(5, 7), (1, 1), (4, 0), (11, 13)],
    ),
    Program(
        householder,
        householder_oracle,
        lambda d, m, n: (d.f64(m, n), d.f64(n)),
        [(7, 5), (1, 1), (5, 0), (4, 4)],
        terms=8,
    ),
]
