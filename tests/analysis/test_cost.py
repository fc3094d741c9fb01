"""Costs from the text of a function against counts of its runs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import kdsl
from kdsl import f32
from kdsl.analysis.cost import Cost, cost
from kdsl.analysis.counting import Count
from kdsl.analysis.polynomials import Polynomial, constant, summed, variable
from kdsl.ir.nodes import Func
from kdsl.sched import Schedule
from tests.analysis.tally import tally
from tests.sched import kernels as k
from tests.sched.check import schedule_of
from tests.sched.random_programs import Program
from tests.sched.test_random import draw_schedule

M, N = kdsl.sizes("M N")


@kdsl.kernel
def stencil(A: f32[M, N], C: f32[M, N]):
    for i in range(1, M - 1):
        for j in range(1, N - 1):
            C[i, j] = (A[i - 1, j] + A[i + 1, j] + A[i, j - 1] + A[i, j + 1]) * 0.25


@kdsl.kernel
def substitution(L: f32[N, N], x: f32[N], b: f32[N]):
    for i in range(N):
        total = b[i]
        for j in range(i):
            total -= L[i, j] * x[j]
        x[i] = total / L[i, i]


def check(func: Func, sizes: dict[str, int]) -> None:
    """What is exact is so, what is a bound holds."""
    found, seen = cost(func), tally(func, sizes)

    def compare(count: Count, number: int, what: str) -> None:
        if found.atoms.names(count.value) & found.atoms.unknowns:
            return
        if any(found.atoms.is_negative(w, sizes) for w in count.where):
            return
        value = max(0, found.atoms.number(count.value, sizes))
        said = f"{what}: {count.bound} {found.atoms.text(count.value)} = {value}, {number} at {sizes}"
        assert value == number if count.bound == "exact" else True, said
        assert value >= number if count.bound == "at most" else True, said

    for name, row in found.arrays.items():
        compare(row.read, seen.read[name], f"{name} read")
        compare(row.written, seen.written[name], f"{name} written")
        compare(row.touched, len(seen.cells.get(name, ())), f"{name} touched")
    for key, loop in found.loops.items():
        entered, iterations = seen.loops.get(key, (0, 0))
        compare(loop.entered, entered, "entered")
        compare(loop.iterations, iterations, "iterations")


SCHEDULES: list[Any] = [
    schedule_of(stencil),
    schedule_of(stencil).tile(["i", "j"], [4, 8]),
    schedule_of(substitution),
    schedule_of(substitution).split("j", 4),
    schedule_of(k.matmul).tile(["i", "j"], [4, 8]).reorder("i_o", "j_o", "k", "i_i", "j_i"),
    schedule_of(k.matmul).split("i", 4, tail="cut").vectorize("j", 4),
    schedule_of(k.triangle).reorder("j", "i").split("i", 3),
    schedule_of(k.strided),
    schedule_of(k.backwards).split("i", 4),
    schedule_of(k.guarded).split("i", 4),
]


@pytest.mark.parametrize("s", SCHEDULES, ids=lambda s: f"{s.func.name}{len(s.steps)}")
@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 17])
def test_counts_are_those_of_a_run(s: Schedule, n: int) -> None:
    check(s.func, {name: n + 3 * at for at, name in enumerate(s.func.sizes)})


@settings(
    deadline=None,
    suppress_health_check=list(HealthCheck),
    max_examples=60,
    phases=[Phase.reuse, Phase.generate],
)
@given(st.data())
def test_counts_of_random_schedules(data: Any) -> None:
    s = draw_schedule(data, 4, lambda pick: Program(pick, rich=False))
    if s is not None:
        for n in (1, 5, 6):
            check(s.func, {"N": n, "M": 4})


def shown(c: Cost, count: Count) -> str:
    return ("" if count.bound == "exact" else count.bound + " ") + c.atoms.text(count.value, c.sizes)


@pytest.mark.parametrize(
    ("s", "flops", "touched"),
    [
        (schedule_of(k.matmul), "2 * M * K * N", {"A": "M * K", "B": "K * N", "C": "M * N"}),
        (
            schedule_of(k.matmul).tile(["i", "j"], [4, 8]).reorder("i_o", "j_o", "k", "i_i", "j_i"),
            "2 * M * K * N",
            {"A": "M * K", "B": "K * N", "C": "M * N", "acc": "at most 32"},
        ),
        (schedule_of(substitution), "N**2", {"L": "at most N**2", "x": "N", "b": "N"}),
        (schedule_of(substitution).split("j", 4), "N**2", {"L": "at most N**2", "x": "N", "b": "N"}),
        (
            schedule_of(stencil).tile(["i", "j"], [4, 8]),
            "4 * M * N - 8 * M - 8 * N + 16",
            {"A": "at most M * N", "C": "M * N - 2 * M - 2 * N + 4"},
        ),
    ],
    ids=["matmul", "tiled", "substitution", "split", "stencil"],
)
def test_formulas(s: Schedule, flops: str, touched: dict[str, str]) -> None:
    c = cost(s.func)
    assert shown(c, c.total_flops()) == flops
    assert {name: shown(c, row.touched) for name, row in c.arrays.items()} == touched


def test_what_one_iteration_of_a_tile_needs() -> None:
    s = schedule_of(k.matmul).tile(["i", "j"], [4, 8]).reorder("i_o", "j_o", "k", "i_i", "j_i")
    c = cost(s.func)
    by_touched = [{b: shown(c, n) for b, n in loop.touched.items()} for loop in c.loops.values()]
    assert {"A": "at most 4 * K", "B": "at most 8 * K", "acc": "at most 32"} in by_touched


def test_copies_of_a_local_may_differ_in_shape() -> None:
    """Found by random testing: the remainder's array is not that of the tiles."""

    @kdsl.kernel
    def smooth(X: f32[N, 3], Y: f32[N, 3]):
        for i in range(N):
            T = kdsl.empty(3, f32)
            for j in range(3):
                T[j] = X[i, j]
            for m in range(3):
                Y[i, m] = T[2 - m]

    s = schedule_of(smooth).tile(["i", "j"], [2, 3], tail="cut")
    assert len({str(line).strip() for line in str(s).splitlines() if "T: f32" in line}) == 2
    check(s.func, {"N": 5})


def test_quotients_as_indices() -> None:
    """Found by random testing: `i // 2` is not the same in all iterations."""

    @kdsl.kernel
    def fold(X: f32[4, 2], Y: f32[8]):
        for i in range(8):
            X[i // 2, i % 2] = Y[i]

    func = schedule_of(fold).func
    check(func, {})
    c = cost(func)
    assert shown(c, c.arrays["X"].touched) == "at most 8"


def test_sums_of_polynomials() -> None:
    i, n = variable("i"), variable("N")
    for p in (constant(3), i, i * i + 1, i * i * i - i * 2):
        total = summed(p, "i", constant(2), 3, n)
        for count in range(6):
            want = sum(p.evaluate(lambda _, t=t: 2 + 3 * t) for t in range(count))
            assert total.evaluate(lambda _, count=count: count) == want
    assert str(summed(i, "i", constant(0), 1, n)) == "N**2 / 2 - N / 2"
    assert isinstance(i - 1, Polynomial) and str(-i) == "-i" and str(i - i) == "0"
