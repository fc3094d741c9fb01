"""The heat equation in three dimensions, time skewed by a recipe.

    python examples/gallery/heat.py [--size 192] [--target cpu|vulkan]

The same steps as in jacobi.py, as the recipe `time_tile`, on planes instead of rows. On Vulkan each
sweep is a launch of its own, and the host runs the loop over time.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32, recipes

N = kdsl.sizes("N")
STEPS = 4
K = 0.1


@kdsl.kernel
def heat(A: f32[N, N, N], B: f32[N, N, N]):
    for t in range(STEPS):
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                for k in range(1, N - 1):
                    near = A[i - 1, j, k] + A[i + 1, j, k] + A[i, j - 1, k] + A[i, j + 1, k]
                    B[i, j, k] = A[i, j, k] * (1 - 6 * K) + K * (near + A[i, j, k - 1] + A[i, j, k + 1])
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                for k in range(1, N - 1):
                    near = B[i - 1, j, k] + B[i + 1, j, k] + B[i, j - 1, k] + B[i, j + 1, k]
                    A[i, j, k] = B[i, j, k] * (1 - 6 * K) + K * (near + B[i, j, k - 1] + B[i, j, k + 1])


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    return recipes.time_tile(s, "t", "i", "i_1", ["k", "k_1"], rows=8)


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    for i, j, k in (("i", "j", "k"), ("i_1", "j_1", "k_1")):
        s = s.split(k, 64).bind(i, "grid.z").bind(j, "grid.y")
        s = s.bind(f"{k}_o", "grid.x").bind(f"{k}_i", "block.x")
    return s


def by_numpy(A, B, S):
    for _ in range(STEPS):
        for X, Y in ((A, B), (B, A)):
            np.add(X[:-2, 1:-1, 1:-1], X[2:, 1:-1, 1:-1], out=S)
            np.add(S, X[1:-1, :-2, 1:-1], out=S)
            np.add(S, X[1:-1, 2:, 1:-1], out=S)
            np.add(S, X[1:-1, 1:-1, :-2], out=S)
            np.add(S, X[1:-1, 1:-1, 2:], out=S)
            np.multiply(S, np.float32(K), out=S)
            inner = Y[1:-1, 1:-1, 1:-1]
            np.multiply(X[1:-1, 1:-1, 1:-1], np.float32(1 - 6 * K), out=inner)
            np.add(inner, S, out=inner)


def main() -> None:
    options = common.options(__doc__, 192, "points in each direction")
    n, target = options.size, options.target
    start, S = common.normal(n, n, n), np.empty((n - 2,) * 3, "f4")
    theirs = start.copy(), start.copy()
    mine, written = (common.there(target, start.copy(), start.copy()) for _ in range(2))
    kernel = heat.on(target)
    s = (on_cpu if target == "cpu" else on_vulkan)(kernel.schedule())
    by_numpy(*theirs, S)
    s(*mine)
    common.agree("heat", mine[0], theirs[0])
    runs = {"NumPy": lambda: by_numpy(*theirs, S)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: heat(*written)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: s(*mine)})


if __name__ == "__main__":
    main()
