"""Integer expressions in numbers: the range that an index covers while some loops run and others stand still.

    i_o * 6 + i_i      i_o at 10, i_i over [0, 5]      ->  [60, 65]

Ranges are of floats: a loop that stands still does so in the middle of its range, which need not be whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import floor

from kdsl.ir.nodes import Binary, Cast, Const, Expr, Load, Loop, Stmt, Store, Unary, Var

Range = tuple[float, float]
"""The least and the greatest value."""

Ranges = Mapping[str, Range]
"""By the name of a size, a loop, or a local scalar whose value is known."""


def middle(r: Range) -> float:
    return (r[0] + r[1]) / 2


def range_of(e: Expr, known: Ranges) -> Range | None:
    """The values that `e` can take where its variables are in these ranges; None when it depends on data."""
    match e:
        case Const(value=value):
            return float(value), float(value)
        case Var(name=name) | Load(buffer=name, index=()):
            return known.get(name)
        case Unary(op="-", x=x):
            inner = range_of(x, known)
            return None if inner is None else (-inner[1], -inner[0])
        case Cast(x=x):
            return range_of(x, known)
        case Binary(op=op, a=x, b=y):
            a, b = range_of(x, known), range_of(y, known)
            return None if a is None or b is None else _combined(op, a, b)
        case _:
            return None


def after(s: Stmt, known: Ranges) -> Ranges:
    """What is known after a statement: the value of a local scalar of whole numbers."""
    if isinstance(s, Store) and not s.index and s.value.dtype.is_int:
        value = range_of(s.value, known)
        if value is not None:
            return {**known, s.buffer: value}
    return known


def _combined(op: str, a: Range, b: Range) -> Range | None:
    match op:
        case "+":
            return a[0] + b[0], a[1] + b[1]
        case "-":
            return a[0] - b[1], a[1] - b[0]
        case "*":
            ends = [x * y for x in a for y in b]
            return min(ends), max(ends)
        case "min":
            return min(a[0], b[0]), min(a[1], b[1])
        case "max":
            return max(a[0], b[0]), max(a[1], b[1])
        case "//" if b[0] == b[1] and b[0] > 0:
            return float(floor(a[0] / b[0])), float(floor(a[1] / b[0]))
        case "%" if b[0] == b[1] and b[0] > 0:
            by = b[0]
            if a[1] - a[0] >= by or floor(a[0] / by) != floor(a[1] / by):
                return 0.0, by - 1
            return a[0] % by, a[1] % by
        case _:
            return None


def trips(loop: Loop, known: Ranges, unknown: float = 64.0) -> tuple[float, Range]:
    """How often a loop runs, and the range of its variable, with outer loops in the middle of their ranges.

    A bound that depends on data gives `unknown` iterations from 0.
    """
    points = {name: (middle(r), middle(r)) for name, r in known.items()}
    lo, hi, step = (range_of(e, points) for e in (loop.lo, loop.hi, loop.step))
    if lo is None or hi is None or step is None or not step[0]:
        return unknown, (0.0, unknown - 1)
    count = max(0.0, (hi[0] - lo[0]) / step[0])
    if count > 1:
        count = float(floor(count + 0.999))
    last = lo[0] + max(0.0, count - 1) * step[0]
    return count, (min(lo[0], last), max(lo[0], last))
