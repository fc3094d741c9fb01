"""The language's finer points, one small program each: compiled = interpreted = Python, bit for bit."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pytest

from tests.differential.harness import agree

INTS = np.arange(-4, 5)
F64 = np.array([0.5, -0.0, np.inf, -np.inf, np.nan, 1e30, -2.5, 3.0, 0.0])
F32 = F64.astype(np.float32)


def zeros(dtype: Any = np.float64) -> Any:
    return np.zeros(9, dtype)


def case(name: str, params: str, body: str, *args: Any) -> Any:
    return pytest.param(params, body, args, id=name.replace(" ", "-"))


CASES = [
    case(
        "weak join float",
        "X: f32[N], Y: f64[N]",
        """
            acc = 0
            for i in range(N):
                acc += X[i]
            Y[0] = acc
        """,
        F32,
        zeros(),
    ),
    case(
        "weak join u8",
        "X: u8[N], Y: i64[N]",
        """
            acc = 0
            for i in range(N):
                acc += X[i]
            Y[0] = acc
        """,
        np.full(9, 200, np.uint8),
        zeros(np.int64),
    ),
    case(
        "count bools",
        "X: f32[N], Y: i64[N]",
        """
            n = 0
            for i in range(N):
                n += X[i] > 0
            Y[0] = n
        """,
        F32,
        zeros(np.int64),
    ),
    case(
        "bool sum typed",
        "X: f32[N], Y: i8[N]",
        """
            n = i8(0)
            for i in range(N):
                n += X[i] > 0
            Y[0] = n
        """,
        F32,
        zeros(np.int8),
    ),
    case(
        "round",
        "X: f64[N], Y: f64[N], Z: i64[N]",
        """
            for i in range(N):
                if kdsl.isfinite(X[i]) and abs(X[i]) < 100:
                    Z[i] = round(X[i])
                Y[i] = kdsl.round(X[i])
        """,
        F64,
        zeros(),
        zeros(np.int64),
    ),
    case(
        "int float bool",
        "X: f64[N], Y: f64[N], Z: i64[N]",
        """
            for i in range(N):
                if abs(X[i]) < 100:
                    Z[i] = int(X[i])
                Y[i] = float(bool(X[i]))
        """,
        F64,
        zeros(),
        zeros(np.int64),
    ),
    case(
        "chain once",
        "X: i64[N], Y: i64[N]",
        """
            for i in range(N):
                if -2 < X[i] <= 2 != X[0]:
                    Y[i] = 1
        """,
        INTS,
        zeros(np.int64),
    ),
    case(
        "or value",
        "X: i64[N], Y: i64[N]",
        """
            for i in range(N):
                Y[i] = X[i] or 7
        """,
        INTS,
        zeros(np.int64),
    ),
    case(
        "and value",
        "X: f64[N], Y: f64[N]",
        """
            for i in range(N):
                Y[i] = X[i] and 7.5
        """,
        F64,
        zeros(),
    ),
    case(
        "range typed negative",
        "X: i64[N], Y: i64[N]",
        """
            for i in range(N):
                for j in range(X[i]):
                    Y[i] += j
        """,
        INTS,
        zeros(np.int64),
    ),
    case(
        "range typed step",
        "X: i64[N], Y: i64[N]",
        """
            for i in range(N):
                if X[i] != 0:
                    for j in range(3, -3, X[i]):
                        Y[i] += j
        """,
        INTS,
        zeros(np.int64),
    ),
    case(
        "huge loop",
        "Y: i64[N]",
        """
            for i in range(10**18):
                if i == 5:
                    break
                Y[i] = i
        """,
        zeros(np.int64),
    ),
    case(
        "range to max",
        "Y: i64[N]",
        """
            n = 0
            for i in range(9223372036854775800, 9223372036854775807, 5):
                Y[n] = i
                n += 1
        """,
        zeros(np.int64),
    ),
    case(
        "range to min",
        "Y: i64[N]",
        """
            n = 0
            for i in range(-9223372036854775800, -9223372036854775808, -5):
                Y[n] = i
                n += 1
        """,
        zeros(np.int64),
    ),
    case(
        "weak floor",
        "Y: i64[N], Z: i64[N]",
        """
            for i in range(N):
                Y[i] = (i - 4) // 3
                Z[i] = (i - 4) % -3
        """,
        zeros(np.int64),
        zeros(np.int64),
    ),
    case(
        "weak power",
        "Y: i64[N], Z: f64[N]",
        """
            for i in range(N):
                Y[i] = 2 ** i + i ** 3
                Z[i] = 2.0 ** -i
        """,
        zeros(np.int64),
        zeros(),
    ),
    case(
        "u64 literal",
        "Y: u64[N]",
        """
            Y[0] = u64(18446744073709551615)
            Y[1] = Y[0] + 3
            Y[2] = u64(0x8000000000000000) >> 63
        """,
        zeros(np.uint64),
    ),
    case(
        "i64 min",
        "Y: i64[N]",
        """
            Y[0] = -9223372036854775808
            Y[1] = Y[0] - 1
            Y[2] = abs(Y[0])
            Y[3] = Y[0] // -1
            Y[4] = Y[0] % -1
            Y[5] = -Y[0]
        """,
        zeros(np.int64),
    ),
    case(
        "nan compare",
        "X: f64[N], Y: i64[N]",
        """
            for i in range(N):
                for j in range(N):
                    Y[i] = Y[i] * 2 + (1 if X[i] < X[j] else 0) + (3 if X[i] != X[j] else 0)
                    Y[i] += 5 if not X[i] >= X[j] else 0
        """,
        F64,
        zeros(np.int64),
    ),
    case(
        "min nan",
        "X: f64[N], Y: f64[N], Z: f64[N]",
        """
            for i in range(N):
                Y[i] = min(X[i], X[N - 1 - i])
                Z[i] = max(X[i], X[N - 1 - i], 0.0)
        """,
        F64,
        zeros(),
        zeros(),
    ),
    case(
        "minimum nan",
        "X: f32[N], Y: f32[N], Z: f32[N]",
        """
            for i in range(N):
                Y[i] = kdsl.minimum(X[i], X[N - 1 - i])
                Z[i] = kdsl.maximum(X[i], X[N - 1 - i])
        """,
        F32,
        zeros(np.float32),
        zeros(np.float32),
    ),
    case(
        "float mod",
        "X: f64[N], Y: f64[N, N], Z: f64[N, N]",
        """
            for i, j in kdsl.grid(N, N):
                Y[i, j] = X[i] % X[j]
                Z[i, j] = X[i] // X[j]
        """,
        F64,
        np.zeros((9, 9)),
        np.zeros((9, 9)),
    ),
    case(
        "float mod f32",
        "X: f32[N], Y: f32[N, N], Z: f32[N, N]",
        """
            for i, j in kdsl.grid(N, N):
                Y[i, j] = X[i] % X[j]
                Z[i, j] = X[i] // X[j]
        """,
        F32,
        np.zeros((9, 9), np.float32),
        np.zeros((9, 9), np.float32),
    ),
    case(
        "divmod",
        "X: i64[N], Y: i64[N], Z: i64[N]",
        """
            for i in range(N):
                Y[i], Z[i] = divmod(X[i], 3)
        """,
        INTS,
        zeros(np.int64),
        zeros(np.int64),
    ),
    case(
        "pow fn",
        "X: i64[N], Y: i64[N]",
        """
            for i in range(N):
                Y[i] = pow(X[i], 3)
        """,
        INTS,
        zeros(np.int64),
    ),
    case(
        "shape",
        "A: f32[M, N], Y: i64[K]",
        """
            Y[0] = A.shape[0]
            Y[1] = A.shape[1]
            Y[2] = len(A)
            Y[3] = len(A[0, :])
            Y[4] = len(A[0])
            Y[5] = A.T.shape[0]
        """,
        np.zeros((2, 3), np.float32),
        zeros(np.int64),
    ),
    case(
        "reshape",
        "A: f32[M, N], Y: f32[K]",
        """
            B = A.reshape(M * N)
            for i in range(M * N):
                Y[i] = B[i]
            C = A.reshape(N, M)
            Y[0] = C[1, 1]
        """,
        np.arange(6, dtype=np.float32).reshape(2, 3),
        zeros(np.float32),
    ),
    case(
        "row view",
        "A: f32[M, N], Y: f32[K]",
        """
            for i in range(M):
                row = A[i]
                row[0] = i
                for j in range(N):
                    Y[j] += row[j]
        """,
        np.arange(6, dtype=np.float32).reshape(2, 3),
        zeros(np.float32),
    ),
    case(
        "short circuit",
        "X: i64[N], Y: i64[N]",
        """
            j = N - 1
            while j >= 0 and X[j] > -100:
                j -= 1
            Y[0] = j
        """,
        INTS,
        zeros(np.int64),
    ),
    case(
        "select lazy",
        "X: i64[N], Y: i64[N]",
        """
            for i in range(N):
                Y[i] = X[i - 1] if i > 0 else -1
                Y[i] += 10 // X[i] if X[i] != 0 else 0
        """,
        INTS,
        zeros(np.int64),
    ),
    case(
        "cast sat",
        "X: f64[N], Y: u8[N], Z: i32[N]",
        """
            for i in range(N):
                if abs(X[i]) < 100 and X[i] >= 0:
                    Y[i] = u8(X[i])
                if abs(X[i]) < 1000:
                    Z[i] = i32(X[i])
        """,
        F64,
        zeros(np.uint8),
        zeros(np.int32),
    ),
    case(
        "f16",
        "X: f32[N], Y: f16[N], Z: f16[N]",
        """
            for i in range(N):
                Y[i] = X[i]
                Z[i] = f16(X[i]) * f16(3) + f16(0.1)
        """,
        F32,
        zeros(np.float16),
        zeros(np.float16),
    ),
    case(
        "neg zero",
        "Y: f64[N]",
        """
            Y[0] = -0.0
            Y[1] = 0.0 * -1
            Y[2] = -Y[8]
            Y[3] = 0.0 - Y[8]
            Y[4] = abs(-0.0)
            Y[5] = min(0.0, -0.0)
            Y[6] = max(-0.0, 0.0)
            Y[7] = Y[0] + 0.0
        """,
        zeros(),
    ),
    case(
        "swap rows",
        "A: i64[M, N]",
        """
            for j in range(N):
                A[0, j], A[1, j] = A[1, j], A[0, j]
        """,
        np.arange(6).reshape(2, 3),
    ),
    case(
        "slice copy",
        "X: i64[N]",
        """
            X[1:] = X[:-1]
            X[:-1] = X[1:] * 2
            X[::-1] = X
        """,
        INTS,
    ),
    case(
        "row broadcast",
        "A: i64[M, N], X: i64[N]",
        """
            A[:, :] = X
            A[:] += 1
            A[1] = 5
        """,
        np.zeros((2, 9), int),
        INTS,
    ),
    case(
        "col assign",
        "A: i64[M, N], X: i64[M]",
        """
            A[:, 0] = X
            A[:, 1] = 7
            A[0, :] += A[1, :]
        """,
        np.arange(6).reshape(2, 3),
        np.array([8, 9]),
    ),
    case(
        "strings",
        "X: i64[N]",
        """
            assert X[0] == -4, 'first'
            X[0] = 1
        """,
        INTS,
    ),
    case(
        "ternary types",
        "X: i64[N], Y: f64[N]",
        """
            for i in range(N):
                Y[i] = 1 if X[i] > 0 else 0.5
        """,
        INTS,
        zeros(),
    ),
    case(
        "nested ternary",
        "X: i64[N], Y: i64[N]",
        """
            for i in range(N):
                Y[i] = 1 if X[i] > 0 else -1 if X[i] < 0 else 0
        """,
        INTS,
        zeros(np.int64),
    ),
    case(
        "while true",
        "X: i64[N]",
        """
            n = 0
            while True:
                n += 1
                if n % 2 == 0:
                    continue
                if n > 10:
                    break
                X[0] += n
        """,
        INTS,
    ),
    case(
        "return early",
        "X: i64[N]",
        """
            for i in range(N):
                for j in range(N):
                    if X[i] + X[j] == 3:
                        X[0] = i * 10 + j
                        return
            X[1] = 77
        """,
        INTS,
    ),
    case(
        "loop var kept",
        "X: i64[N]",
        """
            last = -1
            for i in range(N):
                last = i
            X[0] = last
        """,
        INTS,
    ),
    case(
        "rebind scalar",
        "X: i64[N], s: i32",
        """
            s = s + 1
            for i in range(N):
                s *= 2
                X[i] = s
        """,
        INTS,
        np.int32(2**30),
    ),
    case(
        "ann scalars",
        "X: f32[N], Y: f32[N]",
        """
            m: f32 = 0
            n: i8 = 100
            for i in range(N):
                m += X[i] * 0.1
                n += 100
            Y[0] = m
            Y[1] = n
        """,
        np.ones(9, np.float32),
        zeros(np.float32),
    ),
    case(
        "shifts",
        "X: i8[N], Y: i8[N], Z: u32[N]",
        """
            for i in range(N):
                Y[i] = (X[i] << 7) >> 1
                Z[i] = u32(1) << u32(i * 4)
        """,
        INTS.astype(np.int8),
        zeros(np.int8),
        zeros(np.uint32),
    ),
    case(
        "bit not",
        "X: i64[N], Y: bool_[N]",
        """
            for i in range(N):
                Y[i] = not X[i]
                X[i] = ~X[i]
        """,
        INTS,
        zeros(bool),
    ),
    case(
        "bool ops",
        "P: bool_[N], Q: bool_[N]",
        """
            for i in range(N):
                P[i] = P[i] & Q[i] | (P[i] ^ Q[i])
                Q[i] = P[i] == Q[i] or not P[i]
        """,
        INTS > 0,
        INTS % 2 == 0,
    ),
    case(
        "true div ints",
        "X: i64[N], Y: f64[N]",
        """
            for i in range(N):
                Y[i] = X[i] / 4 + i / 4 + 7 / 2
        """,
        INTS,
        zeros(),
    ),
    case(
        "u8 div",
        "X: u8[N], Y: f64[N]",
        """
            for i in range(N):
                Y[i] = X[i] / u8(3)
        """,
        np.arange(9, dtype=np.uint8),
        zeros(),
    ),
    case(
        "mixed i32 f32",
        "X: i32[N], Y: f32[N], Z: f64[N]",
        """
            for i in range(N):
                Z[i] = X[i] * Y[i]
        """,
        np.full(9, 16777217, np.int32),
        np.full(9, 1.1, np.float32),
        zeros(),
    ),
    case(
        "mixed i64 u64",
        "X: i64[N], Y: u64[N], Z: f64[N]",
        """
            for i in range(N):
                Z[i] = X[i] + Y[i]
        """,
        INTS,
        np.arange(9, dtype=np.uint64),
        zeros(),
    ),
    case(
        "where",
        "X: f32[N], Y: f32[N]",
        """
            for i in range(N):
                Y[i] = kdsl.where(X[i] > 0, X[i], 0)
        """,
        F32,
        zeros(np.float32),
    ),
    case(
        "isnan",
        "X: f32[N], Y: i32[N]",
        """
            for i in range(N):
                Y[i] = 1 * kdsl.isnan(X[i]) + 2 * kdsl.isinf(X[i]) + 4 * kdsl.isfinite(X[i])
        """,
        F32,
        zeros(np.int32),
    ),
    case(
        "sqrt floor",
        "X: f32[N], Y: f32[N]",
        """
            for i in range(N):
                Y[i] = kdsl.sqrt(X[i]) + kdsl.floor(X[i] / 2) + kdsl.ceil(X[i]) + kdsl.trunc(X[i])
        """,
        F32,
        zeros(np.float32),
    ),
    case(
        "math floor",
        "X: f64[N], Y: i64[N]",
        """
            for i in range(N):
                if abs(X[i]) < 100:
                    Y[i] = math.floor(X[i]) * 100 + math.ceil(X[i])
        """,
        F64,
        zeros(np.int64),
    ),
    case(
        "enclosing const",
        "X: f64[N]",
        """
            X[0] = math.pi
            X[1] = kdsl.inf
            X[2] = math.tau * 2 ** 0.5
        """,
        F64,
    ),
    case(
        "static range",
        "X: i64[N]",
        """
            for k in kdsl.static_range(1, 6, 2):
                X[k] = k
                if k == 3:
                    X[0] = k
        """,
        INTS,
    ),
    case(
        "static break",
        "X: i64[N]",
        """
            for k in kdsl.static_range(4):
                if X[k] == -2:
                    break
                X[k] = 100
        """,
        INTS,
    ),
    case(
        "static continue",
        "X: i64[N]",
        """
            for k in kdsl.static_range(4):
                if X[k] == -2:
                    continue
                X[k] = 100 + k
        """,
        INTS,
    ),
    case(
        "grid break",
        "X: i64[N]",
        """
            for i, j in kdsl.grid(3, 3):
                if i == 1 and j == 1:
                    break
                X[i * 3 + j] = 100
        """,
        INTS,
    ),
    case(
        "grid continue",
        "X: i64[N]",
        """
            for i, j in kdsl.grid(3, 3):
                if i == 1:
                    continue
                X[i * 3 + j] = 100
        """,
        INTS,
    ),
    case(
        "unsigned loop down",
        "X: u32[N]",
        """
            n = u32(3)
            while n > 0:
                n -= 1
                X[n] = n
            X[5] = n - 1
        """,
        np.zeros(9, np.uint32),
    ),
    case(
        "local reuse",
        "X: i64[N]",
        """
            for i in range(N):
                t = kdsl.zeros((4,), i64)
                t[i % 4] += X[i]
                X[i] = t[0] + t[1] + t[2] + t[3]
        """,
        INTS,
    ),
    case(
        "local expr shape",
        "X: i64[N]",
        """
            n = 2 * N + 1
            t = kdsl.full((n, 2), 3, i64)
            X[0] = len(t) + t[n - 1, 1]
        """,
        INTS,
    ),
    case(
        "pass",
        "X: i64[N]",
        """
            pass
            'a docstring'
        """,
        INTS,
    ),
    case(
        "multi assign",
        "X: i64[N]",
        """
            a = b = X[0]
            a += 1
            X[1] = a
            X[2] = b
        """,
        INTS,
    ),
    case(
        "aug order",
        "X: i64[N]",
        """
            i = 0
            X[i] += X[i + 1] * 2
            X[X[0] + 14] = 1
        """,
        INTS,
    ),
    case(
        "nan to int",
        "X: f64[N], Y: f64[N]",
        """
            for i in range(N):
                Y[i] = X[i] * (X[i] == X[i])
        """,
        F64,
        zeros(),
    ),
    case(
        "inf sub",
        "X: f32[N], Y: f32[N]",
        """
            for i in range(N):
                for j in range(N):
                    Y[i] += X[i] - X[j]
        """,
        F32,
        zeros(np.float32),
    ),
    case(
        "denormal",
        "X: f32[N], Y: f32[N]",
        """
            for i in range(N):
                Y[i] = X[i] * f32(1e-38) * f32(1e-5)
        """,
        np.linspace(0, 9, 9).astype(np.float32),
        zeros(np.float32),
    ),
    case(
        "f64 to f16",
        "X: f64[N], Y: f16[N]",
        """
            for i in range(N):
                Y[i] = X[i]
        """,
        np.array([1.00048828125 + 1e-12, 65519.99999, 65520, 1e-8, 6e-8, 2.98e-8, -1e9, 0.1, 1 / 3]),
        zeros(np.float16),
    ),
    case(
        "i64 to f32",
        "X: i64[N], Y: f32[N]",
        """
            for i in range(N):
                Y[i] = X[i]
        """,
        np.array([2**24 + 1, 2**53 + 1, 2**62 + 2**38 + 1, -(2**63), 2**63 - 1, 3, -3, 2**31, 2**40 + 2**16]),
        zeros(np.float32),
    ),
    case(
        "u64 to f32",
        "X: u64[N], Y: f32[N], Z: f64[N], W: f16[N]",
        """
            for i in range(N):
                Y[i] = X[i]
                Z[i] = X[i]
                W[i] = X[i]
        """,
        np.array(
            [2**64 - 1, 2**63, 2**63 + 2**39, 2**53 + 1, 65520, 65519, 0, 2**40 + 1, 2**24 + 1], np.uint64
        ),
        zeros(np.float32),
        zeros(),
        zeros(np.float16),
    ),
]


@pytest.mark.parametrize(("params", "body", "args"), CASES)
def test_means_what_python_means(params: str, body: str, args: tuple[Any, ...]) -> None:
    indented = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    agree(f"@kdsl.kernel\ndef program({params}):\n{indented}\n", list(args))
