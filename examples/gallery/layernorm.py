"""Layer normalisation of rows: mean, variance and result without a temporary array.

python examples/gallery/layernorm.py [--size 1024] [--target cpu|vulkan]
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import f32, recipes

M, N = kdsl.sizes("M N")


@kdsl.kernel
def layernorm(X: f32[M, N], gain: f32[N], bias: f32[N], Y: f32[M, N]):
    for i in range(M):
        total = f32(0)
        for j in range(N):
            total += X[i, j]
        mean = total / N
        square = f32(0)
        for j in range(N):
            square += (X[i, j] - mean) * (X[i, j] - mean)
        scale = kdsl.rsqrt(square / N + 1e-5)
        for j in range(N):
            Y[i, j] = (X[i, j] - mean) * scale * gain[j] + bias[j]


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    return recipes.parallel_rows(s, "i", ["j", "j_1", "j_2"], 64)


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.split("i", 64).bind("i_o", "grid.x").bind("i_i", "block.x")


def by_numpy(X, gain, bias, Y, T, R):
    np.mean(X, axis=1, keepdims=True, out=R)
    np.subtract(X, R, out=Y)
    np.multiply(Y, Y, out=T)
    np.mean(T, axis=1, keepdims=True, out=R)
    np.add(R, np.float32(1e-5), out=R)
    np.sqrt(R, out=R)
    np.divide(Y, R, out=Y)
    np.multiply(Y, gain, out=Y)
    np.add(Y, bias, out=Y)


def main() -> None:
    options = common.options(__doc__, 1024, "elements of a row, of 4096 rows")
    n, target = options.size, options.target
    X, gain, bias = common.normal(4096, n), common.normal(n), common.normal(n)
    Y, T, R = np.empty((4096, n), "f4"), np.empty((4096, n), "f4"), np.empty((4096, 1), "f4")
    by_numpy(X, gain, bias, Y, T, R)
    x, g, b, y = common.there(target, X, gain, bias, np.empty_like(Y))
    kernel = layernorm.on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(x, g, b, y)
    common.agree("layernorm", y, Y, rtol=1e-3, atol=1e-4)
    runs = {"NumPy": lambda: by_numpy(X, gain, bias, Y, T, R)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: layernorm(x, g, b, y)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(x, g, b, y)})


if __name__ == "__main__":
    main()
