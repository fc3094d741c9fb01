"""Unsharp masking: an image minus its blurred self makes edges stand out. Four stages in one pass.

    python examples/gallery/unsharp.py [--size 2048] [--target cpu|vulkan]

The blur is a binomial of 5 x 5, rows first, then columns. `compute_at` makes both for a tile at a time,
in the innermost caches; `inline` leaves no trace of the difference.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32

H, W = kdsl.sizes("H W")
TAPS = (1 / 16, 4 / 16, 6 / 16)


@kdsl.kernel
def unsharp(A: f32[H + 4, W + 4], amount: f32, B: f32[H, W]):
    a, b, c = TAPS
    R = kdsl.empty((H + 4, W), f32)
    for y in range(H + 4):
        for x in range(W):
            R[y, x] = a * (A[y, x] + A[y, x + 4]) + b * (A[y, x + 1] + A[y, x + 3]) + c * A[y, x + 2]
    D = kdsl.empty((H, W), f32)
    for y in range(H):
        for x in range(W):
            low = a * (R[y, x] + R[y + 4, x]) + b * (R[y + 1, x] + R[y + 3, x]) + c * R[y + 2, x]
            D[y, x] = A[y + 2, x + 2] - low
    for i in range(H):
        for j in range(W):
            B[i, j] = min(max(A[i + 2, j + 2] + amount * D[i, j], 0.0), 1.0)


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    s = s.inline("low").inline("D").tile(["i", "j"], [4, 16]).compute_at("R", "j_o")
    return s.vectorize("x").vectorize("j_i").unroll("y").unroll("i_i").parallel("i_o")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    s = s.inline("low").inline("D").tile(["i", "j"], [4, 64]).reorder("i_o", "j_o", "j_i", "i_i")
    s = s.compute_at("R", "j_i").unroll("i_i").unroll("y")
    return s.bind("i_o", "grid.y").bind("j_o", "grid.x").bind("j_i", "block.x")


def by_numpy(A, amount, B, R):
    a, b, c = (np.float32(t) for t in TAPS)
    np.add(A[:, :-4], A[:, 4:], out=R)
    R *= a
    R += b * (A[:, 1:-3] + A[:, 3:-1])
    R += c * A[:, 2:-2]
    low = a * (R[:-4] + R[4:])
    low += b * (R[1:-3] + R[3:-1])
    low += c * R[2:-2]
    image = A[2:-2, 2:-2]
    np.subtract(image, low, out=B)
    np.multiply(B, np.float32(amount), out=B)
    np.add(B, image, out=B)
    np.clip(B, 0, 1, out=B)


def main() -> None:
    options = common.options(__doc__, 2048, "rows and columns of the image")
    n, target = options.size, options.target
    A = common.random.random((n + 4, n + 4), dtype=np.float32)
    B, R = np.empty((n, n), "f4"), np.empty((n + 4, n), "f4")
    by_numpy(A, 1.5, B, R)
    a, b = common.there(target, A, np.empty_like(B))
    kernel = unsharp.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(a, 1.5, b)
    common.agree("unsharp", b, B)
    runs = {"NumPy": lambda: by_numpy(A, 1.5, B, R)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: unsharp(a, 1.5, b)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(a, 1.5, b)})


if __name__ == "__main__":
    main()
