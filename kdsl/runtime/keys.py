"""The content key of compiled code: the IR that it was made from, the target, and the tools.

Source locations are not part of it: an artifact's tables refer to the n-th place of the IR it was made from,
and are resolved against the IR at hand. So an edit above a kernel neither costs a compilation nor leaves old
line numbers in messages.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from kdsl.ir.instructions import content
from kdsl.ir.nodes import Expr, Func, Loop, Stmt
from kdsl.ir.printer import print_func
from kdsl.ir.walk import expr_children, stmt_bodies, stmt_exprs, stmts
from kdsl.runtime.cache import DiskCache
from kdsl.runtime.fingerprint import environment
from kdsl.source import Loc
from kdsl.target import Target


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


def code_key(func: Func, places: Places, target: Target, variant: str, cache: DiskCache | None) -> str:
    """The cache key of `func`, as the front end built it, on `target`; `variant`: what else is asked for."""
    marks = [s.mark for s in stmts(func.body) if isinstance(s, Loop) and s.mark is not None]
    named = dict.fromkeys([content(m.instruction) for m in marks if m.instruction is not None])
    parts = (
        print_func(func),
        *named,
        repr(func.options),
        places.pattern,
        target.fingerprint,
        variant,
        *environment(cache),
    )
    return "code-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()
