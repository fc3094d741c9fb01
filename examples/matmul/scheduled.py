"""A matrix product under a schedule after BLIS: packed panels of B, 6 x 64 sums in registers.

    OPENBLAS_NUM_THREADS=1 python examples/matmul/scheduled.py [--size 1024] [--type f32] [--threads 1]

The kernel is the naive one. Any sizes will do: whole tiles run without tests, edges in versions of their own.
The first 1024 terms overwrite C, so that it is never read for them. An OpenBLAS that does not know the CPU
runs its AVX2 code: OPENBLAS_CORETYPE=SkylakeX asks for AVX-512.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np

import kdsl
from kdsl import f32, f64

M, N, K = kdsl.sizes("M N K")
T = kdsl.typevar("T", f32, f64)


@kdsl.kernel
def matmul(A: T[M, K], B: T[K, N], C: T[M, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] = 0.0
            for k in range(K):
                C[i, j] += A[i, k] * B[k, j]


def blis(s: kdsl.Schedule, lanes: int = 16) -> kdsl.Schedule:
    """What `kdsl.recipes.gemm` does, step by step: tiles of 6 rows and 4 vectors, 1024 terms at a time."""
    wide = 4 * lanes
    s = s.peel("k", 1024).fission("j", after=1).fission("i", after=0).split("k", 1024)
    s = s.tile(["i", "j"], [6, wide]).split("i_o", 40).split("j_o", 8)
    # The first nest has two tiles: that of the zeros (i_i@0), and that of the first terms (i_i@1).
    s = s.reorder("j_o_o@0", "i_o_o@0", "j_o_i@0", "i_o_i@0", "k_p", "i_i@0", "j_i@0")
    s = s.reorder("j_o_o@1", "k_o", "i_o_o@1", "j_o_i@1", "i_o_i@1", "k_i", "i_i@2", "j_i@2")
    # B in panels that are as wide as a tile, one after the other in memory.
    panels: dict[str, tuple[int | None, ...]] = {"tile": (None, wide), "order": (1, 0, 2)}
    s = s.stage("B", at="j_o_o@0", layout=panels).vectorize("B_s_2", lanes)
    s = s.stage("B", at="k_o", layout=panels).vectorize("B_s2_2", lanes)
    # 24 vectors of sums live in registers while the loop over the terms runs.
    s = s.stage("C", at="i_o_i", memory="register").prefetch("C", "i_o_i", 1)
    for row, column in (("i_i", "j_i"), ("C_s_0", "C_s_1"), ("C_s_w0", "C_s_w1")):
        s = s.vectorize(column, lanes).unroll(column).unroll(row)
    return s.parallel("B_s_0").parallel("B_s2_0").parallel("j_o_i")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024, help="n for the n x n matrices (default 1024)")
    parser.add_argument("--type", choices=["f32", "f64"], default="f32", help="of the elements (default f32)")
    parser.add_argument("--threads", type=int, default=1, help="of kdsl (default 1)")
    parser.add_argument("--repeat", type=int, default=15, help="timed runs; the median counts (default 15)")
    options = parser.parse_args()
    n = options.size
    kdsl.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    dtype = np.dtype(options.type.replace("f32", "f4").replace("f64", "f8"))
    A, B = (rng.standard_normal((n, n), dtype=dtype) for _ in range(2))
    C, D = (np.empty((n, n), dtype) for _ in range(2))
    s = blis(matmul.schedule(A, B, C), 64 // dtype.itemsize)
    print(s)
    fast = matmul.with_schedule(s)
    fast(A, B, C)
    np.matmul(A, B, out=D)
    np.testing.assert_allclose(C, D, rtol=1e-3, atol=1e-3)
    print("results agree")
    ours, theirs = [], []
    for _ in range(options.repeat):
        for run, times in ((lambda: fast(A, B, C), ours), (lambda: np.matmul(A, B, out=D), theirs)):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
    for name, times in (("kdsl", ours), ("numpy", theirs)):
        print(f"{name:5} {median(times) * 1e3:8.2f} ms  {2e-9 * n**3 / median(times):6.1f} GFLOP/s")


if __name__ == "__main__":
    main()
