"""Running one kernel in its three forms and comparing bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import kdsl
from tests.check import clone, results, run

FORMS = ("cpu", "interpreter", "py")
"""The ways to run a kernel: compiled, by the interpreter of the IR, as Python."""

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
FLOATS = ("float16", "bfloat16", "float32", "float64")
NUMBERS = INTEGERS + FLOATS
ALL = ("bool", *NUMBERS)

KDSL = {
    "bool": kdsl.bool_,
    "int8": kdsl.i8,
    "int16": kdsl.i16,
    "int32": kdsl.i32,
    "int64": kdsl.i64,
    "uint8": kdsl.u8,
    "uint16": kdsl.u16,
    "uint32": kdsl.u32,
    "uint64": kdsl.u64,
    "float16": kdsl.f16,
    "bfloat16": kdsl.bf16,
    "float32": kdsl.f32,
    "float64": kdsl.f64,
}
"""kdsl's type for the name of a NumPy dtype."""


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def samples(name: str) -> Any:
    """Numbers of a type at which types and roundings show: extremes, odd numbers, both signs."""
    dtype = dtype_of(name)
    if name == "bool":
        return np.array([False, True])
    if name in INTEGERS:
        info = np.iinfo(dtype)
        return np.unique(np.array([info.min, info.min + 1, info.max - 1, info.max, 0, 1, 3, 7, 100], dtype))
    return np.array([0.0, 1.0, -1.0, 3.0, -7.0, 0.1, 100.3, -0.7, 1e-3], dtype)


def pairs(a: Any, b: Any) -> tuple[Any, Any]:
    """Each element of `a` with each of `b`."""
    left, right = np.meshgrid(a, b, indexing="ij")
    return left.ravel(), right.ravel()


def wide(name: str | np.dtype[Any]) -> np.dtype[Any]:
    """The 64-bit type that holds the numbers of a type exactly: stored there, a wrapped or rounded result
    shows the type it was computed in."""
    dtype = np.dtype(name)
    if dtype == np.uint64:
        return dtype
    return np.dtype(np.int64 if dtype.kind in "iub" else np.float64)


def assert_same(got: Any, want: Any, what: str) -> None:
    """Equal in dtype, shape and bits, where all nan count as one."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.dtype == want.dtype, f"{what}: {got.dtype}, expected {want.dtype}"
    assert got.shape == want.shape, f"{what}: {got.shape}, expected {want.shape}"
    if want.dtype.name in FLOATS:
        both_nan = np.isnan(got) & np.isnan(want)
        wrong = ~((got == want) & (np.signbit(got) == np.signbit(want)) | both_nan)
    else:
        wrong = got != want
    if np.any(wrong):
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise AssertionError(f"{what} differs first at {at}: {got[at]!r}, expected {want[at]!r}")


@dataclass(frozen=True)
class Outcome:
    """What a call left in its arguments and what it returned."""

    args: tuple[Any, ...]
    results: tuple[Any, ...]

    @property
    def result(self) -> Any:
        (only,) = self.results
        return only


def outcome(kernel: Any, form: str, *args: Any, **keywords: Any) -> Outcome:
    """Runs a kernel in one form on copies of the arguments."""
    copies = tuple(clone(a) for a in args)
    returned = run(kernel, form, *copies, **keywords)
    return Outcome(copies, results(returned))


def agree(kernel: Any, *args: Any, forms: tuple[str, ...] = FORMS, **keywords: Any) -> Outcome:
    """Runs all forms, asserts that they leave the same bits, and gives what the first one left."""
    first, *others = (outcome(kernel, form, *args, **keywords) for form in forms)
    for form, other in zip(forms[1:], others):
        assert len(first.results) == len(other.results)
        for n, (x, y) in enumerate(zip(first.results, other.results)):
            assert_same(x, y, f"{forms[0]} against {form}: result {n}")
        for n, (x, y) in enumerate(zip(first.args, other.args)):
            if isinstance(x, np.ndarray):
                assert_same(x, y, f"{forms[0]} against {form}: argument {n}")
    return first


@contextmanager
def nothing_written(*arrays: Any) -> Iterator[None]:
    """Asserts that the block leaves the bytes of each array as they are."""
    before = [a.tobytes() for a in arrays]
    yield
    for n, (a, bytes_before) in enumerate(zip(arrays, before)):
        assert a.tobytes() == bytes_before, f"array {n} was written"


@contextmanager
def refused(*arrays: Any, match: str | None = None) -> Iterator[Any]:
    """Asserts that the block raises ArgumentError and writes none of the arrays."""
    with nothing_written(*arrays), pytest.raises(kdsl.ArgumentError, match=match) as caught:
        yield caught
