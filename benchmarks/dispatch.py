"""What a call costs before any work is done: three f32 arrays of one element, in one process, in turn.

All checks of a kdsl call are included: types, ranks, strides, sizes, overlap, writability.
"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable
from typing import Any

import numpy as np

import kdsl
from benchmarks.timing import table
from kdsl import f32

N = kdsl.sizes("N")
CALLS, ROUNDS = 20_000, 25


@kdsl.kernel
def add(A: f32[N], B: f32[N], C: f32[N]):
    for i in range(N):
        C[i] = A[i] + B[i]


@kdsl.kernel
def add_any(A, B, C):
    for i in range(len(A)):
        C[i] = A[i] + B[i]


@kdsl.kernel
def nothing(n: kdsl.i64):
    x = n + 1  # noqa: F841


def contenders() -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """Name -> (function, arguments)."""
    small = tuple(np.ones(1, np.float32) for _ in range(3))
    strided = tuple(np.ones(2, np.float32)[::2] for _ in range(3))
    doubles = tuple(np.ones(1) for _ in range(3))
    for dtype in (np.float64, np.int32, np.float32):  # the newest entry is f32's, f64's comes third
        add_any(*(np.ones(1, dtype) for _ in range(3)))
    out: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
        "kdsl, f32 arrays": (add, small),
        "kdsl, strided arrays": (add, strided),
        "kdsl, third of three signatures": (add_any, doubles),
        "kdsl, one scalar": (nothing, (3,)),
        "np.add(a, b, out)": (np.add, small),
        "an empty Python function": (lambda a, b, c: None, small),
    }
    try:
        import numba
    except ImportError:
        return out

    @numba.njit
    def add_numba(A: Any, B: Any, C: Any) -> None:
        for i in range(A.shape[0]):
            C[i] = A[i] + B[i]

    return {**out, "numba dispatcher": (add_numba, small)}


def main() -> str:
    """The table, as Markdown."""
    timers = {}
    for name, (function, args) in contenders().items():
        function(*args)
        names = [f"a{n}" for n in range(len(args))]
        scope = {"f": function, **dict(zip(names, args))}
        timers[name] = timeit.Timer(f"f({', '.join(names)})", globals=scope)
    samples: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(ROUNDS):
        for name, timer in timers.items():
            samples[name].append(timer.timeit(CALLS) / CALLS * 1e9)
    rows = [[name, f"{statistics.median(s):.0f}", f"{min(s):.0f}"] for name, s in samples.items()]
    return table(["call", "median ns", "best ns"], rows)
