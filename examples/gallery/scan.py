"""Prefix sums in blocks, two passes: sums of pieces, then each piece from where the ones before it end.

    python examples/gallery/scan.py [--size 16777216] [--target cpu|vulkan]

The three-line form runs in order: each sum waits for the one before, and `parallel` is refused. Written
in blocks, both passes are parallel over blocks, and only the short loop between them is not. Memory bounds
it: two passes read X twice, so on one thread the three lines are as fast, and further threads gain where
the memory has more to give than one thread takes.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32

N, B = kdsl.sizes("N B")
PIECE = 240
BLOCK = 16 * PIECE


@kdsl.kernel
def scan(X: f32[N], Y: f32[N]):
    running = f32(0)
    for i in range(N):
        running += X[i]
        Y[i] = running


@kdsl.kernel
def scan_blocks(X: f32[B, 16, PIECE], Y: f32[B, 16, PIECE]):
    sums = kdsl.zeros((B, 16), f32)
    for b in range(B):
        for lane in range(16):
            for k in range(PIECE):
                sums[b, lane] += X[b, lane, k]
    before = f32(0)
    for c in range(B):
        for q in range(16):
            here = sums[c, q]
            sums[c, q] = before
            before += here
    for d in range(B):
        for piece in range(16):
            running = sums[d, piece]
            for n in range(PIECE):
                running += X[d, piece, n]
                Y[d, piece, n] = running


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.vectorize("k", 64).parallel("b").parallel("d")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    s = s.bind("b", "grid.x").bind("lane", "block.x")
    return s.bind("d", "grid.x").bind("piece", "block.x")


def main() -> None:
    options = common.options(__doc__, 1 << 24, f"elements, rounded up to blocks of {BLOCK}")
    blocks, target = max(1, -(-options.size // BLOCK)), options.target
    # Whole numbers: sums below 2**24 are exact in any order.
    X = common.random.integers(-8, 9, (blocks, 16, PIECE)).astype(np.float32)
    flat, out = X.reshape(-1), np.empty(X.size, np.float32)
    x, y = common.there(target, X, np.empty_like(X))
    kernel = scan_blocks.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(x, y)
    common.agree("scan", common.here(y).reshape(-1), np.cumsum(flat, dtype=np.float32), rtol=0, atol=0)
    runs = {"NumPy": lambda: np.cumsum(flat, dtype=np.float32, out=out)}
    if target == "cpu":
        runs["kdsl, three lines"] = lambda: scan(flat, out)
        runs["kdsl as written"] = lambda: scan_blocks(x, y)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(x, y)})


if __name__ == "__main__":
    main()
