"""Schedules on a device, for GPUs and for CPUs: modules are valid, and write what the interpreter writes."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks import kernels
from kdsl import recipes
from kdsl.backends import spirv
from kdsl.errors import ArgumentError
from kdsl.ir.nodes import Func, If, Loop, Prefetch
from kdsl.ir.parser import parse_func
from kdsl.ir.walk import stmts
from kdsl.passes.hints import MOST, short
from tests.backends.spirv_harness import agree, compiled, needs_vulkan
from tests.launches.test_schedules import KERNELS, SCHEDULES
from tests.sched import test_gallery, test_recipes
from tests.sched.check import Steps, arguments, func_of, schedule_of, sizes_to_try

CPU: dict[str, tuple[Any, Steps]] = {
    **test_gallery.ACCEPTED,
    **{name: case for name, case in test_recipes.SMALL.items() if not name.startswith("gpu_")},
}


def check(func: Func, rounds: int = 4) -> None:
    """Runs at some sizes; some schedules do not take all."""
    artifact = compiled(func)
    for seed, sizes in enumerate(sizes_to_try(func, rounds)):
        try:
            agree(func, arguments(func, sizes, seed), sizes, artifact)
        except ArgumentError as e:
            assert e.code == "K0420", e


@needs_vulkan
@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name: str) -> None:
    kernel, steps = SCHEDULES[name]
    check(steps(schedule_of(kernel)).func)


@needs_vulkan
@pytest.mark.parametrize("name", CPU)
def test_schedules_for_cpus(name: str) -> None:
    kernel, steps = CPU[name]
    check(steps(schedule_of(kernel)).func, 2)


@needs_vulkan
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_default_binding(kernel: Any) -> None:
    check(func_of(kernel))


@needs_vulkan
def test_large_tiles_are_not_written_out() -> None:
    """24 vectors of 16 lanes are right for AVX-512; here drivers would compile for minutes."""
    func = recipes.register_tile(schedule_of(kernels.matmul_dots), "i", "j", ["k"], (6, 64), 16).func
    assert len(spirv.unpack(compiled(func).code)[1]) < 60_000
    check(func, 2)


NESTS = """\
def nests(A: f32[N], B: f32[N]):
    for i in range(N):
        if i + 8 < N:
            prefetch(A[i + 8])
        for j in unroll(range({rows})):
            for v in vectorize(range(16)):
                B[i] += A[i]
"""


def test_short_ones_stay() -> None:
    func = short(parse_func(NESTS.format(rows=4)))
    assert not any(isinstance(s, (If, Prefetch)) for s in stmts(func.body))
    assert [s.mark.kind for s in stmts(func.body) if isinstance(s, Loop) and s.mark] == [
        "unroll",
        "vectorize",
    ]
    assert short(func) is func


def test_long_ones_lose_their_marks_from_the_outside() -> None:
    func = short(parse_func(NESTS.format(rows=MOST)))
    assert [s.mark.kind for s in stmts(func.body) if isinstance(s, Loop) and s.mark] == ["vectorize"]
