"""`compute_at` and `inline`: locals computed where they are read. Meaning first; refusals whole."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

import kdsl
from kdsl import f32, i64
from kdsl.backends import llvm
from kdsl.errors import KdslError, ScheduleError
from kdsl.ir.nodes import Alloc, Load, Loop
from kdsl.ir.walk import exprs, stmts
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.sched import Schedule
from tests.differential.harness import load
from tests.sched import kernels
from tests.sched.check import (
    Steps,
    arguments,
    check_forms,
    check_schedule,
    func_of,
    interpreted,
    same,
    schedule_of,
)
from tests.sched.random_pipelines import Pipeline
from tests.sched.random_programs import step

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
def triangular(A: i64[N, N], B: i64[N, N]):
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
def in_place_forwards(X: i64[N + 1]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n] + X[n + 1]
    for i in range(N):
        X[i] = P[i] * 2


@kdsl.kernel
def stepped(X: i64[N], Y: i64[N]):
    P = kdsl.zeros(N, i64)
    for n in range(0, N, 2):
        P[n] = X[n]
    for i in range(N):
        Y[i] = P[i]


@kdsl.kernel
def perhaps(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        if X[n] > 1:
            P[n] = X[n]
    for i in range(N):
        if X[i] > 1:
            Y[i] = P[i]


@kdsl.kernel
def short(X: i64[M], Y: i64[N]):
    P = kdsl.empty(M, i64)
    for n in range(N):
        P[n] = X[n]
    for i in range(N):
        Y[i] = P[i]


@kdsl.kernel
def falling(X: i64[N], Y: i64[N]):
    P = kdsl.zeros(N, i64)
    for n in range(N - 1, 0, -3):
        P[n] = X[n]
    for i in range(N):
        Y[i] = P[i]


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


@kdsl.kernel
def clamped(A: i64[M, N], B: i64[M, N]):
    P = kdsl.empty((M, N), i64)
    for y in range(M):
        for x in range(N):
            P[y, x] = A[y, max(x - 1, 0)] + A[y, min(x + 1, N - 1)]
    for i in range(M):
        for j in range(N):
            B[i, j] = P[max(i - 1, 0), j] + P[i, j] + P[min(i + 1, M - 1), j]


@kdsl.kernel
def enlarged(X: i64[N + 1], Y: i64[2 * N]):
    P = kdsl.empty(N + 1, i64)
    for n in range(N + 1):
        P[n] = X[n] * 3
    for i in range(2 * N):
        Y[i] = P[i // 2] + P[i // 2 + 1]


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
    ("triangle", triangular, strips),
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
    ("clamped", clamped, strips),
    ("in place, forwards", in_place_forwards, strips),
    ("steps counted first", stepped, lambda s: s.split("n", 1).split("i", 3).compute_at("P", "i_o")),
    ("perhaps produced", perhaps, strips),
    ("clamped, tiles", clamped, lambda s: tiles(s).vectorize("x")),
    ("enlarged", enlarged, lambda s: s.split("i", 4).compute_at("P", "i_o").unroll("n")),
    ("enlarged, odd blocks", enlarged, strips),
    ("enlarged, each", enlarged, lambda s: s.compute_at("P", "i")),
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
    ("steps of two", stepped, lambda s: s.inline("P")),
    ("steps of minus three", falling, lambda s: s.inline("P")),
    ("transposed", transposed, lambda s: s.inline("P")),
    ("triangle", triangular, lambda s: s.inline("P")),
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


def _readers(s: Schedule) -> list[tuple[str, str]]:
    """Each local with the loops that read it."""
    names = {x.name for x in stmts(s.func.body) if isinstance(x, Alloc)}
    return [
        (name, loop.var)
        for loop in stmts(s.func.body)
        if isinstance(loop, Loop)
        for name in sorted(names & {e.buffer for e in exprs(loop.body) if isinstance(e, Load)})
    ]


@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck), print_blob=True)
@given(st.data())
def test_random_pipelines(data: Any) -> None:
    """Chains of locals under steps of all kinds, half of them these two; the interpreter compares."""

    def pick(options: Any) -> Any:
        return data.draw(st.sampled_from(options))

    text = Pipeline(pick).text()
    note(text)
    s = Schedule(func_of(load(text)["program"]))
    for _ in range(data.draw(st.integers(1, 5))):
        names = list(dict.fromkeys(x.name for x in stmts(s.func.body) if isinstance(x, Alloc)))
        loops = list(dict.fromkeys(x.var for x in stmts(s.func.body) if isinstance(x, Loop)))
        try:
            match pick(("compute_at", "inline", "other", "other")) if names else "other":
                case "compute_at":
                    s = s.compute_at(*pick(_readers(s) or [(names[0], loops[0])]))
                case "inline":
                    s = s.inline(pick(names[::-1]))
                case _:
                    s = step(pick, s)
        except ScheduleError as refusal:
            assert refusal.code.startswith("K03") and refusal.help
    note(s.trace())
    check_forms(s)
    low = lower(s.func, llvm.host_target(), definition)
    for seed, (n, m) in enumerate(((3, 4), (0, 1), (4, 0))):
        sizes = {"N": n, "M": m}
        given_ = arguments(s.base, sizes, seed)
        try:
            want = interpreted(s.base, given_, sizes)
        except KdslError as fault:
            assert fault.code == "K0610"
            continue
        got = interpreted(s.func, given_, sizes)
        if got == "refused" and s.func.conditions != s.base.conditions:
            continue
        same(want, got, f"{sizes}", s)
        same(want, interpreted(low, given_, sizes), f"lowered, {sizes}", s)


# ------------------------------------------------------------------------ refusals


@kdsl.kernel
def recurrence(X: i64[N], Y: i64[N]):
    P = kdsl.zeros(N, i64)
    for n in range(1, N):
        P[n] = P[n - 1] + X[n]
    for i in range(N):
        Y[i] = P[i]


@kdsl.kernel
def smoothed_in_place(X: i64[N + 1]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n] + X[n + 1]
    for i in range(N):
        X[i + 1] = P[i] * 2


@kdsl.kernel
def cleared(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n] + 1
    for k in range(3, N):
        X[k] = 0
    for i in range(N):
        Y[i] = P[i]


@kdsl.kernel
def gap(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(1, N):
        P[n] = X[n]
    for i in range(N):
        Y[i] = P[i]


@kdsl.kernel
def read_twice(X: i64[N], Y: i64[N], Z: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n]
    for i in range(N):
        Y[i] = P[i]
    for j in range(N):
        Z[j] = P[j] + 1


@kdsl.kernel
def written_twice(X: i64[N], Y: i64[N], Z: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n]
    for i in range(N):
        Y[i] = P[i]
    for m in range(N):
        P[m] = X[m] * 2
    for j in range(N):
        Z[j] = P[j] + 1


@kdsl.kernel
def reused(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n]
    for i in range(N):
        Y[i] = P[i]
    for m in range(N):
        P[m] = 0


@kdsl.kernel
def before(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for y in range(N):
        P[y] = X[y] * 2
        for k in range(2):
            Y[y] += P[max(y - 1, 0)] * k


@kdsl.kernel
def collided(X: i64[2 * N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(2 * N):
        P[n // 2] = X[n]
    for i in range(N):
        Y[i] = P[i]


@kdsl.kernel
def over_and_over(X: i64[M, N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for t in range(M):
        for n in range(N):
            P[n] = X[t, n]
    for i in range(N):
        Y[i] = P[i] if M > 0 else 0


@kdsl.kernel
def crossed(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n]
        P[N - 1 - n] = X[n] + 1
    for i in range(N):
        Y[i] = P[i]


@kdsl.kernel
def swapped(X: i64[N], Y: i64[N]):
    for i in range(N):
        t = X[i]
        X[i] = Y[i]
        Y[i] = t


@kdsl.kernel
def loud(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n]
        print(n)
    for i in range(N):
        Y[i] = P[i]


@kdsl.kernel
def stopped(X: i64[N], Y: i64[N]):
    P = kdsl.zeros(N, i64)
    for n in range(N):
        if X[n] < 0:
            break
        P[n] = X[n]
    for i in range(N):
        Y[i] = P[i]


@kdsl.kernel
def iterated(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n] + 1
    left = 3
    while left > 0:
        left -= 1
        for i in range(N):
            Y[i] += P[i]


@kdsl.kernel
def unread(X: i64[N]):
    P = kdsl.empty(N, i64)
    for i in range(N):
        P[i] = X[i]


@kdsl.kernel(may_alias=("X", "Y"))
def overlapping(X: i64[N], Y: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[n]
    for i in range(N):
        Y[i] = P[i]


@kdsl.kernel
def scattered(X: i64[N], Y: i64[N], at: i64[N]):
    P = kdsl.empty(N, i64)
    for n in range(N):
        P[n] = X[at[n] % N]
    for i in range(N):
        X[at[i] % N] = P[i]


@kdsl.kernel
def counted(X: i64[N], Y: i64[N]):
    u = 1
    t = u
    for q in range(4):
        u += q
    for k in range(min(t - 1, N)):
        Y[k] = X[k]


@kdsl.kernel
def asked(X: i64[N], Y: i64[N]):
    P = kdsl.zeros(N, i64)
    for n in range(N):
        if X[n] > 1:
            P[n] = 7
    for i in range(N):
        Y[i] = P[i]
        X[N - 1 - i] = 3


GOLDEN = Path(__file__).with_name("compute_refusals.txt")

REFUSED: list[tuple[str, Any, Steps]] = [
    ("no such local", blur, lambda s: s.compute_at("Q", "i")),
    ("an argument", blur, lambda s: s.inline("A")),
    ("no such loop", blur, lambda s: s.compute_at("P", "ii")),
    ("its own loop", blur, lambda s: s.compute_at("P", "y")),
    ("loop that does not read", sharpen, lambda s: s.compute_at("Q", "c")),
    ("read by another producer", sharpen, lambda s: s.compute_at("P", "i")),
    ("read outside of the loop", read_twice, lambda s: s.compute_at("P", "i")),
    ("unread", unread, lambda s: s.inline("P")),
    ("recurrence", recurrence, strips),
    ("recurrence inlined", recurrence, lambda s: s.inline("P")),
    ("operand overwritten by the loop", smoothed_in_place, strips),
    ("operand overwritten in between", cleared, strips),
    ("operand overwritten before the read", cleared, lambda s: s.inline("P")),
    ("operand of bounds overwritten", counted, lambda s: s.inline("t")),
    ("operand of a condition overwritten", asked, lambda s: s.inline("P")),
    ("operand of a condition overwritten, moved", asked, lambda s: s.compute_at("P", "i")),
    ("swap", swapped, lambda s: s.inline("t")),
    ("perhaps overwritten", scattered, strips),
    ("may alias", overlapping, strips),
    ("never written", gap, strips),
    ("never written, inlined", gap, lambda s: s.inline("P")),
    ("perhaps never written, inlined", perhaps, lambda s: s.inline("P")),
    ("written again", written_twice, lambda s: s.compute_at("P", "i")),
    ("written once more", reused, strips),
    ("read before all is written", written_twice, lambda s: s.inline("P")),
    ("loop in the loop that produces", kernels.matmul, lambda s: s.compute_at("acc", "k")),
    ("from another iteration", before, lambda s: s.compute_at("P", "k")),
    ("twice by one statement", collided, lambda s: s.inline("P")),
    ("iterations of no subscript", over_and_over, lambda s: s.inline("P")),
    ("twice by two statements", crossed, lambda s: s.inline("P")),
    ("changed in place", mean, lambda s: s.inline("total")),
    ("reduction inlined", in_steps, lambda s: s.inline("P")),
    ("through a local", convolved, lambda s: s.inline("P")),
    ("prints", loud, strips),
    ("break", stopped, strips),
    ("inside of a while loop", iterated, lambda s: s.compute_at("P", "i")),
    ("size not known", short, strips),
    ("step of two", stepped, strips),
    ("marked producer", blur, lambda s: s.parallel("y").compute_at("P", "i")),
    ("vector loop", blur, lambda s: s.vectorize("j", 4).compute_at("P", "j_v")),
]


def message(kernel: Any, steps: Steps) -> str:
    with pytest.raises(ScheduleError) as caught:
        steps(schedule_of(kernel))
    text = re.sub(r"\([^ ()]*\.py:\d+\)", "(FILE)", str(caught.value))
    text = re.sub(r"--> (?:\S*/)?(\w+\.py):\d+:\d+", r"--> \1", text)
    return re.sub(r"\bline \d+\b", "line LINE", re.sub(r"(?m)^ *\d+ \|", "|", text))


@pytest.mark.parametrize(("name", "kernel", "steps"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(name: str, kernel: Any, steps: Steps) -> None:
    golden = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", GOLDEN.read_text(), re.M))
    assert message(kernel, steps) == golden[name].rstrip("\n")


def test_golden_texts(update_messages: bool) -> None:
    if update_messages:
        GOLDEN.write_text("\n\n".join(f"## {name}\n{message(k, s)}" for name, k, s in REFUSED) + "\n")
