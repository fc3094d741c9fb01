"""GELU, the smooth ReLU: a formula with `erf` at the speed of memory.

    python examples/gallery/gelu.py [--size 4194304] [--target cpu|vulkan]

NumPy has no erf, and SciPy's goes element by element; the usual way out is the formula with `tanh`,
which takes nine passes. Here it is one pass over the exact formula.
"""

from __future__ import annotations

import math

import common
import numpy as np

import kdsl
from kdsl import f32, recipes

N = kdsl.sizes("N")
SQRT_HALF = math.sqrt(0.5)
erf = common.scipy("special").erf


@kdsl.kernel
def gelu(X: f32[N], Y: f32[N]):
    for i in range(N):
        Y[i] = 0.5 * X[i] * (1 + kdsl.erf(X[i] * SQRT_HALF))


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    return recipes.vector_elementwise(s, "i", 32)


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    return recipes.gpu_elementwise(s, "i")


def by_scipy(X, Y, T):
    np.multiply(X, np.float32(SQRT_HALF), out=T)
    erf(T, out=T)
    np.add(T, np.float32(1), out=T)
    np.multiply(X, np.float32(0.5), out=Y)
    np.multiply(Y, T, out=Y)


def by_numpy(X, Y, T):
    """The formula with tanh: another function, within 5e-4."""
    np.multiply(X, X, out=T)
    np.multiply(T, X, out=T)
    np.multiply(T, np.float32(0.044715), out=T)
    np.add(T, X, out=T)
    np.multiply(T, np.float32(0.7978845608), out=T)
    np.tanh(T, out=T)
    np.add(T, np.float32(1), out=T)
    np.multiply(X, np.float32(0.5), out=Y)
    np.multiply(Y, T, out=Y)


def main() -> None:
    options = common.options(__doc__, 1 << 22, "elements")
    n, target = options.size, options.target
    X, Y, T = 2 * common.normal(n), np.empty(n, "f4"), np.empty(n, "f4")
    by_scipy(X, Y, T)
    x, y = common.there(target, X, np.empty_like(Y))
    kernel = gelu.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(x, y)
    common.agree("gelu", y, Y, atol=1e-6)
    runs = {"NumPy, tanh": lambda: by_numpy(X, Y, T), "SciPy": lambda: by_scipy(X, Y, T)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: gelu(x, y)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(x, y)})


if __name__ == "__main__":
    main()
