"""Loop primitives: what they make, that it means the same, what they refuse."""

from __future__ import annotations

from textwrap import dedent
from typing import Any

import pytest

from kdsl.sched import Schedule
from tests.sched import kernels as k
from tests.sched.check import Steps, check_schedule


def body(s: Schedule) -> str:
    """The nest without its first line."""
    return dedent("\n".join(s.ir().splitlines()[1:])) + "\n"


SPLITS = [k.axpy, k.offset, k.strided, k.backwards, k.skipping, k.scalar_bound, k.triangle]


@pytest.mark.parametrize("tail", ["guard", "cut"])
@pytest.mark.parametrize("kernel", SPLITS, ids=lambda x: x.name)
def test_split(kernel: Any, tail: Any) -> None:
    check_schedule(kernel, lambda s: s.split("i", 4, tail=tail))


@pytest.mark.parametrize("tail", ["guard", "cut"])
def test_split_of_a_loop_that_starts_at_an_outer_one(tail: Any) -> None:
    check_schedule(k.triangle, lambda s: s.split("j", 4, tail=tail))


def test_split_text() -> None:
    s = check_schedule(k.offset, lambda s: s.split("i", 4))
    assert body(s) == dedent("""\
        for i_o in range(N // 4):
            for i_i in range(4):
                if i_o * 4 + i_i + 3 < N:
                    Y[i_o * 4 + i_i + 3] = X[i_o * 4 + i_i] + (i_o * 4 + i_i + 3)
        """)


def test_cut_text() -> None:
    s = check_schedule(k.add, lambda s: s.split("j", 8, into=("b", "l"), tail="cut"))
    assert body(s) == dedent("""\
        for i in range(M):
            for b in range(N // 8):
                for l in range(8):
                    C[i, b * 8 + l] = A[i, b * 8 + l] + 2 * B[i, b * 8 + l]
            for j_t in range(N // 8 * 8, N):
                C[i, j_t] = A[i, j_t] + 2 * B[i, j_t]
        """)


def test_perfect_is_checked_at_the_call() -> None:
    s = check_schedule(k.add, lambda s: s.split("j", 4, tail="perfect").split("i", 1, tail="perfect"))
    assert s.ir().splitlines()[1] == '    require(N % 4 == 0, "the schedule needs N % 4 == 0")'
    assert "if" not in body(s)


def test_perfect_is_proved() -> None:
    s = check_schedule(k.add, lambda s: s.assume("N % 8 == 0").split("j", 4, tail="perfect"))
    assert s.ir().count("require") == 1
    s = check_schedule(k.fixed, lambda s: s.split("i", 2, tail="perfect"))
    assert "require" not in s.ir()


def test_split_of_a_split() -> None:
    s = check_schedule(k.axpy, lambda s: s.split("i", 8).split("i_i", 4).split("i_o", 2, tail="cut"))
    assert [p for p in ("i_o_o", "i_o_i", "i_i_o", "i_i_i", "i_o_t") if f"for {p} " in str(s)] == [
        "i_o_o", "i_o_i", "i_i_o", "i_i_i", "i_o_t",
    ]  # fmt: skip


@pytest.mark.parametrize("tail", ["guard", "cut", "perfect"])
@pytest.mark.parametrize("kernel", [k.add, k.matmul], ids=lambda x: x.name)
def test_tile(kernel: Any, tail: Any) -> None:
    check_schedule(kernel, lambda s: s.tile(["i", "j"], [4, 2], tail=tail))


def test_the_matmul_of_the_contract() -> None:
    def steps(s: Schedule) -> Schedule:
        s = s.tile(["i", "j"], [4, 8])
        s = s.reorder("i_o", "j_o", "k", "i_i", "j_i")
        return s.unroll("i_i")

    s = check_schedule(k.matmul, steps)
    assert body(s) == dedent("""\
        for i_o in range((M + 3) // 4):
            for j_o in range((N + 7) // 8):
                acc: f32[4, 8]
                for i_i in unroll(range(4)):
                    if i_o * 4 + i_i < M:
                        for j_i in range(8):
                            if j_o * 8 + j_i < N:
                                acc[i_i, j_i] = 0.0
                for k in range(K):
                    for i_i in unroll(range(4)):
                        if i_o * 4 + i_i < M:
                            for j_i in range(8):
                                if j_o * 8 + j_i < N:
                                    acc[i_i, j_i] += A[i_o * 4 + i_i, k] * B[k, j_o * 8 + j_i]
                for i_i in unroll(range(4)):
                    if i_o * 4 + i_i < M:
                        for j_i in range(8):
                            if j_o * 8 + j_i < N:
                                C[i_o * 4 + i_i, j_o * 8 + j_i] = acc[i_i, j_i]
        """)


REORDERS: list[tuple[Any, Steps]] = [
    (k.add, lambda s: s.reorder("j", "i")),
    (k.matmul, lambda s: s.reorder("j", "i")),
    (k.matmul, lambda s: s.reorder("k", "i")),
    (k.matmul, lambda s: s.reorder("i", "k", "j")),
    (k.matmul, lambda s: s.reorder("k", "i", "j")),
    (k.matmul, lambda s: s.reorder("k", "j", "i")),
    (k.rows, lambda s: s.reorder("j", "i")),
    (k.triangle, lambda s: s.reorder("j", "i")),
    (k.guarded, lambda s: s.reorder("j", "i")),
    (k.fixed, lambda s: s.reorder("i", "j")),
    (k.triangle, lambda s: s.tile(["i", "j"], [2, 4])),
    (k.triangle, lambda s: s.tile(["i", "j"], [2, 4]).reorder("j_o", "i_o", "j_i", "i_i")),
    (k.seidel, lambda s: s.skew("i", "t", 1).reorder("i", "t")),
    (k.seidel, lambda s: s.skew("i", "t", 2).tile(["t", "i"], [2, 4])),
    (k.matmul, lambda s: s.split("k", 4).reorder("k_o", "i", "j", "k_i")),
    (k.shifted, lambda s: s.skew("j", "i", 1).reorder("j", "i")),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "steps"), REORDERS)
def test_reorder(kernel: Any, steps: Steps) -> None:
    check_schedule(kernel, steps)


def test_triangle_text() -> None:
    s = check_schedule(k.triangle, lambda s: s.reorder("j", "i"))
    assert body(s) == dedent("""\
        for j in range(N):
            for i in range(j + 1):
                B[i, j] = A[j, i] + i
        """)


def test_reorder_text() -> None:
    s = check_schedule(k.matmul, lambda s: s.reorder("i", "k", "j"))
    assert body(s) == dedent("""\
        for i in range(M):
            acc: f32[N]
            for j in range(N):
                acc[j] = 0.0
            for k in range(K):
                for j in range(N):
                    acc[j] += A[i, k] * B[k, j]
            for j in range(N):
                C[i, j] = acc[j]
        """)


FUSIONS: list[tuple[Any, Steps]] = [
    (k.pair, lambda s: s.fuse("i", "k")),
    (k.pair, lambda s: s.fuse("i", "k", into="j", shift=2)),
    (k.blur, lambda s: s.fuse("i", "k")),
    (k.blur, lambda s: s.fuse("i", "k", shift=1)),
    (k.ahead, lambda s: s.fuse("i", "k", shift=3)),
    (k.jacobi, lambda s: s.fuse("i", "j", shift=1)),
    (k.jacobi, lambda s: s.fuse("i", "j", shift=2)),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "steps"), FUSIONS)
def test_fuse(kernel: Any, steps: Steps) -> None:
    check_schedule(kernel, steps)


def test_fuse_text() -> None:
    s = check_schedule(k.pair, lambda s: s.fuse("i", "k", shift=1))
    assert body(s) == dedent("""\
        for i in range(N + 1):
            if i < N:
                Y[i] = X[i] + 1
            if 1 <= i:
                Z[i - 1] = Y[i - 1] * 2
        """)


def test_fission() -> None:
    s = check_schedule(k.both, lambda s: s.fission("i", after="Y[i] = t + 1"))
    assert body(s) == dedent("""\
        t: i64[N]
        for i in range(N):
            t[i] = X[i] * 3
            Y[i] = t[i] + 1
        for i in range(N):
            Z[i] = t[i] - Y[i]
        """)
    check_schedule(k.both, lambda s: s.split("i", 4).fission("i_i", after=2))
    check_schedule(k.both, lambda s: s.split("i", 4).fission("i_i", after=2).fission("i_o", after=1))


def test_fission_and_fusion_give_the_kernel_back() -> None:
    s = check_schedule(k.pair, lambda s: s.fuse("i", "k").fission("i", after=0))
    assert body(s).count("for i in range(N):") == 2


@pytest.mark.parametrize("factor", [1, 2, -1])
def test_skew(factor: int) -> None:
    check_schedule(k.seidel, lambda s: s.skew("i", "t", factor))


@pytest.mark.parametrize("end", ["first", "last"])
@pytest.mark.parametrize("kernel", [k.axpy, k.offset, k.triangle, k.scalar_bound], ids=lambda x: x.name)
def test_peel(kernel: Any, end: Any) -> None:
    check_schedule(kernel, lambda s: s.peel("i", 2, end=end))


def test_copies_share_names() -> None:
    s = check_schedule(k.add, lambda s: s.split("i", 4, tail="cut").split("j", 4))
    assert str(s).count("for j_o") == 2
    s = check_schedule(k.add, lambda s: s.split("i", 4, tail="cut").split("j@1", 4))
    assert (str(s).count("for j_o"), str(s).count("for j ")) == (1, 1)


def test_assume_and_specialize() -> None:
    s = check_schedule(k.add, lambda s: s.assume("N % 8 == 0 and M >= 1").split("j", 8))
    assert "if" not in body(s).replace("require", "")
    s = check_schedule(k.add, lambda s: s.specialize("N == 8").unroll("j@0").split("i@1", 2))
    assert "for j in unroll(range(8)):" in str(s)
    check_schedule(k.scalar_bound, lambda s: s.specialize("n < 3 or not 2 * N >= n"))


UNROLLS: list[tuple[Any, Steps]] = [
    (k.fixed, lambda s: s.unroll("i")),
    (k.fixed, lambda s: s.unroll("i").unroll("j", 2)),
    (k.axpy, lambda s: s.unroll("i", 4)),
    (k.add, lambda s: s.tile(["i", "j"], [2, 3]).unroll("j_i").unroll("i_i")),
    (k.triangle, lambda s: s.split("j", 4, tail="cut").unroll("j_i")),
    (k.both, lambda s: s.unroll("i", 3)),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "steps"), UNROLLS)
def test_unroll(kernel: Any, steps: Steps) -> None:
    check_schedule(kernel, steps)
