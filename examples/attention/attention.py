"""Attention in plain kernel Python: the naive three steps, and flash attention (online softmax in blocks).

    python examples/attention/attention.py [--heads 2] [--length 256] [--type f32] [--target cpu]

Both are checked against a float64 NumPy reference, full and causal. f16 and bf16 are summed in f32. On a CPU
both run in program order, and the blocked one by a schedule as well: K packed, 6 x 64 sums in registers for
both products, exponentials in vectors. `benchmarks/attention.py` compares it with PyTorch.
`--target vulkan` runs them on a GPU, each query on an invocation.

Source of the online form: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao
et al., "FlashAttention", 2022.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np

import kdsl
from kdsl import bf16, f16, f32

H, N, D = kdsl.sizes("H N D")
T = kdsl.typevar("T", f32, f16, bf16)


@kdsl.kernel
def naive(Q: T[H, N, D], K: T[H, N, D], V: T[H, N, D], O: T[H, N, D], causal: kdsl.constexpr = False):  # noqa: E741
    """Scores, softmax and the weighted sum of one row at a time."""
    scale = f32(1 / math.sqrt(D))
    S = kdsl.empty(N, f32)
    for h, i in kdsl.grid(H, N):
        keys = i + 1 if causal else N
        top = f32(-kdsl.inf)
        for j in range(keys):
            s = f32(0)
            for d in range(D):
                s += f32(Q[h, i, d]) * f32(K[h, j, d])
            S[j] = s * scale
            top = max(top, S[j])
        total = f32(0)
        for j in range(keys):
            S[j] = kdsl.exp(S[j] - top)
            total += S[j]
        for d in range(D):
            o = f32(0)
            for j in range(keys):
                o += S[j] * f32(V[h, j, d])
            O[h, i, d] = o / total


@kdsl.kernel
def online(
    Q: T[H, N, D],
    K: T[H, N, D],
    V: T[H, N, D],
    O: T[H, N, D],  # noqa: E741
    causal: kdsl.constexpr = False,
    BLOCK: kdsl.constexpr = 192,
):
    """Keys in blocks: a running maximum and sum rescale what has been gathered so far."""
    # Powers of two need no multiplication by log2(e) for each score: the scale has it.
    scale = f32(math.log2(math.e) / math.sqrt(D))
    for h, i in kdsl.grid(H, N):
        acc = kdsl.zeros(D, f32)
        top = f32(-kdsl.inf)
        total = f32(0)
        keys = i + 1 if causal else N
        for b in range((keys + BLOCK - 1) // BLOCK):
            first = b * BLOCK
            S = kdsl.empty(BLOCK, f32)
            before = top
            for j in range(BLOCK):
                if first + j < keys:
                    s = f32(0)
                    for d in range(D):
                        s += f32(Q[h, i, d]) * f32(K[h, first + j, d])
                    S[j] = s * scale
                    top = max(top, S[j])
            shrink = kdsl.exp2(before - top)
            total *= shrink
            for j in range(BLOCK):
                if first + j < keys:
                    S[j] = kdsl.exp2(S[j] - top)
                    total += S[j]
            for d in range(D):
                acc[d] *= shrink
            for j in range(BLOCK):
                if first + j < keys:
                    for d in range(D):
                        acc[d] += S[j] * f32(V[h, first + j, d])
        for d in range(D):
            O[h, i, d] = acc[d] / total


def in_tiles(s: kdsl.Schedule, rows: int = 96) -> kdsl.Schedule:
    """For a CPU: blocks of 96 queries, tiles of 6 queries and 64 keys (or elements) in registers."""
    s = s.inline("keys").inline("first")
    # Strips of 6 queries meet a block of keys; a causal block of queries ends within one block of keys.
    s = s.split("i", rows, into=("i_b", "q")).split("q", 6).reorder("i_b", "b", "q_o", "q_i")
    # Scores: 24 vectors of 16; K is packed once a head, into panels of 64 keys.
    s = s.split("j", 64).reorder("q_o", "j_o", "d", "q_i", "j_i")
    s = s.stage("K", at="h", layout={"tile": (None, 64, None), "order": (0, 1, 3, 2)}).parallel("K_s_1")
    # The weighted sum: 24 vectors of 16 elements of the result.
    s = s.split("d_2", 64).reorder("d_2_o", "j_2", "q_i", "d_2_i").stage("acc", "d_2_o", memory="register")
    # Maxima and sums of a row: one for each lane, combined at the end.
    s = s.split("j_i@2", 16, into=("j_v", "lane")).rfactor("lane", "top").unroll("j_v")
    s = s.split("j_1", 16, into=("j_1_v", "lane_1")).rfactor("lane_1", "total")
    for loop in ("lane", "lane_z", "lane_r", "lane_1", "lane_1_z", "lane_1_r"):
        s = s.vectorize(loop)
    for loop in ("acc_0", "d_1", "d_3"):
        s = s.vectorize(loop, 16)
    for loop in ("j_i", "d_2_i", "acc_s_2", "acc_s_w2"):
        s = s.vectorize(loop, 16).unroll(loop)
    # With the maxima of all six rows written out, scores stay in registers until they are stored.
    for loop in ("q_i@2", "q_i@3", "q_i@4", "q_i@6", "acc_s_1", "acc_s_w1"):
        s = s.unroll(loop)
    return s.parallel("i_b")


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
    parser.add_argument("--type", choices=("f32", "f16", "bf16"), default="f32")
    parser.add_argument("--threads", type=int, default=1, help="threads of kdsl (default 1)")
    parser.add_argument("--repeat", type=int, default=5, help="timed runs; the median counts (default 5)")
    parser.add_argument("--target", default="cpu", help="where the kernels run (default cpu)")
    options = parser.parse_args()
    kdsl.set_num_threads(options.threads)
    unscheduled, blocked = naive.on(options.target), online.on(options.target)
    if options.target.startswith("vulkan"):
        kernels = {
            "naive": unscheduled.with_schedule(naive_on_gpu),
            "online": blocked.with_schedule(by_queries),
        }
    else:
        kernels = {"naive": unscheduled, "online": blocked, "in tiles": blocked.with_schedule(in_tiles)}
    dtype = {"f32": f32, "f16": f16, "bf16": bf16}[options.type].np
    rng = np.random.default_rng(0)
    shape = (options.heads, options.length, options.width)
    Q, K, V = (rng.standard_normal(shape, dtype=np.float32).astype(dtype) for _ in range(3))
    # Averages of values of size ~1: a few dozen roundings of f32, or one of the result's type.
    tolerance = {"f32": 1e-5, "f16": 2e-3, "bf16": 2e-2}[options.type]
    print(f"{options.heads} heads, {options.length} queries and keys of {options.width}, {options.type}")
    for causal in (False, True):
        expected = reference(Q, K, V, causal)
        for name, kernel in kernels.items():
            out = np.empty_like(Q)
            kernel(Q, K, V, out, causal=causal)
            error = float(np.max(np.abs(out.astype(np.float64) - expected), initial=0.0))
            if not error < tolerance:
                raise SystemExit(f"{name}: wrong result, error {error:.3g}")
            times = []
            for _ in range(options.repeat):
                start = time.perf_counter()
                kernel(Q, K, V, out, causal=causal)
                times.append(time.perf_counter() - start)
            median = 1e3 * sorted(times)[len(times) // 2]
            form = "causal" if causal else "full"
            print(f"{name:10}{form:8}{median:9.2f} ms   largest error {error:.1e}")
    print("results agree with the float64 reference")


if __name__ == "__main__":
    main()
