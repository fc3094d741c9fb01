"""Short loops that only fill or empty an array which could be in registers are to be written out.

    acc_r: f32[8]
    for k_z in range(8):                                    for k_z in unroll(range(8)):
        acc_r[k_z] = 0.0                                        acc_r[k_z] = 0.0
    for k_o in range(K // 8):                       ->      ...
        for k_i in vectorize(range(8)):
            acc_r[k_i] += A[k_o * 8 + k_i]
    for k_r in range(8):                                    for k_r in unroll(range(8)):
        acc += acc_r[k_r]                                       acc += acc_r[k_r]

Registers have no address: an array lives in them when all its subscripts are constants, lanes apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from kdsl.analysis.linear import extent
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Binary,
    Body,
    Const,
    Expr,
    Func,
    If,
    Load,
    Loop,
    Mark,
    Stmt,
    Store,
    Unary,
    Var,
)
from kdsl.ir.walk import map_stmt, stmt_bodies, stmt_exprs, stmts, subexprs

MOST_BYTES = 4096
"""Larger arrays do not fit in registers."""

MOST_COPIES = 64
"""Nests of more statements than this, written out, stay loops."""

Access = tuple[tuple[Expr, ...], tuple[Loop, ...]]


def registers(func: Func) -> Func:
    """`func` with such loops marked `unroll`; itself when there are none."""
    body = _body(func.body)
    return func if body is func.body else replace(func, body=body)


def _body(body: Body) -> Body:
    chosen: set[int] = set()
    for n, s in enumerate(body):
        if isinstance(s, Alloc) and _small(s):
            chosen |= _short_loops(s.name, body[n + 1 :])
    out = tuple([map_stmt(s, lambda e: e, _body) for s in (_marked(body, chosen) if chosen else body)])
    return body if all(a is b for a, b in zip(body, out)) else out


def _small(s: Alloc) -> bool:
    size = s.dtype.bytes
    for e in s.shape:
        size *= int(e.value) if isinstance(e, Const) else MOST_BYTES + 1
    return bool(s.shape) and 0 < size <= MOST_BYTES


def _short_loops(name: str, scope: Body) -> set[int]:
    """The loops (ids) that leave the array only constant subscripts when they are written out; nothing when
    that is not enough, or when no vector or written-out loop uses the array."""
    found: set[int] = set()
    wanted = False
    for index, loops in _accesses(scope, name, ()):
        used: set[str] = set()
        for e in index:
            for x in subexprs(e):
                if not isinstance(x, (Const, Binary, Unary, Var)):
                    return set()
                if isinstance(x, Var):
                    used.add(x.name)
        for loop in loops:
            if loop.mark is not None:
                wanted = wanted or loop.mark.kind in ("vectorize", "unroll")
            elif loop.var in used:
                found.add(loop.id)
        if not used <= {loop.var for loop in loops if loop.mark is None or _apart(loop.mark)}:
            return set()
    copies = {s.id: _copies(s) for s in stmts(scope) if isinstance(s, Loop) and s.id in found}
    return found if wanted and all(n <= MOST_COPIES for n in copies.values()) else set()


def _apart(mark: Mark) -> bool:
    return mark.kind in ("vectorize", "unroll")


def _accesses(body: Body, name: str, loops: tuple[Loop, ...]) -> Iterator[Access]:
    """The subscripts of an array, with the loops around each."""
    for s in body:
        for root in stmt_exprs(s):
            for e in subexprs(root):
                if isinstance(e, Load) and e.buffer == name:
                    yield e.index, loops
        if isinstance(s, (Store, Accumulate, Atomic)) and s.buffer == name:
            yield s.index, loops
        for inner in stmt_bodies(s):
            yield from _accesses(inner, name, (*loops, s) if isinstance(s, Loop) else loops)


def _copies(s: Stmt) -> int:
    """The number of statements after writing out, if `s` only moves elements about."""
    match s:
        case Store() | Accumulate():
            return 1
        case If():
            return 1 + sum(_copies(x) for b in stmt_bodies(s) for x in b)
        case Loop():
            # A vector statement is one.
            count = 1 if s.mark is not None and s.mark.kind == "vectorize" else extent(s)
            return MOST_COPIES + 1 if count is None else count * sum(_copies(x) for x in s.body)
        case _:
            return MOST_COPIES + 1


def _marked(body: Body, chosen: set[int]) -> Body:
    out: list[Stmt] = []
    for s in body:
        new = map_stmt(s, lambda e: e, lambda b: _marked(b, chosen))
        out.append(replace(new, mark=Mark("unroll")) if isinstance(new, Loop) and s.id in chosen else new)
    return tuple(out)
