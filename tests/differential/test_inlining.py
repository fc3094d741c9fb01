"""Kernels and device functions called from kernels: names, returns, views and types keep their meaning."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pytest

from tests.differential.harness import agree

INTS = np.arange(-4, 5)


def case(name: str, text: str, *args: Any) -> Any:
    return pytest.param(text, args, id=name.replace(" ", "-"))


CASES = [
    case(
        "early return of a callee",
        """
        @kdsl.kernel
        def find(v: i64[K], wanted: i64, at: i64[1]):
            at[0] = -1
            for k in range(K):
                if v[k] == wanted:
                    at[0] = k
                    return
            at[0] = -2

        @kdsl.kernel
        def program(X: i64[N], at: i64[1], out: i64[2]):
            find(X, 2, at)
            out[0] = at[0]
            find(X[3:], 77, at)
            out[1] = at[0]
        """,
        INTS,
        np.zeros(1, int),
        np.zeros(2, int),
    ),
    case(
        "names of the callee are its own",
        """
        @kdsl.kernel
        def add(X: i64[N], i: i64):
            t = 10
            for j in range(N):
                X[j] += i * t

        @kdsl.kernel
        def program(A: i64[M, N], X: i64[K]):
            t = 3
            for i in range(M):
                for j in range(2):
                    add(A[i, :], i + j)
                    add(X, t)
                    t += 1
            X[0] = t
        """,
        np.zeros((2, 3), int),
        np.zeros(4, int),
    ),
    case(
        "a scalar argument rebound in the callee",
        """
        @kdsl.kernel
        def count(X: i64[N], s: i64):
            while s > 0:
                s //= 2
                X[0] += 1

        @kdsl.kernel
        def program(X: i64[N]):
            s = 37
            count(X, s)
            X[1] = s
            count(X, s + 1)
            X[2] = s
        """,
        np.zeros(4, int),
    ),
    case(
        "overlapping views follow program order",
        """
        @kdsl.kernel
        def copy(a: i64[N], b: i64[N]):
            for i in range(N):
                a[i] = b[i] + 1

        @kdsl.kernel
        def program(X: i64[N]):
            copy(X[1:], X[:-1])
            copy(X[::-1], X)
        """,
        INTS,
    ),
    case(
        "two levels and a transposed view",
        """
        @kdsl.kernel
        def scale(v: f64[N], s: f64):
            for i in range(N):
                v[i] *= s

        @kdsl.kernel
        def scale_rows(A: f64[M, N], s: f64[M]):
            for i in range(M):
                scale(A[i], s[i])

        @kdsl.kernel
        def program(A: f64[M, N], r: f64[M], c: f64[N]):
            scale_rows(A, r)
            scale_rows(A.T, c)
            scale_rows(A[:, ::-1], r)
        """,
        np.arange(6.0).reshape(2, 3),
        np.array([2.0, 3.0]),
        np.array([1.0, 5.0, 7.0]),
    ),
    case(
        "a function in conditions, bounds and indices",
        """
        @kdsl.func
        def half(n: i64) -> i64:
            if n < 0:
                return 0
            return n // 2

        @kdsl.kernel
        def program(X: i64[N]):
            n = N
            while half(n) > 0:
                n = half(n)
                for i in range(half(n) + 1):
                    X[half(i + n)] += 1
        """,
        INTS,
    ),
    case(
        "returns from nested loops of a function",
        """
        @kdsl.func
        def search(limit: i64, product: i64) -> i64:
            for a in range(1, limit):
                if a == 2:
                    continue
                b = 1
                while True:
                    if a * b == product:
                        return 100 * a + b
                    if a * b > product:
                        break
                    b += 1
            return -1

        @kdsl.kernel
        def program(X: i64[N]):
            for i in range(N):
                X[i] = search(i + 1, 12) + search(3, i)
        """,
        INTS,
    ),
    case(
        "results of kernels",
        """
        @kdsl.kernel
        def outer(x: f64[M], y: f64[N]) -> f64[M, N]:
            out = kdsl.empty((M, N), f64)
            for i, j in kdsl.grid(M, N):
                out[i, j] = x[i] * y[j]
            return out

        @kdsl.kernel
        def extremes(x: f64[N]) -> (f64, f64):
            low, high = x[0], x[0]
            for i in range(N):
                low = min(low, x[i])
                high = max(high, x[i])
            return low, high

        @kdsl.kernel
        def program(x: f64[M], y: f64[N]) -> f64[M]:
            A = outer(x, y)
            out = kdsl.zeros((M,), f64)
            for i in range(M):
                low, high = extremes(A[i, :])
                out[i] = high - low
            return out
        """,
        np.array([1.0, -2.0, 0.5]),
        np.array([3.0, 4.0, -5.0]),
    ),
    case(
        "generic callee with two types",
        """
        T = kdsl.typevar("T", f32, f64, u8)

        @kdsl.kernel
        def total(x: T[N]) -> T:
            s = T(0)
            for i in range(N):
                s += x[i]
            return s

        @kdsl.kernel
        def program(X: u8[N], Y: f32[N], out: f64[2]):
            out[0] = total(X)
            out[1] = total(Y)
        """,
        np.full(9, 100, np.uint8),
        np.full(9, 0.1, np.float32),
        np.zeros(2),
    ),
    case(
        "defaults keywords and constants of the callee",
        """
        WEIGHT = 3
        PAIR = (2, 0.5)

        @kdsl.kernel
        def fill(x: i64[N], start: i64 = 5, STEP: kdsl.constexpr = 2):
            for i in range(0, N, STEP):
                x[i] = start + i * WEIGHT * PAIR[0]

        @kdsl.kernel
        def program(X: i64[N]):
            WEIGHT = 100
            fill(X)
            fill(X[4:], STEP=3, start=WEIGHT)
        """,
        INTS,
    ),
    case(
        "locals of a callee in a loop",
        """
        @kdsl.kernel
        def reverse(x: i64[N]):
            old = kdsl.empty((N,), i64)
            for i in range(N):
                old[i] = x[i]
            for i in range(N):
                x[i] = old[N - 1 - i]

        @kdsl.kernel
        def program(X: i64[N], A: i64[M, K]):
            for i in range(M):
                reverse(A[i])
                reverse(X[:3])
            T = kdsl.zeros((K, M), i64)
            for i in range(M):
                T[:, i] = A[i]
                reverse(T[:, i])
            A[:, :] = T.T
        """,
        INTS,
        np.arange(6).reshape(2, 3),
    ),
    case(
        "arguments are evaluated once and before",
        """
        @kdsl.kernel
        def put(x: i64[N], value: i64):
            x[0] = 7
            x[1] = value

        @kdsl.kernel
        def program(X: i64[N]):
            put(X, X[0] + X[1])
            put(X[2:], X[0])
        """,
        INTS,
    ),
    case(
        "a function with a default and a cast result",
        """
        @kdsl.func
        def wrap(x: i64, by: i64 = 100) -> i8:
            return x * by

        @kdsl.kernel
        def program(X: i64[N]):
            for i in range(N):
                X[i] = wrap(X[i]) + wrap(X[i], by=3)
        """,
        INTS,
    ),
    case(
        "an index fault inside a callee",
        """
        @kdsl.kernel
        def at(x: i64[N], i: i64) -> i64:
            return x[i]

        @kdsl.kernel
        def program(X: i64[N], Y: i64[M]):
            for i in range(M):
                Y[i] = at(X, Y[i])
        """,
        INTS,
        np.array([0, 8, 9]),
    ),
    case(
        "sizes of a callee that do not agree",
        """
        @kdsl.kernel
        def add(x: i64[N], y: i64[N]):
            for i in range(N):
                x[i] += y[i]

        @kdsl.kernel
        def program(X: i64[N], Y: i64[M]):
            add(X, Y)
        """,
        INTS,
        np.array([0, 8, 9]),
    ),
]


@pytest.mark.parametrize(("text", "args"), CASES)
def test_means_what_python_means(text: str, args: tuple[Any, ...]) -> None:
    agree(textwrap.dedent(text), list(args))
