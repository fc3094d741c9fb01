"""Blur of an image by a 3 x 3 box, in two stages: how much of the first one is kept decides the speed.

    python examples/gallery/blur.py [--size 2048] [--target cpu|vulkan]

As written, the first stage goes through memory as a whole image. `compute_at` makes, for each tile of 4
rows, the 6 rows of it that the tile needs; in registers, as the loops are written out. On Vulkan
`inline` puts the first stage into the second one.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32

H, W = kdsl.sizes("H W")


@kdsl.kernel
def blur(A: f32[H + 2, W + 2], B: f32[H, W]):
    P = kdsl.empty((H + 2, W), f32)
    for y in range(H + 2):
        for x in range(W):
            P[y, x] = (A[y, x] + A[y, x + 1] + A[y, x + 2]) * (1 / 3)
    for i in range(H):
        for j in range(W):
            B[i, j] = (P[i, j] + P[i + 1, j] + P[i + 2, j]) * (1 / 3)


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    s = s.tile(["i", "j"], [4, 16]).compute_at("P", "j_o")
    return s.vectorize("x").vectorize("j_i").unroll("y").unroll("i_i").parallel("i_o")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    s = s.inline("P").tile(["i", "j"], [4, 64]).reorder("i_o", "j_o", "j_i", "i_i").unroll("i_i")
    return s.bind("i_o", "grid.y").bind("j_o", "grid.x").bind("j_i", "block.x")


def by_numpy(A, B, P):
    third = np.float32(1 / 3)
    np.add(A[:, :-2], A[:, 1:-1], out=P)
    np.add(P, A[:, 2:], out=P)
    np.multiply(P, third, out=P)
    np.add(P[:-2], P[1:-1], out=B)
    np.add(B, P[2:], out=B)
    np.multiply(B, third, out=B)


def main() -> None:
    options = common.options(__doc__, 2048, "rows and columns of the image")
    n, target = options.size, options.target
    A, B, P = common.normal(n + 2, n + 2), np.empty((n, n), "f4"), np.empty((n + 2, n), "f4")
    by_numpy(A, B, P)
    a, b = common.there(target, A, np.empty_like(B))
    kernel = blur.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(a, b)
    common.agree("blur", b, B)
    runs = {"NumPy": lambda: by_numpy(A, B, P)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: blur(a, b)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(a, b)})


if __name__ == "__main__":
    main()
