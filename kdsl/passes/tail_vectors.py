"""Rows of vectors that end early: one version for each number of vectors with a lane on, the last one masked.

    for k in range(K):                                 if j_o * 32 + 16 < N:
        for j in unroll(range(2)):                         for k in range(K):
            for v in vectorize(range(16)):                     for v in vectorize(range(16)):
                if j_o * 32 + j * 16 + v < N:    ->                S(0, v)
                    S(j, v)                                    for v in vectorize(range(16)):
                                                                   if v == 0 or j_o * 32 + 16 + v < N:
                                                                       S(1, v)
                                                       elif j_o * 32 < N:
                                                           ... S(0, v) alone, masked

What no lane needs is not computed. `v == 0` tells that a lane is on, so that what all lanes share is loaded
without a test. Known as: tail folding, predication.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdsl.analysis.affine import Atom, Form, constant, symbol
from kdsl.analysis.conditions import to_expr
from kdsl.analysis.floors import Floors
from kdsl.analysis.linear import extent
from kdsl.dtypes import i64
from kdsl.ir.nodes import Body, Compare, Const, Expr, If, Logic, Loop, Stmt, Var, fresh_id
from kdsl.ir.walk import map_stmt, subexprs, substitute


@dataclass(frozen=True, slots=True)
class Row:
    """`count` vectors `u` of lanes `v`; a lane is on where `gap >= 0`. `u` is "" for one vector alone."""

    gap: Form
    u: str
    v: str
    count: int

    def first(self, number: int) -> Form:
        """What is >= 0 where the first lane of a vector is on."""
        out = self.gap.substitute(self.v, constant(0))
        return out.substitute(self.u, constant(number)) if self.u else out

    def shape(self) -> tuple[object, ...]:
        """What rows have in common that the same lanes are on in."""
        return self.first(0), self.first(1), self.gap.coefficient(self.v), self.count


def by_vectors(nest: Body, floors: Floors, outside: frozenset[str]) -> Body | None:
    """The versions of `nest`, as tests of names from outside of it; None when its masks are not all those of
    rows of vectors with the same lanes on."""
    found: dict[int, Row] = {}
    if not _rows(nest, floors, outside, (), found) or len({row.shape() for row in found.values()}) != 1:
        return None
    row = next(iter(found.values()))
    body = _Short(floors, found, 0).body(nest)
    for count in range(1, row.count + 1):
        part = _Short(floors, found, count).body(nest)
        body = (If(at_least_zero(row.first(count - 1), floors), part, body, loc=nest[0].loc),)
    return body


def at_least_zero(form: Form, floors: Floors) -> Expr:
    """`form >= 0` as a comparison."""
    names = dict.fromkeys(form.names(), i64)
    values = {name: floors.expr(symbol(name)) for name in names}
    return substitute(to_expr(Atom(form), names, guarded=False), values)


def _rows(
    body: Body, floors: Floors, outside: frozenset[str], loops: tuple[Loop, ...], found: dict[int, Row]
) -> bool:
    """Collects the rows by the id of their outer loop; False: there is a mask of another kind."""
    vectors = {x.var for x in loops if _marked(x, "vectorize")}
    for s in body:
        if isinstance(s, Loop):
            if not _rows(s.body, floors, outside, (*loops, s), found):
                return False
        elif isinstance(s, If):
            row = _row(s, floors, outside, loops)
            if row is not None:
                loop = next(x for x in loops if x.var == (row.u or row.v))
                if found.setdefault(loop.id, row) != row:
                    return False
            elif _names(s.cond) & vectors:
                return False
            if not all(_rows(b, floors, outside, loops, found) for b in (s.then, s.orelse)):
                return False
    return True


def _row(s: If, floors: Floors, outside: frozenset[str], loops: tuple[Loop, ...]) -> Row | None:
    if s.orelse or not loops or not _marked(loops[-1], "vectorize"):
        return None
    forms = floors.at_least_zero(s.cond)
    if forms is None or len(forms) != 1:
        return None
    (gap,) = forms
    inner = {x.var: x for x in loops if x.var in floors.names(gap)}
    v = loops[-1]
    lanes, per_lane = extent(v), gap.coefficient(v.var)
    if v.var not in inner or not lanes or not _from_zero(v) or per_lane is None or not per_lane.is_const:
        return None
    others = [x for name, x in inner.items() if name != v.var]
    if not floors.names(gap) - set(inner) <= outside or per_lane.const >= 0 or len(others) > 1:
        return None
    if not others:
        return Row(gap, "", v.var, 1)
    (u,) = others
    vectors, per_vector = extent(u), gap.coefficient(u.var)
    written_out = _marked(u, "unroll") and _from_zero(u)
    if not (written_out and vectors) or per_vector is None or not per_vector.is_const:
        return None
    # The first lane of the next vector is on only if all lanes of this one are.
    if per_vector.const > per_lane.const * (lanes - 1):
        return None
    return Row(gap, u.var, v.var, vectors)


def _marked(loop: Loop, kind: str) -> bool:
    return loop.mark is not None and loop.mark.kind == kind


def _from_zero(loop: Loop) -> bool:
    return loop.lo == Const(0, i64) and loop.step == Const(1, i64)


def _names(e: Expr) -> set[str]:
    return {x.name for x in subexprs(e) if isinstance(x, Var)}


@dataclass(slots=True)
class _Short:
    """Rewrites a body for `count` vectors with a lane on, with statements of its own."""

    floors: Floors
    rows: dict[int, Row]
    count: int

    def body(self, body: Body) -> Body:
        """`body` with the loops over the rows' vectors cut short."""
        out: list[Stmt] = []
        for s in body:
            row = self.rows.get(s.id)
            if row is None:
                out.append(replace(map_stmt(s, lambda e: e, self.body), id=fresh_id()))
                continue
            assert isinstance(s, Loop)
            if not self.count:
                continue
            if row.u:
                last = Const(self.count - 1, i64)
                if self.count > 1:
                    out.append(replace(s, id=fresh_id(), hi=last, body=self.guarded(s.body, row, False)))
                s = replace(s, lo=last, hi=Const(self.count, i64))
            out.append(replace(s, id=fresh_id(), body=self.guarded(s.body, row, True)))
        return tuple(out)

    def guarded(self, body: Body, row: Row, mask: bool) -> Body:
        """`body` with the row's masks, which the first lane is certainly in, or without them."""
        out: list[Stmt] = []
        for s in body:
            new = replace(map_stmt(s, lambda e: e, lambda b: self.guarded(b, row, mask)), id=fresh_id())
            ours = isinstance(s, If) and not s.orelse and self.floors.at_least_zero(s.cond) == [row.gap]
            if not (ours and isinstance(s, If) and isinstance(new, If)):
                out.append(new)
            elif mask:
                first = Compare("==", Var(row.v, i64), Const(0, i64))
                out.append(replace(new, cond=Logic("or", first, s.cond)))
            else:
                out += new.then
        return tuple(out)
