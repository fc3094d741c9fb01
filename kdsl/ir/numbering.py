"""Nodes numbered by their source place, so that what becomes of each can be told after any pass.

A node made from another takes its `loc`: numbers ride through copies, versions and rewrites.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdsl.ir.nodes import Body, Expr, Func, Load, Stmt
from kdsl.ir.walk import map_expr_children, map_stmt, stmts
from kdsl.source import Loc

_FILE = "<number>"


@dataclass(frozen=True, slots=True)
class Numbered:
    """`func` with numbers for places. `nodes` has, by number, the statements and loads of the original."""

    func: Func
    nodes: tuple[Stmt | Load, ...]

    def origin(self, loc: Loc | None) -> Stmt | Load | None:
        """The node whose number `loc` is; None for other places."""
        return self.nodes[loc.line] if loc is not None and loc.filename == _FILE else None


def numbered(func: Func) -> Numbered:
    """`func` with the place of each statement and load replaced by its number."""
    nodes: list[Stmt | Load] = []

    def number(node: Stmt | Load) -> Loc:
        nodes.append(node)
        return Loc(_FILE, len(nodes) - 1)

    def on_expr(e: Expr) -> Expr:
        new = map_expr_children(e, on_expr)
        return replace(new, loc=number(e)) if isinstance(e, Load) else new

    def on_body(body: Body) -> Body:
        return tuple([replace(map_stmt(s, on_expr, on_body), loc=number(s)) for s in body])

    return Numbered(replace(func, body=on_body(func.body)), tuple(nodes))


def copies(numbers: Numbered, low: Func) -> dict[int, list[Stmt]]:
    """For each statement of the original, by id, what it has become in a later form of the function."""
    out: dict[int, list[Stmt]] = {}
    for s in stmts(low.body):
        origin = numbers.origin(s.loc)
        if isinstance(origin, Stmt):
            out.setdefault(origin.id, []).append(s)
    return out
