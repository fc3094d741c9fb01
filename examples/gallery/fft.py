"""Many short Fourier transforms: radix 2 after Stockham, one transform in each vector lane.

    python examples/gallery/fft.py [--size 4096] [--target cpu|vulkan]

`static_range` writes the eight stages of a transform of 256 points out, so that the loops of each have
constant bounds. The transforms lie side by side, a column each. A block of 16 of them, with its two work
arrays, stays in the caches while all stages run. The innermost loops have 16 iterations, so LLVM makes the
same vectors of the kernel as written; the schedule says so for sure, and adds threads. NumPy transforms
rows, which it likes best.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32

B = kdsl.sizes("B")
STAGES = 8
POINTS = 1 << STAGES


@kdsl.kernel
def fft(re: f32[POINTS, 16 * B], im: f32[POINTS, 16 * B], c: f32[POINTS // 2], s: f32[POINTS // 2]):
    """In place; c and s are the cosines and sines of -2 pi k / POINTS."""
    for b in range(B):
        x = kdsl.empty((2, POINTS, 16), f32)
        y = kdsl.empty((2, POINTS, 16), f32)
        for n in range(POINTS):
            for v in range(16):
                x[0, n, v] = re[n, 16 * b + v]
                y[0, n, v] = im[n, 16 * b + v]
        for stage in kdsl.static_range(STAGES):
            m = 1 << stage
            old, new = stage % 2, 1 - stage % 2
            for j in range(POINTS // 2 // m):
                for k in range(m):
                    for v in range(16):
                        dr = x[old, j * m + k, v] - x[old, j * m + k + POINTS // 2, v]
                        di = y[old, j * m + k, v] - y[old, j * m + k + POINTS // 2, v]
                        x[new, 2 * j * m + k, v] = x[old, j * m + k, v] + x[old, j * m + k + POINTS // 2, v]
                        y[new, 2 * j * m + k, v] = y[old, j * m + k, v] + y[old, j * m + k + POINTS // 2, v]
                        x[new, 2 * j * m + k + m, v] = dr * c[j * m] - di * s[j * m]
                        y[new, 2 * j * m + k + m, v] = dr * s[j * m] + di * c[j * m]
        for n in range(POINTS):
            for v in range(16):
                re[n, 16 * b + v] = x[STAGES % 2, n, v]
                im[n, 16 * b + v] = y[STAGES % 2, n, v]


LANES = ["v", *(f"v_{n}" for n in range(1, STAGES + 2))]


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    for v in LANES:
        s = s.vectorize(v)
    return s.parallel("b")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    for v in LANES:
        s = s.bind(v, "block.x")
    return s.bind("b", "grid.x")


def main() -> None:
    options = common.options(__doc__, 4096, f"transforms of {POINTS} points, rounded up to blocks of 16")
    count, target = max(1, -(-options.size // 16)) * 16, options.target
    real, imaginary = common.normal(POINTS, count), common.normal(POINTS, count)
    angle = -2 * np.pi * np.arange(POINTS // 2) / POINTS
    signal = np.ascontiguousarray((real + 1j * imaginary).T)
    re, im, c, s = common.there(
        target, real.copy(), imaginary.copy(), np.cos(angle).astype("f4"), np.sin(angle).astype("f4")
    )
    kernel = fft.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(re, im, c, s)
    expected = np.fft.fft(signal.astype(np.complex128)).T
    common.agree("fft, real part", re, expected.real, atol=1e-3)
    common.agree("fft, imaginary part", im, expected.imag, atol=1e-3)
    # Again and again in place the numbers would grow; times do not depend on zeros.
    re, im = common.there(target, np.zeros_like(real), np.zeros_like(real))
    runs = {"NumPy": lambda: np.fft.fft(signal)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: fft(re, im, c, s)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(re, im, c, s)})


if __name__ == "__main__":
    main()
