"""Innermost loops around guarded vectors or written-out tiles get a version for whole ones, without guards.

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

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial, reduce

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
from kdsl.ir.walk import map_stmt, stmt_bodies, stmts
from kdsl.passes.tail_vectors import at_least_zero, by_vectors


def full_tiles(func: Func, masks: bool = True) -> Func:
    """`func` with loops versioned; itself when no loop has such guards. `masks`: the target has vectors of
    which some lanes are off, and versions for them pay."""
    body = _body(func.body, dict.fromkeys(func.sizes, 1), masks)
    return func if body is func.body else replace(func, body=body)


Known = Mapping[str, int]
"""Names from outside, each with how many elements it counts at a time (`Floors.divided`)."""


def _body(body: Body, outside: Known, masks: bool) -> Body:
    chains = [_chain(s) for s in body]
    at = next((n for n, chain in enumerate(chains) if chain), -1)
    if at >= 0 and all(not stmt_bodies(s) or _written_out(s) or n == at for n, s in enumerate(body)):
        # A tile that is filled, worked on and emptied: versions have all of it, where they can.
        return _versioned(body[:at], chains[at], body[at + 1 :], outside, masks)
    out: list[Stmt] = []
    for s, chain in zip(body, chains):
        if chain:
            out += _versioned((), chain, (), outside, masks)
        else:
            inner = {**outside, s.var: Floors().block(s)} if isinstance(s, Loop) else outside
            # In a vector, lanes would part for a version: the one branch runs before the other.
            lanes = isinstance(s, Loop) and s.mark is not None and s.mark.kind == "vectorize"
            out.append(s if lanes else map_stmt(s, lambda e: e, partial(_body, outside=inner, masks=masks)))
    return body if len(out) == len(body) and all(a is b for a, b in zip(body, out)) else tuple(out)


def _written_out(s: Stmt) -> bool:
    """True for a nest of loops that are written out, vectors or done by an instruction."""
    return isinstance(s, Loop) and all(
        isinstance(x, Loop) and x.mark is not None and x.mark.kind in ("unroll", "vectorize", "tensorize")
        for x in _loops((s,))
    )


def _loops(body: Body) -> Iterator[Stmt]:
    """The loops in `body`, without those inside of one that an instruction does."""
    for s in body:
        if isinstance(s, (Loop, While)):
            yield s
        if not (isinstance(s, Loop) and s.mark is not None and s.mark.kind == "tensorize"):
            for inner in stmt_bodies(s):
                yield from _loops(inner)


def _chain(s: Stmt) -> list[Loop]:
    """The loops from `s` to the innermost one that takes its iterations one after the other (or shares them
    out), each alone in the one around it, where all loops further in, of which there are some, are written
    out or vectors; empty when `s` is no such loop."""
    if not isinstance(s, Loop) or not (s.mark is None or s.mark.kind == "parallel"):
        return []
    inside = list(_loops(s.body))
    if inside and all(map(_written_out, inside)):
        return [s]
    rest = _chain(s.body[0]) if len(s.body) == 1 else []
    return [s, *rest] if rest else []


def _allocates(body: Body) -> bool:
    """Whether a local of `body` would reach into what follows it."""
    return any(isinstance(s, Alloc) for s in body)


def _versioned(before: Body, chain: list[Loop], after: Body, outside: Known, masks: bool) -> Body:
    """Versions of the nest `chain` with what stands before and after it, or of the nest alone, where their
    tests name one of its variables."""
    loop, around = chain[-1], chain[:-1]
    known = {**outside, **{s.var: Floors().block(s) for s in around}}
    tiles = _Tiles(loop, frozenset(known), Floors(known))
    nest = _Tiles(loop, frozenset(outside), tiles.floors, tiles.worst, tiles.vectors)
    tiles.without(loop.body, {}, rows=True, lanes=True, own=True)
    own = [f for f in tiles.worst if loop.var in tiles.floors.names(f)]
    used = {name for f in tiles.worst if f not in own for name in tiles.floors.names(f)}
    # The tests stand outside of the loops whose variables they do not name.
    depth = 1 + max((n for n, s in enumerate(around) if s.var in used), default=-1)
    if depth and (before or after):
        return (*before, *_versioned((), chain, (), outside, masks), *after)
    if not depth:
        for part in (before, after):
            nest.without(part, {}, rows=True, lanes=True)
    if not tiles.worst:
        return (*before, chain[0], *after)

    def version(rows: bool, lanes: bool, all_: bool = False) -> Body:
        new = tiles.without(loop.body, {}, rows=rows, lanes=lanes, own=all_)
        middle: Body = (replace(loop, id=fresh_id(), body=new),)
        if all_:
            middle = _parted(loop, new, [tiles.limit(f) for f in own], tiles.floors)
        for s in reversed(around[depth:]):
            middle = (replace(s, id=fresh_id(), body=middle),)
        start, end = (nest.without(part, {}, rows=rows, lanes=lanes) for part in (before, after))
        return (*start, *middle, *end)

    rows = [f for f, lanes in tiles.worst.items() if not lanes and f not in own]
    lanes = [f for f in tiles.worst if f not in own and f not in rows]
    whole = version(True, True, True)
    if rows or lanes:
        other = version(False, False)
        if lanes and masks:
            short = version(True, False)
            named = frozenset(outside) | {s.var for s in around[:depth]}
            short = by_vectors(short, tiles.floors, named) or short
            if rows:
                other = (If(tiles.test(lanes), version(False, True), other, loc=loop.loc),)
                other = (If(tiles.test(rows), short, other, loc=loop.loc),)
            else:
                other = short
        whole = (If(tiles.test([*rows, *lanes]), whole, other, loc=loop.loc),)
    for s in reversed(around[:depth]):
        whole = (replace(s, body=whole),)
    return whole


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
    """Drops guards of `loop`. `worst` collects, as forms that are >= 0, what makes them all true, and for
    each whether lanes of a vector differ in it."""

    loop: Loop
    outside: frozenset[str]
    floors: Floors
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
                if forms is not None:
                    for f, apart in forms:
                        self.worst[f] = self.worst.get(f, False) or apart
                if forms is not None and all(self._chosen(f, rows, lanes, own) for f, _ in forms):
                    out += inner(s.then)
                    continue
            out.append(replace(map_stmt(s, lambda e: e, inner), id=fresh_id()))
        return tuple(out)

    def _chosen(self, form: Form, rows: bool, lanes: bool, own: bool) -> bool:
        """Whether what a guard needs is tested. Guards that lanes differ in may need the same as others."""
        if self.loop.var in self.floors.names(form):
            return own
        return lanes if self.worst[form] else rows

    def forms(self, cond: Expr, last: dict[str, int]) -> list[tuple[Form, bool]] | None:
        """Forms of names from outside whose being >= 0 implies `cond` wherever the inner loops are; with
        each, whether lanes differ in it."""
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
