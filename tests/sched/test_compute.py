"""`compute_at` and `inline`: locals computed where they are read. Meaning first; refusals whole."""

from __future__ import annotations

from typing import Any

import pytest

import kdsl
from kdsl import f32, i64
from tests.sched.check import Steps, check_schedule

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def blur(A: f32[M + 2, N + 2], B: f32[M, N]):
    P = kdsl.empty((M + 2, N), f32)
    for y in range(M + 2):
        for x in range(N):
            P[y, x] = A[y, x] + A[y, x + 1] + A[y, x + 2]
    for i in range(M):
        for j in range(N):
            B[i, j] = P[i, j] + P[i + 1, j] + P[i + 2, j]


@kdsl.kernel
def sharpen(A: f32[M + 2, N + 2], B: f32[M, N]):
    P = kdsl.empty((M + 2, N), f32)
    Q = kdsl.empty((M, N), f32)
    R = kdsl.empty((M, N), f32)
    for a in range(M + 2):
        for b in range(N):
            P[a, b] = A[a, b] + 2 * A[a, b + 1] + A[a, b + 2]
    for c in range(M):
        for d in range(N):
            Q[c, d] = P[c, d] + 2 * P[c + 1, d] + P[c + 2, d]
    for e in range(M):
        for f in range(N):
            R[e, f] = 3 * A[e + 1, f + 1] - Q[e, f]
    for i in range(M):
        for j in range(N):
            B[i, j] = min(max(R[i, j], 0.0), 20.0)


@kdsl.kernel
def convolved(X: i64[N + K], W: i64[K + 1], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        acc = 0
        for k in range(K):
            acc += X[n + k] * W[k]
        P[n] = acc
    for i in range(N):
        Y[i] = max(P[i], 0) + P[N - 1 - i]


@kdsl.kernel
def in_steps(X: i64[N + K], W: i64[K], Y: i64[N]):
    P = kdsl.zeros(N, i64)
    for k in range(K):
        for n in range(N):
            P[n] += X[n + k] * W[k]
    for i in range(N):
        Y[i] = P[i] * P[i]


@kdsl.kernel
def padded(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N + 2, i64)
    for n in range(N + 2):
        if n > 0 and n < N + 1:
            P[n] = X[n - 1]
        else:
            P[n] = 0
    for i in range(N):
        Y[i] = P[i] + P[i + 1] + P[i + 2]


@kdsl.kernel
def bordered(X: i64[N], Y: i64[N]):
    P = kdsl.zeros(N + 2, i64)
    for n in range(N):
        P[n + 1] = X[n]
    for i in range(N):
        Y[i] = P[i] + P[i + 1] + P[i + 2]


@kdsl.kernel
def edges(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N + 2, i64)
    for n in range(N):
        P[n + 1] = X[n]
    P[0] = 5
    P[N + 1] = 7
    for i in range(N):
        Y[i] = P[i] + P[i + 2]


@kdsl.kernel
def halved(X: i64[2 * N], Y: i64[N]):
    P = kdsl.empty(2 * N, i64)
    for n in range(N):
        P[2 * n] = X[2 * n] + 1
        P[2 * n + 1] = X[2 * n + 1] * 2
    for i in range(N):
        Y[i] = P[2 * i] - P[2 * i + 1]


@kdsl.kernel
def doubled(X: i64[N], Y: i64[2 * N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n] * 3
    for i in range(2 * N):
        Y[i] = P[i // 2]


@kdsl.kernel
def backwards(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[N - 1 - n] = X[n] * 3
    for i in range(N):
        Y[i] = P[i] + P[min(i + 1, N - 1)]


@kdsl.kernel
def transposed(A: i64[M, N], B: i64[N, M]):
    P = kdsl.empty((N, M), i64)
    for y in range(M):
        for x in range(N):
            P[x, y] = A[y, x] * 2
    for i in range(N):
        for j in range(M):
            B[i, j] = P[i, j] + P[max(i - 1, 0), j]


@kdsl.kernel
def lower(A: i64[N, N], B: i64[N, N]):
    P = kdsl.empty((N, N), i64)
    for y in range(N):
        for x in range(y + 1):
            P[y, x] = A[y, x] + y
    for i in range(N):
        for j in range(i + 1):
            B[i, j] = P[i, j] + P[N - 1, j]


@kdsl.kernel
def two_at_once(X: i64[N + 1], Y: i64[N]):
    P = kdsl.empty(N, i64)
    Q = kdsl.empty(N, i64)
    for n in range(N):
        d = X[n + 1] - X[n]
        s = X[n + 1] + X[n]
        P[n] = d * d
        Q[n] = s * d
    for i in range(N):
        Y[i] = P[i] + Q[N - 1 - i]


@kdsl.kernel
def chosen(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        if X[n] > 1:
            P[n] = X[n]
        else:
            P[n] = 7
    for i in range(N):
        if X[i] > 0:
            Y[i] = P[i] + P[N - 1 - i]


@kdsl.kernel
def looked_up(X: i64[N], Y: i64[N]):
    T = kdsl.empty(8, i64)
    for n in range(8):
        T[n] = n * n
    for i in range(N):
        Y[i] = T[X[i] % 8]


@kdsl.kernel
def mean(X: i64[M, N], Y: i64[M, N]):
    for i in range(M):
        total = 0
        for k in range(N):
            total += X[i, k]
        total = total * 2
        for j in range(N):
            Y[i, j] = X[i, j] - total


@kdsl.kernel
def each_time(X: i64[M, N + 2], Y: i64[M, N]):
    P = kdsl.empty(N + 2, i64)
    for t in range(M):
        for n in range(N + 2):
            P[n] = X[t, n] * 2
        for i in range(N):
            Y[t, i] = P[i] + P[i + 2]


@kdsl.kernel
def in_place(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n] * 2
    for i in range(N):
        X[i] = P[i] + 1


@kdsl.kernel
def running(A: i64[M, N], B: i64[M, N]):
    P = kdsl.empty((M, N), i64)
    for y in range(M):
        s = 0
        for x in range(N):
            s += A[y, x]
            P[y, x] = s
    for i in range(M):
        for j in range(N):
            B[i, j] = P[i, j] - P[M - 1 - i, j]


@kdsl.kernel
def by_rows(A: i64[M, N + 2], B: i64[M, N]):
    P = kdsl.empty((M, N), i64)
    for y in range(M):
        T = kdsl.empty(N + 2, i64)
        for u in range(N + 2):
            T[u] = A[y, u] * 2
        for x in range(N):
            P[y, x] = T[x] + T[x + 2]
    for i in range(M):
        for j in range(N):
            B[i, j] = P[i, j] * P[i, N - 1 - j]


@kdsl.kernel
def until(X: i64[N, M], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        count = 0
        for k in range(M):
            if X[n, k] == 0:
                break
            count += X[n, k]
        z = count
        while z > 3:
            z = z - 3
        P[n] = count + z
    for i in range(N):
        Y[i] = P[i] + P[N - 1 - i]


def strips(s: Any) -> Any:
    return s.split("i", 3).compute_at("P", "i_o")


def placed(s: Any, **where: str) -> Any:
    """Each of the locals computed at a loop, in the order given."""
    for producer, loop in where.items():
        s = s.compute_at(producer, loop)
    return s


def tiled(s: Any) -> Any:
    return s.tile(["i", "j"], [3, 4])


def tiles(s: Any) -> Any:
    return tiled(s).compute_at("P", "j_o")


MEANING: list[tuple[str, Any, Steps]] = [
    ("strips", blur, strips),
    ("rows", blur, lambda s: s.compute_at("P", "i")),
    ("each element", blur, lambda s: s.compute_at("P", "j")),
    ("tiles", blur, tiles),
    ("tiles, vectors, threads", blur, lambda s: tiles(s).vectorize("x").vectorize("j_i").parallel("i_o")),
    ("strips, vectors", blur, lambda s: strips(s).vectorize("x", 4).vectorize("j", 4).parallel("i_o")),
    ("unrolled", blur, lambda s: tiles(s).unroll("x").unroll("y")),
    ("split, reordered", blur, lambda s: tiles(s).split("x", 2).reorder("x_i", "y")),
    ("staged", blur, lambda s: tiles(s).stage("A", "j_o").stage("P", "i_i")),
    ("whole blocks", blur, lambda s: s.assume("M % 4 == 0").split("i", 4).compute_at("P", "i_o").unroll("y")),
    ("further in", blur, lambda s: tiles(s).compute_at("P", "i_i")),
    ("cut tiles", blur, lambda s: s.split("j", 4, tail="cut").split("i", 2).compute_at("P", "i_o")),
    ("tiled producer", blur, lambda s: s.tile(["y", "x"], [2, 3]).split("i", 3).compute_at("P", "i_o")),
    ("tiled producer in tiles", blur, lambda s: tiles(s.tile(["y", "x"], [2, 3]))),
    ("split with a cut", blur, lambda s: tiles(s.split("x", 3, tail="cut").split("y", 2))),
    ("skewed producer", blur, lambda s: tiles(s.skew("x", "y", 1))),
    ("skewed consumer", blur, lambda s: s.skew("j", "i", 1).split("j", 4).compute_at("P", "j_o")),
    ("chain", sharpen, lambda s: placed(s.split("i", 2), R="i_o", Q="i_o", P="i_o")),
    ("chain of tiles", sharpen, lambda s: placed(tiled(s), R="j_o", Q="j_o", P="j_o").parallel("i_o")),
    ("chain at several loops", sharpen, lambda s: placed(tiled(s), R="i_i", Q="j_o", P="i_o")),
    ("at another producer", sharpen, lambda s: placed(s.split("i", 2), R="i_o", Q="e", P="c")),
    ("reduction inside", convolved, lambda s: s.compute_at("P", "i")),
    ("zeros, then a reduction", in_steps, lambda s: s.split("i", 3).compute_at("P", "i_o").parallel("i_o")),
    ("padded", padded, strips),
    ("padded, vector", padded, lambda s: s.split("i", 4).compute_at("P", "i_o").vectorize("i_i").unroll("n")),
    ("bordered", bordered, strips),
    ("edges", edges, strips),
    ("two elements at once", halved, strips),
    ("every other element", doubled, strips),
    ("backwards", backwards, strips),
    ("transposed", transposed, lambda s: s.tile(["i", "j"], [2, 3]).compute_at("P", "j_o")),
    ("triangle", lower, strips),
    ("two locals of one loop", two_at_once, lambda s: placed(s.split("i", 3), P="i_o", Q="i_o")),
    ("data decide", chosen, strips),
    ("data decide what is read", looked_up, lambda s: s.split("i", 3).compute_at("T", "i_o")),
    ("scalar", mean, lambda s: placed(s.split("j", 3), total_1="j_o", total="j_o").parallel("j_o")),
    ("made anew each time", each_time, lambda s: s.split("i", 3).compute_at("P", "i_o").parallel("t")),
    ("in place", in_place, strips),
    ("in place, each element", in_place, lambda s: s.compute_at("P", "i")),
    ("running sum of a row", running, lambda s: s.tile(["i", "j"], [2, 3]).compute_at("P", "j_o")),
    ("local rows", by_rows, lambda s: s.split("i", 3).compute_at("P", "i_o")),
    ("exits inside", until, strips),
    ("all copies of a loop", blur, lambda s: s.specialize("M > 3").split("i", 2).compute_at("P", "i_o")),
]  # fmt: skip

INLINED: list[tuple[str, Any, Steps]] = [
    ("blur", blur, lambda s: s.inline("P")),
    ("then tiled", blur, lambda s: s.inline("P").tile(["i", "j"], [3, 4]).vectorize("j_i").parallel("i_o")),
    ("after tiling", blur, lambda s: s.tile(["i", "j"], [3, 4]).inline("P")),
    ("chain", sharpen, lambda s: s.inline("R").inline("Q").inline("P")),
    ("chain from the front", sharpen, lambda s: s.inline("P").inline("Q").inline("R")),
    ("before compute_at", sharpen, lambda s: s.inline("R").inline("Q").split("i", 3).compute_at("P", "i_o")),
    ("branches", padded, lambda s: s.inline("P")),
    ("border", bordered, lambda s: s.inline("P")),
    ("edges", edges, lambda s: s.inline("P")),
    ("two elements at once", halved, lambda s: s.inline("P")),
    ("every other element", doubled, lambda s: s.inline("P")),
    ("backwards", backwards, lambda s: s.inline("P")),
    ("transposed", transposed, lambda s: s.inline("P")),
    ("triangle", lower, lambda s: s.inline("P")),
    ("scalars, then arrays", two_at_once, lambda s: s.inline("d").inline("s").inline("Q").inline("P")),
    ("data decide", chosen, lambda s: s.inline("P")),
    ("made anew each time", each_time, lambda s: s.inline("P").parallel("t")),
    ("in place", in_place, lambda s: s.inline("P")),
    ("scalar", mean, lambda s: s.inline("total_1")),
]


@pytest.mark.parametrize(("kernel", "steps"), [c[1:] for c in INLINED], ids=[c[0] for c in INLINED])
def test_inlined(kernel: Any, steps: Steps) -> None:
    check_schedule(kernel, steps)


@pytest.mark.parametrize(("kernel", "steps"), [c[1:] for c in MEANING], ids=[c[0] for c in MEANING])
def test_meaning(kernel: Any, steps: Steps) -> None:
    check_schedule(kernel, steps)
