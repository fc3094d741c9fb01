"""Harris corner detector: gradients, their products, sums over 3 x 3 pixels, and the response of each
pixel.

    python examples/gallery/harris.py [--size 2048] [--target cpu|vulkan]

The gradients of a tile and its rim are made where they are used (`compute_at`), the products and sums
are never stored at all.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32

H, W = kdsl.sizes("H W")


@kdsl.kernel
def harris(A: f32[H + 4, W + 4], B: f32[H, W]):
    X = kdsl.empty((H + 2, W + 2), f32)
    Y = kdsl.empty((H + 2, W + 2), f32)
    for y in range(H + 2):
        for x in range(W + 2):
            X[y, x] = (
                A[y, x + 2] - A[y, x] + 2 * (A[y + 1, x + 2] - A[y + 1, x]) + A[y + 2, x + 2] - A[y + 2, x]
            )
    for y in range(H + 2):
        for x in range(W + 2):
            Y[y, x] = (
                A[y + 2, x] - A[y, x] + 2 * (A[y + 2, x + 1] - A[y, x + 1]) + A[y + 2, x + 2] - A[y, x + 2]
            )
    for i in range(H):
        for j in range(W):
            xx = 0.0
            xy = 0.0
            yy = 0.0
            for v in kdsl.static_range(3):
                for u in kdsl.static_range(3):
                    xx += X[i + v, j + u] * X[i + v, j + u]
                    xy += X[i + v, j + u] * Y[i + v, j + u]
                    yy += Y[i + v, j + u] * Y[i + v, j + u]
            B[i, j] = xx * yy - xy * xy - 0.04 * (xx + yy) * (xx + yy)


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    s = s.tile(["i", "j"], [16, 64]).compute_at("X", "j_o").compute_at("Y", "j_o")
    return s.vectorize("x", 16).vectorize("x_1", 16).vectorize("j_i", 16).parallel("i_o")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    s = s.inline("X").inline("Y").tile(["i", "j"], [8, 32])
    s = s.bind("i_o", "grid.y").bind("j_o", "grid.x")
    return s.bind("i_i", "block.y").bind("j_i", "block.x")


def box(P):
    rows = P[:, :-2] + P[:, 1:-1] + P[:, 2:]
    return rows[:-2] + rows[1:-1] + rows[2:]


def by_numpy(A):
    X = A[:, 2:] - A[:, :-2]
    X = X[:-2] + 2 * X[1:-1] + X[2:]
    Y = A[2:] - A[:-2]
    Y = Y[:, :-2] + 2 * Y[:, 1:-1] + Y[:, 2:]
    xx, xy, yy = box(X * X), box(X * Y), box(Y * Y)
    return xx * yy - xy * xy - np.float32(0.04) * (xx + yy) ** 2


def main() -> None:
    options = common.options(__doc__, 2048, "rows and columns of the image")
    n, target = options.size, options.target
    A = common.random.random((n + 4, n + 4), dtype=np.float32)
    a, b = common.there(target, A, np.empty((n, n), "f4"))
    kernel = harris.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(a, b)
    # Differences of products of sums of 9: the rounding of numbers near 100 stays.
    common.agree("harris", b, by_numpy(A.astype(np.float64)), rtol=1e-3, atol=1e-2)
    runs = {"NumPy": lambda: by_numpy(A)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: harris(a, b)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(a, b)})


if __name__ == "__main__":
    main()
