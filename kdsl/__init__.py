"""Kernels in Python syntax, compiled for NumPy arrays.

    import numpy as np
    import kdsl
    from kdsl import f32

    N = kdsl.sizes("N")

    @kdsl.kernel
    def saxpy(a: f32, X: f32[N], Y: f32[N]):
        for i in range(N):
            Y[i] += a * X[i]

What is imported here is light; compilers load when a kernel is first compiled. The language's own functions
(`kdsl.exp`, `kdsl.grid`, `kdsl.atomic_add`) are those of `kdsl.lang`, found on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kdsl.dtypes import (
    ArrayType,
    DType,
    Size,
    TypeVar,
    bf16,
    bool_,
    constexpr,
    f16,
    f32,
    f64,
    i8,
    i16,
    i32,
    i64,
    sizes,
    typevar,
    u8,
    u16,
    u32,
    u64,
)
from kdsl.errors import (
    ArgumentError,
    CompileError,
    KdslError,
    KernelAssertionError,
    KernelIndexError,
    KernelValueError,
    KernelZeroDivisionError,
    ScheduleError,
    TargetError,
)
from kdsl.runtime.device_array import DeviceArray, synchronize, to_device
from kdsl.runtime.kernel import Function, Kernel, func, kernel
from kdsl.runtime.targets import Device, devices
from kdsl.runtime.threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from kdsl import instructions, tune
    from kdsl.lang import *  # noqa: F403
    from kdsl.runtime.instruction import instruction
    from kdsl.runtime.tuning import autotune
    from kdsl.sched import Schedule
    from kdsl.sched import recipes as recipes
    from kdsl.tune.spaces.choice import choice

__version__ = "0.1.0"

__all__ = [
    "ArgumentError",
    "ArrayType",
    "CompileError",
    "DType",
    "Device",
    "DeviceArray",
    "Function",
    "KdslError",
    "Kernel",
    "KernelAssertionError",
    "KernelIndexError",
    "KernelValueError",
    "KernelZeroDivisionError",
    "Schedule",
    "ScheduleError",
    "Size",
    "TargetError",
    "TypeVar",
    "autotune",
    "bf16",
    "bool_",
    "choice",
    "constexpr",
    "devices",
    "f16",
    "f32",
    "f64",
    "func",
    "get_num_threads",
    "i8",
    "i16",
    "i32",
    "i64",
    "instruction",
    "instructions",
    "kernel",
    "recipes",
    "set_num_threads",
    "sizes",
    "synchronize",
    "to_device",
    "tune",
    "typevar",
    "u8",
    "u16",
    "u32",
    "u64",
]


def __getattr__(name: str) -> Any:
    if name == "Schedule":
        from kdsl.sched import Schedule

        return Schedule
    if name == "instruction":
        from kdsl.runtime.instruction import instruction

        return instruction
    if name == "autotune":
        from kdsl.runtime.tuning import autotune

        return autotune
    if name == "choice":
        from kdsl.tune.spaces.choice import choice

        return choice
    if name in ("instructions", "tune"):
        return importlib.import_module(f"kdsl.{name}")
    if name == "recipes":
        import kdsl.sched.recipes as recipes

        globals()[name] = recipes
        return recipes
    if not name.startswith("_"):
        import kdsl.lang as lang

        if name in lang.__all__:
            if name in ("random_bits", "uniform"):
                from kdsl.mathlib.random import random_bits_u64, uniform_u64

                lang.provide_generators(random_bits_u64, uniform_u64)
            value = getattr(lang, name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'kdsl' has no attribute {name!r}")


def __dir__() -> list[str]:
    import kdsl.lang as lang

    return sorted({*globals(), *__all__, *lang.__all__})
