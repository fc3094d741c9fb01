"""Marks: what gets them, that they hold while later steps change the nest, that they run."""

from __future__ import annotations

from typing import Any

import pytest

from kdsl.errors import ScheduleError
from tests.sched import kernels as k
from tests.sched.check import Steps, check_schedule, schedule_of

MARKED: list[tuple[Any, Steps, str]] = [
    (k.axpy, lambda s: s.parallel("i"), "for i in parallel(range(N)):"),
    (k.axpy, lambda s: s.vectorize("i", 8), "for i_v in vectorize(range(8)):"),
    (k.axpy, lambda s: s.vectorize("i", 8).parallel("i"), "for i in parallel(range((N + 7) // 8)):"),
    (k.axpy, lambda s: s.split("i", 4).vectorize("i_i"), "for i_i in vectorize(range(4)):"),
    (k.axpy, lambda s: s.bind("i", "grid.x"), 'for i in bind(range(N), "grid.x"):'),
    (k.rows, lambda s: s.parallel("i").vectorize("j", 4), "for j_v in vectorize(range(4)):"),
    (k.rows, lambda s: s.reorder("j", "i").vectorize("i@1", 4), "for i_v in vectorize(range(4)):"),
    (k.triangle, lambda s: s.parallel("i").vectorize("j", 4), "for i in parallel(range(N)):"),
    (k.guarded, lambda s: s.vectorize("j", 4).parallel("i"), "for i in parallel(range(M)):"),
    (k.fixed, lambda s: s.parallel("j").unroll("i"), "for i in unroll(range(4)):"),
    (k.seidel, lambda s: s.skew("i", "t", 1).reorder("i", "t").parallel("t", unsafe=True), "unsafe=True"),
    (k.seidel, lambda s: s.skew("i", "t", 2).reorder("i", "t").parallel("t"), "for t in parallel("),
    (k.shifted, lambda s: s.parallel("j"), "for j in parallel(range(N - 1)):"),
    (k.add, lambda s: s.tile(["i", "j"], [4, 4]).parallel("i_o").vectorize("j_i").unroll("i_i"), "vectorize"),
    (k.add, lambda s: s.tile(["i", "j"], [4, 4], tail="cut").vectorize("j_i").parallel("i_o"), "vectorize"),
]


@pytest.mark.parametrize(("kernel", "steps", "line"), MARKED)
def test_marks(kernel: Any, steps: Steps, line: str) -> None:
    if "unsafe" in line:
        assert line in str(steps(schedule_of(kernel)))
    else:
        assert line in str(check_schedule(kernel, steps))


def test_a_step_applies_to_every_copy() -> None:
    s = check_schedule(k.matmul, lambda s: s.reorder("i", "k", "j").vectorize("j", 4))
    assert str(s).count("for j_v in vectorize(range(4)):") == 3


def test_marks_move_with_their_loops() -> None:
    s = check_schedule(k.add, lambda s: s.parallel("i").reorder("j", "i"))
    assert "    for i in parallel(range(M)):" in str(s)


def test_marks_are_proved_again() -> None:
    s = schedule_of(k.pair).parallel("i").parallel("k")
    with pytest.raises(ScheduleError) as caught:
        s.fuse("i", "k")
    assert caught.value.code == "K0309"
    s = schedule_of(k.triangle).split("j", 4).unroll("j_i")
    assert "unroll(range(4))" in str(s.reorder("j_o", "i"))


def test_unsafe_stays_on_the_mark() -> None:
    s = schedule_of(k.prefix).parallel("i", unsafe=True)
    assert "for i in parallel(range(1, N), unsafe=True):" in str(s)
    assert 's = s.parallel("i", unsafe=True)' in s.trace()
    assert str(s).startswith('# unsafe: s.parallel("i", unsafe=True)\n')
