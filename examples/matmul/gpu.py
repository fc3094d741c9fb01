"""A matrix product under GPU schedules: tiles in shared memory with sums in registers, or registers alone.

    python examples/matmul/gpu.py [--size 256] [--target vulkan] [--schedule tile]

The kernel is the naive one. On a GPU `tile` is the faster one, with `--tile 128 128 8` on large devices;
drivers that run on a CPU like `registers`. Without a Vulkan device, `--target cpu` runs the same schedules.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np

import kdsl
from kdsl import f32, recipes

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


def tile(s: kdsl.Schedule, size: tuple[int, int, int] = (64, 64, 8)) -> kdsl.Schedule:
    """What `kdsl.recipes.gpu_tile` does, step by step: 8 x 8 sums in the registers of each invocation."""
    rows, columns, terms = size
    s = s.tile(["i", "j"], [rows, columns]).tile(["i_i", "j_i"], [8, 8]).split("k", terms)
    s = s.reorder("i_o", "j_o", "i_i_o", "j_i_o", "k_o", "k_i", "i_i_i", "j_i_i")
    s = s.bind("i_o", "grid.y").bind("j_o", "grid.x").bind("i_i_o", "block.y").bind("j_i_o", "block.x")
    # k_o moves out of the block loops, and the work-group copies what it needs of A and B together.
    s = s.stage("A", at="k_o", memory="shared").stage("B", at="k_o", memory="shared")
    return s.vectorize("j_i_i", 4).unroll("j_i_i").unroll("i_i_i")


def registers(s: kdsl.Schedule) -> kdsl.Schedule:
    """8 x 8 sums in registers; neighbouring invocations have neighbouring columns."""
    return recipes.gpu_register_tile(s, "i", "j", ["k"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, help="n for the n x n matrices (default 256)")
    parser.add_argument("--target", default="vulkan", help="where it runs (default vulkan)")
    parser.add_argument("--schedule", choices=["tile", "registers", "none"], default="tile")
    parser.add_argument("--tile", type=int, nargs=3, default=(64, 64, 8), help="rows, columns, terms")
    parser.add_argument("--repeat", type=int, default=9, help="timed runs; the median counts (default 9)")
    options = parser.parse_args()
    n, target = options.size, options.target
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    kernel = matmul.on(target)
    s = kernel.schedule()
    if options.schedule != "none":
        s = registers(s) if options.schedule == "registers" else tile(s, tuple(options.tile))
    print(s)
    fast = kernel.with_schedule(s)
    C = np.empty((n, n), np.float32)
    fast(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-3, atol=1e-3)
    print("results agree with A @ B")
    on_device = target.startswith("vulkan")
    a, b, c = (kdsl.to_device(x, target) if on_device else x for x in (A, B, C))
    times = []
    for _ in range(options.repeat):
        start = time.perf_counter()
        fast(a, b, c)
        if on_device:
            kdsl.synchronize(target)
        times.append(time.perf_counter() - start)
    print(f"{target}: {median(times) * 1e3:.2f} ms  {2e-9 * n**3 / median(times):.1f} GFLOP/s")


if __name__ == "__main__":
    main()
