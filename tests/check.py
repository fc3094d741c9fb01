"""One way to ask whether a kernel means what it says: every target against an oracle.

`check(kernel, *args, oracle=f)` runs `f` and the kernel on each target, on copies of the arguments, and
compares every array and result. Integers must be equal, floats within the one table of tolerances (`ULPS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kdsl.backends import vulkan

VULKAN: tuple[str, ...] = ("vulkan",) if vulkan.available() is None else ()
TARGETS: tuple[str, ...] = ("py", "interpreter", "cpu", *VULKAN)
"""The ways to run a kernel: as Python, by the interpreter of the IR, compiled, on a device if one is here."""

ULPS = {"float16": 2.0, "bfloat16": 2.0, "float32": 16.0, "float64": 16.0}
"""Units in the last place of the array's largest element: room for contraction, the order in which a NumPy
oracle sums and the accuracy of math functions. A program may multiply it by `terms`."""


def eps(dtype: np.dtype[Any]) -> float:
    """The distance from 1 to the next number of a float type."""
    return {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}[dtype.name]


def is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.name in ULPS


def clone(x: Any) -> Any:
    """A copy of an array with the same strides (also negative and padded ones); other values as they are."""
    if not isinstance(x, np.ndarray):
        return x
    low, high = np.lib.array_utils.byte_bounds(x) if x.size else (0, 0)
    memory = np.zeros(max(high - low, 1), np.uint8)
    start = sum((n - 1) * -s for n, s in zip(x.shape, x.strides) if s < 0) if x.size else 0
    copy = np.ndarray(x.shape, x.dtype, buffer=memory, offset=start, strides=x.strides if x.size else None)
    copy[...] = x
    copy.flags.writeable = x.flags.writeable
    return copy


def run(kernel: Any, target: str, *args: Any, **options: Any) -> Any:
    """Calls `kernel` on a target of `TARGETS`."""
    return kernel.py(*args, **options) if target == "py" else kernel.on(target)(*args, **options)


def compare(got: Any, want: Any, what: str, terms: float = 1.0) -> None:
    """Raises AssertionError, saying where, unless `got` equals `want` in dtype, shape and value."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"{what}: dtype {got.dtype}, expected {want.dtype}"
    assert got.shape == want.shape, f"{what}: shape {got.shape}, expected {want.shape}"
    if not is_float(want.dtype):
        wrong = got != want
    else:
        g, w = got.astype(np.float64), want.astype(np.float64)
        with np.errstate(invalid="ignore"):
            finite = np.abs(w[np.isfinite(w)])
            scale = finite.max() if finite.size else 0.0
            allowed = ULPS[want.dtype.name] * terms * eps(want.dtype) * scale
            wrong = ~((g == w) | (np.isnan(g) & np.isnan(w)) | (np.isfinite(w) & (np.abs(g - w) <= allowed)))
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        count = int(wrong.sum())
        raise AssertionError(
            f"{what}: {count} of {want.size} wrong, first at {at}: {got[at]!r}, expected {want[at]!r}"
        )


def compare_all(got: Sequence[Any], want: Sequence[Any], what: str, terms: float = 1.0) -> None:
    """`compare` for each pair of arguments (what a call left in them) or results."""
    assert len(got) == len(want), f"{what}: {len(got)} values, expected {len(want)}"
    for n, (g, w) in enumerate(zip(got, want)):
        compare(g, w, f"{what} {n}", terms)


def results(value: Any) -> tuple[Any, ...]:
    """What a call returned, as a tuple."""
    return value if isinstance(value, tuple) else () if value is None else (value,)


def check(
    kernel: Any,
    *args: Any,
    oracle: Callable[..., Any],
    targets: Iterable[str] = TARGETS,
    terms: float = 1.0,
) -> None:
    """Runs `oracle` and `kernel` on each target on copies of `args`; arguments and results must agree.

    The oracle has the kernel's signature: it writes the same arguments and returns the same results.
    """
    expected_args = [clone(a) for a in args]
    expected = results(oracle(*expected_args))
    for target in targets:
        actual_args = [clone(a) for a in args]
        actual = results(run(kernel, target, *actual_args))
        compare_all(actual, expected, f"{target}: result", terms)
        arrays = [n for n, a in enumerate(args) if isinstance(a, np.ndarray)]
        for n in arrays:
            compare(actual_args[n], expected_args[n], f"{target}: argument {n}", terms)


class Draw:
    """Random arguments, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def f64(self, *shape: int) -> Any:
        """Numbers in [-1, 1)."""
        return self.rng.uniform(-1, 1, shape)

    def f32(self, *shape: int) -> Any:
        return self.f64(*shape).astype(np.float32)

    def ints(self, low: int, high: int, *shape: int, dtype: Any = np.int64) -> Any:
        """Integers in [low, high)."""
        return self.rng.integers(low, high, shape, dtype=dtype)


@dataclass(frozen=True)
class Program:
    """A kernel as a user writes it, with an oracle made by other means and the sizes to run it at.

    `arguments(draw, *sizes)` makes the call's arguments for one entry of `sizes`. `terms` widens the table's
    tolerance (the reason stands beside it).
    """

    kernel: Any
    oracle: Callable[..., Any]
    arguments: Callable[..., tuple[Any, ...]]
    sizes: Sequence[tuple[int, ...]] = ((),)
    terms: float = 1.0
    targets: tuple[str, ...] = field(default=TARGETS)
    name: str = ""

    @property
    def id(self) -> str:
        return self.name or str(self.kernel.__name__)

    def check(self, target: str) -> None:
        """Runs all sizes on one target."""
        for seed, sizes in enumerate(self.sizes):
            args = self.arguments(Draw(seed), *sizes)
            try:
                check(self.kernel, *args, oracle=self.oracle, targets=(target,), terms=self.terms)
            except Exception as e:
                e.add_note(f"in {self.id} at sizes {sizes}")
                raise
