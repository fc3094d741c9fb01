"""A gallery: schedules that must be accepted, and mistakes that must be refused, with their witness.

Accepted ones go through `check_schedule`; every witness is run (see conftest.py).
"""

from __future__ import annotations

from typing import Any

import pytest

import kdsl
from kdsl import f32, i64
from kdsl.errors import ScheduleError
from tests.sched import kernels
from tests.sched.check import Steps, check_schedule, schedule_of

M, N, K, B, H = kdsl.sizes("M N K B H")


@kdsl.kernel
def scale(A: i64[N]):
    for i in range(N):
        A[i] *= 2


@kdsl.kernel
def distance8(A: i64[N]):
    for i in range(8, N):
        A[i] = A[i] + A[i - 8]


@kdsl.kernel
def turned(A: i64[N], X: i64[N]):
    for i in range(N - 1, -1, -1):
        X[i] = A[N - 1 - i]


@kdsl.kernel
def reverse(A: i64[N]):
    for i in range(N // 2):
        t = A[i]
        A[i] = A[N - 1 - i]
        A[N - 1 - i] = t


@kdsl.kernel
def smith_waterman(S: i64[M, N], T: i64[M + 1, N + 1]):
    for i in range(M):
        for j in range(N):
            best = max(T[i, j] + S[i, j], 0)
            best = max(best, T[i, j + 1] - 1)
            T[i + 1, j + 1] = max(best, T[i + 1, j] - 1)


@kdsl.kernel
def floyd_warshall(D: i64[N, N]):
    for k in range(N):
        for i in range(N):
            for j in range(N):
                D[i, j] = min(D[i, j], D[i, k] + D[k, j])


@kdsl.kernel
def floyd_rows(D: i64[N, N], R: i64[N], C: i64[N]):
    for k in range(N):
        for m in range(N):
            R[m] = D[k, m]
            C[m] = D[m, k]
        for i in range(N):
            for j in range(N):
                D[i, j] = min(D[i, j], C[i] + R[j])


@kdsl.kernel
def butterflies(X: i64[8 * B], w: i64[4]):
    for b in range(B):
        for j in range(4):
            u = X[b * 8 + j]
            v = X[b * 8 + 4 + j] * w[j]
            X[b * 8 + j] = u + v
            X[b * 8 + 4 + j] = u - v


@kdsl.kernel
def stage_of_fft(X: f32[N], w: f32[H], B: i64):
    for b in range(B):
        for j in range(H):
            u = X[2 * b * H + j]
            v = X[2 * b * H + H + j] * w[j]
            X[2 * b * H + j] = u + v
            X[2 * b * H + H + j] = u - v


@kdsl.kernel
def compare_and_swap(X: i64[8 * B]):
    for b in range(B):
        for j in range(4):
            low = min(X[b * 8 + j], X[b * 8 + j + 4])
            high = max(X[b * 8 + j], X[b * 8 + j + 4])
            X[b * 8 + j] = low
            X[b * 8 + j + 4] = high


@kdsl.kernel
def histogram(A: i64[N], bins: i64[M + 4]):
    for i in range(N):
        kdsl.atomic_add(bins, A[i], 1)


@kdsl.kernel
def plain_histogram(A: i64[N], bins: i64[M + 4]):
    for i in range(N):
        bins[A[i]] += 1


@kdsl.kernel
def csr(ptr: i64[M + 1], col: i64[N + 4], val: i64[N + 4], x: i64[K + 4], y: i64[M]):
    for r in range(M):
        acc = 0
        for p in range(ptr[r], ptr[r + 1]):
            acc += val[p] * x[col[p]]
        y[r] = acc


@kdsl.kernel
def elimination(A: i64[N, N]):
    for k in range(N):
        for i in range(k + 1, N):
            A[i, k] = A[i, k] * 3
        for m in range(k + 1, N):
            for j in range(k + 1, N):
                A[m, j] -= A[m, k] * A[k, j]


@kdsl.kernel
def cholesky_update(A: i64[N, N]):
    for k in range(N):
        for i in range(k + 1, N):
            for j in range(k + 1, i + 1):
                A[i, j] -= A[i, k] * A[j, k]


@kdsl.kernel
def transpose(A: i64[N, N]):
    for i in range(N):
        for j in range(i):
            t = A[i, j]
            A[i, j] = A[j, i]
            A[j, i] = t


@kdsl.kernel
def branches(A: i64[N], X: i64[N]):
    for i in range(N):
        if A[i] > 1:
            t = A[i] * 2
        else:
            t = -A[i]
        X[i] = t


@kdsl.kernel
def first_of(A: i64[N + 1], X: i64[N]):
    c = A[0]
    for i in range(N):
        X[i] = X[i] * c


@kdsl.kernel
def scratch(A: i64[M, N], X: i64[M, N]):
    for i in range(M):
        T = kdsl.zeros(N, i64)
        for j in range(N):
            T[j] = A[i, j] + j
        for m in range(N):
            X[i, m] = T[N - 1 - m]


@kdsl.kernel
def scatter_convolution(x: i64[N], w: i64[K], out: i64[N + K]):
    for i in range(N):
        for m in range(K):
            out[i + m] += x[i] * w[m]


@kdsl.kernel
def convolution(X: i64[M + 2, N + 2], W: i64[3, 3], out: i64[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0
            for a in range(3):
                for b in range(3):
                    acc += X[i + a, j + b] * W[a, b]
            out[i, j] = acc


@kdsl.kernel
def horner(x: i64[N], c: i64[K], out: i64[N]):
    for i in range(N):
        acc = 0
        for m in range(K):
            acc = acc * x[i] + c[m]
        out[i] = acc


@kdsl.kernel
def escape(c: i64[N], out: i64[N]):
    for i in range(N):
        n = 0
        z = c[i]
        while z < 50:
            z = z * 2 + 1
            n += 1
            if n > 4:
                break
        out[i] = n


@kdsl.kernel
def pairs(A: i64[2 * N]):
    for i in range(N):
        A[2 * i] = A[2 * i + 1]


@kdsl.kernel
def red_black(A: i64[N]):
    for i in range(1, N - 1, 2):
        A[i] = A[i - 1] + A[i + 1]
    for j in range(2, N - 1, 2):
        A[j] = A[j - 1] + A[j + 1]


@kdsl.kernel
def diagonals(S: i64[M, N], T: i64[M + 1, N + 1]):
    for d in range(M + N - 1):
        for i in range(max(0, d - N + 1), min(d + 1, M)):
            T[i + 1, d - i + 1] = max(T[i, d - i + 1], T[i + 1, d - i]) + S[i, d - i]


@kdsl.kernel
def scans(X: i64[B, N]):
    for b in range(B):
        for i in range(1, N):
            X[b, i] += X[b, i - 1]


@kdsl.kernel
def downwards(A: i64[M, N]):
    for i in range(1, M):
        for j in range(N):
            A[i, j] = A[i, j] + A[i - 1, j]


@kdsl.kernel
def groups(A: i64[N], X: i64[N + 1]):
    for i in range(N):
        X[i // 4] += A[i]


@kdsl.kernel
def clamped(A: i64[N], X: i64[N]):
    for i in range(N):
        X[i] = A[max(i - 1, 0)] + A[min(i + 1, N - 1)]


@kdsl.kernel
def blend(A: i64[N], X: i64[N], s: i64):
    for i in range(N):
        if s > 2 and A[i] > 0:
            X[i] = A[i] if A[i] < s else s
        elif A[i] == 0:
            X[i] += 1


@kdsl.kernel
def copy_of_gather(idx: i64[N], A: i64[M + 4], X: i64[N]):
    for i in range(N):
        X[i] = A[idx[i]]


@kdsl.kernel
def maxima(A: i64[M, N], X: i64[M]):
    for i in range(M):
        best = -1
        for j in range(N):
            best = max(best, A[i, j])
        X[i] = best


@kdsl.kernel
def heat(A: i64[K + 1, N]):
    for t in range(K):
        for i in range(1, N - 1):
            A[t + 1, i] = A[t, i - 1] + A[t, i] + A[t, i + 1]


ACCEPTED: dict[str, tuple[Any, Steps]] = {
    "in place": (scale, lambda s: s.vectorize("i", 8).parallel("i")),
    "in place, tiled": (scale, lambda s: s.split("i", 4, tail="cut").parallel("i_o").vectorize("i_i")),
    "triangular interchange": (
        kernels.triangle, lambda s: s.reorder("j", "i").parallel("j").vectorize("i", 4)),
    "data-dependent if": (kernels.guarded, lambda s: s.vectorize("j", 8).parallel("i")),
    "branches that set a scalar": (branches, lambda s: s.vectorize("i", 8).parallel("i")),
    "if, elif, select": (blend, lambda s: s.vectorize("i", 4).parallel("i")),
    "distance 8, 8 lanes": (distance8, lambda s: s.vectorize("i", 8)),
    "backwards into another array": (turned, lambda s: s.vectorize("i", 4).parallel("i")),
    "reversal in place": (reverse, lambda s: s.vectorize("i", 4).parallel("i")),
    "wavefront": (smith_waterman, lambda s: s.skew("j", "i", 1).reorder("j", "i").parallel("i")),
    "wavefront of tiles": (
        smith_waterman,
        lambda s: s.tile(["i", "j"], [2, 4]).skew("j_o", "i_o", 1).reorder("j_o", "i_o").parallel("i_o"),
    ),
    "diagonals": (diagonals, lambda s: s.parallel("i")),
    "diagonals in lanes": (diagonals, lambda s: s.vectorize("i", 4)),
    "rows copied first": (floyd_rows, lambda s: s.parallel("i").vectorize("j", 4).parallel("m")),
    "butterflies": (butterflies, lambda s: s.parallel("b").vectorize("j")),
    "compare and swap": (compare_and_swap, lambda s: s.vectorize("j").parallel("b")),
    "atomic histogram": (histogram, lambda s: s.parallel("i")),
    "atomic histogram in blocks": (histogram, lambda s: s.split("i", 4).parallel("i_o").vectorize("i_i")),
    "sparse rows": (csr, lambda s: s.parallel("r").vectorize("p", 4)),
    "gather": (copy_of_gather, lambda s: s.vectorize("i", 8).parallel("i")),
    "elimination": (elimination, lambda s: s.parallel("i").parallel("m").vectorize("j", 4)),
    "elimination interchanged": (elimination, lambda s: s.reorder("j", "m").parallel("j").vectorize("m", 4)),
    "elimination tiled": (elimination, lambda s: s.tile(["m", "j"], [2, 4]).parallel("m_o")),
    "symmetric update": (cholesky_update, lambda s: s.parallel("i").vectorize("j", 4)),
    "symmetric update interchanged": (cholesky_update, lambda s: s.reorder("j", "i").parallel("j")),
    "transpose in place": (transpose, lambda s: s.parallel("i").vectorize("j", 4)),
    "transpose in place, tiled": (transpose, lambda s: s.tile(["i", "j"], [3, 3]).parallel("i_o")),
    "transpose in place, interchanged": (transpose, lambda s: s.reorder("j", "i").parallel("j")),
    "scalar of the enclosing scope": (first_of, lambda s: s.vectorize("i", 4).parallel("i")),
    "local array in a parallel loop": (scratch, lambda s: s.parallel("i").vectorize("m", 4)),
    "convolution that scatters": (scatter_convolution, lambda s: s.vectorize("i", 4)),
    "convolution that scatters, interchanged": (
        scatter_convolution, lambda s: s.reorder("m", "i").vectorize("i", 4)),
    "convolution": (convolution, lambda s: s.unroll("b").unroll("a").vectorize("j", 4).parallel("i")),
    "convolution, taps outside": (convolution, lambda s: s.reorder("a", "b", "i", "j").vectorize("j", 4)),
    "horner": (horner, lambda s: s.vectorize("i", 4).parallel("i")),
    "horner, loop inside": (horner, lambda s: s.reorder("m", "i").vectorize("i", 4)),
    "while in lanes": (escape, lambda s: s.vectorize("i", 4).parallel("i")),
    "even from odd": (pairs, lambda s: s.vectorize("i", 4).parallel("i")),
    "red and black": (red_black, lambda s: s.parallel("i").vectorize("j", 4)),
    "scans of many rows": (scans, lambda s: s.reorder("i", "b").vectorize("b", 4)),
    "scans, rows in parallel": (scans, lambda s: s.parallel("b")),
    "downwards": (downwards, lambda s: s.vectorize("j", 8)),
    "downwards by columns": (downwards, lambda s: s.reorder("j", "i").parallel("j")),
    "blocks of a quotient": (groups, lambda s: s.split("i", 4).parallel("i_o")),
    "clamped": (clamped, lambda s: s.vectorize("i", 4).parallel("i")),
    "maxima": (maxima, lambda s: s.parallel("i").vectorize("j", 4)),
    "maxima by columns": (maxima, lambda s: s.reorder("j", "i").vectorize("i", 4)),
    "time tiling": (heat, lambda s: s.skew("i", "t", 1).tile(["t", "i"], [2, 4])),
    "time tiling, wavefront": (
        heat,
        lambda s: s.skew("i", "t", 1).tile(["t", "i"], [2, 4]).skew("i_o", "t_o", 1)
        .reorder("i_o", "t_o").parallel("t_o"),
    ),
    "skewed and tiled sweep": (kernels.seidel, lambda s: s.skew("i", "t", 2).tile(["t", "i"], [2, 3])),
    "jacobi fused with a shift": (kernels.jacobi, lambda s: s.fuse("i", "j", shift=1)),
    "peeled beyond its extent": (kernels.fixed, lambda s: s.peel("i", 9)),
    "a condition that never holds": (kernels.axpy, lambda s: s.specialize("N < 0").vectorize("i", 4)),
    "contradicting facts": (kernels.axpy, lambda s: s.assume("N == 5").specialize("N == 6").parallel("i")),
}  # fmt: skip


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    kernel, steps = ACCEPTED[name]
    check_schedule(kernel, steps)


def test_accepted_with_symbolic_strides() -> None:
    s = schedule_of(stage_of_fft)
    s.parallel("b").vectorize("j", 8)
    s.parallel("j")
    s.reorder("j", "b").parallel("j")


# ---------------------------------------------------------------------- refused


@kdsl.kernel
def last(A: i64[N], C: i64[1]):
    for i in range(N):
        C[0] = A[i]


@kdsl.kernel
def carried_scalar(A: i64[N], X: i64[N]):
    t = 0
    for i in range(N):
        X[i] = t
        t = A[i]


@kdsl.kernel
def running(A: i64[N], X: i64[N]):
    t = 0
    for i in range(N):
        t += A[i]
        X[i] = t


@kdsl.kernel
def argmax(A: i64[N], out: i64[1]):
    best = -1
    at = 0
    for i in range(N):
        if A[i] > best:
            best = A[i]
            at = i
    out[0] = at


@kdsl.kernel
def ragged(n: i64[M], A: i64[M, N + 4]):
    for i in range(M):
        for j in range(n[i]):
            A[i, j] = i


@kdsl.kernel
def starts(A: i64[N], X: i64[N]):
    for i in range(N):
        X[i] = A[i]
    for j in range(1, N):
        X[j] = X[j] + X[j - 1]


@kdsl.kernel(may_alias=("A", "X"))
def aliased(A: i64[N], X: i64[N]):
    for i in range(N):
        X[i] = A[i] + 1


@kdsl.kernel
def local_across(A: i64[N], X: i64[N]):
    for i in range(1, N):
        t = A[i - 1]
        A[i] = t + 1
        X[i] = t


@kdsl.kernel
def first_zero(A: i64[N], X: i64[N]):
    for i in range(N):
        if A[i] == 0:
            return
        X[i] = A[i]


@kdsl.kernel
def xor_pairs(A: i64[16]):
    for i in range(16):
        A[i] = A[i ^ 1] + 1


@kdsl.kernel
def shared_local(A: i64[M, N], X: i64[M, N]):
    T = kdsl.zeros(N, i64)
    for i in range(M):
        for j in range(N):
            T[j] = A[i, j]
        for m in range(N):
            X[i, m] = T[N - 1 - m]


@kdsl.kernel
def modulo(A: i64[N], X: i64[4]):
    for i in range(N):
        X[i % 4] = A[i]


@kdsl.kernel
def overlapping(A: i64[N + 8]):
    for i in range(N):
        A[i + 4] = A[i + 3]


@kdsl.kernel
def two_sums(A: i64[N], C: i64[1]):
    for i in range(N):
        C[0] += A[i]
        C[0] *= 2


@kdsl.kernel(strict=True)
def strict_sum(A: f32[N], C: f32[1]):
    for i in range(N):
        C[0] += A[i]


REFUSED: dict[str, tuple[Any, Steps, str, str]] = {
    "the last wins": (last, lambda s: s.parallel("i"), "K0312", "both write C[0] (N=2)"),
    "the last wins, lanes": (last, lambda s: s.vectorize("i", 4), "K0312", "both write C[0] (N=2)"),
    "carried scalar": (carried_scalar, lambda s: s.parallel("i"), "K0312", "t"),
    "carried scalar, lanes": (carried_scalar, lambda s: s.vectorize("i", 2), "K0312", "t"),
    "running sum": (running, lambda s: s.vectorize("i", 4), "K0312", "t"),
    "running sum cut": (
        running, lambda s: s.fission("i", after=0), "K0320", "t"),
    "argmax": (argmax, lambda s: s.parallel("i"), "K0310", "data decide"),
    "distance 8, 16 lanes": (distance8, lambda s: s.vectorize("i", 16), "K0312", "A[8]"),
    "distance 1 across tiles": (overlapping, lambda s: s.split("i", 4).parallel("i_o"), "K0312", "A["),
    "histogram": (plain_histogram, lambda s: s.parallel("i"), "K0310", "data decide which element"),
    "histogram in lanes": (plain_histogram, lambda s: s.vectorize("i", 4), "K0310", "data decide"),
    "atomics by another operator": (two_sums, lambda s: s.vectorize("i", 4), "K0312", "C[0]"),
    "strict sum": (strict_sum, lambda s: s.vectorize("i", 4), "K0312", "C[0]"),
    "all pairs in parallel": (floyd_warshall, lambda s: s.parallel("i"), "K0312", "D["),
    "all pairs, k inside": (floyd_warshall, lambda s: s.reorder("i", "j", "k"), "K0320", "D["),
    "elimination by columns": (elimination, lambda s: s.parallel("k"), "K0312", "A["),
    "sweep tiled": (kernels.seidel, lambda s: s.tile(["t", "i"], [2, 2]), "K0320", "A["),
    "sweep skewed the wrong way": (
        kernels.seidel, lambda s: s.skew("i", "t", -1).tile(["t", "i"], [2, 2]), "K0320", "A["),
    "sweep skewed too little": (
        heat, lambda s: s.reorder("i", "t"), "K0320", "A["),
    "dynamic programming without skew": (smith_waterman, lambda s: s.parallel("j"), "K0312", "T["),
    "dynamic programming, rows": (smith_waterman, lambda s: s.parallel("i"), "K0312", "T["),
    "bounds from data": (ragged, lambda s: s.reorder("j", "i"), "K0310", "n"),
    "ranges differ": (starts, lambda s: s.fuse("i", "j"), "K0321", "range(1, N)"),
    "peeled, but the order matters": (
        kernels.upwind, lambda s: s.fuse("i", "k"), "K0320", "Y["),
    "aliases": (aliased, lambda s: s.parallel("i"), "K0310", "may share memory"),
    "aliases in lanes": (aliased, lambda s: s.vectorize("i", 4), "K0310", "may share memory"),
    "aliases staged": (aliased, lambda s: s.stage("A", at="i"), "K0327", "X"),
    "cut before a use of what changed": (
        local_across, lambda s: s.fission("i", after="t = A[i - 1]"), "K0320", "A["),
    "break": (kernels.until, lambda s: s.parallel("i"), "K0308", "left from inside"),
    "return": (first_zero, lambda s: s.parallel("i"), "K0310", "data decide when"),
    "return in lanes": (first_zero, lambda s: s.vectorize("i", 4), "K0310", "data decide when"),
    "exclusive or": (xor_pairs, lambda s: s.parallel("i"), "K0310", "A"),
    "a local that all share": (shared_local, lambda s: s.parallel("i"), "K0312", "T"),
    "modulo": (modulo, lambda s: s.parallel("i"), "K0312", "X[0] (N=5)"),
    "assumed away too little": (
        overlapping, lambda s: s.assume("N <= 2").parallel("i"), "K0312", "(N=2)"),
    "upwards": (downwards, lambda s: s.parallel("i"), "K0312", "A["),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    kernel, steps, code, text = REFUSED[name]
    with pytest.raises(ScheduleError) as caught:
        steps(schedule_of(kernel))
    assert caught.value.code == code and text in str(caught.value), caught.value
    assert caught.value.help


def test_what_is_assumed_makes_it_legal() -> None:
    check_schedule(overlapping, lambda s: s.assume("N <= 1").parallel("i"))
