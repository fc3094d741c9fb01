"""Vectors with a guard, on a GPU: whole ones without it, elements one by one where some are off.

    for v in vectorize(range(4)):             if i * 4 + 4 <= N:
        if i * 4 + v < N:                         for v in vectorize(range(4)):
            S(v)                    ->                S(v)
                                              else:
                                                  for v in range(4):
                                                      if i * 4 + v < N:
                                                          S(v)

A GPU has no masks within an invocation: a vector is loaded and stored as a whole.
"""

from __future__ import annotations

from dataclasses import replace

from kdsl.analysis.linear import extent
from kdsl.dtypes import i64
from kdsl.ir.nodes import Body, Const, Expr, Func, If, Loop, Stmt, fresh_id
from kdsl.ir.walk import map_stmt
from kdsl.passes.full_tiles import Tiles, fresh


def whole_vectors(func: Func) -> Func:
    """`func` with guarded vectors in two versions; itself when there is none."""
    body = _body(func.body, frozenset(func.sizes))
    return func if body is func.body else replace(func, body=body)


def _body(body: Body, outside: frozenset[str]) -> Body:
    new = tuple([_stmt(s, outside) for s in body])
    return body if all(a is b for a, b in zip(new, body)) else new


def _stmt(s: Stmt, outside: frozenset[str]) -> Stmt:
    if isinstance(s, Loop):
        if s.mark is not None and s.mark.kind == "vectorize":
            return _vector(s, outside)
        outside |= {s.var}
    return map_stmt(s, lambda e: e, lambda b: _body(b, outside))


def _vector(loop: Loop, outside: frozenset[str]) -> Stmt:
    """Both versions of a vector loop under one guard; the loop where it has none, or one that is not known
    to be affine."""
    count = extent(loop)
    body, tests = _guarded(loop.body)
    if not tests or not count or loop.lo != Const(0, i64) or loop.step != Const(1, i64):
        return loop
    tiles = Tiles(loop, outside)
    needed = []
    for test in tests:
        forms = tiles.forms(test, {loop.var: count - 1})
        if forms is None:
            return loop
        needed += [form for form, _ in forms]
    whole = replace(loop, id=fresh_id(), body=fresh(body))
    return If(tiles.test(dict.fromkeys(needed)), (whole,), (replace(loop, mark=None),), loc=loop.loc)


def _guarded(body: Body) -> tuple[Body, list[Expr]]:
    """What `body` does under conditions on all of it, and these."""
    tests: list[Expr] = []
    while len(body) == 1 and isinstance(guard := body[0], If) and not guard.orelse:
        tests.append(guard.cond)
        body = guard.then
    return body, tests
