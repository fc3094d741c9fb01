"""Arrays as kernels see them when they run as Python: a computed index below 0 does not wrap around."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np


class FromEnd(int):
    """A constant index: below 0 it counts from the end."""


class Guarded(np.ndarray[Any, Any]):
    """A view of an array that refuses computed negative indices, and slices that reach outside."""

    def __getitem__(self, index: Any) -> Any:
        self._check(index)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._check(index)
        if type(value) is int and self.dtype.kind in "iu":
            bits = 8 * self.dtype.itemsize  # weak integers wrap when stored, as in compiled code
            value &= (1 << bits) - 1
            if self.dtype.kind == "i" and value >> (bits - 1):
                value -= 1 << bits
        elif isinstance(value, np.integer) and self.dtype.kind in "iu":
            value = value.astype(
                self.dtype
            )  # NumPy would go through a Python int and refuse what does not fit
        super().__setitem__(index, value)

    def _check(self, index: Any) -> None:
        items = index if isinstance(index, tuple) else (index,)
        axis = 0
        for n, item in enumerate(items):
            if item is Ellipsis:
                axis = self.ndim - (len(items) - n - 1)
                continue
            extent = self.shape[axis] if axis < self.ndim else 0  # numpy says that there are too many
            if isinstance(item, slice):
                self._check_slice(item, axis, extent)
            elif not isinstance(item, FromEnd) and not 0 <= operator.index(item) < max(extent, 1):
                why = ": only a constant negative index counts from the end" if item < 0 else ""
                raise IndexError(f"index {item} is out of bounds for axis {axis} with size {extent}{why}")
            axis += 1

    def _check_slice(self, s: slice, axis: int, extent: int) -> None:
        """A slice is not clipped: each of its elements must exist; it may have none wherever it lies."""
        step = 1 if s.step is None else operator.index(s.step)
        first, last = (0, extent) if step > 0 else (extent - 1, -1)
        low = first if s.start is None else self._bound(s.start, axis, extent)
        high = last if s.stop is None else self._bound(s.stop, axis, extent)
        elements = range(low, high, step or 1)
        if elements and not (min(elements[0], elements[-1]) >= 0 and max(elements[0], elements[-1]) < extent):
            shown = f"{'' if s.start is None else s.start}:{'' if s.stop is None else s.stop}"
            raise IndexError(f"slice {shown} is out of bounds for axis {axis} with size {extent}")

    def _bound(self, bound: Any, axis: int, extent: int) -> int:
        at = operator.index(bound)
        if at < 0 and not isinstance(bound, FromEnd):
            raise IndexError(f"slice bound {at} is out of bounds for axis {axis} with size {extent}")
        return at + extent if at < 0 else at


def guarded(a: np.ndarray[Any, Any]) -> Guarded:
    """A guarded view of `a`."""
    return a.view(Guarded)


def from_end(index: Any) -> Any:
    """A constant index, marked; in tuples too."""
    if isinstance(index, tuple):
        return tuple([from_end(i) for i in index])
    return FromEnd(index) if isinstance(index, int) else index


def rounded(x: Any, *digits: Any) -> Any:
    """The built-in `round`, also for bf16, whose scalars lack it."""
    if isinstance(x, np.generic) and not hasattr(x, "__round__"):
        x = float(x)
    return round(x, *digits)


def floordiv(a: Any, b: Any) -> Any:
    """`a // b`; an integer division by zero raises, whatever the width."""
    check_divisor(a, b)
    return a // b


def mod(a: Any, b: Any) -> Any:
    """`a % b`, as `floordiv`."""
    check_divisor(a, b)
    return a % b


def check_divisor(a: Any, b: Any) -> Any:
    """`b`; ZeroDivisionError when `a // b` is an integer division by zero."""
    if _is_integer(a) and _is_integer(b) and not np.all(b):
        raise ZeroDivisionError("integer division by zero")
    return b


def _is_integer(x: Any) -> bool:
    if isinstance(x, (np.generic, np.ndarray)):
        return x.dtype.kind in "iub"
    return isinstance(x, int)
