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
class Target:
    """`kind` and, for a CPU, LLVM's `cpu` name and `features` string, and the register file.

    `vector_bytes` is the width of a vector register, `vector_registers` their number.
    """

    kind: TargetKind
    index: int = 0
    cpu: str = ""
    features: str = ""
    triple: str = ""
    vector_bytes: int = 16
    vector_registers: int = 16

    @property
    def name(self) -> str:
        """As the user types it: `cpu`, `vulkan:1`."""
        return self.kind if self.index == 0 else f"{self.kind}:{self.index}"

    def has(self, features: Iterable[str]) -> bool:
        """Whether the CPU has all these features (`avx512vnni`), as LLVM spells them."""
        return {f"+{f}" for f in features} <= set(self.features.split(","))

    @property
    def fingerprint(self) -> str:
        """A short hash of everything that generated code depends on."""
        text = "|".join((self.kind, self.cpu, self.features, self.triple, str(self.vector_bytes)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
