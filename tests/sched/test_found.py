"""What random programs and schedules have found."""

from __future__ import annotations

import pytest

import kdsl
from kdsl import i64
from tests.sched.check import check_schedule

N = kdsl.sizes("N")


@kdsl.kernel
def wedge(X: i64[N]):
    for k in range(N):
        for i in range(k, N):
            for m in range(k, N):
                X[m] += k * i


@pytest.mark.parametrize("tail", ["guard", "cut"])
def test_a_bound_that_is_a_minimum_of_three(tail: str) -> None:
    # isl gives the ends of the cut triangular loops as one `min` of three arguments.
    check_schedule(wedge, lambda s: s.tile(["k", "i", "m"], [2, 2, 2], tail=tail))
