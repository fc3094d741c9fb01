"""Takes the marks of GPU axes off: on a CPU, loops that are bound to them are ordinary ones."""

from __future__ import annotations

from dataclasses import replace

from kdsl.ir.nodes import Body, Func, Loop, Stmt
from kdsl.ir.walk import map_stmt


def unbind(func: Func) -> Func:
    """`func` without `bind` marks; itself when there is none."""
    body = _body(func.body)
    return func if body is func.body else replace(func, body=body)


def _body(body: Body) -> Body:
    new = tuple([_stmt(s) for s in body])
    return body if all(a is b for a, b in zip(new, body)) else new


def _stmt(s: Stmt) -> Stmt:
    inner = map_stmt(s, lambda e: e, _body)
    if isinstance(inner, Loop) and inner.mark is not None and inner.mark.kind == "bind":
        return replace(inner, mark=None)
    return inner
