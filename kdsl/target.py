"""What a kernel is compiled for: a target's name, its features and its limits.

A `Target` is a value: it carries all that code generation may depend on, so its `fingerprint`
stands for it in cache keys and tuning records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

TargetKind = Literal["cpu", "interpreter", "vulkan"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one Vulkan device can do; the defaults are the least that Vulkan 1.1 promises.

    `invocations`: of one work-group in all, `block` along each axis, `groups`: work-groups of a dispatch
    along each axis. `shared_bytes`: memory of a work-group. `storage_bytes`: the largest buffer that a
    binding covers. `buffers`: storage buffers that one pipeline can see. `subgroup`: invocations that run
    together. Source: VkPhysicalDeviceLimits, Vulkan 1.1 section "Limits".
    """

    invocations: int = 128
    block: tuple[int, int, int] = (128, 128, 64)
    groups: tuple[int, int, int] = (65535, 65535, 65535)
    shared_bytes: int = 16384
    push_bytes: int = 128
    storage_bytes: int = 1 << 27
    buffers: int = 4
    subgroup: int = 1


@dataclass(frozen=True, slots=True)
class Target:
    """`kind` and what code generation may depend on.

    CPU: LLVM's `cpu` name and `features` string, and the register file: `vector_bytes` is the width of a
    vector register, `vector_registers` their number. Vulkan: `cpu` is the device's name, `features` those of
    the device that kernels can use ("shaderInt64,shaderFloat64", as Vulkan spells them).
    """

    kind: TargetKind
    index: int = 0
    cpu: str = ""
    features: str = ""
    triple: str = ""
    vector_bytes: int = 16
    vector_registers: int = 16
    limits: Limits = Limits()

    @property
    def name(self) -> str:
        """As the user types it: `cpu`, `vulkan:1`."""
        return self.kind if self.index == 0 else f"{self.kind}:{self.index}"

    def has(self, features: Iterable[str]) -> bool:
        """Whether the target has all these features: as LLVM spells them (`avx512vnni`), or Vulkan."""
        sign = "" if self.kind == "vulkan" else "+"
        return {f"{sign}{f}" for f in features} <= set(self.features.split(","))

    @property
    def fingerprint(self) -> str:
        """A short hash of everything that generated code depends on."""
        parts = (self.kind, self.cpu, self.features, self.triple, str(self.vector_bytes), repr(self.limits))
        text = "|".join(parts)
        return hashlib.sha256(text.encode()).hexdigest()[:16]
