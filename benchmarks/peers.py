"""Kernels under hand-written schedules against PyTorch and Numba, on one thread and on all."""

from __future__ import annotations

from benchmarks.cases import CASES
from benchmarks.compared import compared


def main(seconds: float = 2.0) -> str:
    """Runs all rows; returns the Markdown table: how much faster than each peer kdsl is."""
    return compared(CASES, ["torch", "numba"], seconds)


if __name__ == "__main__":
    print(main())
