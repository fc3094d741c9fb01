"""Kernels as SPIR-V: validated by `spirv-val`, run on a Vulkan device, compared with the interpreter."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest

from kdsl.backends import spirv, vulkan
from kdsl.backends.base import Artifact
from kdsl.errors import KdslError
from kdsl.ir import interpreter
from kdsl.ir.faults import fault
from kdsl.ir.launch import Launches
from kdsl.ir.nodes import ArrayParam, Func, ScalarParam
from kdsl.runtime.device_code import launches_of
from kdsl.target import Limits, Target
from tests.backends.harness import same_bits

MISSING = vulkan.available()
needs_vulkan = pytest.mark.skipif(MISSING is not None, reason=f"no Vulkan: {MISSING}")
needs_validator = pytest.mark.skipif(shutil.which("spirv-val") is None, reason="no spirv-val (spirv-tools)")

EVERYTHING = Target(
    "vulkan",
    cpu="llvmpipe",
    features="shaderFloat64,shaderInt64,shaderBufferInt64Atomics,storageBuffer16BitAccess,"
    "storageBuffer8BitAccess",
    limits=Limits(invocations=1024, block=(1024, 1024, 1024), shared_bytes=32768, buffers=64),
)
"""A device without limits that matter, which need not be there."""


@cache
def device() -> Target:
    """The first device."""
    return vulkan.devices()[0].target(0)


def valid(artifact: Artifact) -> None:
    """Asserts that the module is valid."""
    module = spirv.unpack(artifact.code)[1]
    command = ["spirv-val", "--target-env", "vulkan1.1", "-"]
    done = subprocess.run(command, input=module, capture_output=True, timeout=60)
    assert done.returncode == 0, (done.stdout + done.stderr).decode() + spirv.text(artifact)


def compiled(func: Func, target: Target | None = None) -> Artifact:
    """The artifact of a kernel as the front end makes it; loops get places on the device."""
    target = target or device()
    return spirv.compile(launches_of(func, target), target)


def run(
    func: Func,
    arguments: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
    artifact: Artifact | None = None,
) -> None:
    """Runs on the arrays, in place; raises the error of a fault."""
    artifact = artifact or compiled(func)
    scalars = {p.name: p.dtype for p in func.params if isinstance(p, ScalarParam)}
    executable = vulkan.load(artifact, func.sizes, scalars)
    given = [np.asarray(arguments[n], t.np) for n, t in scalars.items()]
    key, plan = executable.plan([(sizes or {})[n] for n in func.sizes], given)
    assert not plan.failing

    def error(found: Any) -> KdslError:
        site = artifact.sites[found.site - 1]
        return fault(
            site.kind, site.loc, text=site.text, dim=site.dim, value=found.value, extent=found.extent
        )

    arrays = [arguments[n] for n in executable.arrays]
    executable.run(key, plan, arrays, [True] * len(arrays), error)


def run_launches(launches: Launches, arguments: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """The same for a host program made by hand."""
    artifact = spirv.compile(launches, device())
    if shutil.which("spirv-val"):
        valid(artifact)
    run(launches.func, arguments, sizes, artifact)


def agree(
    func: Func, arguments: Mapping[str, Any], sizes: Mapping[str, int], artifact: Artifact | None = None
) -> None:
    """Asserts that the device writes what the interpreter writes, bit for bit (NaN are alike)."""
    mine = {n: np.array(v) if isinstance(v, np.ndarray) else v for n, v in arguments.items()}
    arrays = {n: np.array(v) for n, v in arguments.items() if isinstance(v, np.ndarray)}
    scalars = {n: v for n, v in arguments.items() if not isinstance(v, np.ndarray)}
    with np.errstate(all="ignore"):
        interpreter.run(func, arrays, scalars, sizes, races=False)
    artifact = artifact or compiled(func)
    if shutil.which("spirv-val"):
        valid(artifact)
    run(func, mine, sizes, artifact)
    for p in func.arrays:
        if not same_bits(mine[p.name], arrays[p.name]):
            raise AssertionError(_difference(func, p, mine, arrays))


def _difference(func: Func, p: ArrayParam, mine: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    a, b = mine[p.name].reshape(-1), arrays[p.name].reshape(-1)
    wrong = [n for n in range(a.size) if not same_bits(a[n : n + 1], b[n : n + 1])]
    inputs = {n: v.reshape(-1) for n, v in arrays.items()}
    shown = [(n, a[n], b[n], {k: v[n] for k, v in inputs.items() if v.size > n}) for n in wrong[:4]]
    return f"{func.name}: {p.name}: {len(wrong)} wrong; (place, device, interpreted, all) {shown}"
