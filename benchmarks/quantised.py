"""Products of bytes and of bf16 by dot-product instructions against NumPy's product of f32, 1024 x 1024.

The kernels and schedules are those of examples/matmul/quantised.py.
"""

from __future__ import annotations

from benchmarks.cases import CASES
from benchmarks.compared import compared


def main(seconds: float = 2.0) -> str:
    """Runs all rows; returns the Markdown table."""
    return compared([c for c in CASES if c.part == "quantised"], ["numpy"], seconds)


if __name__ == "__main__":
    print(main())
