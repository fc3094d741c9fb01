"""GPU schedules on a device: modules are valid, and it writes what the interpreter writes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.backends.spirv_harness import agree, compiled, needs_vulkan
from tests.launches.test_schedules import KERNELS, SCHEDULES
from tests.sched.check import arguments, func_of, schedule_of, sizes_to_try

pytestmark = needs_vulkan


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    kernel, steps = SCHEDULES[name]
    func = steps(schedule_of(kernel)).func
    artifact = compiled(func)
    for seed, sizes in enumerate(sizes_to_try(func, 4)):
        agree(func, arguments(func, sizes, seed), sizes, artifact)


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_default_binding(kernel: Any) -> None:
    func = func_of(kernel)
    artifact = compiled(func)
    for seed, sizes in enumerate(sizes_to_try(func, 4)):
        agree(func, arguments(func, sizes, seed), sizes, artifact)
