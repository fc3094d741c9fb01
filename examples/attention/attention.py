"""Attention in plain kernel Python: the naive three steps, and online softmax in blocks of keys.

    python examples/attention/attention.py [--heads 2] [--length 256] [--repeat 5] [--target cpu]

Both are checked against a float64 NumPy reference, full and causal. On a CPU the kernels are unscheduled: they
run their loops in program order. `--target vulkan` runs them on a GPU, each query on an invocation.

Source of the online form: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao
et al., "FlashAttention", 2022.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

import kdsl
from kdsl import f32

H, N, D = kdsl.sizes("H N D")


@kdsl.kernel
def naive(Q: f32[H, N, D], K: f32[H, N, D], V: f32[H, N, D], O: f32[H, N, D], causal: kdsl.constexpr = False):  # noqa: E741
    """Scores, softmax and the weighted sum of one row at a time."""
    scale = 1 / math.sqrt(D)
    S = kdsl.empty(N, f32)
    for h, i in kdsl.grid(H, N):
        keys = i + 1 if causal else N
        top = f32(-kdsl.inf)
        for j in range(keys):
            s = 0.0
            for d in range(D):
                s += Q[h, i, d] * K[h, j, d]
            S[j] = s * scale
            top = max(top, S[j])
        total = 0.0
        for j in range(keys):
            S[j] = kdsl.exp(S[j] - top)
            total += S[j]
        for d in range(D):
            O[h, i, d] = 0.0
        for j in range(keys):
            for d in range(D):
                O[h, i, d] += S[j] / total * V[h, j, d]


@kdsl.kernel
def online(
    Q: f32[H, N, D],
    K: f32[H, N, D],
    V: f32[H, N, D],
    O: f32[H, N, D],  # noqa: E741
    causal: kdsl.constexpr = False,
    BLOCK: kdsl.constexpr = 64,
):
    """Keys in blocks: a running maximum and sum rescale what has been gathered so far."""
    scale = 1 / math.sqrt(D)
    for h, i in kdsl.grid(H, N):
        S = kdsl.empty(BLOCK, f32)
        acc = kdsl.zeros(D, f32)
        top = f32(-kdsl.inf)
        total = f32(0)
        keys = i + 1 if causal else N
        for first in range(0, keys, BLOCK):
            count = min(BLOCK, keys - first)
            block_top = top
            for j in range(count):
                s = 0.0
                for d in range(D):
                    s += Q[h, i, d] * K[h, first + j, d]
                S[j] = s * scale
                block_top = max(block_top, S[j])
            shrink = kdsl.exp(top - block_top)
            top = block_top
            total *= shrink
            for d in range(D):
                acc[d] *= shrink
            for j in range(count):
                p = kdsl.exp(S[j] - top)
                total += p
                for d in range(D):
                    acc[d] += p * V[h, first + j, d]
        for d in range(D):
            O[h, i, d] = acc[d] / total


def by_queries(s: kdsl.Schedule, invocations: int = 64) -> kdsl.Schedule:
    """For a GPU: heads and blocks of queries are work-groups, each query is an invocation."""
    s = s.split("i", invocations).bind("h", "grid.y").bind("i_o", "grid.x")
    return s.bind("i_i", "block.x")


def naive_on_gpu(s: kdsl.Schedule) -> kdsl.Schedule:
    """The scores of a row are a local array that rows share: each query gets its own."""
    return by_queries(s.privatize("S", "i"))


def reference(Q: np.ndarray, K: np.ndarray, V: np.ndarray, causal: bool) -> np.ndarray:
    """softmax(Q K^T / sqrt(D)) V in float64; arrays are (heads, length, D)."""
    q, k, v = (x.astype(np.float64) for x in (Q, K, V))
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
    if causal:
        scores = np.where(np.tri(scores.shape[-1], dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--length", type=int, default=256, help="queries and keys (default 256)")
    parser.add_argument("--width", type=int, default=64, help="elements of a query or key (default 64)")
    parser.add_argument("--repeat", type=int, default=5, help="timed runs; the median counts (default 5)")
    parser.add_argument("--target", default="cpu", help="where the kernels run (default cpu)")
    options = parser.parse_args()
    kernels = [naive.on(options.target), online.on(options.target)]
    if options.target.startswith("vulkan"):
        kernels = [k.with_schedule(s) for k, s in zip(kernels, (naive_on_gpu, by_queries))]
    rng = np.random.default_rng(0)
    shape = (options.heads, options.length, options.width)
    Q, K, V = (rng.standard_normal(shape, dtype=np.float32) for _ in range(3))
    print(
        f"{options.heads} heads, {options.length} queries and keys of {options.width}, f32, {options.target}"
    )
    for causal in (False, True):
        expected = reference(Q, K, V, causal)
        for kernel in kernels:
            out = np.empty_like(Q)
            kernel(Q, K, V, out, causal=causal)
            error = float(np.max(np.abs(out - expected)))
            # Averages of values of size ~1: a few dozen roundings of f32.
            if not error < 1e-5:
                raise SystemExit(f"{kernel.name}: wrong result, error {error:.3g}")
            times = []
            for _ in range(options.repeat):
                start = time.perf_counter()
                kernel(Q, K, V, out, causal=causal)
                times.append(time.perf_counter() - start)
            median = 1e3 * sorted(times)[len(times) // 2]
            form = "causal" if causal else "full"
            print(f"{kernel.name:8}{form:8}{median:9.2f} ms   largest error {error:.1e}")
    print("results agree with the float64 reference")


if __name__ == "__main__":
    main()
