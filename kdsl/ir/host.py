"""Which expressions a host can compute before it launches device code, and from which names."""

from __future__ import annotations

from kdsl.ir.nodes import Binary, Cast, Compare, Const, Expr, Logic, Select, Unary, Var
from kdsl.ir.walk import subexprs


def is_host(e: Expr, names: frozenset[str]) -> bool:
    """Whether a host can compute `e` from `names` alone: no memory is read, and nothing faults."""
    return all(_is_host(x, names) for x in subexprs(e))


def _is_host(e: Expr, names: frozenset[str]) -> bool:
    match e:
        case Var():
            return e.name in names
        case Binary(op="//" | "%", b=by) if e.dtype.is_int:
            return _positive(by)
        case Const() | Unary() | Binary() | Compare() | Logic() | Select() | Cast():
            return True
        case _:
            return False


def _positive(e: Expr) -> bool:
    match e:
        case Const(value=value):
            return value > 0
        case Binary(op="max", a=a, b=b):
            return _positive(a) or _positive(b)
        case _:
            return False
