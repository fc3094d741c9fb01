"""Innermost loops around guarded vectors or written-out tiles get a version for whole ones, without the guards.

    for k in range(K):                             if i_o * 6 + 6 <= M:
        for i_i in unroll(range(6)):                   for k in range(K):
            if i_o * 6 + i_i < M:        ->                for i_i in unroll(range(6)):
                S                                              S
                                                   else:
                                                       (the loop as it was)

    for i in range((N + 15) // 16):                for i in range(min((N + 15) // 16, N // 16)):
        for i_v in vectorize(range(16)):               for i_v in vectorize(range(16)):
            if i * 16 + i_v < N:         ->                S
                S                                  for i in range(max(0, N // 16), (N + 15) // 16):
                                                       (the body as it was)

A guard is one comparison (or several joined by `and`), affine, and made of names from outside of the loop, of
its variable, and of inner loops of constant range: at its worst point in these it implies all others. Where
whole tiles need conditions on rows (that lanes share) and on lanes, edge rows and edge lanes have versions of
their own. Known as: loop partitioning (Halide), index set splitting.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce

from kdsl.analysis.affine import Form, constant
from kdsl.analysis.floors import Floors, Limit, conjuncts
from kdsl.analysis.linear import extent, faultless
from kdsl.dtypes import i64
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Binary,
    Body,
    Compare,
    Const,
    Expr,
    Func,
    If,
    Logic,
    Loop,
    Stmt,
    While,
    fresh_id,
)
from kdsl.ir.walk import map_stmt, stmts
from kdsl.passes.tail_vectors import at_least_zero, by_vectors


def full_tiles(func: Func) -> Func:
    """`func` with loops versioned; itself when no loop has such guards."""
    outside = frozenset(func.sizes)
    body = _body(func.body, outside)
    return func if body is func.body else replace(func, body=body)


def _body(body: Body, outside: frozenset[str]) -> Body:
    out: list[Stmt] = []
    for s in body:
        if isinstance(s, Loop) and _innermost(s):
            out += _versioned(s, outside)
        else:
            inner = outside | {s.var} if isinstance(s, Loop) else outside
            out.append(map_stmt(s, lambda e: e, lambda b, inner=inner: _body(b, inner)))  # type: ignore[misc]
    return body if len(out) == len(body) and all(a is b for a, b in zip(body, out)) else tuple(out)


def _innermost(loop: Loop) -> bool:
    """True when the loop takes one iteration after the other (or shares them out), and all loops inside, of
    which there are some, are written out or vectors."""
    if loop.mark is not None and loop.mark.kind != "parallel":
        return False
    inside = [s for s in stmts(loop.body) if isinstance(s, (Loop, While))]
    return bool(inside) and all(
        isinstance(s, Loop) and s.mark is not None and s.mark.kind in ("unroll", "vectorize") for s in inside
    )


def _allocates(body: Body) -> bool:
    """Whether a local of `body` would reach into what follows it."""
    return any(isinstance(s, Alloc) for s in body)


def _versioned(loop: Loop, outside: frozenset[str]) -> Body:
    tiles = _Tiles(loop, outside)
    body = tiles.without(loop.body, {}, rows=True, lanes=True, own=True)
    if not tiles.worst:
        return (loop,)
    own = [f for f in tiles.worst if loop.var in tiles.floors.names(f)]
    whole = _parted(loop, body, [tiles.limit(f) for f in own], tiles.floors)
    rows = [f for f, lanes in tiles.worst.items() if not lanes and f not in own]
    lanes = [f for f in tiles.worst if f not in own and f not in rows]
    if not rows and not lanes:
        return whole
    spare = fresh((loop,)) if own else (loop,)
    if not lanes:
        return (If(tiles.test(rows), whole, spare, loc=loop.loc),)
    full_rows = replace(loop, id=fresh_id(), body=tiles.without(loop.body, {}, rows=True))
    other = by_vectors(full_rows, tiles.floors, outside | {loop.var}) or (full_rows,)
    if rows:
        full_lanes = replace(loop, id=fresh_id(), body=tiles.without(loop.body, {}, lanes=True))
        edge: Body = (If(tiles.test(lanes), (full_lanes,), spare, loc=loop.loc),)
        other = (If(tiles.test(rows), other, edge, loc=loop.loc),)
    return (If(tiles.test([*rows, *lanes]), whole, other, loc=loop.loc),)


def _parted(loop: Loop, body: Body, limits: list[Limit], floors: Floors) -> Body:
    """The iterations within `limits` with `body`, those before and after them as they are."""
    main = replace(loop, id=fresh_id(), body=body)
    before: Body = ()
    after: Body = ()
    lows = [m.bound for m in limits if not m.upper]
    highs = [m.bound + 1 for m in limits if m.upper]
    if lows:
        main = replace(main, lo=reduce(lambda e, f: floors.tighter("max", e, f), lows, loop.lo))
        before = _some(replace(loop, hi=Binary("min", loop.hi, main.lo)))
    if highs:
        main = replace(main, hi=reduce(lambda e, f: floors.tighter("min", e, f), highs, loop.hi))
        rest = loop if not lows else replace(loop, id=fresh_id(), body=fresh(loop.body))
        end = reduce(lambda e, f: floors.tighter("min", e, f), highs[1:], floors.expr(highs[0]))
        after = _some(replace(rest, lo=Binary("max", main.lo, end)))
    return (*before, main, *after)


def _some(loop: Loop) -> Body:
    """The loop behind a test for an iteration, if it has sums: partial results are combined behind it."""
    if not any(isinstance(s, Accumulate) for s in stmts(loop.body)):
        return (loop,)
    return (If(Compare("<", loop.lo, loop.hi), (loop,), loc=loop.loc),)


def fresh(body: Body) -> Body:
    """A copy with statements of its own."""
    return tuple([replace(map_stmt(s, lambda e: e, fresh), id=fresh_id()) for s in body])


@dataclass(slots=True)
class _Tiles:
    """Drops guards of `loop`. `worst` collects, as forms that are >= 0, what makes them all true, and for each
    whether lanes of a vector differ in it."""

    loop: Loop
    outside: frozenset[str]
    floors: Floors = field(default_factory=Floors)
    worst: dict[Form, bool] = field(default_factory=dict)
    vectors: set[str] = field(default_factory=set)

    def without(
        self, body: Body, last: dict[str, int], *, rows: bool = False, lanes: bool = False, own: bool = False
    ) -> Body:
        """`body` with fresh ids; `last` gives the inner loops' variables, from 0 to so much.

        Drops the guards that name the loop's variable (`own`), that lanes differ in (`lanes`), and others.
        """
        out: list[Stmt] = []
        for s in body:
            inside = last
            if isinstance(s, Loop):
                count = extent(s)
                if count and s.lo == Const(0, i64) and s.step == Const(1, i64):
                    inside = {**last, s.var: count - 1}
                if s.mark is not None and s.mark.kind == "vectorize":
                    self.vectors.add(s.var)

            def inner(b: Body, inside: dict[str, int] = inside) -> Body:
                return self.without(b, inside, rows=rows, lanes=lanes, own=own)

            if isinstance(s, If) and not s.orelse and (len(body) == 1 or not _allocates(s.then)):
                forms = self.forms(s.cond, last)
                if forms is not None and all(self._chosen(f, apart, rows, lanes, own) for f, apart in forms):
                    for f, apart in forms:
                        self.worst[f] = self.worst.get(f, False) or apart
                    out += inner(s.then)
                    continue
            out.append(replace(map_stmt(s, lambda e: e, inner), id=fresh_id()))
        return tuple(out)

    def _chosen(self, form: Form, apart: bool, rows: bool, lanes: bool, own: bool) -> bool:
        if self.loop.var in self.floors.names(form):
            return own
        return lanes if apart else rows

    def forms(self, cond: Expr, last: dict[str, int]) -> list[tuple[Form, bool]] | None:
        """Forms of names from outside whose being >= 0 implies `cond` wherever the inner loops are; with each,
        whether lanes differ in it."""
        out: list[tuple[Form, bool]] = []
        for test in conjuncts(cond):
            found = self.floors.at_least_zero(test)
            if found is None:
                return None
            for gap in found:
                lanes = bool(self.floors.names(gap) & self.vectors)
                for name, end in last.items():
                    factor = gap.coefficient(name)
                    if factor is not None and factor.terms:
                        gap = gap.substitute(name, constant(end if factor.const < 0 else 0))
                names = self.floors.names(gap)
                if self.loop.var in names and not self._usable(gap):
                    return None
                if not self.floors.small(gap) or not names <= self.outside | {self.loop.var}:
                    return None
                out.append((gap, lanes))
        return out

    def _usable(self, gap: Form) -> bool:
        """Whether the loop's range can be cut where `gap` changes its sign."""
        limit = self.floors.limit(gap, self.loop.var)
        plain = self.loop.step == Const(1, i64) and faultless(self.loop.lo) and faultless(self.loop.hi)
        return plain and limit is not None and self.floors.small(limit.bound)

    def limit(self, form: Form) -> Limit:
        """What `form >= 0` says of the loop's variable."""
        limit = self.floors.limit(form, self.loop.var)
        assert limit is not None, "asked before the guard was dropped"
        return limit

    def test(self, forms: Iterable[Form]) -> Expr:
        """That all of `forms` are >= 0."""
        return reduce(lambda a, b: Logic("and", a, b), [at_least_zero(f, self.floors) for f in forms])
