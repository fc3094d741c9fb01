"""What the cost model knows of the processor: its caches, bandwidths, and cycles a second."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_CPU0 = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
FALLBACK = (32 << 10, 1 << 20, 16 << 20)
"""Bytes of the caches where the system does not tell: those of the usual server CPU of 2022."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One core. `caches`: bytes of L1, L2 and L3; `bandwidths`: bytes a second into the core from L2, L3 and
    memory, streaming. `hertz`: cycles a second. `fork_s`: to start and end a parallel loop.
    """

    caches: tuple[int, int, int] = FALLBACK
    bandwidths: tuple[float, float, float] = (100e9, 75e9, 34e9)
    hertz: float = 3.5e9
    fork_s: float = 4e-6
    threads: int = 1


@cache
def machine() -> Machine:
    """This machine. What the system does not tell is that of the usual server CPU of 2022."""
    return Machine(_caches(_CPU0), threads=os.cpu_count() or 1)


def _caches(folder: Path) -> tuple[int, int, int]:
    """Bytes of the data caches by level, as Linux lists them."""
    found: dict[int, int] = {}
    for index in sorted(folder.glob("index*")):
        kind, level, size = (_word(index / name) for name in ("type", "level", "size"))
        if kind in ("Data", "Unified") and level.isdecimal() and size[:-1].isdecimal():
            found[int(level)] = int(size[:-1]) * _UNITS.get(size[-1:], 1)
    first, second, third = (found.get(n, FALLBACK[n - 1]) for n in (1, 2, 3))
    return first, second, max(second, third)


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
