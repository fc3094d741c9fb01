"""Jacobi iteration on a plane, time skewed by hand: all time steps for a slanted block of rows before the
next.

    python examples/gallery/jacobi.py [--size 2048] [--target cpu|vulkan]

Each sweep as written takes both arrays through memory. Row i of the next sweep needs rows i - 1 to i + 1
of this one, so a block of rows can go on in time when it moves up a row with each sweep: `fuse` puts the
two sweeps of a time step one behind the other (`shift=1`), `skew` slants the rows by two for each step,
and the blocks of slanted rows may then go outside the loop over time. Each step is proved, or refused.
On Vulkan each sweep is a launch of its own, and the host runs the loop over time.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")
STEPS = 10


@kdsl.kernel
def jacobi(A: f32[N, N], B: f32[N, N]):
    for t in range(STEPS):
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                B[i, j] = 0.2 * (A[i, j] + A[i, j - 1] + A[i, j + 1] + A[i - 1, j] + A[i + 1, j])
        for i in range(1, N - 1):
            for j in range(1, N - 1):
                A[i, j] = 0.2 * (B[i, j] + B[i, j - 1] + B[i, j + 1] + B[i - 1, j] + B[i + 1, j])


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    s = s.fuse("i", "i_1", shift=1)  # row i - 1 of the second sweep behind row i of the first
    s = s.skew("i", "t", 2).split("i", 64)  # both sweeps reach one row further up: two a step
    s = s.reorder("i_o", "t", "i_i").fission("i_i", after=0)
    s = s.vectorize("j", 16).vectorize("j_1", 16)
    return s.parallel("i_i")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    for i, j in (("i", "j"), ("i_1", "j_1")):
        s = s.tile([i, j], [8, 128]).reorder(f"{i}_o", f"{j}_o", f"{j}_i", f"{i}_i").unroll(f"{i}_i")
        s = s.bind(f"{i}_o", "grid.y").bind(f"{j}_o", "grid.x").bind(f"{j}_i", "block.x")
    return s


def by_numpy(A, B, S):
    for _ in range(STEPS):
        for X, Y in ((A, B), (B, A)):
            np.add(X[1:-1, 1:-1], X[1:-1, :-2], out=S)
            np.add(S, X[1:-1, 2:], out=S)
            np.add(S, X[:-2, 1:-1], out=S)
            np.add(S, X[2:, 1:-1], out=S)
            np.multiply(S, np.float32(0.2), out=Y[1:-1, 1:-1])


def main() -> None:
    options = common.options(__doc__, 2048, "rows and columns of the plane")
    n, target = options.size, options.target
    start, S = common.normal(n, n), np.empty((n - 2, n - 2), "f4")
    theirs = start.copy(), start.copy()
    mine, written = (common.there(target, start.copy(), start.copy()) for _ in range(2))
    kernel = jacobi.on(target)
    s = (on_cpu if target == "cpu" else on_vulkan)(kernel.schedule())
    print(s.trace())
    by_numpy(*theirs, S)
    s(*mine)
    common.agree("jacobi", mine[0], theirs[0])
    runs = {"NumPy": lambda: by_numpy(*theirs, S)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: jacobi(*written)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: s(*mine)})


if __name__ == "__main__":
    main()
