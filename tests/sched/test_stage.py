"""`stage`: copies of regions in local arrays. Meaning first; refusals as whole messages."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kdsl
from kdsl import f32, i64
from kdsl.errors import ScheduleError
from kdsl.ir import interpreter
from kdsl.ir.nodes import Alloc
from kdsl.ir.walk import stmts
from kdsl.sched import Schedule
from tests.sched import kernels
from tests.sched.check import (
    Steps,
    arguments,
    check_schedule,
    golden_texts,
    refusal,
    schedule_of,
    write_golden,
)

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def product(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            for k in range(K):
                C[i, j] += A[i, k] * B[k, j]


@kdsl.kernel
def cross(X: i64[M, N], Y: i64[M, N]):
    for i in range(1, M - 1):
        for j in range(1, N - 1):
            Y[i, j] = X[i - 1, j] + X[i + 1, j] + X[i, j - 1] + X[i, j + 1] - 4 * X[i, j]


@kdsl.kernel
def in_place(X: i64[N]):
    for i in range(1, N - 1):
        X[i] = X[i - 1] + 2 * X[i] + X[i + 1]


@kdsl.kernel
def positive(X: i64[N], Y: i64[N]):
    for i in range(N):
        if X[i] > 1:
            Y[i] = X[i]


@kdsl.kernel
def spread(X: i64[2 * N], Y: i64[N]):
    for i in range(N):
        X[2 * i] = Y[i]


@kdsl.kernel
def lower(L: i64[N, N], X: i64[N]):
    for i in range(N):
        for j in range(i):
            X[i] += L[i, j] * X[j]


@kdsl.kernel
def backward(X: i64[N], Y: i64[N]):
    for i in range(N - 1, -1, -1):
        for j in range(i, N, 2):
            Y[i] += X[j]


@kdsl.kernel
def local(X: i64[N], Y: i64[N]):
    T = kdsl.empty(N, i64)
    for i in range(N):
        T[i] = X[i] * 2
    for j in range(N):
        Y[j] = T[j] + T[N - 1 - j]


@kdsl.kernel
def strides(X: i64[N], Y: i64[N]):
    for i in range(1, N, 3):
        for j in range(i, min(N, i + 3)):
            Y[j] = X[j] + 1


@kdsl.kernel
def downwards(X: i64[N + 2], Y: i64[N]):
    for i in range(N - 1, -1, -2):
        Y[i] = X[i] + X[i + 2] - X[i + 1]


@kdsl.kernel
def counts(X: i64[N], n: i64[M], Y: i64[M]):
    for i in range(M):
        for j in range(n[i]):
            if j < N:
                Y[i] += X[j]


@kdsl.kernel
def moved(X: i64[M, N], Y: i64[M, N], by: i64):
    for i in range(M):
        for j in range(N):
            if j + by >= 0 and j + by < N:
                Y[i, j] = X[i, j + by]


@kdsl.kernel
def folded(X: i64[M, N], Y: i64[M, N]):
    for i in range(M):
        for j in range(N):
            Y[i, j] = X[i, j // 2] + X[i // 3, j % 4 if N > 4 else 0]


@kdsl.kernel
def largest(X: f32[M, N], Y: f32[M]):
    for i in range(M):
        for j in range(N):
            Y[i] = max(Y[i], X[i, j])


@kdsl.kernel(may_alias=("X", "Y"))
def apart(X: i64[N], Y: i64[N], Z: i64[N]):
    for i in range(N):
        Z[i] = X[i]
    for j in range(N):
        Y[j] = Z[j]


@kdsl.kernel
def results(X: i64[N]) -> i64[N]:
    Y = kdsl.zeros(N, i64)
    for i in range(N):
        Y[i] += X[i] * 2
    return Y


@kdsl.kernel
def wrapped(X: i64[M, N], Y: i64[M, N]):
    for i in range(M):
        for j in range(N):
            Y[i, j] = X[i, (i * 7 + j * 3) % N]


@kdsl.kernel
def flipped(X: i64[M, N], Y: i64[M, N]):
    for i in range(M):
        for j in range(N):
            Y[i, j] = X[i, j ^ 1]


@kdsl.kernel
def divided(X: i64[N], Y: i64[M]):
    T = kdsl.zeros(N // M + 3, i64)
    for i in range(M):
        Y[i] = T[i % 3]


def blocked(s: Schedule) -> Schedule:
    return s.tile(["i", "j"], [3, 4]).reorder("i_o", "j_o", "k", "i_i", "j_i")


PANELS: Any = {"tile": (None, 4), "order": [1, 0, 2]}

MEANING: list[tuple[str, Any, Steps]] = [
    ("accumulator", product, lambda s: blocked(s).stage("C", "j_o")),
    ("accumulator in registers", product, lambda s: blocked(s).stage("C", "j_o", memory="register")),
    ("row and block", product, lambda s: blocked(s).stage("A", "i_o").stage("B", "j_o").stage("C", "j_o")),
    ("each term", product, lambda s: s.stage("C", "k").stage("A", "k")),
    ("remainders", product, lambda s: s.split("i", 3, tail="cut").stage("A", "i_o").stage("A", "i_t")),
    ("a copy of a copy", product, lambda s: blocked(s).stage("B", "i_o").stage("B_s", "j_o")),
    ("written before read", kernels.rows, lambda s: s.stage("total", "i")),
    ("halo", cross, lambda s: s.tile(["i", "j"], [3, 4]).stage("X", "j_o").stage("Y", "j_o")),
    ("halo of rows", cross, lambda s: s.stage("X", "i")),
    ("halo in place", in_place, lambda s: s.split("i", 4).stage("X", "i_o")),
    ("perhaps written", positive, lambda s: s.split("i", 4).stage("Y", "i_o").stage("X", "i_o")),
    ("every other element", spread, lambda s: s.split("i", 4).stage("X", "i_o")),
    ("triangle", lower, lambda s: s.stage("X", "i").stage("L", "j")),
    ("backwards", backward, lambda s: s.stage("X", "i").stage("Y", "i")),
    ("a local", local, lambda s: s.split("i", 4).stage("T", "i_o").split("j", 3).stage("T", "j_o")),
    ("copies of a loop", kernels.both, lambda s: s.fission("i", after=1).stage("Y", "i")),
    ("under unroll", kernels.axpy, lambda s: s.split("i", 2).unroll("i_i").stage("Y", "i_i")),
    ("under parallel", product, lambda s: blocked(s).parallel("i_o").stage("C", "j_o")),
    ("then parallel", product, lambda s: blocked(s).stage("C", "i_o").parallel("i_o")),
    ("vector copies", product, lambda s: blocked(s).stage("C", "j_o").vectorize("C_s_1").vectorize("C_s_w1")),
    ("transposed", product, lambda s: blocked(s).stage("A", "i_o", layout={"order": (1, 0)})),
    ("padded", product, lambda s: blocked(s).stage("B", "j_o", layout={"pad": 3, "align": 64})),
    ("panels", product, lambda s: blocked(s).stage("B", "i_o", layout=PANELS)),
    ("ragged panels", product, lambda s: s.stage("B", "i", layout={"tile": (2, 3), "order": (2, 0, 3, 1)})),
    ("ragged panels written", product, lambda s: s.stage("C", "i", layout={"tile": (None, 3), "fill": 0})),
    ("filled", product, lambda s: blocked(s).stage("B", "j_o", layout={"tile": (5, None), "fill": 1.5})),
    ("filled with infinity", kernels.axpy, lambda s: s.stage("X", "i", layout={"fill": -np.inf})),
    ("copies fused", product, lambda s: s.stage("A", "i").stage("C", "i").fuse("C_s_0", "A_s_0")),
    ("copies reordered", product, lambda s: blocked(s).stage("B", "i_o").reorder("B_s_1", "B_s_0")),
    ("copies tiled", product, lambda s: blocked(s).stage("B", "i_o").tile(["B_s_0", "B_s_1"], [3, 4])),
    ("copies in vectors", product, lambda s: blocked(s).stage("A", "i_o").vectorize("A_s_1", 4)),
    ("steps of three", strides, lambda s: s.stage("X", "i").stage("Y", "i")),
    ("steps of three in blocks", strides, lambda s: s.split("i", 2).stage("X", "i_o").stage("Y", "i_o")),
    ("downwards in blocks", downwards, lambda s: s.split("i", 3).stage("X", "i_o").stage("Y", "i_o")),
    ("length from data", counts, lambda s: s.stage("X", "i").stage("Y", "i").stage("n", "i")),
    ("scalar offset", moved, lambda s: s.split("j", 4).stage("X", "j_o").stage("Y", "j_o")),
    ("quotients", folded, lambda s: s.split("j", 4).stage("X", "j_o").stage("X_s", "j_i")),
    ("remainders by sizes", wrapped, lambda s: s.stage("X", "i")),
    ("maxima filled", largest, lambda s: s.split("i", 4).stage("Y", "i_o", layout={"fill": 5, "tile": (3,)})),
    ("overlap elsewhere", apart, lambda s: s.stage("X", "i").stage("Y", "j")),
    ("a result", results, lambda s: s.split("i", 4).stage("Y", "i_o")),
    ("halo in tiles", in_place, lambda s: s.split("i", 4).stage("X", "i_o", layout={"tile": (3,), "pad": 1})),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "steps"), [c[1:] for c in MEANING], ids=[c[0] for c in MEANING])
def test_meaning(kernel: Any, steps: Steps) -> None:
    check_schedule(kernel, steps)


def test_text() -> None:
    s = (
        schedule_of(product)
        .tile(["i", "j"], [2, 4])
        .reorder("i_o", "j_o", "k", "i_i", "j_i")
        .stage("C", "j_o")
    )
    assert str(s) == (
        "def product(A: f32[M, K], B: f32[K, N], C: f32[M, N]):\n"
        "    for i_o in range((M + 1) // 2):\n"
        "        for j_o in range((N + 3) // 4):\n"
        '            C_s: f32[2, 4] @ "local"\n'
        "            for C_s_0 in range(2):\n"
        "                if i_o * 2 + C_s_0 < M:\n"
        "                    for C_s_1 in range(4):\n"
        "                        if j_o * 4 + C_s_1 < N:\n"
        "                            C_s[C_s_0, C_s_1] = C[i_o * 2 + C_s_0, j_o * 4 + C_s_1]\n"
        "            for k in range(K):\n"
        "                for i_i in range(2):\n"
        "                    if i_o * 2 + i_i < M:\n"
        "                        for j_i in range(4):\n"
        "                            if j_o * 4 + j_i < N:\n"
        "                                C_s[i_i, j_i] += A[i_o * 2 + i_i, k] * B[k, j_o * 4 + j_i]\n"
        "            for C_s_w0 in range(2):\n"
        "                if i_o * 2 + C_s_w0 < M:\n"
        "                    for C_s_w1 in range(4):\n"
        "                        if j_o * 4 + C_s_w1 < N:\n"
        "                            C[i_o * 2 + C_s_w0, j_o * 4 + C_s_w1] = C_s[C_s_w0, C_s_w1]"
    )


def test_nothing_is_read_that_was_not_asked_for() -> None:
    """What is written before it is read is not copied in; what is only read is not copied back."""
    text = str(schedule_of(kernels.rows).stage("total", "i").stage("A", "i"))
    assert "= total[" not in text and "A[i + A_s_0, A_s_1] =" not in text


def test_shape_of_panels() -> None:
    s = schedule_of(product).stage("B", "i", layout={"tile": (None, 64), "order": (1, 0, 2), "pad": 8})
    assert 'B_s: f32[(N + 63) // 64, K, 72] @ "local"' in str(s)


def test_fill_stands_outside_of_the_source() -> None:
    """The copy's cells beyond the array hold the fill."""
    s = schedule_of(kernels.axpy).split("i", 4).stage("X", "i_o", layout={"fill": 7})
    assert "X_s[X_s_0] = X[i_o * 4 + X_s_0] if i_o * 4 + X_s_0 < N else 7.0" in str(s)


@kdsl.kernel
def gathered(X: i64[N], at: i64[N], Y: i64[N]):
    for i in range(N):
        Y[i] = X[at[i]]


@kdsl.kernel
def histogram(X: i64[N], H: i64[N]):
    for i in range(N):
        kdsl.atomic_add(H, i, X[i])


@kdsl.kernel(may_alias=("X", "Y"))
def overlapping(X: i64[N], Y: i64[N]):
    for i in range(N):
        Y[i] = X[i]


@kdsl.kernel
def longer(X: i64[M], Y: i64[N]):
    for i in range(N):
        Y[i] = X[i]


@kdsl.kernel
def inside(X: i64[N], Y: i64[N]):
    for i in range(N):
        T = kdsl.empty(2, i64)
        T[0] = X[i]
        Y[i] = T[0]


@kdsl.kernel
def evens_and_odds(X: i64[N], Y: i64[2 * N]):
    for i in range(2):
        for j in range(N):
            Y[2 * j + i] = X[j]


GOLDEN = Path(__file__).with_name("stage_refusals.txt")

REFUSED: list[tuple[str, Any, Steps]] = [
    ("no such array", product, lambda s: s.stage("D", "i")),
    ("no such loop", product, lambda s: s.stage("C", "ii")),
    ("not touched", kernels.pair, lambda s: s.stage("Z", "i")),
    ("made inside", inside, lambda s: s.stage("T", "i")),
    ("scalar", kernels.matmul, lambda s: s.stage("acc", "k")),
    ("gathered", gathered, lambda s: s.stage("X", "i")),
    ("not proved inside", longer, lambda s: s.stage("X", "i")),
    ("atomic", histogram, lambda s: s.stage("H", "i")),
    ("may alias", overlapping, lambda s: s.stage("X", "i")),
    ("continue", kernels.skipping, lambda s: s.stage("Y", "i")),
    ("not affine", flipped, lambda s: s.stage("X", "i")),
    ("shape that may not exist", divided, lambda s: s.stage("T", "i")),
    ("too much padding", product, lambda s: s.stage("A", "i", layout={"pad": 2**40})),
    ("registers of symbolic size", product, lambda s: s.stage("A", "i", memory="register")),
    ("wrong memory", product, lambda s: s.stage("A", "i", memory="fast")),
    ("wrong key", product, lambda s: s.stage("A", "i", layout={"tiles": (1, 2)})),
    ("tile of another rank", product, lambda s: s.stage("A", "i", layout={"tile": (4,)})),
    ("order twice", product, lambda s: s.stage("A", "i", layout={"order": (1, 1)})),
    ("negative pad", product, lambda s: s.stage("A", "i", layout={"pad": -1})),
    ("align", product, lambda s: s.stage("A", "i", layout={"align": 128})),
    ("fill of another type", kernels.prefix, lambda s: s.stage("X", "i", layout={"fill": 0.5})),
    (
        "staged already",
        kernels.axpy,
        lambda s: s.split("i", 4).stage("Y", "i_o").parallel("Y_s_0").stage("Y", "i_i"),
    ),
    ("races of whole boxes", evens_and_odds, lambda s: s.parallel("i").stage("Y", "i")),
]


@pytest.mark.parametrize(("name", "kernel", "steps"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(name: str, kernel: Any, steps: Steps) -> None:
    assert refusal(kernel, steps) == golden_texts(GOLDEN)[name]


def test_golden_texts(update_messages: bool) -> None:
    if update_messages:
        write_golden(GOLDEN, REFUSED)
    assert list(golden_texts(GOLDEN)) == [c[0] for c in REFUSED]


def test_a_fact_on_sizes_is_a_way_out() -> None:
    s = schedule_of(longer).assume("N <= M").stage("X", "i")
    arrays = {"X": np.arange(5), "Y": np.zeros(3, np.int64)}
    interpreter.run(s.func, arrays, {}, {"M": 5, "N": 3})
    assert arrays["Y"].tolist() == [0, 1, 2]


@settings(deadline=None, max_examples=25)
@given(st.data())
def test_random_tiles(data: Any) -> None:
    """Any buffer of a tiled product or stencil at any loop, in any layout; the interpreter compares."""
    kernel, names, band = data.draw(
        st.sampled_from([(product, "ABC", ["i", "j", "k"]), (cross, "XY", ["i", "j"])])
    )
    sizes = data.draw(st.lists(st.integers(1, 5), min_size=len(band), max_size=len(band)))
    s = schedule_of(kernel).tile(band, sizes, tail=data.draw(st.sampled_from(["guard", "cut"])))
    loops = data.draw(st.permutations([f"{b}_o" for b in band] + [f"{b}_i" for b in band]))
    with contextlib.suppress(ScheduleError):
        s = s.reorder(*loops)
    for _ in range(data.draw(st.integers(1, 2))):
        name = data.draw(st.sampled_from(names))
        if any(isinstance(a, Alloc) and a.name == f"{name}_s" for a in stmts(s.func.body)):
            continue
        tile = tuple(data.draw(st.sampled_from([None, 1, 2, 3])) for _ in range(2))
        count = 2 + sum(t is not None for t in tile)
        layout = {
            "tile": tile,
            "order": tuple(data.draw(st.permutations(range(count)))),
            "pad": data.draw(st.integers(0, 2)),
        }
        if data.draw(st.booleans()):
            layout["fill"] = 1
        s = s.stage(name, data.draw(st.sampled_from(loops)), layout=layout)
    for shape in ((5, 7, 3), (1, 6, 0), (9, 4, 2)):
        given_sizes = dict(zip(s.func.sizes, shape))
        before = arguments(s.base, given_sizes)
        want, got = ({n: a.copy() for n, a in before.items()} for _ in range(2))
        interpreter.run(s.base, want, {}, given_sizes)
        interpreter.run(s.func, got, {}, given_sizes)
        for n in want:
            np.testing.assert_array_equal(got[n], want[n])
