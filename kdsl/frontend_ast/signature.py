"""What the arguments of one call are, as far as compilation depends on them."""

from __future__ import annotations

from dataclasses import dataclass

from kdsl.dtypes import DType


@dataclass(frozen=True, slots=True)
class ArrayArg:
    """An array of `rank` dimensions; `contiguous` means C order without gaps."""

    dtype: DType
    rank: int
    contiguous: bool = True


@dataclass(frozen=True, slots=True)
class ScalarArg:
    """A number. `weak`: an unannotated Python int, float or bool (dtype i64, f64 or bool_)."""

    dtype: DType
    weak: bool = False


@dataclass(frozen=True, slots=True)
class ConstArg:
    """The value of a `constexpr` parameter."""

    value: object


Arg = ArrayArg | ScalarArg | ConstArg
Signature = tuple[Arg, ...]
"""One entry for each parameter, in order."""
