"""Accuracy and speed of the math functions: the tables of docs/math.md.

`python -m benchmarks.math_accuracy [--step 101] [--points 1000000] [NAME …]`. f32 functions of one argument
are run on every `step`-th of all 2^32 bit patterns (`--step 1`: on all), the others on `points` samples and
all special values. Each is measured as compiled (multiplications and additions may be contracted) and
as compiled with `strict`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

import kdsl
from benchmarks import machine
from benchmarks.timing import table
from kdsl.dtypes import DType, f32, f64
from kdsl.ir.builtins import TABLE
from tests.mathlib import reference as ref

CHUNK = 1 << 20
LENGTH = 4096


@dataclass(slots=True)
class Worst:
    """The largest error so far, in ulps, and where."""

    error: float = -1.0
    args: tuple[Any, ...] = ()

    def see(self, errors: Any, args: tuple[Any, ...]) -> None:
        at = int(np.argmax(errors))
        if errors[at] > self.error:
            self.error = float(errors[at])
            self.args = tuple(a[at].item() for a in args)


def arguments(name: str, dtype: DType, step: int, points: int) -> Iterator[tuple[Any, ...]]:
    """The arguments in chunks."""
    if dtype == f32 and TABLE[name].arity == 1:
        for start in range(0, 1 << 32, CHUNK * step):
            bits = np.arange(start, min(start + CHUNK * step, 1 << 32), step, dtype=np.uint64)
            yield (bits.astype(np.uint32).view(np.float32),)
        return
    yield ref.special_pairs(dtype) if TABLE[name].arity == 2 else (ref.special(dtype),)
    for seed in range(max(1, points // CHUNK)):
        yield ref.samples(name, dtype, min(points, CHUNK), seed)


def accuracy(name: str, dtype: DType, step: int, points: int) -> tuple[int, Worst, Worst]:
    """Number of arguments, and the worst case compiled and compiled strictly."""
    count, loose, strict = 0, Worst(), Worst()
    for args in arguments(name, dtype, step, points):
        want = ref.exact(name, *args)
        count += args[0].size
        loose.see(ref.ulps(ref.compiled(name, *args), want), args)
        strict.see(ref.ulps(ref.compiled(name, *args, strict=True), want), args)
    return count, loose, strict


def nanoseconds(name: str, dtype: DType) -> tuple[float, float | None]:
    """Time an element of arrays of 4096 elements in cache: compiled, and NumPy where it has the function.

    The best of 2000 calls each, taken in turn: single calls of microseconds, so the best is one that no other
    process disturbed.
    """
    rng = np.random.default_rng(0)
    args = [rng.uniform(0.1, 0.9, LENGTH).astype(dtype.np) for _ in range(TABLE[name].arity)]
    out = np.empty_like(args[0])
    calls: list[Callable[..., object]] = [ref.kernel(name)]
    if TABLE[name].numpy:
        calls.append(getattr(np, TABLE[name].numpy))
    best = [float("inf")] * len(calls)
    for _ in range(2000):
        for number, call in enumerate(calls):
            start = time.perf_counter()
            call(*args, out)
            best[number] = min(best[number], time.perf_counter() - start)
    times = [b / LENGTH * 1e9 for b in best]
    return times[0], times[1] if len(times) == 2 else None


def report(names: tuple[str, ...], dtype: DType, step: int, points: int) -> str:
    """The Markdown table for one type."""
    rows = []
    for name in names:
        count, loose, strict = accuracy(name, dtype, step, points)
        kdsl_ns, numpy_ns = nanoseconds(name, dtype)
        promise = TABLE[name].max_ulp
        assert promise is not None
        rows.append(
            [
                f"`{name}`",
                f"{promise[0 if dtype == f32 else 1]:g}",
                f"{loose.error:.2f}",
                f"{strict.error:.2f}",
                ", ".join(f"{a:.9g}" if dtype == f32 else repr(a) for a in loose.args),
                f"{count:,}",
                f"{kdsl_ns:.2f}",
                "" if numpy_ns is None else f"{numpy_ns:.2f}",
            ]
        )
    heads = ["function", "promise", "max ulp", "strict", "worst at", "arguments", "ns", "NumPy ns"]
    return table(heads, rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.math_accuracy", description=__doc__)
    parser.add_argument("names", nargs="*", help="functions (default: all)")
    parser.add_argument("--step", type=int, default=101, help="of the bit patterns of f32 (default 101)")
    parser.add_argument(
        "--points", type=int, default=1_000_000, help="samples of the others (default 1,000,000)"
    )
    options = parser.parse_args()
    names = tuple(options.names) or (*ref.UNARY, *ref.BINARY)
    print(machine.line(), f"kdsl {kdsl.__version__}" if hasattr(kdsl, "__version__") else "")
    for dtype in (f32, f64):
        print(f"\n## {dtype}\n\n{report(names, dtype, options.step, options.points)}", flush=True)


if __name__ == "__main__":
    main()
