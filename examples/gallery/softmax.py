"""Softmax of rows: three passes over a row that stays in the first-level cache.

    python examples/gallery/softmax.py [--size 1024] [--target cpu|vulkan]

`kdsl.exp` is written in the language itself, so it is part of the vector loop. On Vulkan each invocation
has a row.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32, recipes

M, N = kdsl.sizes("M N")


@kdsl.kernel
def softmax(X: f32[M, N], Y: f32[M, N]):
    for i in range(M):
        top = f32(-kdsl.inf)
        for j in range(N):
            top = max(top, X[i, j])
        total = f32(0)
        for j in range(N):
            e = kdsl.exp(X[i, j] - top)
            Y[i, j] = e
            total += e
        scale = 1 / total
        for j in range(N):
            Y[i, j] *= scale


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    return recipes.parallel_rows(s, "i", ["j", "j_1", "j_2"], 64)


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.split("i", 64).bind("i_o", "grid.x").bind("i_i", "block.x")


def by_numpy(X, Y, R):
    np.max(X, axis=1, keepdims=True, out=R)
    np.subtract(X, R, out=Y)
    np.exp(Y, out=Y)
    np.sum(Y, axis=1, keepdims=True, out=R)
    np.divide(Y, R, out=Y)


def main() -> None:
    options = common.options(__doc__, 1024, "elements of a row, of 4096 rows")
    n, target = options.size, options.target
    X, Y, R = 4 * common.normal(4096, n), np.empty((4096, n), "f4"), np.empty((4096, 1), "f4")
    by_numpy(X, Y, R)
    x, y = common.there(target, X, np.empty_like(Y))
    kernel = softmax.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(x, y)
    common.agree("softmax", y, Y)
    runs = {"NumPy": lambda: by_numpy(X, Y, R)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: softmax(x, y)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(x, y)})


if __name__ == "__main__":
    main()
