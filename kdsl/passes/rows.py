"""Loops whose body divides their counter by a row's length run row by row: no division for each element.

    for t in range(lo, hi):              if lo < hi:
        y[t // n] += x[t % n]     ->         for q in range(lo // n, (hi - 1) // n + 1):
                                                 for r in range(max(lo - q * n, 0), min(hi - q * n, n)):
                                                     y[q] += x[r]

    for v in vectorize(range(8)):              if t % n + 7 < n:
        S((t + v) // n, (t + v) % n)    ->         for v in vectorize(range(8)):
                                                       S(t // n, t % n + v)
                                               else:
                                                   (the loop as it was)

A pair of subscripts `A[t // N, t % N]` of a contiguous array with N columns needs none of this: back ends
take it for element t. Divisors that are proved to be positive stand as `max(n, 1)` (pass `bounds`); these
and what they divide are far from wrapping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from kdsl.analysis.affine import Form
from kdsl.analysis.linear import extent, faultless, linear
from kdsl.dtypes import i64
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Binary,
    BinaryOp,
    Body,
    Break,
    Compare,
    Const,
    Expr,
    Func,
    If,
    Let,
    Load,
    Logic,
    Loop,
    Return,
    Stmt,
    Store,
    Var,
    fresh_id,
)
from kdsl.ir.walk import expr_children, map_expr_children, map_stmt, stmt_exprs, stmts, subexprs, substitute
from kdsl.passes.simplify import simplify_expr

Division = tuple[Expr, Expr]
"""What is divided, and by what."""

ONE = Const(1, i64)
ZERO = Const(0, i64)


def rows(func: Func) -> Func:
    """`func` with such loops rewritten; itself when there are none."""
    work = _Rows(func)
    body = work.body(func.body)
    return func if body is func.body else replace(func, body=body)


@dataclass(slots=True)
class _Rows:
    func: Func
    taken: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.taken = {p.name for p in self.func.params} | set(self.func.sizes) | _bound(self.func.body)

    def body(self, body: Body) -> Body:
        out: list[Stmt] = []
        for s in body:
            s = map_stmt(s, lambda e: e, self.body)
            out.append(self.loop(s) if isinstance(s, Loop) else s)
        return body if all(a is b for a, b in zip(body, out)) else tuple(out)

    def loop(self, s: Loop) -> Stmt:
        if s.step != ONE:
            return s
        found = [d for d in dict.fromkeys(self.divisions(s.body)) if _counts(d, s)]
        if not found:
            return s
        if s.mark is None:
            return self.by_rows(s, found[0])
        if s.mark.kind == "vectorize" and s.lo == ZERO:
            return self.one_row(s, found)
        return s

    # ------------------------------------------------------------------- finding

    def divisions(self, body: Body) -> Iterator[Division]:
        """The divisions in `body` by a positive number that is no constant."""
        for s in stmts(body):
            if isinstance(s, (Store, Accumulate, Atomic)):
                yield from self.in_index(s.buffer, s.index)
                yield from self.in_expr(s.value)
            else:
                for e in stmt_exprs(s):
                    yield from self.in_expr(e)

    def in_expr(self, e: Expr) -> Iterator[Division]:
        match e:
            case Load():
                yield from self.in_index(e.buffer, e.index)
            case Binary(op="//" | "%", a=a, b=Binary(op="max", b=Const(value=1)) as b):
                yield a, b
        if not isinstance(e, Load):
            for c in expr_children(e):
                yield from self.in_expr(c)

    def in_index(self, buffer: str, index: tuple[Expr, ...]) -> Iterator[Division]:
        n = 0
        while n < len(index):
            if n + 1 < len(index) and self.joins(buffer, n + 1, index[n], index[n + 1]):
                n += 2
                continue
            yield from self.in_expr(index[n])
            n += 1

    def joins(self, buffer: str, dim: int, row: Expr, column: Expr) -> bool:
        """True for two subscripts that are one of a contiguous array."""
        array = next((a for a in self.func.arrays if a.name == buffer and a.contiguous), None)
        match row, column:
            case Binary(op="//", a=a, b=Binary() as b), Binary(op="%", a=again, b=divisor) if a == again:
                if array is None or b != divisor or not isinstance(b.a, Var):
                    return False
                size = array.shape[dim]
                return size.const == 0 and dict(size.terms) == {b.a.name: 1}
            case _:
                return False

    # ----------------------------------------------------------------- rewriting

    def by_rows(self, s: Loop, division: Division) -> Stmt:
        """A loop over the rows around one over a row's elements."""
        if _leaves(s.body) or not (faultless(s.lo) and faultless(s.hi)):
            return s
        dividend, n = division
        base = _at(dividend, s.var, ZERO)
        row, column = self.fresh(f"{s.var}_row"), self.fresh(f"{s.var}_column")
        start = _op("*", Var(row, i64), n)
        first, end, inside = _at(dividend, s.var, s.lo), _at(dividend, s.var, s.hi), s.body
        guard = inside[0]
        if len(inside) == 1 and isinstance(guard, If) and not guard.orelse:
            limit = _limit(guard.cond, dividend, s.var)
            if limit is not None:
                end, inside = _op("min", end, limit), guard.then
        here = _op("-", _op("+", start, Var(column, i64)), base)
        values = _replaced(division, Var(row, i64), Var(column, i64))
        body = _mapped(inside, lambda e: values(e) or (here if e == Var(s.var, i64) else None))
        lo, hi = _op("max", _op("-", first, start), ZERO), _op("min", _op("-", end, start), n)
        inner = replace(s, var=column, lo=lo, hi=hi, body=body)
        last = _op("+", _op("//", _op("-", end, ONE), n), ONE)
        nest = Loop(row, _op("//", first, n), last, ONE, (inner,), loc=s.loc)
        if (extent(s) or 0) > 0:
            return nest
        # The ends of an empty loop may be anything, and wrap in the sums above.
        return If(Compare("<", s.lo, s.hi), (nest,), loc=s.loc)

    def one_row(self, s: Loop, divisions: list[Division]) -> Stmt:
        """A version for vectors that lie in one row."""
        count = extent(s)
        assert count is not None, "a vector loop has a constant length"
        tests: list[Expr] = []
        maps: list[Callable[[Expr], Expr | None]] = []
        for division in divisions:
            base, n = _at(division[0], s.var, ZERO), division[1]
            column = _op("%", base, n)
            tests.append(Compare("<", _op("+", column, Const(count - 1, i64)), n))
            maps.append(_replaced(division, _op("//", base, n), _op("+", column, Var(s.var, i64))))
        test = tests[0]
        for other in tests[1:]:
            test = Logic("and", test, other)
        body = _mapped(s.body, lambda e: next((x for m in maps if (x := m(e)) is not None), None), fresh=True)
        return If(test, (replace(s, id=fresh_id(), body=body),), (s,), loc=s.loc)

    def fresh(self, stem: str) -> str:
        name, n = stem, 1
        while name in self.taken:
            name, n = f"{stem}_{n}", n + 1
        self.taken.add(name)
        return name


def _counts(division: Division, loop: Loop) -> bool:
    """True when what is divided grows by 1 with the loop, and nothing else in it changes."""
    form = linear(division[0])
    if form is None or form.terms.get((loop.var,)) != 1 or not faultless(division[1]):
        return False
    others = (form - Form({(loop.var,): 1})).names()
    others |= {x.name for x in subexprs(division[1]) if isinstance(x, Var)}
    return not others & (_bound(loop.body) | {loop.var})


def _limit(cond: Expr, dividend: Expr, var: str) -> Expr | None:
    """`limit` where `cond` says `dividend < limit`."""
    match cond:
        case Compare(op="<", a=a, b=b) if a == dividend and faultless(b):
            return b if all(x != Var(var, i64) for x in subexprs(b)) else None
        case _:
            return None


def _replaced(division: Division, row: Expr, column: Expr) -> Callable[[Expr], Expr | None]:
    a, n = division
    quotient, remainder = Binary("//", a, n), Binary("%", a, n)
    return lambda e: row if e == quotient else column if e == remainder else None


def _mapped(body: Body, value: Callable[[Expr], Expr | None], fresh: bool = False) -> Body:
    """`body` with those expressions replaced for which there is a value."""

    def on_expr(e: Expr) -> Expr:
        found = value(e)
        return map_expr_children(e, on_expr) if found is None else found

    def on_body(body: Body) -> Body:
        new = tuple([map_stmt(s, on_expr, on_body) for s in body])
        return tuple([replace(s, id=fresh_id()) for s in new]) if fresh else new

    return on_body(body)


def _at(e: Expr, var: str, value: Expr) -> Expr:
    return simplify_expr(substitute(e, {var: value}))


def _op(op: BinaryOp, a: Expr, b: Expr) -> Expr:
    return simplify_expr(Binary(op, a, b))


def _bound(body: Body) -> set[str]:
    out: set[str] = set()
    for s in stmts(body):
        if isinstance(s, Loop):
            out.add(s.var)
        if isinstance(s, Alloc):
            out.add(s.name)
        out |= {e.name for root in stmt_exprs(s) for e in subexprs(root) if isinstance(e, Let)}
    return out


def _leaves(body: Body) -> bool:
    """True when an iteration may end the loop."""
    for s in body:
        match s:
            case Break() | Return():
                return True
            case If() if _leaves(s.then) or _leaves(s.orelse):
                return True
            case _:
                pass
    return False
