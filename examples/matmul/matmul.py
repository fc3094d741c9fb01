"""A matrix product: the naive kernel in plain Python, compiled, checked against `A @ B`, and timed.

    python examples/matmul/matmul.py [--size 1024] [--repeat 5]

The kernels are unscheduled: they run their three loops in program order, beside NumPy's BLAS.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

import kdsl
from kdsl import f32, f64

M, N, K = kdsl.sizes("M N K")
T = kdsl.typevar("T", f32, f64)


@kdsl.kernel
def matmul(A: T[M, K], B: T[K, N], C: T[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


@kdsl.kernel
def matmul_ikj(A: T[M, K], B: T[K, N], C: T[M, N]):
    """The same product with the row of C as accumulator: the inner loop runs along rows, so it vectorises."""
    for i in range(M):
        for j in range(N):
            C[i, j] = 0.0
        for k in range(K):
            for j in range(N):
                C[i, j] += A[i, k] * B[k, j]


def median_ms(run: Callable[[], object], repeat: int, seconds: float = 3.0) -> float:
    """Median wall time of `run` in milliseconds, over at most `repeat` runs begun within `seconds`."""
    times: list[float] = []
    while len(times) < repeat and sum(times) < seconds:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return 1e3 * sorted(times)[len(times) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1024, help="n for the n x n matrices (default 1024)")
    parser.add_argument(
        "--repeat", type=int, default=5, help="timed runs at most; the median counts (default 5)"
    )
    options = parser.parse_args()
    n = options.size
    rng = np.random.default_rng(0)
    A = rng.standard_normal((n, n), dtype=np.float32)
    B = rng.standard_normal((n, n), dtype=np.float32)
    expected = A @ B
    # Sums of n products in f32: the error grows with sqrt(n) ulps of terms of size ~1.
    tolerance = 4 * np.finfo(np.float32).eps * n

    print(f"{n} x {n} x {n}, f32, median of {options.repeat}")
    print(f"{'':24}{'first call':>12}{'then':>12}{'GFLOP/s':>10}")
    rows: list[tuple[str, Callable[[np.ndarray], object]]] = [
        ("kdsl i-j-k", lambda C: matmul(A, B, C)),
        ("kdsl i-k-j", lambda C: matmul_ikj(A, B, C)),
        ("NumPy A @ B", lambda C: np.matmul(A, B, out=C)),
    ]
    for name, run in rows:
        C = np.empty((n, n), np.float32)
        first = median_ms(lambda: run(C), 1)  # noqa: B023
        error = float(np.max(np.abs(C - expected)))
        if error > tolerance:
            raise SystemExit(f"{name}: wrong result, error {error:.3g} > {tolerance:.3g}")
        ms = median_ms(lambda: run(C), options.repeat)  # noqa: B023
        print(f"{name:24}{first:>9.1f} ms{ms:>9.1f} ms{2e-6 * n**3 / ms:>10.1f}")
    print("results agree with A @ B")


if __name__ == "__main__":
    main()
