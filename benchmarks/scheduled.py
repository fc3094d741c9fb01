"""Kernels under hand-written schedules against NumPy, on one thread and on all.

Each row is one process, contenders interleaved, medians. OPENBLAS_NUM_THREADS says how many threads BLAS has.
OpenBLAS may not know a new processor and then runs older kernels (AVX2 on Zen 5): OPENBLAS_CORETYPE=SkylakeX
gives it AVX-512, which is the fair opponent.
"""

from __future__ import annotations

import numpy as np

import kdsl
from benchmarks import unscheduled
from benchmarks.timing import duration, interleaved_medians, table
from kdsl import f32

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


@kdsl.kernel
def total(X: f32[N]) -> f32:
    s = 0.0
    for i in range(N):
        s += X[i]
    return s


def register_tiles(s: kdsl.Schedule) -> kdsl.Schedule:
    """6 x 64 accumulators in registers; nothing is packed."""
    s = s.tile(["i", "j"], [6, 64]).reorder("j_o", "i_o", "k", "i_i", "j_i")
    return s.vectorize("j_i", 16).unroll("j_i").unroll("i_i").parallel("j_o")


def softmax_rows(s: kdsl.Schedule) -> kdsl.Schedule:
    """Rows in parallel, each loop over a row in vectors of four registers."""
    for loop in ("j", "j_1", "j_2", "j_3"):
        s = s.vectorize(loop, 64)
    return s.parallel("i")


def main() -> str:
    """Runs all rows; returns the Markdown table."""
    rng = np.random.default_rng(0)
    A, B, C = (rng.standard_normal((512, 512), dtype=np.float32) for _ in range(3))
    X, Y, T = (rng.standard_normal(1 << 22, dtype=np.float32) for _ in range(3))
    V = rng.standard_normal(1 << 18, dtype=np.float32)
    S, R = (rng.standard_normal((4096, 1024), dtype=np.float32) for _ in range(2))
    fast_matmul = matmul.with_schedule(register_tiles(matmul.schedule()))
    gelu = unscheduled.gelu.with_schedule(unscheduled.gelu.schedule().vectorize("i", 64).parallel("i"))
    softmax = unscheduled.softmax.with_schedule(softmax_rows(unscheduled.softmax.schedule()))
    sum_of = total.with_schedule(total.schedule().vectorize("i", 64))
    cases = {
        "matmul 512³ (register tiles, no packing)": (
            lambda: fast_matmul(A, B, C),
            lambda: np.matmul(A, B, out=C),
        ),
        "gelu 2²²": (lambda: gelu(X, Y), lambda: unscheduled.np_gelu(X, Y, T)),
        "softmax 4096x1024": (lambda: softmax(S, R), lambda: unscheduled.np_softmax(S, R)),
        "sum 2¹⁸ (sequential)": (lambda: sum_of(V), lambda: np.sum(V)),
    }
    threads = kdsl.get_num_threads()
    rows = []
    try:
        for name, (ours, numpy) in cases.items():
            cells = [name]
            for count in (1, threads):
                kdsl.set_num_threads(count)
                medians = interleaved_medians({"kdsl": ours, "numpy": numpy}, seconds=2.0)
                cells += [duration(medians["kdsl"]), f"{medians['numpy'] / medians['kdsl']:.2f} x"]
            rows.append(cells)
    finally:
        kdsl.set_num_threads(threads)
    return table(["f32", "1 thread", "faster than NumPy", f"{threads} threads", "faster than NumPy"], rows)


if __name__ == "__main__":
    print(main())
