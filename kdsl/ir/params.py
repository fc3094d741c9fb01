"""The outside of a `Func`: parameters and options. Apart from `nodes`: a cached kernel needs no more."""

from __future__ import annotations

from dataclasses import dataclass, field

from kdsl.dtypes import DType, Size
from kdsl.source import Loc


@dataclass(frozen=True, slots=True)
class ArrayParam:
    """An array argument. Each dimension of `shape` is affine in the size symbols.

    `contiguous`: C order is promised, and the strides follow from the shape; otherwise byte strides
    come with the call. `result`: made by the run time for each call and returned to the caller
    (rank 0: returned as a scalar). `written`: the body stores to it.
    """

    name: str
    dtype: DType
    shape: tuple[Size, ...]
    contiguous: bool = True
    written: bool = False
    result: bool = False
    loc: Loc | None = field(default=None, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True, slots=True)
class ScalarParam:
    """A scalar argument: a `Var` of this dtype in the body, never written."""

    name: str
    dtype: DType
    loc: Loc | None = field(default=None, compare=False, repr=False, kw_only=True)


Param = ArrayParam | ScalarParam


@dataclass(frozen=True, slots=True)
class Options:
    """`strict`: no contraction, no reordering, the same bits everywhere. `fastmath`: floats may be
    reassociated and are taken to be finite. `unchecked`: data-dependent indices are not tested.
    `may_alias`: arrays of these names may share memory."""

    strict: bool = False
    fastmath: bool = False
    unchecked: bool = False
    may_alias: tuple[str, ...] = ()


NO_OPTIONS = Options()
