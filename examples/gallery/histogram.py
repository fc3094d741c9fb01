"""A histogram of bytes: counters of its own for each thread, or atomics.

    python examples/gallery/histogram.py [--size 16777216] [--target cpu|vulkan]

All iterations add to the same 256 counters, so `parallel` is refused. `rfactor` gives each block of
bytes counters of its own and adds these up behind. A second `rfactor` gives every fourth byte its own ones
too, so that mixed bytes seldom wait for the last count; a store for each byte is left, one a cycle, which is
what bounds it. (Where all bytes are equal that gains nothing.) On Vulkan work-groups share one set by
`atomic_add`.
"""

from __future__ import annotations

import common
import numpy as np

import kdsl
from kdsl import i32, u8

N = kdsl.sizes("N")


@kdsl.kernel
def histogram(data: u8[N], counts: i32[256]):
    for v in range(256):
        counts[v] = 0
    for i in range(N):
        counts[data[i]] += 1


@kdsl.kernel
def by_atomics(data: u8[N], counts: i32[256]):
    for v in range(256):
        counts[v] = 0
    for i in range(N):
        kdsl.atomic_add(counts, data[i], 1)


def on_cpu(s: kdsl.Schedule) -> kdsl.Schedule:
    s = s.split("i", 1 << 18).rfactor("i_o").parallel("i_o")
    return s.split("i_i", 4).rfactor("i_i_i").unroll("i_i_i")


def on_vulkan(s: kdsl.Schedule) -> kdsl.Schedule:
    return s.bind("v", "block.x").split("i", 256).bind("i_o", "grid.x").bind("i_i", "block.x")


def main() -> None:
    options = common.options(__doc__, 1 << 24, "bytes")
    n, target = options.size, options.target
    data = common.random.integers(0, 256, n, dtype=np.uint8)
    d, counts = common.there(target, data, np.empty(256, np.int32))
    if target == "cpu":
        try:
            histogram.schedule().parallel("i")
        except kdsl.ScheduleError as error:
            print(error)
    kernel = (histogram if target == "cpu" else by_atomics).on(target)
    fast = kernel.with_schedule((on_cpu if target == "cpu" else on_vulkan)(kernel.schedule()))
    fast(d, counts)
    common.agree("histogram", counts, np.bincount(data, minlength=256), rtol=0, atol=0)
    runs = {"NumPy": lambda: np.bincount(data, minlength=256)}
    if target == "cpu":
        runs["kdsl as written"] = lambda: histogram(d, counts)
    common.race(target, options.repeat, {**runs, "kdsl": lambda: fast(d, counts)})


if __name__ == "__main__":
    main()
