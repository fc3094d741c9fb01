"""n-body: the pull of all bodies on each, O(n²) without a matrix of distances.

    python examples/gallery/nbody.py [--size 4096] [--target cpu|vulkan]

A vector of bodies is pulled by one other body at a time: sums stay in registers, and each position that
is loaded serves all lanes. NumPy has to store a matrix of distances, in blocks here, which suits its
caches.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")
SOFTENING = 1e-3


@kdsl.kernel
def pull(x: f32[N], y: f32[N], z: f32[N], mass: f32[N], a: f32[3, N]):
    for i in range(N):
        ax = 0.0
        ay = 0.0
        az = 0.0
        for j in range(N):
            dx = x[j] - x[i]
            dy = y[j] - y[i]
            dz = z[j] - z[i]
            r = kdsl.rsqrt(dx * dx + dy * dy + dz * dz + SOFTENING)
            w = mass[j] * r * r * r
            ax += w * dx
            ay += w * dy
            az += w * dz
        a[0, i] = ax
        a[1, i] = ay
        a[2, i] = az


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.vectorize("i", 32).parallel("i")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.split("i", 64).bind("i_o", "grid.x").bind("i_i", "block.x")


def by_numpy(positions, mass, a, block=128):
    for first in range(0, len(mass), block):
        d = positions[:, None, :] - positions[:, first : first + block, None]
        r = 1 / np.sqrt(np.einsum("cij,cij->ij", d, d) + np.float32(SOFTENING))
        a[:, first : first + block] = np.einsum("ij,cij->ci", mass * r * r * r, d)


def main() -> None:
    options = common.options(__doc__, 4096, "bodies")
    n, target = options.size, options.target
    positions, mass, expected = (
        common.normal(3, n),
        common.random.random(n, dtype=np.float32),
        np.empty((3, n)),
    )
    by_numpy(positions.astype(np.float64), mass.astype(np.float64), expected)
    x, y, z, m, a = common.there(target, *positions, mass, np.empty((3, n), "f4"))
    kernel = pull.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(x, y, z, m, a)
    # The terms grow with the number of bodies, and cancel.
    common.agree("nbody", a, expected, rtol=1e-3, atol=1e-4 * n)
    theirs = np.empty((3, n), "f4")
    runs = {"NumPy": lambda: by_numpy(positions, mass, theirs)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: pull(x, y, z, m, a)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(x, y, z, m, a)})


if __name__ == "__main__":
    main()
