"""Memory that two arguments share, exactly: intervals first, then NumPy's bounded Diophantine solver.

A compiled kernel keeps program order, but it may hold values in registers and knows its arrays apart: an
array that is written must not share an element with another argument, nor with itself. Interleaved views that
share no element are fine.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Overlap = Literal["none", "some", "undecided"]

# Steps of the solver (about 1 µs each); regular views take a handful. NumPy's own limit in ufuncs is 10.
MAX_WORK = 100_000


def byte_interval(a: Array) -> tuple[int, int]:
    """The half-open range of addresses that `a` touches; empty for an array without elements."""
    low = high = a.__array_interface__["data"][0]
    if a.size == 0:
        return low, low
    for extent, stride in zip(a.shape, a.strides):
        if stride < 0:
            low += (extent - 1) * stride
        else:
            high += (extent - 1) * stride
    return low, high + a.itemsize


def overlap(a: Array, b: Array) -> Overlap:
    """Whether an element of `a` and one of `b` share a byte."""
    a_low, a_high = byte_interval(a)
    b_low, b_high = byte_interval(b)
    if a_low >= b_high or b_low >= a_high or a.size == 0 or b.size == 0:
        return "none"
    try:
        shared = np.shares_memory(a, b, max_work=MAX_WORK)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return "undecided"
    return "some" if shared else "none"


def self_overlap(a: Array) -> Overlap:
    """Whether two different index tuples of `a` reach one element (as `as_strided` and broadcasting can do).

    Two tuples that agree up to dimension d and differ in it: `a[0,…,0, 1:]` against `a[0,…,0, 0]`. By
    translation these slices stand for all such pairs, so one exact test a dimension decides.
    """
    if a.flags.c_contiguous or a.flags.f_contiguous or a.size <= 1:
        return "none"
    if _nested(a):
        return "none"
    answer: Overlap = "none"
    for dim in range(a.ndim):
        if a.shape[dim] < 2:
            continue
        if a.strides[dim] == 0:
            return "some"
        lead: tuple[int | slice, ...] = (0,) * dim
        match _shifted(a, dim, lead):
            case "some":
                return "some"
            case "undecided":
                answer = "undecided"
    return answer


def _shifted(a: Array, dim: int, lead: tuple[int | slice, ...]) -> Overlap:
    first: Array = a[(*lead, slice(0, 1))]
    rest: Array = a[(*lead, slice(1, None))]
    return overlap(first, rest)


def _nested(a: Array) -> bool:
    """True when each stride steps over all that the smaller strides reach: then no two elements meet."""
    reach = a.itemsize
    for stride, extent in sorted((abs(s), n) for s, n in zip(a.strides, a.shape) if n > 1):
        if stride < reach:
            return False
        reach += stride * (extent - 1)
    return True
