"""Neural network layers: softmax, layernorm, gelu, attention with online softmax, small dtypes."""

import math

import ml_dtypes
import numpy as np
import scipy.special

import kdsl
from kdsl import bf16, f16, f32, f64, i32, u8
from tests.check import Draw, Program

M, N, K, B, S, D = kdsl.sizes("M N K B S D")
SQRT_HALF = math.sqrt(0.5)


@kdsl.kernel
def softmax(x: f32[M, N], y: f32[M, N]):
    for i in range(M):
        top = -kdsl.inf
        for j in range(N):
            top = max(top, x[i, j])
        total = 0.0
        for j in range(N):
            y[i, j] = kdsl.exp(x[i, j] - top)
            total += y[i, j]
        for j in range(N):
            y[i, j] /= total


def softmax_oracle(x, y):
    if y.size:
        y[:] = scipy.special.softmax(x.astype(np.float64), axis=1)


@kdsl.kernel
def layernorm(x: f32[M, N], gain: f32[N], bias: f32[N], y: f32[M, N], eps: f32 = 1e-5):
    for i in range(M):
        mean = 0.0
        for j in range(N):
            mean += x[i, j]
        mean /= N
        variance = 0.0
        for j in range(N):
            variance += (x[i, j] - mean) * (x[i, j] - mean)
        scale = kdsl.rsqrt(variance / N + eps)
        for j in range(N):
            y[i, j] = (x[i, j] - mean) * scale * gain[j] + bias[j]


def layernorm_oracle(x, gain, bias, y, eps=1e-5):
    if y.size:
        wide = x.astype(np.float64)
        normal = (wide - wide.mean(axis=1, keepdims=True)) / np.sqrt(wide.var(axis=1, keepdims=True) + eps)
        y[:] = normal * gain + bias


@kdsl.kernel
def gelu(x: f32[N], y: f32[N]):
    for i in range(N):
        y[i] = 0.5 * x[i] * (1 + kdsl.erf(x[i] * SQRT_HALF))


def gelu_oracle(x, y):
    wide = x.astype(np.float64)
    y[:] = wide * scipy.special.ndtr(wide)


@kdsl.kernel
def gelu_tanh(x: f64[N], y: f64[N]):
    for i in range(N):
        inner = math.sqrt(2 / math.pi) * (x[i] + 0.044715 * x[i] ** 3)
        y[i] = 0.5 * x[i] * (1 + np.tanh(inner))


def gelu_tanh_oracle(x, y):
    z = np.sqrt(2 / np.pi) * (x + 0.044715 * np.power(x, 3))
    y[:] = x * scipy.special.expit(2 * z)


@kdsl.kernel
def attention(
    Q: f32[B, S, D], K_: f32[B, S, D], V: f32[B, S, D], O: f32[B, S, D], causal: kdsl.constexpr = False
):
    """Flash attention one key at a time: running maximum, sum and output."""
    for b in range(B):
        for i in range(S):
            top = -kdsl.inf
            total = 0.0
            acc = kdsl.zeros((D,), f32)
            for j in range(i + 1 if causal else S):
                score = 0.0
                for d in range(D):
                    score += Q[b, i, d] * K_[b, j, d]
                score /= math.sqrt(D)
                new_top = max(top, score)
                correction = kdsl.exp(top - new_top)
                p = kdsl.exp(score - new_top)
                total = total * correction + p
                for d in range(D):
                    acc[d] = acc[d] * correction + p * V[b, j, d]
                top = new_top
            for d in range(D):
                O[b, i, d] = acc[d] / total


@kdsl.kernel
def attention_blocked(
    Q: f32[B, S, D], K_: f32[B, S, D], V: f32[B, S, D], O: f32[B, S, D], BLOCK: kdsl.constexpr = 4
):
    """The same with a block of keys at a time and a ragged last one."""
    for b in range(B):
        for i in range(S):
            top = -kdsl.inf
            total = 0.0
            acc = kdsl.zeros((D,), f32)
            scores = kdsl.empty((BLOCK,), f32)
            for j0 in range(0, S, BLOCK):
                count = min(BLOCK, S - j0)
                new_top = top
                for j in range(count):
                    scores[j] = 0.0
                    for d in range(D):
                        scores[j] += Q[b, i, d] * K_[b, j0 + j, d]
                    scores[j] *= 1 / math.sqrt(D)
                    new_top = max(new_top, scores[j])
                correction = kdsl.exp(top - new_top)
                total *= correction
                for d in range(D):
                    acc[d] *= correction
                for j in range(count):
                    p = kdsl.exp(scores[j] - new_top)
                    total += p
                    for d in range(D):
                        acc[d] += p * V[b, j0 + j, d]
                top = new_top
            for d in range(D):
                O[b, i, d] = acc[d] / total


def attention_oracle(Q, K_, V, O, causal=False):
    if O.size:
        scores = Q.astype(np.float64) @ K_.transpose(0, 2, 1) / math.sqrt(Q.shape[-1])
        if causal:
            scores = np.where(np.tri(Q.shape[1], dtype=bool), scores, -np.inf)
        O[:] = scipy.special.softmax(scores, axis=-1) @ V


def blocked_oracle(Q, K_, V, O, BLOCK=4):
    attention_oracle(Q, K_, V, O)


def heads(d: Draw, b: int, s: int, dim: int, *rest):
    return d.f32(b, s, dim), d.f32(b, s, dim), d.f32(b, s, dim), d.f32(b, s, dim), *rest


@kdsl.kernel
def quantised_matmul(A: u8[M, K], B_: u8[K, N], C: u8[M, N], zero_a: i32, zero_b: i32, scale: f32):
    for i in range(M):
        for j in range(N):
            acc = i32(0)
            for k in range(K):
                acc += (A[i, k] - zero_a) * (B_[k, j] - zero_b)
            scaled = kdsl.round(f32(acc) * scale)
            C[i, j] = i32(min(max(scaled, 0), 255))


def quantised_oracle(A, B_, C, zero_a, zero_b, scale):
    acc = (A.astype(np.int64) - zero_a) @ (B_.astype(np.int64) - zero_b)
    C[:] = np.clip(np.rint(acc.astype(np.float32) * np.float32(scale)), 0, 255)


@kdsl.kernel
def axpy_f16(a: f16, x: f16[N], y: f16[N]):
    for i in range(N):
        y[i] = a * x[i] + y[i]


@kdsl.kernel
def axpy_bf16(a: bf16, x: bf16[N], y: bf16[N]):
    for i in range(N):
        y[i] = a * x[i] + y[i]


def axpy_oracle(a, x, y):
    y[:] = (float(x.dtype.type(a)) * x.astype(np.float64) + y.astype(np.float64)).astype(y.dtype)


@kdsl.kernel
def matmul_f16(A: f16[M, K], B_: f16[K, N], C: f16[M, N]):
    for i in range(M):
        for j in range(N):
            acc = f32(0)
            for k in range(K):
                acc += f32(A[i, k]) * f32(B_[k, j])
            C[i, j] = acc


@kdsl.kernel
def matmul_bf16(A: bf16[M, K], B_: bf16[K, N], C: bf16[M, N]):
    for i in range(M):
        for j in range(N):
            acc = f32(0)
            for k in range(K):
                acc += f32(A[i, k]) * f32(B_[k, j])
            C[i, j] = acc


def matmul_oracle(A, B_, C):
    C[:] = (A.astype(np.float64) @ B_.astype(np.float64)).astype(C.dtype)


def halves(dtype, *shapes):
    return lambda d, m, n, k: tuple(d.f64(*s).astype(dtype) for s in ((m, k), (k, n), (m, n)))


def pair(dtype):
    return lambda d, n: (1.5, d.f64(n).astype(dtype), d.f64(n).astype(dtype))


LINES = [(0,), (1,), (37,)]
ROWS = [(5, 7), (1, 1), (0, 3), (4, 0), (3, 31)]
MNK = [(5, 7, 3), (1, 1, 1), (2, 3, 0), (4, 5, 11)]

PROGRAMS = [
    Program(softmax, softmax_oracle, lambda d, m, n: (20 * d.f32(m, n), d.f32(m, n)), ROWS),
    # Not at N = 0: `mean` is a Python float then, and Python refuses 0.0 / 0 where compiled code gives nan.
    Program(layernorm, layernorm_oracle, lambda d, m, n: (d.f32(m, n), d.f32(n), d.f32(n), d.f32(m, n)), [
        (5, 7), (0, 3), (3, 31)
    ]),
    Program(gelu, gelu_oracle, lambda d, n: (4 * d.f32(n), d.f32(n)), LINES),
    Program(gelu_tanh, gelu_tanh_oracle, lambda d, n: (4 * d.f64(n), d.f64(n)), LINES),
    Program(attention, attention_oracle, heads, [(2, 5, 4), (1, 1, 1), (0, 2, 3)]),
    Program(
        attention,
        attention_oracle,
        lambda d, b, s, dim: heads(d, b, s, dim, True),
        [(2, 7, 4), (1, 1, 1)],
        name="attention-causal",
    ),
    Program(
        attention_blocked,
        blocked_oracle,
        heads,
        [(2, 7, 4, 4), (1, 8, 3, 4), (1, 3, 2, 4), (1, 7, 5, 3)],
    ),
    Program(
        quantised_matmul,
        quantised_oracle,
        lambda d, m, n, k: (
            d.ints(0, 256, m, k, dtype=np.uint8),
            d.ints(0, 256, k, n, dtype=np.uint8),
            np.zeros((m, n), np.uint8),
            np.int32(3),
            np.int32(128),
            1 / 4096,
        ),
        MNK,
    ),
    Program(axpy_f16, axpy_oracle, pair(np.float16), LINES),
    Program(axpy_bf16, axpy_oracle, pair(ml_dtypes.bfloat16), LINES),
    Program(matmul_f16, matmul_oracle, halves(np.float16), MNK),
    Program(matmul_bf16, matmul_oracle, halves(ml_dtypes.bfloat16), MNK),
]  # fmt: skip
