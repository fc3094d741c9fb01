"""`python -m benchmarks [NAME ...]`: runs the named benchmarks (all by default)."""

from __future__ import annotations

import argparse
import importlib
import os

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
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which to run (default: all)")
    names = parser.parse_args().names or NAMES
    # One thread for BLAS, set before NumPy is loaded: the kernels here are sequential.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    timing = importlib.import_module("benchmarks.timing")
    print(timing.machine())
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"\n## {name}\n")
        print(module.main())


if __name__ == "__main__":
    main()
