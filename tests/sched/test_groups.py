"""Work-groups: `bind`, shared memory inside block loops, copies that a group makes together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kdsl
from kdsl import f32, i64, recipes
from kdsl.sched.schedule import Schedule
from kdsl.sched.text import nest_text
from kdsl.target import Target
from tests.sched import kernels as k
from tests.sched.check import Steps, check_schedule, golden_texts, refusal, schedule_of, write_golden
from tests.sched.test_binding import check_bound, headers

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def blur(X: i64[M + 2, N + 2], Y: i64[M, N]):
    for i in range(M):
        for j in range(N):
            total = 0
            for a in range(3):
                for b in range(3):
                    total += X[i + a, j + b]
            Y[i, j] = total


@kdsl.kernel
def attention(Q: f32[M, 4], K_: f32[N, 4], V: f32[N, 4], out: f32[M, 4]):
    for i in range(M):
        best = -1e30
        for j in range(N):
            score = 0.0
            for d in range(4):
                score += Q[i, d] * K_[j, d]
            best = max(best, score)
        for e in range(4):
            out[i, e] = best
        for j_1 in range(N):
            score_1 = 0.0
            for d_1 in range(4):
                score_1 += Q[i, d_1] * K_[j_1, d_1]
            for e_1 in range(4):
                out[i, e_1] += (score_1 - best) * V[j_1, e_1]


@kdsl.kernel
def triangular(A: i64[N, N], B: i64[N], C: i64[N]):
    for i in range(N):
        total = 0
        for j in range(i, N):
            total += A[i, j] * B[j]
        C[i] = total


@kdsl.kernel
def private(X: i64[M, N], Y: i64[M, N]):
    for i in range(M):
        T = kdsl.empty(8, i64)
        for a in range(8):
            T[a] = X[i, 0] * a if N > 0 else a
        for j in range(N):
            Y[i, j] = T[j % 8]


@kdsl.kernel
def reduced(X: i64[N], Y: i64[1]):
    for i in range(N):
        Y[0] += X[i]


def groups(s: Schedule) -> Schedule:
    """Tiles of 4 x 4 invocations; the sum in blocks of 8."""
    s = s.tile(["i", "j"], [4, 4]).split("k", 8)
    return s.bind("i_o", "grid.y").bind("j_o", "grid.x").bind("i_i", "block.y").bind("j_i", "block.x")


def shared(s: Schedule) -> Schedule:
    return groups(s).stage("A", at="k_o", memory="shared").stage("B", at="k_o", memory="shared")


def registers(s: Schedule) -> Schedule:
    """Each invocation has 2 x 2 elements of the tile."""
    s = s.tile(["i", "j"], [8, 8]).tile(["i_i", "j_i"], [2, 2]).split("k", 4)
    s = s.reorder("i_o", "j_o", "i_i_o", "j_i_o", "k_o", "k_i", "i_i_i", "j_i_i")
    s = s.bind("i_o", "grid.y").bind("j_o", "grid.x").bind("i_i_o", "block.y").bind("j_i_o", "block.x")
    s = s.stage("A", at="k_o", memory="shared").stage("B", at="k_o", memory="shared")
    return s.unroll("i_i_i").vectorize("j_i_i")


def halo(s: Schedule) -> Schedule:
    s = s.tile(["i", "j"], [4, 8])
    s = s.bind("i_o", "grid.y").bind("j_o", "grid.x").bind("i_i", "block.y").bind("j_i", "block.x")
    return s.stage("X", at="j_o", memory="shared")


def keys(s: Schedule) -> Schedule:
    """Both sweeps over the keys in blocks, which the work-group copies together."""
    s = s.split("i", 8).bind("i_o", "grid.x").bind("i_i", "block.x").split("j", 4).split("j_1", 4)
    s = s.stage("K_", at="j_o", memory="shared").stage("K_", at="j_1_o", memory="shared")
    return s.stage("V", at="j_1_o", memory="shared")


def by_hand(s: Schedule) -> Schedule:
    """The copies bound by the user: a row of B at a time along x."""
    s = shared(s)
    s = s.split("B_s_0", 4).bind("B_s_0_i", "block.y").bind("B_s_1", "block.x").unroll("B_s_0_o")
    return s.collapse("A_s_0", "A_s_1", into="a").split("a", 4, into=("a_y", "a_x"))


ACCEPTED: list[tuple[str, Any, Steps, str]] = [
    ("tiles", k.matmul, groups, "C[i_o * 4 + i_i, j_o * 4 + j_i] = acc"),
    ("shared tiles", k.matmul, shared, "acc[i_i, j_i] += A_s[i_i, k_i] * B_s[k_i, j_i]"),
    ("registers", k.matmul, registers, "acc: f32[4, 4, 2, 2]"),
    ("halo", blur, halo, "X_s: i64[6, 10]"),
    ("keys", attention, keys, "V_s: f32[4, 4]"),
    ("copies by hand", k.matmul, by_hand, 'for B_s_1 in bind(range(4), "block.x")'),
    (
        "vector copies",
        k.matmul,
        lambda s: shared(s).vectorize("B_s_1", 4).unroll("A_s_1"),
        "for B_s_1 in vectorize(range(4)):",
    ),
    (
        "from the grid",
        k.rows,
        lambda s: (
            s.split("i", 4)
            .split("j", 8)
            .bind("i_o", "grid.x")
            .bind("i_i", "block.x")
            .stage("A", at="j_o", memory="shared")
        ),
        "total[i_o * 4 + i_i] += A_s[i_i, j_i]",
    ),
    (
        "loops between",
        k.matmul,
        lambda s: groups(s).split("k_o", 2).stage("A", at="k_o_i", memory="shared"),
        "for k_o_i in range(2):",
    ),
    (
        "a local of the invocations",
        private,
        lambda s: s.split("i", 4).bind("i_o", "grid.x").bind("i_i", "block.x").stage("T", "a", "shared"),
        "T: i64[4, 8]",
    ),
    (
        "as many copies as loops",
        k.add,
        lambda s: (
            s.tile(["i", "j"], [4, 4], tail="cut")
            .bind("i_i", "block.y")
            .bind("j_i", "block.x")
            .stage("A", at="j_o", memory="shared")
        ),
        "A_s: i64[4, 4]",
    ),
]


@pytest.mark.parametrize(("name", "kernel", "steps", "line"), ACCEPTED, ids=[c[0] for c in ACCEPTED])
def test_accepted(name: str, kernel: Any, steps: Steps, line: str) -> None:
    s = check_schedule(kernel, steps)
    assert line in str(s)
    check_bound(s.func)


def test_a_loop_moves_out_of_the_block() -> None:
    s = check_schedule(k.matmul, shared)
    assert headers(s.func)[:6] == ["grid.y i_o", "grid.x j_o", "block.y i_i", "block.x j_i", "k_o", "B_s_0"]


def test_copies_are_shared_out() -> None:
    made = check_bound(check_schedule(k.matmul, shared).func)
    # B_s is 8 x 4: two rounds of rows; A_s is 4 x 8: two of columns.
    assert headers(made)[5:11] == [
        "block.y B_s_0_i",
        "block.x B_s_1",
        "B_s_0_o",
        "block.y A_s_0",
        "block.x A_s_1_i",
        "A_s_1_o",
    ]


def test_a_ragged_region_is_shared_out_element_by_element() -> None:
    made = check_bound(check_schedule(blur, halo).func)
    # 6 x 10 elements for 4 x 8 invocations: two rounds, where rows by rows take four.
    assert headers(made)[2:5] == ["block.y X_s_0_X_s_1_y", "block.x X_s_0_X_s_1_x", "X_s_0_X_s_1_o"]


def test_partial_results_are_combined_in_a_tree() -> None:
    s = check_schedule(reduced, lambda s: recipes.gpu_sum(s, "i", 12, 6))
    assert "for i_i_i_r in vectorize(range(6)):" in str(s)
    made = nest_text(check_bound(s.func))
    # Six, three, two, one.
    assert made.count("[i_i_i_r] += ") == 3 and "[i_i_i_r + 3]" in made and "_r_r[0]" in made


class Gpu:
    """A launcher that knows a device and runs nothing."""

    def target(self) -> Target:
        return Target("vulkan", cpu="GPU of the tests")


def on_gpu(steps: Steps) -> Steps:
    """The steps on a schedule that is for a device."""
    return lambda s: steps(Schedule(s.base, Gpu()))  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [groups, shared, registers])
def test_within_the_limits(steps: Steps) -> None:
    start = schedule_of(k.matmul)
    assert on_gpu(steps)(start) == steps(start)


def two_dispatches(s: Schedule) -> Schedule:
    """Each of the work-groups has its own shared memory: 12 KB in both, 16 KB there are."""
    for i in "ij":
        s = s.split(i, 1024, tail="cut").split(f"{i}_i", 64).bind(f"{i}_o", "grid.x")
        s = s.bind(f"{i}_i_i", "block.x")
    return s.stage("A", at="i_o", memory="shared").stage("A", at="j_o", memory="shared")


def test_each_dispatch_has_its_memory() -> None:
    assert "A_s2" in str(on_gpu(two_dispatches)(schedule_of(k.jacobi)))


GOLDEN = Path(__file__).with_name("group_refusals.txt")

REFUSED: list[tuple[str, Any, Steps]] = [
    ("at an invocation", k.matmul, lambda s: groups(s).stage("A", at="j_i", memory="shared")),
    ("outside of the work-groups", blur, lambda s: s.bind("j", "grid.x").stage("X", at="i", memory="shared")),
    (
        "another range in each invocation",
        triangular,
        lambda s: (
            s.split("i", 4).bind("i_o", "grid.x").bind("i_i", "block.x").stage("A", at="j", memory="shared")
        ),
    ),
    (
        "whole rows",
        k.rows,
        lambda s: s.split("i", 4).bind("i_o", "grid.x").stage("A", at="i_o", memory="shared"),
    ),
    ("an axis twice", k.add, on_gpu(lambda s: s.bind("i", "grid.x").bind("j", "grid.x"))),
    (
        "work-groups in a work-group",
        k.add,
        on_gpu(lambda s: s.split("i", 4).bind("i_i", "block.x").bind("j", "grid.x")),
    ),
    ("unknown number of invocations", k.add, on_gpu(lambda s: s.bind("j", "block.x"))),
    ("too many along an axis", k.add, on_gpu(lambda s: s.split("j", 256).bind("j_i", "block.x"))),
    (
        "too many invocations",
        k.add,
        on_gpu(lambda s: s.tile(["i", "j"], [16, 16]).bind("i_i", "block.y").bind("j_i", "block.x")),
    ),
    (
        "too much shared memory",
        k.matmul,
        on_gpu(
            lambda s: (
                s.tile(["i", "j"], [64, 64])
                .split("k", 64)
                .bind("i_o", "grid.y")
                .bind("j_o", "grid.x")
                .reorder("i_o", "j_o", "k_o", "i_i", "j_i", "k_i")
                .stage("A", at="k_o", memory="shared")
                .stage("B", at="k_o", memory="shared")
            )
        ),
    ),
    (
        "vouched for",
        k.seidel,
        lambda s: s.split("t", 4).bind("t_i", "block.x", unsafe=True).stage("A", at="i", memory="shared"),
    ),
]


@pytest.mark.parametrize(("name", "kernel", "steps"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(name: str, kernel: Any, steps: Steps) -> None:
    assert refusal(kernel, steps) == golden_texts(GOLDEN)[name]


def test_golden_texts(update_messages: bool) -> None:
    if update_messages:
        write_golden(GOLDEN, REFUSED)
    assert list(golden_texts(GOLDEN)) == [c[0] for c in REFUSED]
