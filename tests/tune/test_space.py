"""Sketches: what the space of a program contains, that all of it is legal, and that its traces are steps."""

from __future__ import annotations

import random
from typing import Any

import pytest

from benchmarks import kernels
from kdsl.backends import llvm
from kdsl.errors import ScheduleError
from kdsl.sched import Schedule
from kdsl.tune.sketches import sketches
from kdsl.tune.space import Knob, Sketch
from tests.sched.check import check_forms, check_meaning, schedule_of

TARGET = llvm.host_target()
SIZES = {"M": 256, "N": 256, "K": 256, "H": 64, "W": 64, "C": 16, "D": 16}


def space(kernel: Any) -> list[Sketch]:
    s = schedule_of(kernel)
    return sketches(s, TARGET, {n: SIZES[n] for n in s.func.sizes})


def test_a_knob_starts_from_one_of_its_values() -> None:
    with pytest.raises(AssertionError):
        Knob("tall", (1, 2), 3)


def test_candidates_are_counted_and_named() -> None:
    sketch = Sketch("a", (Knob("x", (1, 2, 3), 2), Knob("y", ("p", "q"), "p")), lambda s, _: s)
    found = list(sketch.candidates())
    assert len(found) == sketch.count == 6 and len({c.key for c in found}) == 6
    assert sketch.candidate(y="q").values == {"x": 2, "y": "q"}


@pytest.mark.parametrize(
    ("kernel", "ways"),
    [
        ("gelu", {"vectors"}),
        ("softmax", {"vectors"}),
        ("matmul", {"vectors", "tile i x j"}),
        ("matmul_dots", {"vectors", "tile i x j"}),
        ("conv2d", {"vectors", "tile d x x"}),
        ("jacobi", {"vectors", "blocks of i over t"}),
        ("blur", {"vectors", "P in tiles", "P in rows", "P inline"}),
    ],
)
def test_ways(kernel: str, ways: set[str]) -> None:
    """Found by structure: nothing in the tuner knows these kernels."""
    assert {*ways, "program order"} <= {s.name for s in space(getattr(kernels, kernel))}


@pytest.mark.parametrize("kernel", ["matmul", "matmul_dots", "blur_u16", "jacobi"])
def test_candidates_are_right(kernel: str) -> None:
    """Random candidates: JSON, trace and pickle round trips; the same arrays before and after the steps."""
    rng = random.Random(kernel)
    start = schedule_of(getattr(kernels, kernel))
    tried = 0
    for sketch in space(getattr(kernels, kernel)):
        values = {k.name: rng.choice(k.values) for k in sketch.knobs}
        try:
            s = sketch.candidate(**values).schedule(start)
        except ScheduleError:
            continue
        tried += 1
        assert s.steps[: len(start.steps)] == start.steps
        check_forms(s)
        check_meaning(s, rounds=2)
    assert tried >= 2


def test_a_prefix_is_kept() -> None:
    start = schedule_of(kernels.matmul).split("k", 64)
    found = sketches(start, TARGET, {"M": 256, "N": 256, "K": 256})
    assert len(found) > 2
    for sketch in found:
        s = sketch.candidate().schedule(start)
        assert isinstance(s, Schedule) and s.steps[:1] == start.steps
