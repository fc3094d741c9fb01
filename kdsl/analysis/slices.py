"""The part of a function that decides what may become of a loop: it, what is around it, and what makes the
numbers and conditions that it depends on.

    for i:                                  for i:
        n = ...                                 n = ...
        for j: A[j] = ...           ->          for k in range(n): B[k] = ...
        for k in range(n): B[k] = ...

A question about the slice is smaller, and is the same one again where something else of the function changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Body,
    Break,
    Continue,
    Expr,
    Func,
    If,
    Load,
    Loop,
    Return,
    Stmt,
    Store,
    While,
)
from kdsl.ir.walk import expr_children, map_stmt, stmt_bodies, stmt_exprs, stmts, subexprs


def sliced(func: Func, loop_id: int) -> Func:
    """`func` without the statements that make no difference to the iterations of a loop, by its id.

    What stays: the loop with all in it, the statements around it, exits, and each store to a buffer that a
    number, a condition or a subscript of these may come from. Statements keep their ids.
    """
    needed: set[str] = set()
    while True:
        body = _kept(func.body, loop_id, needed)
        read = _read(body, loop_id)
        if read <= needed:
            return replace(func, body=_without_locals(body, loop_id, _used(body)))
        needed |= read


def _kept(body: Body, loop: int, needed: set[str]) -> Body:
    """The statements of a body that stay, and all locals of these."""
    out: list[Stmt] = []
    for s in body:
        match s:
            case Loop() if s.id == loop:
                out.append(s)
            case Loop() | While():
                inner = _kept(s.body, loop, needed)
                if _matters(inner):
                    out.append(replace(s, body=inner))
            case If():
                then, orelse = _kept(s.then, loop, needed), _kept(s.orelse, loop, needed)
                if _matters(then) or _matters(orelse):
                    out.append(replace(s, then=then, orelse=orelse))
            case Store() | Accumulate() | Atomic():
                if not needed.isdisjoint(_written(s)):
                    out.append(s)
            case Alloc() | Break() | Continue() | Return():
                out.append(s)
            case _:
                pass
    return tuple(out)


def _matters(body: Body) -> bool:
    return any(not isinstance(s, Alloc) for s in body)


def _read(body: Body, loop: int, inside: bool = False) -> set[str]:
    """The buffers that whole numbers, conditions and the stores around the loop read."""
    out: set[str] = set()
    for s in body:
        for e in stmt_exprs(s):
            parts = _deciding(e) if inside else subexprs(e)
            out |= {x.buffer for x in parts if isinstance(x, Load)}
        for inner in stmt_bodies(s):
            out |= _read(inner, loop, inside or s.id == loop)
    return out


def _deciding(e: Expr) -> Iterator[Expr]:
    """The parts of an expression that are no floats, with all that is below these."""
    if not e.dtype.is_float:
        yield from subexprs(e)
        return
    for c in expr_children(e):
        yield from _deciding(c)


def _written(s: Store | Accumulate | Atomic) -> set[str]:
    return {s.buffer, s.old} - {""} if isinstance(s, Atomic) else {s.buffer}


def _used(body: Body) -> set[str]:
    out: set[str] = set()
    for s in stmts(body):
        if isinstance(s, (Store, Accumulate, Atomic)):
            out |= _written(s)
        out |= {x.buffer for e in stmt_exprs(s) for x in subexprs(e) if isinstance(x, Load)}
    return out


def _without_locals(body: Body, loop: int, used: set[str]) -> Body:
    """`body` without the locals outside of the loop that nothing uses."""
    out: list[Stmt] = []
    for s in body:
        if s.id == loop:
            out.append(s)
        elif not isinstance(s, Alloc) or s.name in used:
            out.append(map_stmt(s, lambda e: e, lambda b: _without_locals(b, loop, used)))
    return tuple(out)
