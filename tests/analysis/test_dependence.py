"""Legal and illegal rewrites and marks of well-known kernels, with the smallest counterexample of each."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from kdsl.analysis import dependence
from kdsl.analysis.dependence import Unproved, Violation, check_mark
from kdsl.ir.nodes import Loop
from kdsl.ir.parser import parse_func
from kdsl.ir.walk import stmts
from tests.analysis.rewriting import Entry, mark, rewrite

MATMUL = "def f(A: f32[M, K], B: f32[K, N], C: f32[M, N]):\n"
STRICT = "@options(strict=True)\n"
UPDATE = "C[i, j] += A[i, k] * B[k, j]"
RANGES = {"i": "M", "j": "N", "k": "K"}


def nest(order: str, body: str) -> str:
    lines = ["    " * (n + 1) + f"for {v} in range({RANGES[v]}):\n" for n, v in enumerate(order)]
    return "".join(lines) + "    " * (len(order) + 1) + body + "\n"


MATMUL_ACC = (
    MATMUL
    + """
    for i in range(M):
        for j in range(N):
            acc: f32
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc
"""
)
MATMUL_TILED = (
    MATMUL
    + """
    for i_o in range((M + 63) // 64):
        for j_o in range((N + 63) // 64):
            acc: f32[64, 64]
            for i_i in range(64):
                if i_o * 64 + i_i < M:
                    for j_i in range(64):
                        if j_o * 64 + j_i < N:
                            acc[i_i, j_i] = 0.0
            for k_o in range((K + 7) // 8):
                for i_i in range(64):
                    for k_i in range(8):
                        if i_o * 64 + i_i < M:
                            for j_i in range(64):
                                if j_o * 64 + j_i < N:
                                    if k_o * 8 + k_i < K:
                                        acc[i_i, j_i] += A[i_o * 64 + i_i, k_o * 8 + k_i]
            for i_i in range(64):
                if i_o * 64 + i_i < M:
                    for j_i in range(64):
                        if j_o * 64 + j_i < N:
                            C[i_o * 64 + i_i, j_o * 64 + j_i] = acc[i_i, j_i]
"""
)
IJ = "i_o * 64 + i_i, j_o * 64 + j_i"
TILES: list[Entry] = [(0, IJ), (1, IJ + ", k_o * 8 + k_i"), (2, IJ)]

JACOBI = """
def f(A: f32[T + 2, N + 2]):
    for t in range(T):
        for i in range(1, N - 1):
            A[t + 1, i] = A[t, i - 1] + A[t, i] + A[t, i + 1]
"""
JACOBI_TILED = """
def f(A: f32[T + 2, N + 2]):
    for t_o in range((T + 7) // 8):
        for s_o in range((N + T + 31) // 32):
            for t in range(t_o * 8, min(T, t_o * 8 + 8)):
                for s in range(max(s_o * 32, t + 1), min(s_o * 32 + 32, N - 1 + t)):
                    A[t + 1, s - t] = A[t, s - t - 1] + A[t, s - t] + A[t, s - t + 1]
"""
SEIDEL = """
def f(A: f32[N, N]):
    for i in range(1, N - 1):
        for j in range(1, N - 1):
            A[i, j] = A[i - 1, j + 1] + A[i, j - 1] + A[i, j + 1] + A[i + 1, j]
"""
SEIDEL_SWAPPED = """
def f(A: f32[N, N]):
    for j in range(1, N - 1):
        for i in range(1, N - 1):
            A[i, j] = A[i - 1, j + 1] + A[i, j - 1] + A[i, j + 1] + A[i + 1, j]
"""
SEIDEL_SKEWED = """
def f(A: f32[N, N]):
    for s in range(2, 2 * N - 3):
        for i in range(max(1, s - N + 2), min(N - 1, s)):
            A[i, s - i] = A[i - 1, s - i + 1] + A[i, s - i - 1] + A[i, s - i + 1] + A[i + 1, s - i]
"""
LU = """
def f(A: f32[N, N]):
    for k in range(N):
        for i in range(k + 1, N):
            A[i, k] = A[i, k] / A[k, k]
        for i2 in range(k + 1, N):
            for j in range(k + 1, N):
                A[i2, j] += -(A[i2, k] * A[k, j])
"""
LU_JI = """
def f(A: f32[N, N]):
    for k in range(N):
        for i in range(k + 1, N):
            A[i, k] = A[i, k] / A[k, k]
        for j in range(k + 1, N):
            for i2 in range(k + 1, N):
                A[i2, j] += -(A[i2, k] * A[k, j])
"""
LU_UPDATE_FIRST = """
def f(A: f32[N, N]):
    for k in range(N):
        for i2 in range(k + 1, N):
            for j in range(k + 1, N):
                A[i2, j] += -(A[i2, k] * A[k, j])
        for i in range(k + 1, N):
            A[i, k] = A[i, k] / A[k, k]
"""
BLUR = """
def f(A: f32[H + 2, W], P: f32[H + 2, W], B: f32[H, W]):
    for y in range(H + 2):
        for x in range(W):
            P[y, x] = A[y, x]
    for y2 in range(H):
        for x2 in range(W):
            B[y2, x2] = P[y2, x2] + P[y2 + 1, x2] + P[y2 + 2, x2]
"""


def blur_fused(shift: int) -> str:
    return f"""
def f(A: f32[H + 2, W], P: f32[H + 2, W], B: f32[H, W]):
    for y in range(H + 2):
        for x in range(W):
            P[y, x] = A[y, x]
        if y >= {shift}:
            if y < H + {shift}:
                for x2 in range(W):
                    B[y - {shift}, x2] = P[y - {shift}, x2] + P[y - {shift} + 1, x2] + P[y - {shift} + 2, x2]
"""


TRIANGLE = """
def f(A: f32[N, N]):
    for i in range(N):
        for j in range(i):
            A[i, j] = A[j, i]
"""


def triangle(lo: str) -> str:
    return f"""
def f(A: f32[N, N]):
    for j in range(N):
        for i in range({lo}, N):
            A[i, j] = A[j, i]
"""


TRANSPOSE = """
def f(A: f32[N, N], T: f32[N, N]):
    for i in range(N):
        for j in range(i):
            t: f32
            t = A[i, j]
            A[i, j] = A[j, i]
            A[j, i] = t
"""
TRANSPOSE_SWAPPED = """
def f(A: f32[N, N], T: f32[N, N]):
    for j in range(N):
        for i in range(j + 1, N):
            t: f32
            t = A[i, j]
            A[i, j] = A[j, i]
            A[j, i] = t
"""
SCALED = """
def f(A: f32[M, N]):
    for i in range(M):
        for j in range(N):
            A[i, j] = A[i, j] * 2.0
"""
SCALED_SWAPPED = """
def f(A: f32[M, N]):
    for j in range(N):
        for i in range(M):
            A[i, j] = A[i, j] * 2.0
"""
MASKED = """
def f(A: f32[M, N], B: f32[M, N]):
    for i in range(M):
        for j in range(N):
            if B[i, j] > 0.0:
                A[i, j] = 1.0
"""
MASKED_SWAPPED = """
def f(A: f32[M, N], B: f32[M, N]):
    for j in range(N):
        for i in range(M):
            if B[i, j] > 0.0:
                A[i, j] = 1.0
"""


BRANCHES = """
def f(A: f32[N], B: f32[N], C: f32[N]):
    for i in range(N):
        if i > 2 and B[i] > 0.0:
            A[i] = 1.0
        else:
            C[i] = 2.0
"""
BRANCHES_APART = """
def f(A: f32[N], B: f32[N], C: f32[N]):
    for i in range(N):
        if i > 2 and B[i] > 0.0:
            A[i] = 1.0
    for i in range(N):
        if not (i > 2 and B[i] > 0.0):
            C[i] = 2.0
"""
WHILE = """
def f(A: f32[N, N], x: f32[1]):
    while x[0] > 0.0:
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                A[i, j] = x[0]
        x[0] = x[0] - 1.0
"""


def two(first: str, second: str) -> str:
    """A loop over two statements."""
    return f"""
def f(A: f32[N + 2], B: f32[N + 2]):
    for i in range(1, N):
        {first}
        {second}
"""


def apart(first: str, second: str, lo: str = "1") -> str:
    """A loop for each."""
    return f"""
def f(A: f32[N + 2], B: f32[N + 2]):
    for i in range(1, N):
        {first}
    for i in range({lo}, N):
        {second}
"""


CSR = """
def f(P: i64[N + 1], X: f32[K], V: f32[L], C: i64[L], Y: f32[N]):
    for i in range(N):
        Y[i] = 0.0
        for j in range(P[i], P[i + 1]):
            Y[i] += V[j] * X[C[j]]
"""
CSR_LOOP = """
def f(P: i32[N + 1], X: f32[K], V: f32[L], C: i64[L], Y: f32[N]):
    for i in range(N):
        for j in range(i64(P[i]), i64(P[i + 1])):
            Y[i] += V[j] * X[C[j]]
"""
CSR_SPLIT = """
def f(P: i32[N + 1], X: f32[K], V: f32[L], C: i64[L], Y: f32[N]):
    for i in range(N):
        for j_o in range((i64(P[i + 1]) - i64(P[i]) + 7) // 8):
            for j_i in range(8):
                if i64(P[i]) + j_o * 8 + j_i < i64(P[i + 1]):
                    Y[i] += V[i64(P[i]) + j_o * 8 + j_i] * X[C[i64(P[i]) + j_o * 8 + j_i]]
"""
CSR_ORIGIN: list[Entry] = [(0, "i, P[i] + j_o * 8 + j_i")]
BREAK = """
def f(A: f32[N], C: f32[N]):
    for i in range(N):
        if A[i] > 0.0:
            break
        C[i] = 1.0
"""
BREAK_SPLIT = """
def f(A: f32[N], C: f32[N]):
    for i_o in range((N + 7) // 8):
        for i_i in range(8):
            if i_o * 8 + i_i < N:
                if A[i_o * 8 + i_i] > 0.0:
                    break
                C[i_o * 8 + i_i] = 1.0
"""
SPLIT: list[Entry] = [(0, "i_o * 8 + i_i"), (1, "i_o * 8 + i_i")]

LEGAL: dict[str, tuple[str, str, list[Entry] | None]] = {
    **{
        f"matmul {''.join(p)}": (MATMUL + nest("ijk", UPDATE), MATMUL + nest("".join(p), UPDATE), None)
        for p in permutations("ijk")
    },
    "strict matmul ikj": (STRICT + MATMUL + nest("ijk", UPDATE), STRICT + MATMUL + nest("ikj", UPDATE), None),
    "matmul with a local, tiled": (MATMUL_ACC, MATMUL_TILED, TILES),
    "jacobi, skewed and tiled": (JACOBI, JACOBI_TILED, [(0, "t, s - t")]),
    "seidel, skewed": (SEIDEL, SEIDEL_SKEWED, [(0, "i, s - i")]),
    "lu, j outside i": (LU, LU_JI, None),
    "blur, fused two rows later": (BLUR, blur_fused(2), [(0, "y, x"), (1, "y - 2, x2")]),
    "triangular interchange": (TRIANGLE, triangle("j + 1"), None),
    "in-place transpose": (TRANSPOSE, TRANSPOSE_SWAPPED, None),
    "in place": (SCALED, SCALED_SWAPPED, None),
    "under a data-dependent if": (MASKED, MASKED_SWAPPED, None),
    "under an if that the loop changes": (
        MASKED.replace("A[i, j] = 1.0", "B[i, j] = -1.0"),
        MASKED_SWAPPED.replace("A[i, j] = 1.0", "B[i, j] = -1.0"),
        None,
    ),
    "fission": (two("A[i] = B[i]", "B[i - 1] = A[i - 1]"), apart("A[i] = B[i]", "B[i - 1] = A[i - 1]"), None),
    "fusion": (apart("A[i] = 1.0", "B[i] = A[i - 1]"), two("A[i] = 1.0", "B[i] = A[i - 1]"), None),
    "a histogram, reversed": (
        "def f(I: i64[N], C: i64[M]):\n    for i in range(N):\n        C[I[i]] += 1\n",
        "def f(I: i64[N], C: i64[M]):\n    for i in range(N):\n        C[I[N - 1 - i]] += 1\n",
        [(0, "N - 1 - i")],
    ),
    "loops of data-dependent length": (CSR, CSR, None),
    "a loop of data-dependent length, split": (CSR_LOOP, CSR_SPLIT, CSR_ORIGIN),
    "a cut loop": (
        "def f(A: f32[N], B: f32[N]):\n    for i in range(N):\n        A[i] = A[i] + B[i]\n",
        """
def f(A: f32[N], B: f32[N]):
    for i_o in range(N // 8):
        for i_i in range(8):
            A[i_o * 8 + i_i] = A[i_o * 8 + i_i] + B[i_o * 8 + i_i]
    for i_t in range(N // 8 * 8, N):
        A[i_t] = A[i_t] + B[i_t]
""",
        [(0, "i_o * 8 + i_i"), (0, "i_t")],
    ),
    "a loop with a step, normalised and reversed": (
        "def f(A: f32[N], B: f32[N]):\n    for i in range(1, N, 3):\n        A[i] = B[i]\n",
        "def f(A: f32[N], B: f32[N]):\n    for q in range((N - 2) // 3, -1, -1):\n"
        "        A[q * 3 + 1] = B[q * 3 + 1]\n",
        [(0, "q * 3 + 1")],
    ),
    "a version for one size": (
        SCALED,
        """
def f(A: f32[M, N]):
    if N == 64:
        for i in range(M):
            for j in range(64):
                A[i, j] = A[i, j] * 2.0
    else:
        for j in range(N):
            for i in range(M):
                A[i, j] = A[i, j] * 2.0
""",
        [(0, "i, j"), (0, "i, j")],
    ),
    "fission of the branches of an if": (BRANCHES, BRANCHES_APART, None),
    "inside a while loop": (
        WHILE,
        WHILE.replace("for i", "for q").replace("for j", "for i").replace("for q", "for j"),
        None,
    ),
    "break in a loop that stays": (BREAK, BREAK, None),
    "continue in a split loop": (
        BREAK.replace("break", "continue"),
        BREAK_SPLIT.replace("break", "continue"),
        SPLIT,
    ),
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal(name: str) -> None:
    assert rewrite(*LEGAL[name]) is None


ILLEGAL: dict[str, tuple[str, str, list[Entry] | None, str]] = {
    "strict sum, reversed": (
        STRICT + MATMUL + nest("ijk", UPDATE),
        STRICT + MATMUL + nest("ijk", UPDATE.replace("k", "K - 1 - k")),
        [(0, "i, j, K - 1 - k")],
        "line 6 updates C[0, 0] at i=0, j=0, k=0, then updates it at i=0, j=0, k=1; "
        "the new order is the reverse (M=1, K=2, N=1)",
    ),
    "tail lost": (
        MATMUL_ACC,
        MATMUL_TILED.replace("k_i < K:", "k_i < K - 1:"),
        TILES,
        "the update of line 8 at i=0, j=0, k=0 would no longer run (M=1, K=1, N=1)",
    ),
    "too much": (
        MATMUL_ACC,
        MATMUL_TILED.replace("k_i < K:", "k_i <= K:"),
        TILES,
        "the update of line 8 at i=0, j=0, k=1 would run, but does not in the original (M=1, K=1, N=1)",
    ),
    "twice": (
        "def f(A: f32[N]):\n    for i in range(N):\n        A[i] = 1.0\n",
        "def f(A: f32[N]):\n    for i in range(N):\n        for q in range(2):\n            A[i] = 1.0\n",
        [(0, "i")],
        "the store of line 3 at i=0 would run twice (N=1)",
    ),
    "jacobi, interchanged": (
        JACOBI,
        "def f(A: f32[T + 2, N + 2]):\n    for i in range(1, N - 1):\n        for t in range(T):\n"
        "            A[t + 1, i] = A[t, i - 1] + A[t, i] + A[t, i + 1]\n",
        None,
        "line 5 writes A[1, 2] at t=0, i=2, then reads it at t=1, i=1; "
        "the new order is the reverse (T=2, N=4)",
    ),
    "seidel, interchanged": (
        SEIDEL,
        SEIDEL_SWAPPED,
        None,
        "line 5 writes A[1, 2] at i=1, j=2, then reads it at i=2, j=1; the new order is the reverse (N=4)",
    ),
    "lu, update first": (
        LU,
        LU_UPDATE_FIRST,
        [(1, "k, i2, j"), (0, "k, i")],
        "line 5 writes A[1, 0] at k=0, i=1, then line 8 reads it at k=0, i2=1, j=1; "
        "the new order is the reverse (N=2)",
    ),
    "blur, fused one row later": (
        BLUR,
        blur_fused(1),
        [(0, "y, x"), (1, "y - 1, x2")],
        "line 5 writes P[2, 0] at y=2, x=0, then line 8 reads it at y2=0, x2=0; "
        "the new order is the reverse (H=1, W=1)",
    ),
    "triangle, one column lost": (
        TRIANGLE,
        triangle("j + 2"),
        None,
        "the store of line 5 at i=1, j=0 would no longer run (N=2)",
    ),
    "triangle, with the diagonal": (
        TRIANGLE,
        triangle("j"),
        None,
        "the store of line 5 at i=0, j=0 would run, but does not in the original (N=1)",
    ),
    "fission": (
        two("A[i] = B[i]", "B[i + 1] = A[i]"),
        apart("A[i] = B[i]", "B[i + 1] = A[i]"),
        None,
        "line 5 writes B[2] at i=1, then line 4 reads it at i=2; the new order is the reverse (N=3)",
    ),
    "fusion": (
        apart("A[i] = 1.0", "B[i] = A[i + 1]"),
        two("A[i] = 1.0", "B[i] = A[i + 1]"),
        None,
        "line 4 writes A[2] at i=2, then line 6 reads it at i=1; the new order is the reverse (N=3)",
    ),
    "fusion of loops that start apart": (
        apart("A[i] = 1.0", "B[i] = A[i]", lo="0"),
        two("A[i] = 1.0", "B[i] = A[i]"),
        None,
        "the store of line 6 at i=0 would no longer run (N=1)",
    ),
    "a scan, reversed": (
        "def f(A: f32[N]):\n    for i in range(1, N):\n        A[i] += A[i - 1]\n",
        "def f(A: f32[N]):\n    for i in range(1, N):\n        A[N - i] += A[N - i - 1]\n",
        [(0, "N - i")],
        "line 3 updates A[1] at i=1, then reads it at i=2; the new order is the reverse (N=3)",
    ),
    "two operators": (
        "def f(A: f32[1], B: f32[N]):\n    for i in range(N):\n        A[0] += B[i]\n        A[0] *= B[i]\n",
        "def f(A: f32[1], B: f32[N]):\n    for i in range(N):\n        A[0] *= B[i]\n        A[0] += B[i]\n",
        [(1, "i"), (0, "i")],
        "line 3 updates A[0] at i=0, then line 4 updates it at i=0; the new order is the reverse (N=1)",
    ),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_illegal(name: str) -> None:
    before, after, entries, text = ILLEGAL[name]
    verdict = rewrite(before, after, entries)
    assert isinstance(verdict, Violation)
    assert verdict.text == text


def test_witness_in_numbers() -> None:
    before, after, entries, _ = ILLEGAL["blur, fused one row later"]
    v = rewrite(before, after, entries)
    assert isinstance(v, Violation)
    assert (v.kind, v.buffer, v.cell) == ("flow", "P", (2, 0))
    assert v.sizes == {"H": 1, "W": 1}
    assert (v.first_iter, v.second_iter) == ({"y": 2, "x": 0}, {"y2": 0, "x2": 0})
    assert v.first is not None and v.second is not None and (v.first.line, v.second.line) == (5, 8)


UNPROVED: dict[str, tuple[str, str, list[Entry] | None, str]] = {
    "scatter, reversed": (
        "def f(I: i64[N], C: i64[M]):\n    for i in range(N):\n        C[I[i]] = i\n",
        "def f(I: i64[N], C: i64[M]):\n    for i in range(N):\n        C[I[N - 1 - i]] = N - 1 - i\n",
        [(0, "N - 1 - i")],
        "data decide which element of `C` is written",
    ),
    "inside a while loop, in the wrong order": (
        WHILE.replace("A[i, j] = x[0]", "A[i, j] = A[i - 1, j + 1]"),
        WHILE.replace("A[i, j] = x[0]", "A[i, j] = A[i - 1, j + 1]")
        .replace("for i", "for q")
        .replace("for j", "for i")
        .replace("for q", "for j"),
        None,
        "data decide whether `A` is written",
    ),
    "a condition that the other loop changes": (
        BRANCHES.replace("C[i] =", "B[i + 1] ="),
        BRANCHES_APART.replace("C[i] =", "B[i + 1] ="),
        None,
        "data decide whether `B` is read",
    ),
    "the other branch": (
        BRANCHES,
        BRANCHES_APART.replace("if not (i > 2 and B[i] > 0.0)", "if i > 2 and B[i] > 0.0"),
        None,
        "data decide when it runs, and not visibly as in the original",
    ),
    "another condition": (
        MASKED,
        MASKED_SWAPPED.replace("B[i, j]", "B[i, 0]"),
        None,
        "data decide when it runs, and not visibly as in the original",
    ),
    "a loop of data-dependent length, split wrongly": (
        CSR_LOOP,
        CSR_SPLIT.replace("< i64(P[i + 1])", "<= i64(P[i + 1])"),
        CSR_ORIGIN,
        "data decide when it runs, and not visibly as in the original",
    ),
    "a product of sizes, one too many": (
        "def f(A: f32[M, N]):\n    for i in range(M * N):\n        A[0, 0] += 1.0\n",
        "def f(A: f32[M, N]):\n    for i in range(M * N + 1):\n        A[0, 0] += 1.0\n",
        None,
        "data decide when it runs, and not visibly as in the original",
    ),
    "break in a split loop": (BREAK, BREAK_SPLIT, SPLIT, "`break` would end other iterations"),
    "a local outside its loop": (
        MATMUL_ACC,
        MATMUL_ACC.replace("            acc: f32\n", "").replace(
            "    for i in range(M)", "    acc: f32\n    for i in range(M)"
        ),
        None,
        "the iterations that share the local `acc` are not the same",
    ),
    "memory that may be shared": (
        "@options(may_alias=('A', 'B'))\n" + two("A[i] = 1.0", "B[i] = 2.0"),
        "@options(may_alias=('A', 'B'))\n" + apart("A[i] = 1.0", "B[i] = 2.0"),
        None,
        "`A` and `B` may share memory",
    ),
}


@pytest.mark.parametrize("name", UNPROVED)
def test_unproved(name: str) -> None:
    before, after, entries, reason = UNPROVED[name]
    verdict = rewrite(before, after, entries)
    assert isinstance(verdict, Unproved)
    assert verdict.reason == reason


def one(statement: str) -> str:
    return f"""
def f(A: f32[2 * N + 40], I: i64[N], C: f32[M]):
    for i in range(16, N):
        {statement}
"""


NO = "not proved"
MARKS: dict[str, tuple[str | None, str | None, str | None]] = {
    # statement: parallel, vectorize by 8, by 16
    "A[i] = A[i + 1] + 1.0": ("iteration i=16 reads A[17], which iteration i=17 writes", None, None),
    "A[i] = A[i - 1]": ("iteration i=16 writes A[16], which iteration i=17 reads",) * 3,
    "A[i] = A[i - 8]": (
        "iteration i=16 writes A[16], which iteration i=24 reads",
        None,
        "iteration i=16 writes A[16], which iteration i=24 reads",
    ),
    "A[i] *= 2.0": (None, None, None),
    "A[2 * i] = A[2 * i + 1]": (None, None, None),
    "C[0] = A[i]": ("iterations i=16 and i=17 both write C[0]",) * 3,
    "C[0] += A[i]": ("iterations i=16 and i=17 both write C[0]", None, None),
    "A[i // 2] += 1.0": ("iterations i=16 and i=17 both write A[8]",) * 3,
    "C[I[i]] += 1.0": (NO, NO, NO),
    "A[i] = C[I[i]]": (None, None, None),
    "atomic_add(C, I[i], 1.0)": (None, None, None),
    "print(A[i])": ("iterations i=16 and i=17 both print",) * 3,
}


@pytest.mark.parametrize("statement", MARKS)
def test_marks(statement: str) -> None:
    source = one(statement)
    for (kind, lanes), wanted in zip(
        (("parallel", None), ("vectorize", 8), ("vectorize", 16)), MARKS[statement]
    ):
        verdict = mark(source, "i", kind, lanes)
        match wanted:
            case None:
                assert verdict is None, (kind, lanes)
            case "not proved":
                assert isinstance(verdict, Unproved), (kind, lanes)
            case text:
                assert isinstance(verdict, Violation), (kind, lanes)
                assert verdict.text.startswith(text), (kind, lanes)


NESTS: list[tuple[str, str, str, str | None]] = [
    (MATMUL_ACC, "i", "parallel", None),
    (MATMUL_ACC, "j", "vectorize", None),
    (MATMUL_ACC, "k", "parallel", "iterations k=0 and k=1 both write acc (M=1, K=2, N=1)"),
    (MATMUL_ACC, "k", "vectorize", None),
    (STRICT + MATMUL_ACC, "k", "vectorize", "iterations k=0 and k=1 both write acc (M=1, K=2, N=1)"),
    (MATMUL + nest("ijk", UPDATE), "k", "bind", "iterations k=0 and k=1 both write C[0, 0] (M=1, K=2, N=1)"),
    (LU, "k", "parallel", "iteration k=0, i2=2, j=1 writes A[2, 1], which iteration k=1, i=2 reads (N=3)"),
    (LU, "i", "parallel", None),
    (LU, "i2", "parallel", None),
    (LU, "j", "vectorize", None),
    (JACOBI, "i", "parallel", None),
    (TRANSPOSE, "i", "parallel", None),
    (MASKED, "i", "parallel", None),
    (CSR, "i", "parallel", None),
]


@pytest.mark.parametrize("case", range(len(NESTS)))
def test_marks_in_nests(case: int) -> None:
    source, var, kind, text = NESTS[case]
    verdict = mark(source, var, kind)
    if text is None:
        assert verdict is None
    else:
        assert isinstance(verdict, Violation)
        assert verdict.text == text


def test_a_loop_with_an_exit_is_not_parallel() -> None:
    verdict = mark(BREAK, "i", "parallel")
    assert isinstance(verdict, Unproved)
    assert verdict.reason == "data decide when the loop is left"
    verdict = mark(BREAK.replace("A[i] > 0.0", "i == 3"), "i", "parallel")
    assert verdict is not None
    assert mark(BREAK.replace("break", "continue"), "i", "parallel") is None


def flat(statement: str) -> str:
    return f"""
def f(A: f32[L], M: i64, N: i64, K: i64):
    for i in range(M):
        for j in range(N):
            for k in range(K):
                {statement}
"""


STRIDES: list[tuple[str, str, str | None]] = [
    ("A[i * N + j] = A[i * N + j] * 2.0", "i", None),
    ("A[(i * N + j) * K + k] = A[i * N * K + j * K + k] * 2.0", "i", None),
    ("A[(i * N + j) * K + k] = A[i * N * K + j * K + k] * 2.0", "k", None),
    (
        "A[i * N + j] = A[i * N + j + N]",
        "i",
        "iteration i=0, j=0, k=0 reads A[1], which iteration i=1, j=0, k=0 writes (L=0, M=2, N=1, K=1)",
    ),
]


@pytest.mark.parametrize("case", range(len(STRIDES)))
def test_subscripts_with_products(case: int) -> None:
    statement, var, text = STRIDES[case]
    verdict = mark(flat(statement), var, "parallel")
    if text is None:
        assert verdict is None
    else:
        assert isinstance(verdict, Violation)
        assert verdict.text == text


def test_a_subscript_that_leaves_its_row_is_not_proved() -> None:
    verdict = mark(flat("A[i * N + j] = A[i * N + j + 1]"), "i", "parallel")
    assert isinstance(verdict, Unproved)
    assert verdict.reason == "the subscript `N * i + j + 1` of `A` is not affine"


def test_an_offset_in_memory_is_one_number() -> None:
    source = """
def f(A: f32[N], I: i64[M]):
    o: i64
    o = I[0]
    for i in range(M):
        A[o + i] = A[o + i] * 2.0
"""
    assert mark(source, "i", "parallel") is None
    verdict = mark(source.replace("A[o + i] *", "A[o + i + 1] *"), "i", "parallel")
    assert isinstance(verdict, Unproved)


def test_answers_are_kept() -> None:
    first = mark(JACOBI, "t", "parallel")
    assert first is not None
    assert mark(JACOBI, "t", "parallel") is first


MARKED = """
def f(A: f32[M, N], B: f32[M, N]):
    for i in {outer}(range(M)):
        for j in range((N + 7) // 8):
            for l in {inner}(range(8)):
                if j * 8 + l < N:
                    B[i, j * 8 + l] = A[i, j * 8 + l] + B[{row}, j * 8 + l]
"""


@pytest.mark.parametrize("row", ["i", "max(i - 1, 0)"])
@pytest.mark.parametrize("loop", ["i", "j", "l"])
def test_the_marks_of_other_loops_make_no_difference(row: str, loop: str, monkeypatch: Any) -> None:
    plain = MARKED.format(outer="", inner="", row=row)
    want = mark(plain, loop, "vectorize")
    with monkeypatch.context() as m:
        # One question: the answer is known.
        m.setattr("kdsl.analysis.dependence.instances", None)
        for outer, inner in (("parallel", ""), ("", "unroll"), ("parallel", "vectorize")):
            assert mark(MARKED.format(outer=outer, inner=inner, row=row), loop, "vectorize") == want


def test_questions_about_one_function_do_not_disturb_each_other() -> None:
    func = parse_func(MATMUL_TILED)
    ids = [(s.id, s.var) for s in stmts(func.body) if isinstance(s, Loop)]
    answers = [check_mark(func, id, kind) for kind in ("parallel", "vectorize") for id, _ in ids]
    dependence._answers.clear()
    again = []
    for kind in ("vectorize", "parallel"):
        for id, _ in reversed(ids):
            dependence._programs.clear()
            again.append(check_mark(func, id, kind))
    assert answers == again[::-1]
