"""GPU schedules, bound and cut into launches: the model's runs, in several orders, find races."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from kdsl.sched.grid.binding import bound
from tests.backends import subgroup_cases
from tests.launches.check import TARGET, check_launches, every_barrier_is_needed, launched
from tests.sched import kernels as k
from tests.sched import test_binding, test_groups
from tests.sched.check import Steps, func_of, schedule_of
from tests.sched.test_recipes import SMALL

SCHEDULES: dict[str, tuple[Any, Steps]] = {
    **{name: (kernel, steps) for name, kernel, steps, _ in test_groups.ACCEPTED},
    **{name: case for name, case in SMALL.items() if name.startswith("gpu_")},
    **{f"scheduled {n}": c[:2] for n, c in enumerate(test_binding.SCHEDULED) if c[0] is not k.prefix},
}
SUBGROUPS = replace(TARGET, features=TARGET.features + ",subgroupBasic,subgroupArithmetic")
KERNELS = [case[0] for case in (*test_binding.BOUND, *test_binding.SHAPES)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    kernel, steps = SCHEDULES[name]
    check_launches(bound(steps(schedule_of(kernel)).func))


@pytest.mark.parametrize("name", [case[0] for case in test_groups.ACCEPTED])
def test_every_barrier_is_needed(name: str) -> None:
    kernel, steps = SCHEDULES[name]
    every_barrier_is_needed(launched(bound(steps(schedule_of(kernel)).func)))


COMBINED: dict[str, tuple[Any, Steps]] = {
    "sum": SCHEDULES["gpu_sum"],
    "rows": (subgroup_cases.shares, lambda s: subgroup_cases.softmax_rows(s, 4)),
}


@pytest.mark.parametrize("name", COMBINED)
def test_values_that_are_combined(name: str) -> None:
    kernel, steps = COMBINED[name]
    func = bound(steps(schedule_of(kernel)).func, SUBGROUPS)
    assert "together(" in print_func(func)
    every_barrier_is_needed(check_launches(func, SUBGROUPS))


def test_rounds_of_combined_values() -> None:
    """The total is read by all before it is combined again."""
    made = check_launches(bound(parse_func(subgroup_cases.ROUNDS), SUBGROUPS), SUBGROUPS)
    every_barrier_is_needed(made)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_default_binding(kernel: Any) -> None:
    check_launches(bound(func_of(kernel)))
