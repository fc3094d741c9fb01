"""A matrix product under a schedule after BLIS: a packed panel of B, 6 x 64 sums in registers; one thread.

    OPENBLAS_NUM_THREADS=1 python examples/matmul/scheduled.py [--size 1024] [--repeat 15]

The kernel is the naive one. Any sizes will do: edges are clipped, whole tiles run without tests. An OpenBLAS
that does not know the CPU runs its AVX2 code: OPENBLAS_CORETYPE=SkylakeX asks for AVX-512.
"""

from __future__ import annotations

import argparse
import time
from statistics import median

import numpy as np

import kdsl
from kdsl import f32

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] = 0.0
    for x in range(M):
        for y in range(N):
            for k in range(K):
                C[x, y] += A[x, k] * B[k, y]


def blis(s: kdsl.Schedule) -> kdsl.Schedule:
    """Blocks of 512 terms, panels of 64 columns, tiles of 6 rows."""
    s = s.vectorize("j", 16)
    s = s.tile(["x", "y", "k"], [6, 64, 512]).reorder("k_o", "y_o", "x_o", "k_i", "x_i", "y_i")
    # 24 vectors of sums live in registers while k_i runs; the panel of B stays in the second-level cache.
    s = s.stage("C", at="x_o", memory="register")
    s = s.stage("B", at="y_o").vectorize("B_s_1", 16)
    for row, column in (("x_i", "y_i"), ("C_s_0", "C_s_1"), ("C_s_w0", "C_s_w1")):
        s = s.vectorize(column, 16).unroll(column).unroll(row)
    return s


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024, help="n for the n x n matrices (default 1024)")
    parser.add_argument("--repeat", type=int, default=15, help="timed runs; the median counts (default 15)")
    options = parser.parse_args()
    n = options.size
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    C, D = (np.empty((n, n), np.float32) for _ in range(2))
    s = blis(matmul.schedule())
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
