"""Attention under a hand-written schedule against PyTorch's `scaled_dot_product_attention`.

The kernel and its schedule are those of `examples/attention`. Each row is checked against a float64
reference, then contenders are interleaved and medians compared, on one thread and on all. Without PyTorch
only kdsl is timed.

`python -m benchmarks attention` prints both tables of docs/attention.md;
`python -m benchmarks.attention --write` puts them there too.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np

import kdsl
from benchmarks.cases import normal
from benchmarks.timing import duration, interleaved_medians, medians_by_threads, table
from benchmarks.tutorial import steps
from examples.attention.attention import in_tiles, online, reference

try:
    import torch
except ImportError:
    torch = None  # type: ignore[assignment, unused-ignore]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "attention.md"
HEADS, WIDTH = 8, 64
LENGTHS = (1024, 2048, 4096)
TYPES = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16)}


def main(seconds: float = 4.0) -> str:
    """Runs all rows; returns Markdown tables: the steps of docs/attention.md, and kdsl beside PyTorch."""
    with torch.inference_mode() if torch is not None else nullcontext():
        return f"{by_steps(seconds)}\n\n{beside_torch(seconds)}"


def by_steps(seconds: float, length: int = LENGTHS[0]) -> str:
    """A row for each schedule of the page, on one thread, full."""
    Q, K, V = (normal(HEADS, length, WIDTH) for _ in range(3))
    out = np.empty_like(Q)
    schedules = steps(PAGE)
    threads = kdsl.get_num_threads()
    kdsl.set_num_threads(1)
    try:
        medians = interleaved_medians(
            {name: (lambda s=s: s(Q, K, V, out)) for name, s in schedules.items()}, seconds=seconds, rounds=5
        )
    finally:
        kdsl.set_num_threads(threads)
    lines, before = [], 0.0
    for name, median in medians.items():
        rate = flops(length, False) / median / 1e9
        gain = f"{before / median:.2f} x" if before else ""
        lines.append([name, duration(median), f"{rate:.1f}", gain])
        before = median
    return table([f"{HEADS} heads of {WIDTH}, {length} keys, f32, full", "time", "GFLOP/s", "gain"], lines)


def beside_torch(seconds: float) -> str:
    """How much faster than PyTorch kdsl is."""
    wanted = os.environ.get("KDSL_BENCHMARK", "")
    cases = [("f32", n, causal) for causal in (False, True) for n in LENGTHS]
    cases += [("f16", 2048, causal) for causal in (False, True)]
    threads = kdsl.get_num_threads()
    header = [f"{HEADS} heads of {WIDTH}"]
    for count in dict.fromkeys((1, threads)):
        header += [f"{count} thread{'s' * (count > 1)}", "GFLOP/s"]
        header += ["faster than torch"] if torch is not None else []
    lines = []
    for name, length, causal in cases:
        title = f"{name}, {length} keys, {'causal' if causal else 'full'}"
        if wanted in title:
            lines.append([title, *row(name, length, causal, seconds)])
    return table(header, lines)


def flops(length: int, causal: bool) -> float:
    """Of both products, for each pair of a query and a key that it sees."""
    return 4 * HEADS * WIDTH * (length * (length + 1) / 2 if causal else length**2)


def row(name: str, length: int, causal: bool, seconds: float) -> list[str]:
    """Cells for each number of threads: the time, the rate, and the ratio to PyTorch."""
    kernel = online.with_schedule(in_tiles)
    Q, K, V = (normal(HEADS, length, WIDTH).astype(TYPES[name]) for _ in range(3))
    out = np.empty_like(Q)
    runs: dict[str, Callable[[], object]] = {"kdsl": lambda: kernel(Q, K, V, out, causal=causal)}
    runs["kdsl"]()
    tolerance = 1e-5 if name == "f32" else 2e-2
    np.testing.assert_allclose(
        out[:1].astype(np.float64), reference(Q[:1], K[:1], V[:1], causal), rtol=tolerance, atol=tolerance
    )
    if torch is not None:
        from torch.nn import functional

        q, k, v = (torch.from_numpy(x)[None] for x in (Q, K, V))
        runs["torch"] = lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=causal)
    cells = []
    for medians in medians_by_threads(runs, seconds=seconds).values():
        cells += [duration(medians["kdsl"]), f"{flops(length, causal) / medians['kdsl'] / 1e9:.0f}"]
        if "torch" in medians:
            cells.append(f"{medians['torch'] / medians['kdsl']:.2f} x")
    return cells


def put(tables: str, text: str) -> str:
    """`text` with each of the tables in place of the one that has the same first cell.

    ValueError where it has none.
    """
    for one in tables.split("\n\n"):
        start = re.escape(one[: one.index("|", 1) + 1])
        text, found = re.subn(rf"^{start}.*\n(?:\|.*\n)*", lambda _, one=one: f"{one}\n", text, flags=re.M)
        if found != 1:
            raise ValueError(f"{found} tables begin with {one.splitlines()[0]}")
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name} too")
    write = parser.parse_args().write
    found = main()
    print(found)
    if write:
        PAGE.write_text(put(found, PAGE.read_text()))
