"""Hints of a schedule, for GPUs: prefetches go, and no more is written out than drivers compile in good time.

    for i in unroll(range(6)):                 for i in range(6):
        for j in unroll(range(4)):                 for j in unroll(range(4)):
            for v in vectorize(range(16)):   ->        for v in vectorize(range(16)):
                acc[i, j * 16 + v] += ...                  acc[i, j * 16 + v] += ...

Vectors and loops that are written out run in order like any others; the compile time of drivers grows faster
than the code. Marks go from the outside inwards, those of the largest nests first.
"""

from __future__ import annotations

from dataclasses import replace

from kdsl.analysis.linear import extent, faultless
from kdsl.ir.nodes import Body, Func, If, Loop, Prefetch, Stmt
from kdsl.ir.walk import map_stmt, stmt_bodies, stmt_exprs

MOST = 512
"""Statements of a kernel, one for each lane and each copy."""

LIMITS = (256, 128, 64, 32, 16, 8, 4, 1)
"""Statements of a nest that is written out."""


def short(func: Func) -> Func:
    """`func` with no more marks than are good for it; itself when all are."""
    body = _without_prefetches(func.body)
    if _size(body) > MOST:
        tried = [_relaxed(body, limit) for limit in LIMITS]
        body = next((b for b in tried if _size(b) <= MOST), tried[-1])
    return func if body is func.body else replace(func, body=body)


LANES = 8
"""Vectors that are longer are made for CPUs: here they are only more code, and count twice."""


def _copies(s: Stmt) -> int:
    """How often the body of `s` is written."""
    if isinstance(s, Loop) and s.mark is not None and s.mark.kind in ("unroll", "vectorize"):
        count = max(1, extent(s) or 1)
        return 2 * count if s.mark.kind == "vectorize" and count > LANES else count
    return 1


def _size(body: Body) -> int:
    """The statements of `body` when its loops are written out."""
    return sum([1 + _copies(s) * sum(map(_size, stmt_bodies(s))) for s in body])


def _relaxed(body: Body, limit: int) -> Body:
    out: list[Stmt] = []
    for s in body:
        if _copies(s) > 1 and isinstance(s, Loop):
            if _size((s,)) <= limit:
                out.append(s)
                continue
            s = replace(s, mark=None)
        out.append(map_stmt(s, lambda e: e, lambda b: _relaxed(b, limit)))
    return tuple(out)


def _without_prefetches(body: Body) -> Body:
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, Prefetch):
            continue
        new = map_stmt(s, lambda e: e, _without_prefetches)
        emptied = new is not s and isinstance(new, (Loop, If)) and not any(stmt_bodies(new))
        if not (emptied and all(map(faultless, stmt_exprs(new)))):
            out.append(new)
    return body if len(out) == len(body) and all(a is b for a, b in zip(body, out)) else tuple(out)
