"""Products of bytes and of bf16 by dot-product instructions against NumPy's product of f32, 1024 x 1024.

The kernels and schedules are those of examples/matmul/quantised.py. OPENBLAS_NUM_THREADS says how many
threads BLAS has: for two threads against two, set it to 2 and read the columns of two threads.
OPENBLAS_CORETYPE=SkylakeX gives OpenBLAS its AVX-512 code where it does not know the processor.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np

import kdsl
from benchmarks.timing import duration, medians_by_threads, table
from examples.matmul.quantised import matmul_bf16, matmul_u8s8, schedule_bf16, schedule_u8s8

SIZE = 1024


def main() -> str:
    """Runs all rows; returns the Markdown table."""
    rng = np.random.default_rng(0)
    shape = (SIZE, SIZE)
    X, Y = (rng.standard_normal(shape, dtype=np.float32) for _ in range(2))
    A, B = rng.integers(0, 256, shape, np.uint8), rng.integers(-128, 128, shape, np.int8)
    P, Q = X.astype(ml_dtypes.bfloat16), Y.astype(ml_dtypes.bfloat16)
    C, D, Z = np.empty(shape, np.int32), np.empty(shape, np.float32), np.empty(shape, np.float32)
    of_bytes = matmul_u8s8.with_schedule(schedule_u8s8)
    of_bf16 = matmul_bf16.with_schedule(schedule_bf16)
    cases = {
        "matmul 1024³ u8 x i8 -> i32": lambda: of_bytes(A, B, C),
        "matmul 1024³ bf16 -> f32": lambda: of_bf16(P, Q, D),
    }
    rows = []
    for name, ours in cases.items():
        cells = [name]
        contenders = {"kdsl": ours, "numpy": lambda: np.matmul(X, Y, out=Z)}
        for medians in medians_by_threads(contenders, seconds=2.0).values():
            cells += [duration(medians["kdsl"]), f"{medians['numpy'] / medians['kdsl']:.2f} x"]
        rows.append(cells)
    threads = kdsl.get_num_threads()
    header = ["", "1 thread", "faster than NumPy's f32", f"{threads} threads", "faster than NumPy's f32"]
    return table(header, rows)


if __name__ == "__main__":
    print(main())
