"""The source places of a function, numbered by a walk: so they are named in what outlives a process."""

from __future__ import annotations

from dataclasses import dataclass

from kdsl.ir.nodes import Expr, Func, Stmt
from kdsl.ir.walk import expr_children, stmt_bodies, stmt_exprs
from kdsl.source import Loc


@dataclass(frozen=True, slots=True)
class Places:
    """The distinct source places of a Func in the order of a walk; `pattern` says which nodes share one."""

    locs: tuple[Loc, ...]
    pattern: str

    @staticmethod
    def of(func: Func) -> Places:
        """Walks parameters, conditions and body."""
        numbers: dict[Loc, int] = {}
        pattern: list[str] = []

        def place(loc: Loc | None) -> None:
            pattern.append("-" if loc is None else str(numbers.setdefault(loc, len(numbers))))

        def expr(e: Expr) -> None:
            place(e.loc)
            for child in expr_children(e):
                expr(child)

        def stmt(s: Stmt) -> None:
            place(s.loc)
            for e in stmt_exprs(s):
                expr(e)
            for body in stmt_bodies(s):
                for nested in body:
                    stmt(nested)

        place(func.loc)
        for p in func.params:
            place(p.loc)
        for c in func.conditions:
            place(c.loc)
            expr(c.expr)
        for s in func.body:
            stmt(s)
        return Places(tuple(numbers), " ".join(pattern))

    def number(self, loc: Loc | None) -> int | None:
        """Where `loc` stands in `locs`; None for a place that is not the user's."""
        return self.locs.index(loc) if loc in self.locs else None
