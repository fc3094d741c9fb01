"""Products of bytes and of bf16 by the CPU's dot-product instructions; one thread or more.

    OPENBLAS_NUM_THREADS=1 python examples/matmul/quantised.py [--size 1024] [--repeat 15] [--threads 1]

u8 x i8 is summed in i32, exactly; bf16 x bf16 in f32. The kernels are the naive ones. The schedule packs four
rows of B (two of bf16) side by side, which is what the instruction wants, and keeps 6 x 64 sums in registers.
Any sizes will do: what does not fill a tile of 64 columns runs by loops of its own. A CPU without the
instructions runs vector code. They are compared with NumPy's product of f32, which is what there is instead.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from statistics import median
from typing import Any, TypeVar

import ml_dtypes
import numpy as np

import kdsl
from kdsl import bf16, f32, i8, i32, instructions, u8

M, N, K = kdsl.sizes("M N K")
Name = TypeVar("Name")


@kdsl.kernel
def matmul_u8s8(A: u8[M, K], B: i8[K, N], C: i32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = i32(0)
            for k in range(K):
                acc += i32(A[i, k]) * i32(B[k, j])
            C[i, j] = acc


@kdsl.kernel
def matmul_bf16(A: bf16[M, K], B: bf16[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = f32(0)
            for k in range(K):
                acc += f32(A[i, k]) * f32(B[k, j])
            C[i, j] = acc


def dots(s: kdsl.Schedule, instruction: Any, terms: int, panels: int = 4) -> kdsl.Schedule:
    """Blocks of `panels` panels of 64 columns, tiles of 6 rows; an instruction sums `terms` products."""
    s = s.split("k", terms, tail="cut").split("j", 64, tail="cut", into=("tile", "j_i"))
    s = s.split("tile", panels, into=("block", "panel")).split("i", 6)
    s = s.reorder("block", "i_o", "panel", "k_o@0", "i_i", "j_i", "k_i@0")
    # [panel][k / terms][64][terms], filled row after row of B.
    s = s.stage("B", at="block", layout={"tile": (terms, 64), "order": (2, 0, 3, 1)})
    s = s.reorder("B_s_1", "B_s_0").prefetch("B", "B_s_1", 8)
    s = s.vectorize("B_s_2").unroll("B_s_3").unroll("B_s_0")
    # 24 vectors of 16 sums: set to zero, summed by the instruction, the last terms added, stored.
    s = s.split("j_i", 16, into=("vector", "lane")).tensorize("lane@1", instruction)
    s = s.prefetch("C", "panel", 1)
    s = s.vectorize("lane@0").vectorize("lane@2").unroll("vector")
    for copy in range(3):
        s = s.unroll(f"i_i@{copy}")
    return s.parallel("block")


def schedule_u8s8(s: kdsl.Schedule) -> kdsl.Schedule:
    """By AVX-512 VNNI: 64 products an instruction."""
    return dots(s, instructions.dot4_u8s8, 4)


def schedule_bf16(s: kdsl.Schedule) -> kdsl.Schedule:
    """By AVX512-BF16: 32 products an instruction."""
    return dots(s, instructions.dot2_bf16, 2)


def median_ms(
    runs: dict[Name, Callable[[], object]], repeat: int, seconds: float = math.inf, pause: float = 0.0
) -> dict[Name, float]:
    """Median wall time of each in milliseconds, one run of each in turn; a run that took `seconds` is done.

    Where threads of one keep a core busy for a while after their work, `pause` seconds lie before each
    timing, and a run that does not count.
    """
    times: dict[Name, list[float]] = {name: [] for name in runs}
    for _ in range(repeat):
        for name, run in runs.items():
            if sum(times[name]) >= seconds:
                continue
            if pause:
                time.sleep(pause)
                run()
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: 1e3 * median(t) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024, help="n for the n x n matrices (default 1024)")
    parser.add_argument("--repeat", type=int, default=15, help="timed runs; the median counts (default 15)")
    parser.add_argument("--threads", type=int, default=1, help="threads of kdsl (default 1)")
    options = parser.parse_args()
    n = options.size
    kdsl.set_num_threads(options.threads)
    rng = np.random.default_rng(0)
    X, Y = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    A, B = rng.integers(0, 256, (n, n), np.uint8), rng.integers(-128, 128, (n, n), np.int8)
    P, Q = X.astype(ml_dtypes.bfloat16), Y.astype(ml_dtypes.bfloat16)
    C, D, Z = np.empty((n, n), np.int32), np.empty((n, n), np.float32), np.empty((n, n), np.float32)
    bytes_, halves = matmul_u8s8.with_schedule(schedule_u8s8), matmul_bf16.with_schedule(schedule_bf16)
    print(schedule_u8s8(matmul_u8s8.schedule()))

    bytes_(A, B, C)
    np.testing.assert_array_equal(C, A.astype(np.int32) @ B.astype(np.int32))
    halves(P, Q, D)
    # Products of bf16 are exact in f32; sums of n of them are rounded in another order.
    np.testing.assert_allclose(D, P.astype(np.float32) @ Q.astype(np.float32), rtol=1e-3, atol=1e-4 * n)
    print("results agree")
    runs: dict[str, Callable[[], object]] = {
        "kdsl u8 x i8": lambda: bytes_(A, B, C),
        "kdsl bf16": lambda: halves(P, Q, D),
        "numpy f32": lambda: np.matmul(X, Y, out=Z),
    }
    times = median_ms(runs, options.repeat)
    for name, ms in times.items():
        ratio = times["numpy f32"] / ms
        print(f"{name:12} {ms:8.2f} ms  {2e-6 * n**3 / ms:7.1f} Gop/s  {ratio:5.2f} x numpy f32")


if __name__ == "__main__":
    main()
