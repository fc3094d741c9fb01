"""The IR means what Python means: interpreted programs against the plain function."""

from __future__ import annotations

import math

import numpy as np
import pytest

import kdsl
from kdsl.dtypes import bool_, f16, f32, f64, i8, i16, i32, i64, sizes, typevar, u8, u16, u32, u64
from tests.frontend.harness import check, func, interpreted, kernel

M, N, K = sizes("M N K")
T = typevar("T", f32, f64)
SCALE = 2.5
STRONG = np.float32(0.1)
TAPS = (1, 2, 3)
RNG = np.random.default_rng(1)


def floats(*shape: int, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def ints(*shape: int, dtype=np.int32, low=-50, high=50):
    return RNG.integers(low, high, shape).astype(dtype)


@func
def square(x):
    return x * x


@func
def clamp(x: f32, low: f32, high: f32) -> f32:
    if x < low:
        return low
    if x > high:
        return high
    return x


@func
def poly(x: f32) -> f32:
    y = x * 3
    y += 1
    z, y = y, y * y
    return y + z


@func
def find(A: f32[N], value: f32) -> i64:
    for i in range(N):
        if A[i] == value:
            return i
    return -1


@func
def total(A: f32[N]) -> f32:
    s = f32(0)
    for i in range(len(A)):
        s += A[i]
    return s


@func
def bump(A: i32[N], i: i64) -> i32:
    A[i] += 1
    return A[i]


@kernel
def double(x: f32[N]):
    for i in range(N):
        x[i] = x[i] * 2


@kernel
def mm(A: f32[M, K], B: f32[K, N]) -> f32[M, N]:
    C = kdsl.zeros((M, N), f32)
    for i, j in kdsl.grid(M, N):
        for k in range(K):
            C[i, j] += A[i, k] * B[k, j]
    return C


@kernel
def scaled_sum(A: f32[N], factor=2.0) -> f32:
    s = f32(0)
    for i in range(N):
        s += A[i] * factor
    return s


# Each case: a function and its arguments.
CASES = []


def case(*args):
    def add(fn):
        CASES.append(pytest.param(fn, args, id=fn.__name__))
        return fn

    return add


@case(floats(4, 5), floats(5, 3), np.zeros((4, 3), np.float32))
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = f32(0)
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


@case(ints(20), np.zeros(20, np.int32))
def branches(A: i32[N], B: i32[N]):
    for i in range(N):
        x = A[i]
        if x < -20:
            B[i] = -1
        elif (x < 0 and i % 2 == 0) or x == 7:
            B[i] = x // 3
        elif not x > 10:
            B[i] = x % 7
        else:
            B[i] = (x << 2) ^ (x >> 1) | 3


@case(ints(30, dtype=np.int64), np.zeros(8, np.int64))
def control(A: i64[N], out: i64[8]):
    count = 0
    i = 0
    while i < len(A):
        i += 1
        if A[i - 1] % 3 == 0:
            continue
        if A[i - 1] > 45:
            break
        count += 1
    out[0] = count
    out[1] = i
    for j in range(N - 1, -1, -2):
        if A[j] < 0:
            continue
        out[2] += j
        if out[2] > 60:
            break
    n = 27
    steps = 0
    while True:
        if n == 1:
            break
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    out[3] = steps
    for i in range(2, 20, 5):
        for j in range(i, 0, -1):
            if j * i > 50:
                break
        else_free = i
        out[4] += else_free


@case(floats(6), ints(6), np.zeros(12, np.float64))
def promotion(X: f32[N], Y: i32[N], out: f64[12]):
    out[0] = X[0] + 1
    out[1] = X[1] * SCALE
    out[2] = X[2] * STRONG
    out[3] = Y[0] / 3
    out[4] = Y[1] * 0.5
    out[5] = Y[2] + X[3]
    out[6] = 7 // 2 + 7 % -4 + -7 // 2
    out[7] = 1 / 3
    out[8] = True + True + (X[0] > 0)
    out[9] = 2**10 + 2**-1
    out[10] = (X[0] > 0) + (X[1] > 0)
    out[11] = 10**30 * 1.0


@case(
    ints(9, dtype=np.uint8, low=0, high=255),
    ints(9, dtype=np.int8),
    np.zeros(9, np.uint8),
    np.zeros(9, np.int16),
)
def narrow(A: u8[N], B: i8[N], C: u8[N], D: i16[N]):
    total = u8(0)
    for i in range(N):
        total += A[i]
        C[i] = total * 3 + A[i]
        D[i] = A[i] + B[i]
        C[i] -= 200
        D[i] = -D[i] if D[i] < 0 else ~D[i]


@case(ints(6, dtype=np.uint64, low=0, high=2**63), ints(6, dtype=np.int64), np.zeros((6, 8), np.bool_))
def comparisons(A: u64[N], B: i64[N], out: bool_[N, 8]):
    for i in range(N):
        out[i, 0] = A[i] < 5
        out[i, 1] = A[i] > -1
        out[i, 2] = A[i] == B[i]
        out[i, 3] = B[i] < A[i]
        out[i, 4] = A[i] <= i
        out[i, 5] = 0 <= B[i] < 30
        out[i, 6] = B[i] != 2**63
        out[i, 7] = B[i]


@case(floats(9), np.zeros(9, np.float32))
def minmax(A: f32[N], B: f32[N]):
    lowest = A[0]
    highest = A[0]
    for i in range(N):
        lowest = min(lowest, A[i])
        highest = max(A[i], highest)
        B[i] = max(A[i], 0.0, lowest) - min(highest, 1)
        B[i] = min(B[i], abs(A[i]))


@case(floats(7), np.zeros((7, 8), np.float64))
def powers(A: f32[N], out: f64[N, 8]):
    for i in range(N):
        x = f64(A[i])
        out[i, 0] = x**2
        out[i, 1] = A[i] ** 0
        out[i, 2] = i**3
        out[i, 3] = (i + 1) ** -1
        out[i, 4] = pow(i, i)
        out[i, 5] = abs(x) ** 0.5
        out[i, 6] = (x + 1) ** 2
        out[i, 7] = 2**i


@case(floats(6) * 10, np.zeros((6, 6), np.int64))
def conversions(A: f32[N], out: i64[N, 6]):
    for i in range(N):
        out[i, 0] = round(A[i])
        out[i, 1] = int(A[i])
        out[i, 2] = i32(A[i]) + bool(A[i])
        out[i, 3] = u8(int(A[i]))
        out[i, 4] = math.floor(A[i]) + math.ceil(A[i])
        out[i, 5] = A[i]
        q, r = divmod(i * 7, 4)
        out[i, 5] += q * 10 + r


@case(floats(6), np.zeros((6, 8), np.float32))
def functions(A: f32[N], out: f32[N, 8]):
    for i in range(N):
        out[i, 0] = kdsl.sqrt(abs(A[i]))
        out[i, 1] = np.floor(A[i]) + kdsl.ceil(A[i]) + kdsl.round(A[i] * 3) + kdsl.trunc(A[i])
        out[i, 2] = kdsl.where(A[i] > 0, A[i], -1)
        out[i, 3] = kdsl.minimum(A[i], 0.5) + np.maximum(A[i], kdsl.nan if i == 3 else 0.0)
        out[i, 4] = kdsl.fma(A[i], A[i], 1)
        out[i, 5] = kdsl.copysign(2.0, A[i]) + kdsl.isnan(A[i]) + kdsl.isinf(kdsl.inf)
        out[i, 6] = kdsl.bitcast(kdsl.bitcast(A[i], u32) ^ 1, f32)
        out[i, 7] = kdsl.fmod(A[i], 0.25) + math.pi


@case(floats(5, 6), np.zeros((5, 6), np.float32), np.zeros((6, 5), np.float32))
def views(A: f32[M, N], B: f32[M, N], C: f32[N, M]):
    for i in range(M):
        row = A[i, :]
        for j in range(len(row)):
            B[i, j] = row[j] + row[-1] + A[-1][0]
    B[0, :] = 2 * A[1, :] + A[:, 0][0]
    B[1:3, 2:4] = A[0, 0]
    B[-1, ::2] += A[0, ::2] * 10
    B[2] = A[3]
    C[:, :] = A.T
    C[::-1, 1] = A[2]
    C[0] *= 2
    B[3:, 1:3] = A[3:, 0:1]
    B[4] = B[4, ::-1]
    B[1:, 0] = B[:-1, 0]


@case(floats(12), np.zeros((3, 4), np.float32), np.zeros(12, np.float32))
def reshaped(A: f32[12], B: f32[3, 4], C: f32[12]):
    V = A.reshape(3, 4)
    for i in range(V.shape[0]):
        for j in range(V.shape[1]):
            B[i, j] = V[i, j] * 2
    C.reshape((4, 3))[...] = B.reshape(2, 6).reshape(4, -1) if False else A.reshape(4, 3)
    B.reshape(12)[5] = 7


@case(floats(4, 6), np.zeros(24, np.float32))
def flattened(A: f32[M, N], B: f32[24]):
    flat = A.reshape(-1)
    for i in range(A.size):
        B[i] = flat[i]


@case(ints(10, dtype=np.int64, low=0, high=10), floats(10), np.zeros(10, np.float32))
def gather(idx: i64[N], A: f32[N], B: f32[N]):
    for i in range(N):
        B[i] = A[idx[i]]
    for i in range(N):
        B[idx[i]] += 1
        A[idx[idx[i]]] = B[i]


@case(floats(6), np.zeros(6, np.float32))
def swaps(A: f32[N], B: f32[N]):
    a, b = A[0], A[1]
    for i in range(N):
        a, b = b, a + b
        B[i] = a
    for i in range(N // 2):
        A[i], A[N - 1 - i] = A[N - 1 - i], A[i]
    x = y = B[0]
    x += 1
    B[1] = x - y
    (p, q), r = (A[0], A[1]), A[2]
    B[2] = p * q + r


@case(floats(8), np.zeros((8, 5), np.float32))
def device_functions(A: f32[N], B: f32[N, 5]):
    for i in range(N):
        B[i, 0] = square(A[i] + 1) + square(i)
        B[i, 1] = clamp(A[i], -0.5, 0.5)
        B[i, 2] = poly(poly(A[i]))
        B[i, 3] = find(A, A[i]) + (A[i] > 0 and find(A, 3) < 0)
        B[i, 4] = total(A[i:]) if i % 2 == 0 else total(A[0:2]) + square(A[i])


@case(np.zeros(6, np.int32), np.zeros(6, np.int32))
def effects(A: i32[N], B: i32[N]):
    for i in range(N):
        B[i] = A[0] * 100 + bump(A, 0) * 10 + A[0]
    if bump(A, 1) > 5 or bump(A, 2) > 0:
        B[0] = -1
    B[1] = 0 < bump(A, 3) < 5
    while bump(A, 4) < 9:
        B[2] += 1
        if bump(A, 5) > 6:
            continue
    A[bump(A, 0) - 5], B[4] = bump(A, 1), bump(A, 1)
    x = A[0] if bump(A, 3) > 1 else bump(A, 3)
    B[5] = x


@case(floats(5), floats(3, 4), floats(4, 2), np.zeros((3, 2), np.float32))
def kernel_calls(X: f32[5], A: f32[3, 4], B: f32[4, 2], C: f32[3, 2]):
    double(X)
    double(A[1])
    double(x=A[:, 2])
    D = mm(A, B)
    C[:, :] = D
    C[0, 0] += scaled_sum(X) + scaled_sum(X[1:3], 3)
    C[1:, :] = mm(A[1:, :], B)


@case(floats(5), np.int64(3))
def rebinding(A: f32[N], n: i64):
    while n > 0:
        A[n] = n
        n -= 1
    x = n
    A[0] = x
    x = 2.5
    A[1] = x


@case(np.zeros(16, np.int32))
def unrolled(A: i32[16]):
    for k in kdsl.static_range(4):
        A[k] = k * TAPS[k % 3]
    for t in kdsl.static_range(3):
        x = TAPS[t]
        if x == 2:
            continue
        A[4 + t] = x
    for t in kdsl.static_range(8):
        if A[t] > 2:
            break
        A[8 + t] = 1
    for i, j in kdsl.grid(4, 4):
        if i * j > 4:
            break
        A[i * 4 + j] += 1
    for i in range(3):
        for t in kdsl.static_range(3):
            if A[i] > t:
                break
            A[t] += 5


@case(floats(9), np.zeros(9, np.float32))
def local_arrays(A: f32[N], B: f32[N]):
    window = kdsl.zeros(3, f32)
    twice = kdsl.full((2, N), 2, f32)
    for i in range(N):
        part = kdsl.empty((3,), f32)
        for k in range(3):
            part[k] = A[(i + k) % N]
        window[i % 3] += part[0] + part[1]
        B[i] = window[0] + part[2] * twice[1, i]


@case(ints(9), floats(4))
def results(A: i32[N], B: f32[M]) -> tuple:
    s = 0
    for i in range(N):
        s += A[i]
    A[0] = s


@case(ints(9, low=0, high=9), np.zeros(9, np.int32))
def atomics(A: i32[N], H: i32[N]):
    for i in range(N):
        kdsl.atomic_add(H, A[i], 1)
        old = kdsl.atomic_max(H, 0, A[i])
        H[1] += old
        kdsl.atomic_min(H, (2,), -i)


@case(floats(4))
def folding(A: f32[N]):
    if SCALE > 2 and f32 == f32:
        A[0] = 1
    else:
        A[0] = undefined_name  # noqa: F821
    assert SCALE > 2, "scale"
    x = A[0] if SCALE < 0 else A[1]
    A[2] = x
    while False:
        A[3] = 1


@case(np.int32(3), np.float32(2), np.zeros(8, np.float64))
def scalars(n: i32, x: f32, out: f64[8]):
    m: f32 = 1
    m = m / 3
    out[0] = n / 2
    out[1] = m * x
    out[2] = -n // 2
    out[3] = n and x
    out[4] = (n - 3) or 5
    out[5] = not n
    out[6] = x % -3
    out[7] = n * 1000000000


@case(5, 2.5, True, np.zeros(4, np.float32))
def weak_scalars(n, x, flag, A):
    A[0] = n / 2
    A[1] = A[0] * x
    if flag:
        A[2] = n**2
    A[3] = flag + flag


@case(floats(8, dtype=np.float16), np.zeros(8, np.float16), np.zeros(8, np.float32))
def halves(A: f16[N], B: f16[N], C: f32[N]):
    s = f16(0)
    for i in range(N):
        s += A[i]
        B[i] = A[i] * 3 + s
        C[i] += A[i]


@case(floats(5, dtype=np.float64), floats(5, dtype=np.float64))
def generic(X: T[N], Y: T[N]):
    for i in range(N):
        Y[i] = X[i] * T(0.1) + Y[i]


@case(ints(6, dtype=np.uint16, low=0, high=9), np.zeros(6, np.uint32))
def bits(A: u16[N], B: u32[N]):
    crc = u32(0xFFFFFFFF)
    for i in range(N):
        crc = crc ^ A[i]
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 & -(crc & 1))
        B[i] = ~crc


@case(floats(4, 4))
def self_overlap(A: f32[N, N]):
    A[:, 1:] = A[:, :-1] + A[:, 1:]
    A[...] = A.T
    A[0] = A[1]
    for i in range(N - 1):
        A[i] += A[i + 1]


@pytest.mark.parametrize("fn,args", CASES)
def test_python_is_the_meaning(fn, args):
    if fn.__name__ == "results":
        fn.__annotations__.pop("return", None)
    check(fn, *args)


def test_results():
    @kernel
    def stats(A: f32[N]) -> (f32, i64, f32[N]):
        s = f32(0)
        out = kdsl.empty((N,), f32)
        at = 0
        for i in range(N):
            s += A[i]
            out[i] = s
            if A[i] > A[at]:
                at = i
        if s < 0:
            return -s, at, out
        return s, at, out

    check(stats, floats(7))
    check(stats, -abs(floats(7)))

    @kernel
    def early(A: f32[N]) -> i64:
        for i in range(N):
            for j in range(i):
                if A[i] < A[j]:
                    return i * 100 + j
        return -1

    check(early, np.arange(4, dtype=np.float32))
    check(early, -np.arange(4, dtype=np.float32))


def test_copied_result():
    @kernel
    def pick(A: f32[N], first: i32) -> f32[N]:
        if first > 0:
            B = kdsl.zeros(N, f32)
            return B
        return A

    check(pick, floats(3), np.int32(1))
    check(pick, floats(3), np.int32(0))


def test_print(capsys):
    def shown(A: f32[N]):
        print("n", N, A[0], sep=", ")
        print(f"<{N}> {A[1]}!", 3, end=".")

    out = []
    interpreted(shown, np.array([1, 2.5], np.float32), on_print=out.append)
    assert "".join(out) == "n, 2, 1.0\n<2> 2.5! 3."


def test_equal_views_on_both_paths():
    @kernel
    def k(A: f32[N]) -> f32:
        if A[0] > 0:
            row = A[1:]
        else:
            row = A[1:]
        return row[0]

    check(k, floats(4))
