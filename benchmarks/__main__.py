"""`python -m benchmarks [NAME ...]`: runs the named benchmarks (all by default).

`python -m benchmarks report [...]` compares with NumPy, Numba and PyTorch and writes JSON, tables and plots;
`--help` behind it tells more.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys

NAMES = (
    "dispatch",
    "startup",
    "unscheduled",
    "scheduled",
    "quantised",
    "peers",
    "attention",
    "tutorial",
    "gather",
    "pool",
    "legality",
    "vulkan",
    "tuning",
)


def main() -> None:
    # One thread for BLAS, set before NumPy is loaded: the kernels here are sequential.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if sys.argv[1:2] == ["report"]:
        importlib.import_module("benchmarks.report").main(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which to run (default: all)")
    names = parser.parse_args().names or NAMES
    print(importlib.import_module("benchmarks.machine").line())
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"\n## {name}\n")
        print(module.main())


if __name__ == "__main__":
    main()
