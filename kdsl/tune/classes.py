"""Classes of sizes that are alike: what is tuned for one of them serves the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sizes_class(sizes: Mapping[str, int]) -> str:
    """Sizes that are alike: `M=2^10/64 N=2^9/8` is ceil(log2) of each, and whether 64 or 8 divides it."""
    parts = []
    for name, value in sizes.items():
        by = next((d for d in (64, 8) if value % d == 0), 1)
        parts.append(f"{name}=2^{max(0, value - 1).bit_length()}" + (f"/{by}" if by > 1 else ""))
    return " ".join(parts)


def powers(found: str) -> str:
    """A sizes class without what divides the sizes."""
    return " ".join([part.partition("/")[0] for part in found.split()])


def scalar_number(value: Any) -> int | float | bool:
    """A NumPy scalar as a Python number."""
    found = value.item() if hasattr(value, "item") else value
    return found if isinstance(found, (bool, int, float)) else float(found)
