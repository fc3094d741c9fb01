"""Counting by running: how often each array is read and written, which cells, how often each loop turns.

A condition on data counts as if it held and did not hold, as in `analysis.cost`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from kdsl.analysis.counting import evaluate
from kdsl.ir import scalar_ops
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Body,
    Compare,
    Expr,
    Func,
    If,
    Load,
    Logic,
    Loop,
    Stmt,
    Store,
    Unary,
    Var,
)
from kdsl.ir.walk import stmt_exprs, subexprs


@dataclass
class Tally:
    """What happened: elements by array, cells by array, (entries, iterations) by loop id."""

    read: Counter[str] = field(default_factory=Counter)
    written: Counter[str] = field(default_factory=Counter)
    cells: dict[str, set[tuple[int, ...]]] = field(default_factory=dict)
    loops: dict[int, list[int]] = field(default_factory=dict)


def tally(func: Func, sizes: Mapping[str, int]) -> Tally:
    """Runs the loops of `func`, whose bounds and indices depend on nothing but sizes and loops."""
    out = Tally()
    _body(func.body, dict(sizes), out)
    return out


def _body(body: Body, at: dict[str, int], out: Tally) -> None:
    for s in body:
        _stmt(s, at, out)


def _stmt(s: Stmt, at: dict[str, int], out: Tally) -> None:
    if not isinstance(s, (Loop, If, Alloc)):
        for root in stmt_exprs(s):
            for e in subexprs(root):
                if isinstance(e, Load) and e.index:
                    out.read[e.buffer] += 1
                    _touch(e.buffer, e.index, at, out)
    match s:
        case Store() | Accumulate() | Atomic() if s.index:
            out.written[s.buffer] += 1
            out.read[s.buffer] += not isinstance(s, Store)
            _touch(s.buffer, s.index, at, out)
        case Loop():
            turns = range(evaluate(s.lo, at), evaluate(s.hi, at), evaluate(s.step, at))
            row = out.loops.setdefault(s.id, [0, 0])
            row[0] += 1
            row[1] += len(turns)
            for value in turns:
                _body(s.body, {**at, s.var: value}, out)
        case If():
            for root in stmt_exprs(s):
                for e in subexprs(root):
                    if isinstance(e, Load) and e.index:
                        out.read[e.buffer] += 1
                        _touch(e.buffer, e.index, at, out)
            truth = _truth(s.cond, at)
            if truth is not False:
                _body(s.then, at, out)
            if truth is not True:
                _body(s.orelse, at, out)
        case _:
            pass


def _touch(buffer: str, index: tuple[Expr, ...], at: Mapping[str, int], out: Tally) -> None:
    out.cells.setdefault(buffer, set()).add(tuple([evaluate(i, at) for i in index]))


def _truth(e: Expr, at: Mapping[str, int]) -> bool | None:
    """The value of a condition; None where it depends on data."""
    if any(isinstance(x, Load) or (isinstance(x, Var) and x.name not in at) for x in subexprs(e)):
        return None
    match e:
        case Compare():
            return bool(scalar_ops.COMPARE[e.op](evaluate(e.a, at), evaluate(e.b, at)))
        case Logic(op="and"):
            return _truth(e.a, at) and _truth(e.b, at)
        case Logic():
            return _truth(e.a, at) or _truth(e.b, at)
        case Unary(op="not"):
            return not _truth(e.x, at)
        case _:
            return None
