"""Kernels on a Vulkan device: schedules against the same kernels unscheduled, vectors, what a launch costs.

Arrays stay on the device (`kdsl.to_device`); each time ends with `kdsl.synchronize()`. VK_ICD_FILENAMES and
`KDSL_TARGET=vulkan:1` choose another driver or device.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import kdsl
from benchmarks.kernels import saxpy
from benchmarks.timing import duration, interleaved_medians, table
from examples.matmul.matmul import matmul
from kdsl import recipes

ELEMENTS = 1 << 22
BATCH = 200
"""Launches between two waits, where only the launch is timed."""


def on_registers(s: kdsl.Schedule) -> kdsl.Schedule:
    """For drivers that run on a CPU."""
    return recipes.gpu_register_tile(s, "i", "j", ["k"], tail="perfect")


def in_shared_memory(s: kdsl.Schedule) -> kdsl.Schedule:
    """For GPUs."""
    return recipes.gpu_tile(s, "i", "j", "k", ["A", "B"], tail="perfect")


def waited(run: Callable[..., object], target: str, *args: Any, times: int = 1) -> Callable[[], None]:
    """`times` launches, one after the other, and the wait for the last."""

    def call() -> None:
        for _ in range(times):
            run(*args)
        kdsl.synchronize(target)

    return call


def products(target: str, size: int) -> list[str]:
    """One row: a product of two matrices of this size."""
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    a, b, c = (kdsl.to_device(x, target) for x in (A, B, np.empty_like(A)))
    naive = matmul.on(target)
    kernels = {
        "unscheduled": naive,
        "registers": naive.with_schedule(on_registers(naive.schedule())),
        "shared": naive.with_schedule(in_shared_memory(naive.schedule())),
    }
    for kernel in kernels.values():
        kernel(a, b, c)
        np.testing.assert_allclose(c.numpy(), A @ B, rtol=1e-3, atol=1e-3)
    medians = interleaved_medians({n: waited(k, target, a, b, c) for n, k in kernels.items()}, seconds=3.0)
    cells = [f"matmul {size}³ f32", duration(medians["unscheduled"])]
    for name in ("registers", "shared"):
        cells += [duration(medians[name]), f"{medians['unscheduled'] / medians[name]:.1f} x"]
    return cells


def vectors(target: str) -> list[str]:
    """One row: saxpy, an element and four elements for each invocation; the number of elements divides."""
    x, y = (kdsl.to_device(np.ones(ELEMENTS, np.float32), target) for _ in range(2))
    kernel = saxpy.on(target)
    whole = kernel.schedule().assume("N % 256 == 0")
    runs: Mapping[str, Callable[[], None]] = {
        f"{lanes}": waited(
            kernel.with_schedule(recipes.gpu_elementwise(whole, "i", lanes)), target, 1.0, x, y
        )
        for lanes in (1, 4)
    }
    medians = interleaved_medians(runs, seconds=2.0)
    speed = f"{medians['1'] / medians['4']:.2f} x"
    return [f"saxpy, {ELEMENTS} elements, vec4", duration(medians["1"]), duration(medians["4"]), speed]


def launches(target: str) -> list[list[str]]:
    """Rows: what a small kernel costs, one at a time and in batches."""
    x, y = (kdsl.to_device(np.ones(64, np.float32), target) for _ in range(2))
    kernel = saxpy.on(target)
    runs = {"one, waited for": waited(kernel, target, 1.0, x, y)}
    runs["one of many"] = waited(kernel, target, 1.0, x, y, times=BATCH)
    medians = interleaved_medians(runs, seconds=2.0)
    medians["one of many"] /= BATCH
    return [[f"launch: {name}", duration(median)] for name, median in medians.items()]


def main() -> str:
    """Runs all rows; returns Markdown tables."""
    target = os.environ.get("KDSL_TARGET", "vulkan")
    device = next(d for d in kdsl.devices() if d.name == target)
    if not device.available:
        return f"no {target} here: {device.missing}"
    product = table(
        ["", "unscheduled", "registers", "faster", "shared memory", "faster"],
        [products(target, 256), products(target, 512)],
    )
    vector = table(["", "scalar", "vec4", "faster"], [vectors(target)])
    launch = table(["", "median"], launches(target))
    return f"{device.description}\n\n{product}\n\n{vector}\n\n{launch}"


if __name__ == "__main__":
    print(main())
