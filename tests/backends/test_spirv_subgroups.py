"""Work-groups that combine values by subgroup operations: every type, size and odd number, and three sizes of
subgroups (llvmpipe's are as long as its vectors)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kdsl import recipes
from kdsl.backends import spirv
from kdsl.dtypes import f32, i64
from tests.backends import subgroup_cases as cases
from tests.backends.spirv_harness import EVERYTHING, agree, compiled, device, needs_vulkan, valid
from tests.runtime.process import run_python
from tests.sched.check import schedule_of

SUBGROUPS = replace(EVERYTHING, features=EVERYTHING.features + ",subgroupBasic,subgroupArithmetic")


def combined(artifact: spirv.Artifact) -> bool:
    return "GroupNonUniformElect" in spirv.text(artifact)


@needs_vulkan
@pytest.mark.parametrize("bits", [128, 256, 512])
def test_every_size_of_subgroups(bits: int) -> None:
    done = run_python("-m", "tests.backends.subgroup_cases", LP_NATIVE_VECTOR_WIDTH=str(bits))
    if device().cpu.startswith("llvmpipe"):
        assert done.stdout == f"{bits // 32}\n"


@needs_vulkan
def test_without_subgroups_it_is_a_tree() -> None:
    bare = replace(device(), features=device().features.replace("subgroup", "no"))
    func = recipes.gpu_sum(schedule_of(cases.total), "i", 256, 64).func
    artifact = compiled(func, bare)
    assert not combined(artifact)
    x = cases.numbers(f32, "+", (1000,), 0)
    agree(func, {"X": x, func.results[0].name: np.array(0, np.float32)}, {"N": 1000}, artifact)
    nan = np.nan
    for op in ("min", "max"):
        func = cases.rows(op, f32, 4, 4)
        x = np.array([[nan, 3, -1, nan], [nan, nan, nan, nan], [2, nan, nan, 1]], np.float32)
        artifact = compiled(func, bare)
        assert not combined(artifact)
        agree(func, {"X": x, "Y": np.array([2, 5, nan], np.float32)}, {"N": 3}, artifact)


def test_what_the_device_can_do_decides() -> None:
    for op, t, features, expected in (
        ("+", f32, "", True),
        ("+", i64, "", False),
        ("+", i64, ",shaderSubgroupExtendedTypes", True),
        ("+", cases.f64, "", True),
        ("+", cases.f16, "", False),
        ("min", cases.f16, "", True),
    ):
        target = replace(SUBGROUPS, features=SUBGROUPS.features + features)
        artifact = compiled(cases.rows(op, t, 20, 37), target)
        valid(artifact)
        assert combined(artifact) == expected, (op, t, features)


def test_the_manifest_says_what_is_needed() -> None:
    manifest, _ = spirv.unpack(compiled(cases.rows("+", f32, 20, 37), SUBGROUPS).code)
    assert {"subgroupBasic", "subgroupArithmetic"} <= set(manifest["features"])
    assert manifest["entries"][0]["shared_bytes"] == 37 * 4 + 8


def test_memory_for_it_is_counted() -> None:
    """Shared arrays that leave no room for it go elsewhere."""
    func = cases.rows("+", f32, 64, 64)
    small = replace(SUBGROUPS, limits=replace(SUBGROUPS.limits, shared_bytes=300))
    manifest, _ = spirv.unpack(compiled(func, small).code)
    assert all(e["shared_bytes"] <= 300 for e in manifest["entries"])
