"""The schedules of docs/tutorial.md, each against the step before it and against NumPy.

The page's own code is run, so that what is measured is what a reader types.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import os
import re
from pathlib import Path
from typing import Any

import numpy as np

import kdsl
from benchmarks.timing import duration, interleaved_medians, table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"
SIZE = 1024


def steps(page: Path = PAGE) -> dict[str, kdsl.Schedule]:
    """The schedules of a page by their names, in order."""
    space: dict[str, Any] = {"__name__": page.stem}
    for n, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)):
        name = f"<{page.name}:{n}>"
        linecache.cache[name] = (len(block), None, block.splitlines(keepends=True), name)
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(block, name, "exec"), space)
    found: dict[str, kdsl.Schedule] = space["steps"]
    return found


def main(size: int = SIZE, seconds: float = 6.0) -> str:
    """A row for each step, on one thread but for "all cores"; returns the Markdown table."""
    rng = np.random.default_rng(0)
    A, B, C = (rng.standard_normal((size, size), dtype=np.float32) for _ in range(3))
    kernels = steps()
    threads = kdsl.get_num_threads()

    def run(name: str) -> None:
        kdsl.set_num_threads(threads if name == "all cores" else 1)
        kernels[name](A, B, C)

    contenders: dict[str, Any] = {name: (lambda name=name: run(name)) for name in kernels}
    contenders["NumPy"] = lambda: np.matmul(A, B, out=C)
    try:
        medians = interleaved_medians(contenders, seconds=seconds, rounds=5)
    finally:
        kdsl.set_num_threads(threads)
    rows = []
    before = 0.0
    for name, median in medians.items():
        gain = f"{before / median:.2f} x" if before and name != "NumPy" else ""
        rate = 2e-9 * size**3 / median
        rows.append([name, duration(median), f"{rate:.1f}", gain, f"{medians['NumPy'] / median:.2f} x"])
        before = median
    blas = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    head = [f"f32, {size}³", "time", "GFLOP/s", "gain", f"against NumPy ({blas} thread)"]
    return table(head, rows)


if __name__ == "__main__":
    print(main())
