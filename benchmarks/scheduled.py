"""Kernels under hand-written schedules against NumPy, on one thread and on all."""

from __future__ import annotations

from benchmarks.cases import CASES
from benchmarks.compared import compared


def main(seconds: float = 2.0) -> str:
    """Runs all rows; returns the Markdown table."""
    return compared([c for c in CASES if c.part != "quantised"], ["numpy"], seconds)


if __name__ == "__main__":
    print(main())
