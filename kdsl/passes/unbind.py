"""Takes the marks of GPU axes off: on a CPU, loops that are bound to them are ordinary ones."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from kdsl.analysis.axes import axis_of
from kdsl.ir.nodes import Body, Func, Stmt
from kdsl.ir.walk import map_stmt


def unbind(func: Func) -> Func:
    """`func` without `bind` marks; itself when there is none."""
    body = unbound(func.body)
    return func if body is func.body else replace(func, body=body)


def unbound(body: Body, kind: str = "") -> Body:
    """`body` without marks of axes ("grid" or "block"; all of them when `kind` is ""); itself when there is
    none."""
    new = tuple([_stmt(s, kind) for s in body])
    return body if all(a is b for a, b in zip(new, body)) else new


def _stmt(s: Stmt, kind: str) -> Stmt:
    inner = map_stmt(s, lambda e: e, partial(unbound, kind=kind))
    if axis_of(inner) and axis_of(inner).startswith(kind):
        return replace(inner, mark=None)  # type: ignore[call-arg]
    return inner
