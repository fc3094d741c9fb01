"""A convolution layer, 3 x 3, many channels: sums in registers, no im2col.

    python examples/gallery/conv2d.py [--size 64] [--target cpu|vulkan]

NumPy's way is to copy the windows (im2col) and let BLAS multiply, on as many threads as it has. The
schedule keeps the sums for 3 output channels and 56 pixels in registers and reads the image in place.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32, recipes

C, D, H, W = kdsl.sizes("C D H W")


@kdsl.kernel
def conv2d(X: f32[C, H + 2, W + 2], F: f32[D, C, 3, 3], Y: f32[D, H, W]):
    for d in range(D):
        for y in range(H):
            for x in range(W):
                acc = 0.0
                for c in range(C):
                    for ky in range(3):
                        for kx in range(3):
                            acc += X[c, y + ky, x + kx] * F[d, c, ky, kx]
                Y[d, y, x] = acc


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    s = recipes.register_tile(s, "d", "x", ["c", "ky", "kx"], (3, 56), 8, outside=["y"])
    return s.unroll("kx").parallel("y")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    s = s.split("d", 8).split("x", 32).reorder("d_o", "y", "x_o", "x_i", "c", "ky", "kx", "d_i")
    s = s.unroll("d_i").unroll("kx")
    return s.bind("d_o", "grid.z").bind("y", "grid.y").bind("x_o", "grid.x").bind("x_i", "block.x")


def by_numpy(X, F, Y, columns):
    d, h, w = Y.shape
    for ky in range(3):
        for kx in range(3):
            columns[:, ky, kx] = X[:, ky : ky + h, kx : kx + w]
    np.matmul(F.reshape(d, -1), columns.reshape(-1, h * w), out=Y.reshape(d, -1))


def main() -> None:
    options = common.options(__doc__, 64, "channels, in and out, of an image of 56 x 56")
    n, target = options.size, options.target
    X, F, Y = common.normal(n, 58, 58), common.normal(n, n, 3, 3), np.empty((n, 56, 56), "f4")
    columns = np.empty((n, 3, 3, 56, 56), "f4")
    by_numpy(X, F, Y, columns)
    x, f, y = common.there(target, X, F, np.empty_like(Y))
    kernel = conv2d.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(x, f, y)
    common.agree("conv2d", y, Y, atol=1e-2)
    runs = {"NumPy": lambda: by_numpy(X, F, Y, columns)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: conv2d(x, f, y)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(x, f, y)})


if __name__ == "__main__":
    main()
