"""Attention under a hand-written schedule against PyTorch's `scaled_dot_product_attention`.

The kernel and its schedule are those of `examples/attention`. Each row is checked against a float64
reference, then contenders are interleaved and medians compared, on one thread and on all. Without PyTorch
only kdsl is timed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np

import kdsl
from benchmarks.peers import on_threads, torch
from benchmarks.scheduled import normal
from benchmarks.timing import duration, medians_by_threads, table
from examples.attention.attention import in_tiles, online, reference

HEADS, WIDTH = 8, 64
LENGTHS = (1024, 2048, 4096)
TYPES = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16)}


def main(seconds: float = 4.0) -> str:
    """Runs all rows; returns the Markdown table: how much faster than PyTorch kdsl is."""
    wanted = os.environ.get("KDSL_BENCHMARK", "")
    cases = [("f32", n, causal) for causal in (False, True) for n in LENGTHS]
    cases += [("f16", 2048, causal) for causal in (False, True)]
    threads = kdsl.get_num_threads()
    header = [f"{HEADS} heads of {WIDTH}"]
    for count in dict.fromkeys((1, threads)):
        header += [f"{count} thread{'s' * (count > 1)}", "GFLOP/s"]
        header += ["faster than torch"] if torch is not None else []
    lines = []
    with torch.inference_mode() if torch is not None else nullcontext():
        for name, length, causal in cases:
            title = f"{name}, {length} keys, {'causal' if causal else 'full'}"
            if wanted in title:
                lines.append([title, *row(name, length, causal, seconds)])
    return table(header, lines)


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
    # Two products for each pair of a query and a key that it sees.
    flops = 4 * HEADS * WIDTH * (length * (length + 1) / 2 if causal else length**2)
    for medians in medians_by_threads(runs, seconds=seconds, on_threads=on_threads).values():
        cells += [duration(medians["kdsl"]), f"{flops / medians['kdsl'] / 1e9:.0f}"]
        if "torch" in medians:
            cells.append(f"{medians['torch'] / medians['kdsl']:.2f} x")
    return cells


if __name__ == "__main__":
    print(main())
