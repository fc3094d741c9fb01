"""A sparse matrix in CSR form times a vector, and times a few vectors at once.

    python examples/gallery/csr.py [--size 200000] [--target cpu|vulkan]

Which elements a row has is data, so each column index is checked when it is used; a wrong one is an
IndexError that names the array and the line. That rows may run in parallel is proved all the same: row i
writes Y[i] alone. With 16 vectors, the loop over them runs in vector lanes.

With one vector most of the time goes into fetching elements of x from anywhere. No schedule helps with that:
lanes would gather, which is slower for rows of 16. So one thread is a little slower than SciPy, which checks
nothing, and the gain is what the other threads do.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32, i32

N, M, K, NNZ = kdsl.sizes("N M K NNZ")


@kdsl.kernel
def csr_vector(start: i32[N + 1], column: i32[NNZ], value: f32[NNZ], x: f32[M], y: f32[N]):
    for i in range(N):
        total = f32(0)
        for p in range(start[i], start[i + 1]):
            total += value[p] * x[column[p]]
        y[i] = total


@kdsl.kernel
def csr_vectors(start: i32[N + 1], column: i32[NNZ], value: f32[NNZ], X: f32[M, 16], Y: f32[N, 16]):
    for i in range(N):
        total = kdsl.zeros(16, f32)
        for p in range(start[i], start[i + 1]):
            for k in range(16):
                total[k] += value[p] * X[column[p], k]
        for k in range(16):
            Y[i, k] = total[k]


def rows(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.parallel("i")


def rows_and_lanes(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.vectorize("k").vectorize("k_1").parallel("i")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.split("i", 64).bind("i_o", "grid.x").bind("i_i", "block.x")


def main() -> None:
    options = common.options(__doc__, 200_000, "rows and columns; 16 elements a row")
    n, target = options.size, options.target
    matrix = common.scipy("sparse").random(
        n, n, density=min(1.0, 16 / n), format="csr", dtype=np.float32, random_state=common.random
    )
    parts = matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data
    for kernel, shape, schedule in ((csr_vector, (n,), rows), (csr_vectors, (n, 16), rows_and_lanes)):
        X = common.normal(*shape)
        *a, x, y = common.there(target, *parts, X, np.empty(shape, "f4"))
        there = kernel.on(target)
        fast = there.with_schedule((schedule if target == "cpu" else on_vulkan)(there.schedule()))
        fast(*a, x, y)
        common.agree(kernel.name, y, matrix @ X, atol=1e-4)
        print(kernel.name)
        runs = {"SciPy": lambda X=X: matrix @ X}
        if target == "cpu":
            runs["kdsl as written"] = lambda kernel=kernel, a=a, x=x, y=y: kernel(*a, x, y)
        common.race(target, options.repeat, {**runs, "kdsl": lambda fast=fast, a=a, x=x, y=y: fast(*a, x, y)})


if __name__ == "__main__":
    main()
