"""The errors of a running kernel and of its call conditions, worded once for every way to run it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from kdsl.errors import (
    ArgumentError,
    KdslError,
    KernelAssertionError,
    KernelIndexError,
    KernelMemoryError,
    KernelValueError,
    KernelZeroDivisionError,
    TargetError,
)
from kdsl.source import Loc

Kind = Literal["index", "zero_division", "assertion", "zero_step", "negative_power", "memory", "loops"]


def fault(
    kind: Kind, loc: Loc | None, *, text: str = "", dim: int = 0, value: int = 0, extent: int = 0
) -> KdslError:
    """The error for a fault at `loc`.

    `text` is the array (index), the message (assertion) or the local array (memory). `value` is the index
    that was tested against `extent`, or the exponent (negative_power), or the size in bytes (memory).
    """
    match kind:
        case "index":
            return index_error(text, dim, value, extent, loc)
        case "zero_division":
            return KernelZeroDivisionError(
                "K0602", "integer division by zero", loc=loc, help="test the divisor first"
            )
        case "assertion":
            return KernelAssertionError("K0603", text or "assertion failed", loc=loc)
        case "zero_step":
            return KernelValueError(
                "K0604", "the step of `range` is 0", loc=loc, help="a step must be positive or negative"
            )
        case "negative_power":
            return KernelValueError(
                "K0605",
                f"an integer to the negative power {value} is no integer",
                loc=loc,
                help="convert one operand to a float: `f64(x) ** n`",
            )
        case "memory":
            return KernelMemoryError(
                "K0606",
                f"no memory for the local array `{text}` ({value} bytes)",
                loc=loc,
                help="make it smaller",
            )
        case "loops":
            return TargetError(
                "K0607",
                "the device ended this loop too early",
                loc=loc,
                notes=[f"its driver gives all loops of an invocation {extent:,} iterations together"],
                help="give each invocation less to do: `bind` more loops, or split a sum with `rfactor`",
            )


def index_error(array: str, dim: int, index: int, extent: int, loc: Loc | None) -> KernelIndexError:
    """`index` is outside [0, `extent`), the size of dimension `dim` of `array`."""
    elements = "no elements" if extent <= 0 else f"{extent} element{'s' if extent != 1 else ''}"
    if index < 0:
        way_out = "only a constant negative index counts from the end: add the length to a computed one"
    else:
        way_out = "guard the access with `if`, or clamp the index with `min`"
    return KernelIndexError(
        "K0601",
        f"index {index} is out of bounds for dimension {dim} of `{array}`, which has {elements}",
        loc=loc,
        help=way_out,
    )


def part_name(loc: Loc | None) -> str:
    """What the user wrote at `loc` for a part of an array."""
    line = loc.text() if loc is not None and loc.end_line == loc.line else ""
    return line[loc.col : loc.end_col] if line and loc is not None else "a part of an array"


def uninitialised(buffer: str, made: Loc | None, loc: Loc | None) -> KdslError:
    """A value of the local `buffer`, made at `made`, is used at `loc` before it was set."""
    return KdslError(
        "K0610",
        f"`{buffer}` is used before it is set",
        loc=loc,
        notes=((made, f"`{buffer}` is made here, without values"),) if made else (),
        help="set it first, or make it with `kdsl.zeros`",
    )


def condition_error(title: str, loc: Loc | None, sizes: Mapping[str, int]) -> ArgumentError:
    """A call condition does not hold for these sizes; nothing has been written."""
    known = ", ".join(f"{name} is {value}" for name, value in sizes.items())
    return ArgumentError(
        "K0420",
        title,
        loc=loc,
        notes=[known] if known else (),
        help="pass sizes for which this holds, or guard the line with `if`",
    )
