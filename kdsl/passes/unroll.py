"""Writes out the loops that are marked `unroll`: one copy of the body for each iteration.

    for i in unroll(range(2)):        x: f32
        x: f32                        x = A[0]
        x = A[i]                ->    B[0] = x
        B[i] = x                      x_1: f32
                                      x_1 = A[1]
                                      B[1] = x_1

Copies follow each other in one body, so that their locals get names of their own.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from kdsl.analysis.linear import difference
from kdsl.dtypes import i64
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Binary,
    Body,
    Const,
    Expr,
    Func,
    Let,
    Load,
    Loop,
    Prefetch,
    Stmt,
    Store,
    fresh_id,
)
from kdsl.ir.walk import map_expr_children, map_stmt, stmt_exprs, stmts, subexprs, substitute
from kdsl.passes.simplify import simplify_body, simplify_expr


def unroll(func: Func) -> Func:
    """`func` without loops marked `unroll`; itself when there is none."""
    if not any(
        isinstance(s, Loop) and s.mark is not None and s.mark.kind == "unroll" for s in stmts(func.body)
    ):
        return func
    names = _names(func)
    several = {name for name, count in names.items() if count > 1}
    return replace(func, body=simplify_body(_Unroller(set(names), several).body(func.body)))


def _names(func: Func) -> Counter[str]:
    """Every name that `func` binds, with the number of times."""
    names = Counter([p.name for p in func.params] + list(func.sizes))
    for s in stmts(func.body):
        if isinstance(s, Loop):
            names[s.var] += 1
        elif isinstance(s, Alloc):
            names[s.name] += 1
        for root in stmt_exprs(s):
            names.update(e.name for e in subexprs(root) if isinstance(e, Let))
    return names


@dataclass(slots=True)
class _Unroller:
    """`several`: names that mean something else in another body, which a written-out one may now reach."""

    taken: set[str]
    several: set[str]

    def body(self, body: Body) -> Body:
        out: list[Stmt] = []
        for s in body:
            new = map_stmt(s, lambda e: e, self.body)
            if isinstance(new, Loop) and new.mark is not None and new.mark.kind == "unroll":
                out.extend(self.written_out(new))
            else:
                out.append(new)
        return body if len(out) == len(body) and all(a is b for a, b in zip(body, out)) else tuple(out)

    def written_out(self, loop: Loop) -> Body:
        """The copies, one after the other."""
        out: list[Stmt] = []
        for n, value in enumerate(_values(loop)):
            made = [s.name for s in loop.body if isinstance(s, Alloc)]
            names = {name: self.fresh(name) for name in made if n or name in self.several}
            out.extend(_copy(loop.body, {loop.var: value}, names, renew=n > 0))
        return tuple(out)

    def fresh(self, stem: str) -> str:
        n = 1
        while f"{stem}_{n}" in self.taken:
            n += 1
        self.taken.add(f"{stem}_{n}")
        return f"{stem}_{n}"


def _values(loop: Loop) -> list[Expr]:
    """The values of the loop's variable; their number is a constant, or the mark would not be there."""
    assert isinstance(loop.step, Const)
    gap = difference(loop.hi, loop.lo)
    assert gap is not None, f"the unrolled loop {loop.var} has no constant number of iterations"
    return [simplify_expr(Binary("+", loop.lo, Const(t, i64))) for t in range(0, gap, int(loop.step.value))]


def _copy(body: Body, values: dict[str, Expr], names: dict[str, str], renew: bool) -> Body:
    """`body` with variables replaced and locals renamed; with new ids if `renew`."""

    def on_expr(e: Expr) -> Expr:
        e = map_expr_children(e, on_expr)
        return replace(e, buffer=names[e.buffer]) if isinstance(e, Load) and e.buffer in names else e

    def on_body(body: Body) -> Body:
        return tuple([on_stmt(s) for s in body])

    def on_stmt(s: Stmt) -> Stmt:
        s = map_stmt(s, lambda e: on_expr(substitute(e, values)), on_body)
        match s:
            case Alloc():
                s = replace(s, name=names.get(s.name, s.name))
            case Store() | Accumulate() | Prefetch():
                s = replace(s, buffer=names.get(s.buffer, s.buffer))
            case Atomic():
                s = replace(s, buffer=names.get(s.buffer, s.buffer), old=names.get(s.old, s.old))
            case _:
                pass
        return replace(s, id=fresh_id()) if renew else s

    return on_body(body)
