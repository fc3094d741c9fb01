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
                for bound in (item.start, item.stop):
                    if bound is not None:
                        self._bound(bound, axis, extent)
            elif not isinstance(item, FromEnd) and not 0 <= operator.index(item) < max(extent, 1):
                why = ": only a constant negative index counts from the end" if item < 0 else ""
                raise IndexError(f"index {item} is out of bounds for axis {axis} with size {extent}{why}")
            axis += 1

    def _bound(self, bound: Any, axis: int, extent: int) -> None:
        at = operator.index(bound)
        low = -extent if isinstance(bound, FromEnd) else 0
        if not low <= at <= extent:
            raise IndexError(f"slice bound {at} is out of bounds for axis {axis} with size {extent}")


def guarded(a: np.ndarray[Any, Any]) -> Guarded:
    """A guarded view of `a`."""
    return a.view(Guarded)


def from_end(index: Any) -> Any:
    """A constant index, marked; in tuples too."""
    if isinstance(index, tuple):
        return tuple([from_end(i) for i in index])
    return FromEnd(index) if isinstance(index, int) else index


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
