"""`collapse`, loops of steps other than 1, and names of loops with copies."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32, i64
from kdsl.backends import llvm
from kdsl.errors import ArgumentError, ScheduleError
from kdsl.ir.nodes import Accumulate, Atomic, Func, Load, Store
from kdsl.ir.walk import exprs, stmts
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.sched import Schedule
from tests.sched import kernels
from tests.sched.check import Steps, check_schedule, schedule_of
from tests.sched.test_loops import body

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def bias(A: f32[M, N], y: f32[N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] = A[i, j] + y[j]


@kdsl.kernel
def five_points(A: i64[M, N], B: i64[M, N]):
    for i in range(1, M - 1):
        for j in range(1, N - 1):
            B[i, j] = A[i - 1, j] + A[i + 1, j] + A[i, j - 1] + A[i, j + 1]


@kdsl.kernel
def cube(A: i64[M, N, K], B: i64[K, N, M]):
    for i in range(M):
        for j in range(N):
            for k in range(K):
                A[i, j, k] += 2 * B[k, j, i]


@kdsl.kernel
def band(A: i64[M, M + 3]):
    for i in range(M):
        for j in range(i, i + 3):
            A[i, j] = 10 * i + j


@kdsl.kernel
def strides(A: i64[M, N], B: i64[N, M]):
    for i in range(M - 1, -1, -1):
        for j in range(N - 1, 0, -2):
            A[i, j] = 3 * A[i, j] + B[j, i]


@kdsl.kernel
def corner(A: i64[N, N], B: i64[N, N]):
    for i in range(N - 1, -1, -1):
        for j in range(N - 1, i - 1, -1):
            A[i, j] = 3 * A[i, j] + B[j, i]


@kdsl.kernel
def countdown(X: i64[N], Y: i64[N], Z: i64[N]):
    for i in range(N - 1, 0, -1):
        t = X[i] + 1
        Y[i] = t
        Z[i] = t * Y[i]
    for k in range(N - 1, 0, -1):
        X[k] = Y[k] + Z[k]


@kdsl.kernel
def thirds(X: i64[N], Y: i64[N], Z: i64[N]):
    for i in range(1, N, 3):
        t = X[i] + 1
        Y[i] = t
        Z[i] = t * Y[i]
    for k in range(1, N, 3):
        X[k] = Y[k] + Z[k]


@kdsl.kernel
def product(A: i64[M, K], B: i64[K, N], C: i64[M, N]):
    for i in range(M - 1, -1, -1):
        for j in range(0, N, 2):
            acc = 0
            for k in range(K - 1, -1, -3):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


@kdsl.kernel
def plain_product(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            for k in range(K):
                C[i, j] += A[i, k] * B[k, j]


@kdsl.kernel
def nested_sizes(A: i64[M, M, N]):
    for b in range(M):
        for i in range(b):
            for j in range(N):
                A[b, i, j] = i + j


@kdsl.kernel
def flat_by_hand(A: i64[M, N], y: i64[N], s: i64[M]):
    for t in range(M * N):
        s[t // N] += A[t // N, t % N] * y[t % N]


def lowered(func: Func) -> Func:
    return lower(func, llvm.host_target(), definition)


def checked_in_place(func: Func) -> bool:
    """True when any access of the lowered function is tested when it runs."""
    nodes: list[Any] = [*exprs(func.body), *stmts(func.body)]
    return any(x.checked for x in nodes if isinstance(x, (Load, Store, Accumulate, Atomic)))


# ------------------------------------------------------------------------ collapse


def test_text() -> None:
    s = check_schedule(kernels.add, lambda s: s.collapse("i", "j"))
    assert body(s).splitlines() == [
        "require(N == 0 or M <= 4503599627370496 // N, "
        '"the schedule counts M * N iterations in `i_j`, which are too many")',
        "for i_j in range(M * N):",
        "    C[i_j // N, i_j % N] = A[i_j // N, i_j % N] + 2 * B[i_j // N, i_j % N]",
    ]
    s = check_schedule(five_points, lambda s: s.collapse("i", "j", into="t"))
    assert body(s).splitlines()[1] == "for t in range(max(M - 2, 0) * max(N - 2, 0)):"
    s = check_schedule(strides, lambda s: s.collapse("i", "j"))
    assert body(s).splitlines()[2].startswith("    A[M - 1 - i_j // (N // 2), N - 1 - i_j % (N // 2) * 2] = ")


def test_constant_lengths_need_no_condition() -> None:
    s = check_schedule(kernels.add, lambda s: s.tile(["i", "j"], [4, 2]).collapse("i_i", "j_i"))
    assert "require" not in s.ir()
    assert "for i_i_j_i in range(8):" in s.ir()
    assert "j_o * 2 + i_i_j_i % 2 < N" in s.ir()


NESTS = [kernels.add, kernels.matmul, kernels.guarded, five_points, cube, band, strides, product]
AFTER: dict[str, Steps] = {
    "alone": lambda s: s,
    "parallel": lambda s: s.parallel("i_j"),
    "blocks": lambda s: s.split("i_j", 4).parallel("i_j_o"),
    "cut": lambda s: s.split("i_j", 4, tail="cut").parallel("i_j_o").parallel("i_j_t"),
    "perfect": lambda s: s.split("i_j", 2, tail="perfect").parallel("i_j_o"),
    "vector": lambda s: s.vectorize("i_j", 4),
    "unroll": lambda s: s.unroll("i_j", 3),
    "peel": lambda s: s.peel("i_j", 2).peel("i_j", 1, end="last"),
    "skew": lambda s: s.split("i_j", 3).skew("i_j_i", "i_j_o", 1),
}


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("kernel", NESTS, ids=lambda x: x.name)
def test_steps_after(kernel: Any, after: str) -> None:
    s = check_schedule(kernel, lambda s: AFTER[after](s.collapse("i", "j")))
    assert not checked_in_place(lowered(s.func)) or after in ("cut", "perfect")


def test_three_loops() -> None:
    for steps in (
        lambda s: s.collapse("i", "j").collapse("i_j", "k").parallel("i_j_k"),
        lambda s: s.collapse("j", "k").collapse("i", "j_k").parallel("i_j_k"),
    ):
        s = check_schedule(cube, steps)
        assert not checked_in_place(lowered(s.func))
    check_schedule(cube, lambda s: s.collapse("i", "j").collapse("i_j", "k").vectorize("i_j_k", 8))


def test_blocks_of_a_product() -> None:
    def steps(s: Schedule) -> Schedule:
        s = s.collapse("i", "j").split("i_j", 8).reorder("i_j_o", "k", "i_j_i")
        return s.parallel("i_j_o").vectorize("i_j_i")

    check_schedule(kernels.matmul, steps)
    check_schedule(plain_product, steps)
    check_schedule(plain_product, lambda s: s.reorder("k", "i", "j").collapse("i", "j").reorder("i_j", "k"))


def test_tiles_as_one_parallel_loop() -> None:
    s = check_schedule(
        kernels.matmul, lambda s: s.tile(["i", "j"], [4, 4]).reorder("i_o", "j_o", "k", "i_i", "j_i")
        .collapse("i_o", "j_o").parallel("i_o_j_o").vectorize("j_i").unroll("i_i"),
    )  # fmt: skip
    assert "for i_o_j_o in parallel(range((M + 3) // 4 * ((N + 3) // 4))):" in s.ir()
    assert not checked_in_place(lowered(s.func))


def test_staging_in_blocks() -> None:
    check_schedule(kernels.matmul, lambda s: s.collapse("i", "j").split("i_j", 4).stage("B", "i_j_o"))
    check_schedule(kernels.add, lambda s: s.split("j", 4).collapse("i", "j_o").stage("A", "j_i"))


def test_a_guard_between_the_loops_moves_inside() -> None:
    s = check_schedule(kernels.add, lambda s: s.split("i", 4).collapse("i_i", "j").collapse("i_o", "i_i_j"))
    assert "if " in s.ir()


def test_too_many_iterations_are_refused_at_the_call() -> None:
    big = np.broadcast_to(np.zeros(1, np.uint8), (2**27, 2**27))

    @kdsl.kernel
    def none(A: kdsl.u8[M, N], X: i64[1]):
        for i in range(M):
            for j in range(N):
                if A[i, j] > 0:
                    X[0] = 1

    s = none.schedule().collapse("i", "j")
    with pytest.raises(ArgumentError, match="counts M \\* N iterations in `i_j`"):
        s(big, np.zeros(1, np.int64))


def test_names_of_the_new_loop() -> None:
    assert "for t in" in str(schedule_of(kernels.add).collapse("i", "j", into="t"))
    with pytest.raises(ScheduleError, match="the name `N` is taken"):
        schedule_of(kernels.add).collapse("i", "j", into="N")


def test_a_flat_loop_in_the_kernel_is_understood() -> None:
    """By hand nothing says that M * N fits 64 bits; a schedule's condition does."""
    s = check_schedule(flat_by_hand, lambda s: s)
    assert "range(M * N)" in str(s)


# ----------------------------------------------------------------- code generation


def test_contiguous_arrays_have_contiguous_vectors() -> None:
    @kdsl.kernel
    def axpy(A: f32[M, N], B: f32[M, N], C: f32[M, N]):
        for i in range(M):
            for j in range(N):
                C[i, j] = A[i, j] + 2 * B[i, j]

    text = axpy.schedule().collapse("i", "j").split("i_j", 8, tail="cut").vectorize("i_j_i").llvm()
    assert "load <8 x float>" in text
    assert "store <8 x float>" in text
    assert "gather" not in text
    assert "div" not in text.replace("udiv i64 4503599627370496", "")
    text = axpy.schedule().collapse("i", "j").vectorize("i_j", 8).llvm()
    assert "masked.load" in text
    assert "gather" not in text


def test_other_arrays_are_contiguous_within_a_row() -> None:
    text = bias.schedule().collapse("i", "j").split("i_j", 8, tail="cut").vectorize("i_j_i").llvm()
    assert "load <8 x float>" in text
    assert "gather" in text


@pytest.mark.parametrize("shape", [(5, 37), (64, 8), (37, 5), (1, 100), (100, 1), (3, 2), (0, 4), (4, 0)])
@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_rows_of_any_length(shape: tuple[int, int], lanes: int) -> None:
    rng = np.random.default_rng(0)
    A, y = rng.random(shape, np.float32), rng.random(shape[1], np.float32)
    s = bias.schedule().collapse("i", "j")
    for made in (s, s.vectorize("i_j", lanes), s.split("i_j", lanes).parallel("i_j_o"), s.parallel("i_j")):
        C = np.zeros(shape, np.float32)
        made(A, y, C)
        np.testing.assert_array_equal(C, A + y)
        wide = np.zeros((shape[0], 2 * shape[1]), np.float32)
        made(A, y, wide[:, ::2])
        np.testing.assert_array_equal(wide[:, ::2], A + y)
    P, Q = rng.integers(0, 9, (2, *shape))
    want = Q.copy()
    five_points(P, want)
    five_points.schedule().collapse("i", "j").vectorize("i_j", lanes)(P, Q)
    np.testing.assert_array_equal(Q, want)


# --------------------------------------------------------------------- other steps


STRIDED: list[tuple[Any, Steps]] = [
    (strides, lambda s: s.reorder("j", "i")),
    (strides, lambda s: s.tile(["i", "j"], [4, 2])),
    (strides, lambda s: s.tile(["i", "j"], [4, 2], tail="cut")),
    (strides, lambda s: s.skew("j", "i", 1)),
    (strides, lambda s: s.skew("j", "i", 2).reorder("j", "i")),
    (strides, lambda s: s.peel("j", 2).peel("i", 1)),
    (strides, lambda s: s.peel("j", 2, end="last").peel("i", 1, end="last")),
    (strides, lambda s: s.vectorize("j", 4)),
    (corner, lambda s: s.reorder("j", "i")),
    (corner, lambda s: s.tile(["i", "j"], [4, 4])),
    (product, lambda s: s.reorder("k", "j", "i")),
    (product, lambda s: s.tile(["i", "j"], [4, 4]).reorder("i_o", "j_o", "k", "i_i", "j_i")),
    (product, lambda s: s.peel("k", 1, end="last").peel("j", 1)),
    (countdown, lambda s: s.fission("i", after=1)),
    (countdown, lambda s: s.fuse("i", "k")),
    (countdown, lambda s: s.fuse("i", "k", shift=2)),
    (thirds, lambda s: s.fission("i", after=1)),
    (thirds, lambda s: s.fuse("i", "k", shift=1)),
    (thirds, lambda s: s.peel("i", 2, end="last").peel("k", 2)),
]


@pytest.mark.parametrize(("kernel", "steps"), STRIDED)
def test_steps_other_than_one(kernel: Any, steps: Steps) -> None:
    check_schedule(kernel, steps)


def test_text_of_loops_that_count_down() -> None:
    assert body(check_schedule(strides, lambda s: s.reorder("j", "i"))) == dedent("""\
        for j in range(N - 1, 0, -2):
            for i in range(M - 1, -1, -1):
                A[i, j] = 3 * A[i, j] + B[j, i]
        """)
    assert body(check_schedule(corner, lambda s: s.reorder("j", "i"))) == dedent("""\
        for j in range(N):
            for i in range(j, N):
                A[N - 1 - i, N - 1 - j] = 3 * A[N - 1 - i, N - 1 - j] + B[N - 1 - j, N - 1 - i]
        """)
    assert body(check_schedule(countdown, lambda s: s.fuse("i", "k", shift=2))) == dedent("""\
        for i in range(N - 1, -2, -1):
            if 1 <= i:
                t: i64
                t = X[i] + 1
                Y[i] = t
                Z[i] = t * Y[i]
            if i < N - 2:
                X[i + 2] = Y[i + 2] + Z[i + 2]
        """)


def test_reorder_after_cut() -> None:
    s = check_schedule(
        kernels.matmul,
        lambda s: s.tile(["i", "j"], [4, 4], tail="cut").reorder("i_o", "j_o", "k", "i_i", "j_i"),
    )
    assert body(s).count("acc: f32[4, 4]") == 1
    assert body(s).count("acc: f32\n") == 3
    check_schedule(
        kernels.matmul,
        lambda s: s.tile(["i", "j"], [4, 4], tail="cut").reorder("i_o", "j_o", "k", "i_i", "j_i")
        .reorder("i_i", "k", "j_t").vectorize("j_i").unroll("i_i").parallel("i_o"),
    )  # fmt: skip
    check_schedule(
        kernels.add,
        lambda s: s.tile(["i", "j"], [4, 4], tail="cut").fission("i_o", after=0)
        .collapse("i_o", "j_o").collapse("i_i", "j_i").parallel("i_o_j_o").vectorize("i_i_j_i"),
    )  # fmt: skip


def test_the_way_out_of_several_nests() -> None:
    s = schedule_of(kernels.both).split("i", 4).fission("i_i", after=1).split("i_i", 2)
    with pytest.raises(ScheduleError) as caught:
        s.reorder("i_i_i", "i_i_o", "i_o")
    way = str(caught.value).split("as in ")[1]
    assert way == 's.reorder("i_i_i@0", "i_i_o@0", "i_o")'
    check_schedule(
        kernels.both,
        lambda s: s.split("i", 4).fission("i_i", after=1).split("i_i", 2)
        .reorder("i_i_i@1", "i_i_o@1", "i_o"),
    )  # fmt: skip
