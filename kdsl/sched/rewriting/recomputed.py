"""The loops of a producer cut down to a box of the local that they produce.

    for y in range(H + 2):                      for y in range(34):
        for x in range(W):               ->         if y_o * 32 + y < H + 2:
            P[y, x] = A[y, x]                           for x in range(W):
                                                            P[y, x] = A[y_o * 32 + y, x]

for the box that starts at row `y_o * 32` and has 34 rows and W columns. A loop whose variable decides about a
cut dimension counts from the box's start where its extent is constant, and is tested against its own bounds;
otherwise its bounds are cut. What is proved not to happen is not tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce

from kdsl.analysis.affine import Form, constant
from kdsl.analysis.linear import extent
from kdsl.analysis.regions import ends
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Body,
    Compare,
    CompareOp,
    Expr,
    If,
    Load,
    Logic,
    Loop,
    Stmt,
    Store,
    fresh_id,
)
from kdsl.ir.walk import map_expr_children, map_stmt, stmt_bodies, stmts, substitute
from kdsl.passes.simplify import simplify_expr
from kdsl.sched.edit import Edit
from kdsl.sched.rewriting.arith import add, const, largest, least, sub, tidied, var
from kdsl.sched.rewriting.boxes import Box
from kdsl.sched.rewriting.tree import Track, is_leaf, written

Test = tuple[int, str]
"""The name of a comparison: the id of the original loop or store, and which one of it."""

Comparison = tuple[Test, Expr, CompareOp, Expr]
"""`a < b` or `a <= b`."""


@dataclass(frozen=True, slots=True)
class Span:
    """Values of a loop's variable: from `lo` on, `count` of them, or else before `hi`."""

    lo: Form
    hi: Form
    count: int | None


@dataclass(slots=True)
class Cutting:
    """Writes the copy. With `proved` None it is a draft without tests, in which probes stand for them.

    A probe is a store to the local whose subscripts are forms that a test wants to be >= 0; `probes` gives
    for each (by id) the tests. `track` learns what the copies are copies of; `renamed` gives the names that
    loops had in the original, where they have others.
    """

    edit: Edit
    box: Box
    track: Track
    renamed: Mapping[str, str]
    proved: set[Test] | None = None
    guarded: bool = False
    """A store is tested to lie in the box."""
    probes: dict[int, list[Test]] = field(default_factory=dict)
    values: dict[str, Expr] = field(default_factory=dict)

    def body(self, body: Body, around: tuple[Loop, ...]) -> Body:
        """The copy of `body`, which stands in the loops `around` of the producer."""
        out: list[Stmt] = []
        for s in body:
            if isinstance(s, Loop):
                out += self.loop(s, around)
            else:
                out += self.other(s, around)
        return tuple(out)

    def other(self, s: Stmt, around: tuple[Loop, ...]) -> Body:
        new = map_stmt(s, self.expr, lambda b: self.body(b, around))
        if isinstance(s, (Store, Accumulate)) and s.buffer == self.box.name:
            assert isinstance(new, (Store, Accumulate))
            return self.store(s, new)
        return (self.copied(s, new),)

    def copied(self, s: Stmt, new: Stmt) -> Stmt:
        """`new` as a copy of `s`."""
        new = replace(new, id=fresh_id())
        if is_leaf(s):
            self.track.source[new.id] = s.id
            self.track.values[new.id] = {self.renamed.get(k, k): e for k, e in self.values.items()}
        return new

    def expr(self, e: Expr) -> Expr:
        """`e` over the new loops, the local counted from the start of the box."""
        new = self.redirected(substitute(e, self.values))
        return new if new is e else tidied(simplify_expr(new))

    def redirected(self, e: Expr) -> Expr:
        e = map_expr_children(e, self.redirected)
        if isinstance(e, Load) and e.buffer == self.box.name and self.proved is not None:
            return replace(e, index=self.box.placed(e.index))
        return e

    # ------------------------------------------------------------------- stores

    def store(self, s: Store | Accumulate, new: Store | Accumulate) -> Body:
        """A store to the local, tested to lie in the box."""
        tests: list[Comparison] = []
        for n in self.box.cut():
            at = self.box.relative(n, new.index[n])
            tests.append(((s.id, f"below {n}"), const(0), "<=", at))
            tests.append(((s.id, f"above {n}"), at, "<", self.box.expr(self.box.ranges[n].extent)))
        if self.proved is None:
            return (*self.probe(tests), self.copied(s, new))
        self.guarded = self.guarded or any(test not in self.proved for test, *_ in tests)
        placed = replace(new, index=self.box.placed(new.index))
        return self.tested(tests, (self.copied(s, placed),), s)

    def probe(self, tests: Sequence[Comparison]) -> Body:
        """A statement whose subscripts are the differences that are to be >= 0."""
        if not tests:
            return ()
        gaps = tuple([add(sub(b, a), -1 if op == "<" else 0) for _, a, op, b in tests])
        made = Store(self.box.name, gaps, const(0))
        self.probes[made.id] = [name for name, *_ in tests]
        return (made,)

    def tested(self, tests: Sequence[Comparison], body: Body, s: Stmt) -> Body:
        """`body` under those of the tests that are not proved."""
        assert self.proved is not None
        left: list[Expr] = [Compare(op, a, b) for name, a, op, b in tests if name not in self.proved]
        return (If(reduce(partial(Logic, "and"), left), body, loc=s.loc),) if left else body

    # -------------------------------------------------------------------- loops

    def loop(self, s: Loop, around: tuple[Loop, ...]) -> Body:
        lo, hi, step = (self.expr(e) for e in (s.lo, s.hi, s.step))
        span = self.span(s, around)
        count = extent(s)
        if span is None or (span.count is not None and count is not None and count <= span.count):
            self.values[s.var] = var(s.var)
            inner = self.body(s.body, (*around, s))
            return (self.copied(s, replace(s, lo=lo, hi=hi, step=step, body=inner)),)
        if s.step != const(1):
            raise self.edit.refused(
                "K0308",
                f"cannot {self.edit.step.name} the loop `{s.var}`: its step is not 1",
                s,
                help=f'count its iterations first: s.split("{s.var}", 1) makes a loop of step 1',
            )
        start = self.expr(self.box.expr(span.lo))
        if span.count is not None:
            at = self.expr_of(start, s.var)
            self.values[s.var] = at
            tests: list[Comparison] = [((s.id, "below"), lo, "<=", at), ((s.id, "above"), at, "<", hi)]
            inner = self.body(s.body, (*around, s))
            inner = (*self.probe(tests), *inner) if self.proved is None else self.tested(tests, inner, s)
            new = replace(s, lo=const(0), hi=const(span.count), body=inner)
            return (self.copied(s, new),)
        end = self.expr(self.box.expr(span.hi))
        ends_: list[Comparison] = [((s.id, "first"), lo, "<=", start), ((s.id, "last"), end, "<=", hi)]
        ends_ += [((s.id, "own first"), start, "<=", lo), ((s.id, "own last"), hi, "<=", end)]
        before: Body = ()
        if self.proved is None:
            before = self.probe(ends_)
            lo, hi = largest(lo, start), least(hi, end)
        else:
            if (s.id, "own first") not in self.proved:
                lo = start if (s.id, "first") in self.proved else largest(lo, start)
            if (s.id, "own last") not in self.proved:
                hi = end if (s.id, "last") in self.proved else least(hi, end)
        self.values[s.var] = var(s.var)
        inner = self.body(s.body, (*around, s))
        return (*before, self.copied(s, replace(s, lo=lo, hi=hi, body=inner)))

    def expr_of(self, start: Expr, name: str) -> Expr:
        """`start + name`, as a sum of terms where it is one."""
        at = add(start, var(name))
        form = self.box.atoms.form(at, None)
        return at if form is None else self.box.expr(form)

    def span(self, loop: Loop, around: tuple[Loop, ...]) -> Span | None:
        """The values of the loop's variable that reach the box; None when all may."""
        own = {s.name for s in stmts(loop.body) if isinstance(s, Alloc)}
        if written(loop.body) - own - {self.box.name}:
            # A value that goes on from iteration to iteration.
            return None
        found: list[Span] = []
        for store, inner in _stores(loop.body, self.box.name):
            span = self.reach(loop, around, store, inner)
            if span is None:
                return None
            found.append(span)
        return _union(found) if found else None

    def reach(
        self, loop: Loop, around: tuple[Loop, ...], store: Store | Accumulate, inner: tuple[Loop, ...]
    ) -> Span | None:
        """As `span`, for one store; the tightest of its dimensions."""
        known = set(self.box.outside) | {s.var for s in around}
        options: list[Span] = []
        for n in self.box.cut():
            form = self.box.atoms.form(store.index[n], None)
            factor = None if form is None else form.coefficient(loop.var)
            if form is None or factor is None or not factor.is_const or not factor.terms:
                continue
            rest = form - Form({(loop.var,): factor.const})
            lows = self.ends(rest, inner, known, last=False)
            highs = self.ends(rest, inner, known, last=True)
            options += [self.solved(n, factor.const, low, high) for low in lows for high in highs]
        best = min(options, key=lambda s: (s.count is None, s.count or 0), default=None)
        return best

    def ends(self, form: Form, inner: tuple[Loop, ...], known: set[str], last: bool) -> list[Form]:
        found = ends([form], inner, self.box.atoms, known, last)
        return [f for f in found if self.box.atoms.names(f) <= known]

    def solved(self, dim: int, factor: int, low: Form, high: Form) -> Span:
        """The v for which factor * v + rest may be in the box, for a rest from `low` to `high`."""
        box = self.box.ranges[dim]
        first, last = box.lo - high, box.lo + box.extent - 1 - low
        if factor < 0:
            first, last = -last, -first
        a = abs(factor)
        lo = self.box.floor(first + (a - 1), a)
        hi = self.box.floor(last, a) + 1
        gap = last - first
        count = gap.const // a + 1 if gap.is_const else None
        return Span(lo, hi, count if count is None else max(count, 0))


def _union(spans: list[Span]) -> Span | None:
    """One span around all; None when their starts cannot be compared."""
    first = spans[0]
    gaps = [s.lo - first.lo for s in spans]
    if not all(g.is_const for g in gaps):
        return None
    lo = first.lo + min(g.const for g in gaps)
    if all(s.count is not None for s in spans):
        count = max((s.lo - lo).const + (s.count or 0) for s in spans)
        return Span(lo, lo + constant(count), count)
    tops = [s.hi - first.hi for s in spans]
    if not all(t.is_const for t in tops):
        return None
    return Span(lo, first.hi + max(t.const for t in tops), None)


def _stores(
    body: Body, name: str, loops: tuple[Loop, ...] = ()
) -> list[tuple[Store | Accumulate, tuple[Loop, ...]]]:
    """The stores to a buffer with the loops inside `body` around each."""
    out: list[tuple[Store | Accumulate, tuple[Loop, ...]]] = []
    for s in body:
        if isinstance(s, (Store, Accumulate)) and s.buffer == name:
            out.append((s, loops))
        for inner in stmt_bodies(s):
            out += _stores(inner, name, (*loops, s) if isinstance(s, Loop) else loops)
    return out
