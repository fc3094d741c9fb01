"""What random programs and schedules have found."""

from __future__ import annotations

import pytest

import kdsl
from kdsl import i64
from tests.sched.check import check_schedule

N, M, K = kdsl.sizes("N M K")


@kdsl.kernel
def wedge(X: i64[N]):
    for k in range(N):
        for i in range(k, N):
            for m in range(k, N):
                X[m] += k * i


@kdsl.kernel
def five(X: i64[5], Y: i64[5]):
    for i in range(5):
        t = X[i]
        Y[i] = t + t


def test_locals_of_copies_that_are_written_out() -> None:
    # The two loops may share the name of the local; their bodies, written out, are one.
    check_schedule(five, lambda s: s.peel("i", 2).unroll("i_p"))
    check_schedule(five, lambda s: s.split("i", 3, tail="cut").unroll("i_i").unroll("i_t"))


@pytest.mark.parametrize("tail", ["guard", "cut"])
def test_a_bound_that_is_a_minimum_of_three(tail: str) -> None:
    # isl gives the ends of the cut triangular loops as one `min` of three arguments.
    check_schedule(wedge, lambda s: s.tile(["k", "i", "m"], [2, 2, 2], tail=tail))


@kdsl.kernel
def counting(X: i64[N], c: i64):
    for i in range(N):
        n = 0
        while n < c:
            n += 1
        for j in range(2):
            X[i] += n + j


@pytest.mark.parametrize("tail", ["guard", "cut"])
def test_a_while_loop_is_split_and_copied_with_its_test(tail: str) -> None:
    check_schedule(counting, lambda s: s.tile(["i", "j"], [2, 2], tail=tail))


@kdsl.kernel
def parting(A: i64[K + 1, N + 1], s: i64[M]):
    for i in range(N):
        for k in range(K):
            for u in range(2):
                if 2 * i + u >= M:
                    A[k + 1, i + 1] = A[k, i] + u + A[k + 1, i + 1]


def test_lanes_do_not_part_for_a_version_without_guards() -> None:
    # Lanes with all of their guards true ran ahead of the others, whose results they read.
    check_schedule(parting, lambda s: s.unroll("u").vectorize("i", 4))


@kdsl.kernel
def made_between(X: i64[N], Y: i64[N]):
    for i in range(N):
        X[i] += 1
    T = kdsl.empty(N, i64)
    for j in range(N):
        T[j] = X[j] * 2
    for k in range(N):
        Y[k] = T[k]


def test_a_local_made_between_fused_loops() -> None:
    # The fused loop stood before the allocation of what its second half writes.
    check_schedule(made_between, lambda s: s.fuse("i", "j"))
