"""The kernels of the scheduled benchmarks, each with its schedule: short compositions of `kdsl.recipes`."""

from __future__ import annotations

import kdsl
from kdsl import f32, f64, recipes, u16

M, N, K, H, W, C, D = kdsl.sizes("M N K H W C D")

# -------------------------------------------------------------------- products


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] = 0.0
            for k in range(K):
                C[i, j] += A[i, k] * B[k, j]


@kdsl.kernel
def matmul_f64(A: f64[M, K], B: f64[K, N], C: f64[M, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] = 0.0
            for k in range(K):
                C[i, j] += A[i, k] * B[k, j]


@kdsl.kernel
def matmul_dots(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


def blocked(s: kdsl.Schedule) -> kdsl.Schedule:
    """6 x 64 sums in registers, B packed."""
    return recipes.gemm(s, "i", "j", "k", "B", "C")


def blocked_f64(s: kdsl.Schedule) -> kdsl.Schedule:
    """6 x 32 sums in registers, B packed."""
    return recipes.gemm(s, "i", "j", "k", "B", "C", size=(6, 32), lanes=8)


def few_rows(s: kdsl.Schedule) -> kdsl.Schedule:
    """6 rows of B stream by together and are added to a row of C; each block of 258 has a row of its own."""
    s = s.fission("j", after=0).split("k", 258).reorder("k_o", "j@1", "k_i").rfactor("k_o")
    s = s.split("k_i", 6).split("j@1", 64).reorder("k_i_o", "j_o", "k_i_i", "j_i")
    s = s.stage("C_r", "j_o", memory="register")
    for loop in ("j_i", "C_r_s_1", "C_r_s_w1"):
        s = s.vectorize(loop, 16).unroll(loop)
    for loop in ("j@0", "C_r_z0", "C_r_0"):
        s = s.vectorize(loop, 16)
    return s.unroll("k_i_i").parallel("k_o")


def few_columns(s: kdsl.Schedule) -> kdsl.Schedule:
    """8 x 8 sums in registers."""
    return recipes.register_tile(s, "i", "j", ["k"], (8, 8), 8).parallel("i_o")


# --------------------------------------------------------- elements and rows


@kdsl.kernel
def gelu(X: f32[N], Y: f32[N]):
    for i in range(N):
        x = X[i]
        Y[i] = 0.5 * x * (1 + kdsl.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


@kdsl.kernel
def saxpy(a: f32, X: f32[N], Y: f32[N]):
    for i in range(N):
        Y[i] = a * X[i] + Y[i]


@kdsl.kernel
def total(X: f32[N]) -> f32:
    s = 0.0
    for i in range(N):
        s += X[i]
    return s


@kdsl.kernel
def softmax(X: f32[M, N], Y: f32[M, N]):
    for i in range(M):
        top = f32(-kdsl.inf)
        for j in range(N):
            top = max(top, X[i, j])
        total = f32(0)
        for j in range(N):
            e = kdsl.exp(X[i, j] - top)
            Y[i, j] = e
            total += e
        scale = 1 / total
        for j in range(N):
            Y[i, j] *= scale


@kdsl.kernel
def layernorm(X: f32[M, N], g: f32[N], b: f32[N], Y: f32[M, N]):
    for i in range(M):
        total = f32(0)
        for j in range(N):
            total += X[i, j]
        mean = total / N
        square = f32(0)
        for j in range(N):
            square += (X[i, j] - mean) * (X[i, j] - mean)
        scale = kdsl.rsqrt(square / N + 1e-5)
        for j in range(N):
            Y[i, j] = (X[i, j] - mean) * scale * g[j] + b[j]


def elements(s: kdsl.Schedule) -> kdsl.Schedule:
    """Four registers at a time."""
    return recipes.vector_elementwise(s, "i")


def streamed(s: kdsl.Schedule) -> kdsl.Schedule:
    """Half a cache line at a time: NumPy's arrays begin 16 bytes after one, and half as many stores cross."""
    return recipes.vector_stream(s, "i", 8, 4).parallel("i_o")


def shared_sum(s: kdsl.Schedule) -> kdsl.Schedule:
    """Blocks with a partial sum each, for all threads; eight half cache lines at a time."""
    return recipes.reduce_registers(s.split("i", 1 << 15).rfactor("i_o"), "i_i").parallel("i_o")


def by_rows(s: kdsl.Schedule) -> kdsl.Schedule:
    """Three passes over a row, which stays in the first-level cache; four registers at a time."""
    return recipes.parallel_rows(s, "i", ["j", "j_1", "j_2"], 64)


def streamed_rows(s: kdsl.Schedule) -> kdsl.Schedule:
    """Two sums over a row in eight registers each; the result is written a register at a time."""
    s = recipes.vector_sum(recipes.vector_sum(s, "j", 128), "j_1", 128)
    return recipes.vector_stream(s, "j_2").parallel("i")


# ---------------------------------------------------------------- neighbours


@kdsl.kernel
def conv2d(X: f32[C, H + 2, W + 2], F: f32[D, C, 3, 3], Y: f32[D, H, W]):
    for d in range(D):
        for y in range(H):
            for x in range(W):
                acc = 0.0
                for c in range(C):
                    for ky in range(3):
                        for kx in range(3):
                            acc += X[c, y + ky, x + kx] * F[d, c, ky, kx]
                Y[d, y, x] = acc


@kdsl.kernel
def jacobi(A: f32[N, N], B: f32[N, N], steps: kdsl.constexpr = 5):
    for t in range(steps):  # noqa: B007
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                B[i, j] = 0.2 * (A[i, j] + A[i, j - 1] + A[i, j + 1] + A[i - 1, j] + A[i + 1, j])
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                A[i, j] = 0.2 * (B[i, j] + B[i, j - 1] + B[i, j + 1] + B[i - 1, j] + B[i + 1, j])


@kdsl.kernel
def blur(A: f32[H + 2, W + 2], B: f32[H, W]):
    P = kdsl.empty((H + 2, W), f32)
    for y in range(H + 2):
        for x in range(W):
            P[y, x] = (A[y, x] + A[y, x + 1] + A[y, x + 2]) * (1 / 3)
    for i in range(H):
        for j in range(W):
            B[i, j] = (P[i, j] + P[i + 1, j] + P[i + 2, j]) * (1 / 3)


@kdsl.kernel
def blur_u16(A: u16[H + 2, W + 2], B: u16[H, W]):
    P = kdsl.empty((H + 2, W), u16)
    for y in range(H + 2):
        for x in range(W):
            P[y, x] = (A[y, x] + A[y, x + 1] + A[y, x + 2]) // 3
    for i in range(H):
        for j in range(W):
            B[i, j] = (P[i, j] + P[i + 1, j] + P[i + 2, j]) // 3


def window(s: kdsl.Schedule, lanes: int) -> kdsl.Schedule:
    """Tiles of 4 rows, one vector wide: the 6 rows of the first stage that they need stay in registers."""
    s = s.tile(["i", "j"], [4, lanes]).compute_at("P", "j_o")
    return s.vectorize("x").vectorize("j_i").unroll("y").unroll("i_i").parallel("i_o")


def channels(s: kdsl.Schedule) -> kdsl.Schedule:
    """Sums for 3 channels and 56 pixels of a row in registers, rows of pixels in parallel."""
    s = recipes.register_tile(s, "d", "x", ["c", "ky", "kx"], (3, 56), 8, outside=["y"])
    return s.unroll("kx").parallel("y")


def all_steps(s: kdsl.Schedule) -> kdsl.Schedule:
    """All time steps for 64 rows before the next ones."""
    return recipes.time_tile(s, "t", "i", "i_1", ["j", "j_1"], rows=64, lanes=16)
