"""Subscripts of a collapsed loop: for a contiguous array with N columns, `A[t // N, t % N]` is element t.

C[i_j // N, i_j % N]        %p = getelementptr inbounds float, ptr %C, i64 %i_j
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kdsl.backends.llvm.memory import Buffer
from kdsl.ir.nodes import Binary, Const, Expr, Var

if TYPE_CHECKING:
    from kdsl.backends.llvm.expressions import Expressions


def joined(x: Expressions, buffer: Buffer, index: tuple[Expr, ...]) -> tuple[Buffer, tuple[Expr, ...]]:
    """The buffer with fewer dimensions and the subscripts in them, which are known to lie inside."""
    if buffer.strides is not None or buffer.lanes:
        return buffer, index
    n = 1
    while n < len(index):
        whole = _whole(x, index[n - 1], index[n], buffer.extents[n])
        if whole is None:
            n += 1
            continue
        extent = buffer.extents[n - 1]
        if n > 1:
            extent = x.b.value(f"mul nuw nsw i64 {extent}, {buffer.extents[n]}")
        index = (*index[: n - 1], whole, *index[n + 1 :])
        buffer = replace(buffer, extents=(*buffer.extents[: n - 1], extent, *buffer.extents[n + 1 :]))
        n = max(1, n - 1)
    return buffer, index


def _whole(x: Expressions, row: Expr, column: Expr, columns: str) -> Expr | None:
    """t, where the two are `t // columns` and `t % columns`."""
    match row, column:
        case Binary(op="//", a=a, b=b), Binary(op="%", a=again, b=divisor) if a == again and b == divisor:
            return a if _value(x, b) == columns else None
        case _:
            return None


def _value(x: Expressions, e: Expr) -> str:
    """The name or literal of a size, or of `max(size, 1)`, by which nothing divides where it is 0."""
    match e:
        case Binary(op="max", a=a, b=Const(value=1)):
            return _value(x, a)
        case Var(name=name):
            return x.vars.get(name, "")
        case Const(value=value):
            return str(value)
        case _:
            return ""
