"""GPU schedules, bound and cut into launches: the model's runs, in several orders, find races."""

from __future__ import annotations

from typing import Any

import pytest

from kdsl.sched.binding import bound
from tests.launches.check import check_launches, every_barrier_is_needed, launched
from tests.sched import kernels as k
from tests.sched import test_binding, test_groups
from tests.sched.check import Steps, func_of, schedule_of
from tests.sched.test_recipes import SMALL

SCHEDULES: dict[str, tuple[Any, Steps]] = {
    **{name: (kernel, steps) for name, kernel, steps, _ in test_groups.ACCEPTED},
    **{name: case for name, case in SMALL.items() if name.startswith("gpu_")},
    **{f"scheduled {n}": c[:2] for n, c in enumerate(test_binding.SCHEDULED) if c[0] is not k.prefix},
}
KERNELS = [case[0] for case in (*test_binding.BOUND, *test_binding.SHAPES)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    kernel, steps = SCHEDULES[name]
    check_launches(bound(steps(schedule_of(kernel)).func))


@pytest.mark.parametrize("name", [case[0] for case in test_groups.ACCEPTED])
def test_every_barrier_is_needed(name: str) -> None:
    kernel, steps = SCHEDULES[name]
    every_barrier_is_needed(launched(bound(steps(schedule_of(kernel)).func)))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_default_binding(kernel: Any) -> None:
    check_launches(bound(func_of(kernel)))
