"""Blocks of rows through several nests: a row is made by products with other work between them.

    for i:                                    for i_o in parallel(...):         # 48 rows at a time
        for j: S[j] = sum over d              for i_i: for j: S[i_i, j] = ...   # a product of matrices
        for j_1: S[j_1] = exp(...)      ->    for i_i: for j_1: S[i_i, j_1] = exp(...)
        for d: O[i, d] += S[j] * V[j, d]      for i_i: for d: O[...] += ...     # another one

The loop over the rows of a block moves into every nest (and into a loop around some of them that has to keep
its order), so that a product with one row becomes one with many. In strips, the rows of one register tile go
through all nests before the next ones, so that what is between the nests stays in the first-level cache.
Attention in its forms is of this kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Accumulate, Alloc, Binary, Body, Expr, If, Load, Loop, Store
from kdsl.ir.walk import stmt_exprs, stmts, subexprs
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.nests import Place, View, accesses, steps, uses
from kdsl.tune.spaces.products import Mark, Product, arranged, blocks, knobs, marked, products
from kdsl.tune.spaces.space import Knob, Value, Values
from kdsl.tune.spaces.sweeps import apart


@dataclass(frozen=True, slots=True)
class RowBlock:
    """A parallel loop over rows, by name, and the loop around it, "" for none."""

    row: str
    around: str
    knobs: tuple[Knob, ...]


def row_blocks(view: View) -> list[RowBlock]:
    """Parallel loops with several nests in them, at least one of which is a product that lacks rows."""
    out: list[RowBlock] = []
    for p in view.places:
        if p.loop.mark is not None or p.trips < 8 or "@" in p.name:
            continue
        if any(b.row in [x.var for x in p.outer] for b in out) or _nests(p.loop.body) < 2:
            continue
        if not any(_product_without_rows(x) for x in p.loop.body if isinstance(x, Loop)):
            continue
        out.append(
            RowBlock(
                p.name,
                p.outer[-1].var if p.outer else "",
                (
                    Knob("block", (12, 24, 48, 96, 192), 48),
                    Knob("tall", (4, 6, 8), 6),
                    Knob("strips", ("no", "yes"), "yes"),
                    Knob(
                        "pack",
                        ("inside", "around") if p.outer else ("inside",),
                        "around" if p.outer else "inside",
                    ),
                ),
            )
        )
    return out


def _nests(body: Body) -> int:
    """How many loops stand side by side in a body."""
    return sum(isinstance(x, Loop) for x in _behind_tests(body))


def _product_without_rows(loop: Loop) -> bool:
    """Whether there is a product in a nest, which the loop around it gives rows: sums of products."""
    return any(
        isinstance(s, Accumulate)
        and s.op == "+"
        and any(isinstance(e, Binary) and e.op == "*" for e in subexprs(s.value))
        for s in stmts(loop.body)
    ) and any(isinstance(x, Loop) for x in stmts(loop.body))


def blocked_rows(
    s: Schedule, block: RowBlock, values: Values, target: Target, sizes: Mapping[str, int]
) -> Schedule:
    """The steps: rows in blocks, nests taken apart, a tile of registers for each product."""
    s = prepared(s, block.row, target, sizes)
    s, _, row = blocks(s, block.row, int(values["block"]))
    if values["strips"] == "yes":
        s, strip, row = blocks(s, row, int(values["tall"]))
        s = _inwards(_inwards(s, row, target, sizes), strip, target, sizes, but=row)
    else:
        s = _inwards(s, row, target, sizes)
    s = apart(s, row, target, sizes)
    terms = _terms(View(s.func, target, sizes), row)
    for term in terms:
        s = apart(s, term, target, sizes)
    s = apart(s, row, target, sizes) if terms else s
    done: set[tuple[str, ...]] = set()
    marks: list[Mark] = []
    while True:
        view = View(s.func, target, sizes)
        todo = [p for p in _tileable(view, row) if (p.columns, *p.terms) not in done]
        if not todo:
            return marked(s, marks)
        product = todo[0]
        done.add((product.columns, *product.terms))
        try:
            s, more = _tiled(s, product, block, values, target, sizes)
        except ScheduleError:
            continue
        marks += more


def prepared(s: Schedule, row: str, target: Target, sizes: Mapping[str, int]) -> Schedule:
    """Bounds of loops without locals in them, and locals of the rows made for each row."""
    view = View(s.func, target, sizes)
    place = view.place(row)
    assert place is not None
    for name in _bounds(place):
        s = _tried(s, "inline", name)
    inside = {x.id for x in stmts(place.loop.body)}
    for name, (alloc, _) in view.allocs.items():
        if alloc.id not in inside and alloc.shape:
            s = _tried(s, "privatize", name, row)
    return s


def _bounds(p: Place) -> list[str]:
    """Scalars of whole numbers that bounds, tests and subscripts in a loop read."""
    places: list[Expr] = []
    for s in stmts(p.loop.body):
        if isinstance(s, Loop):
            places += (s.lo, s.hi)
        elif isinstance(s, If):
            places.append(s.cond)
        else:
            places += [i for e in stmt_exprs(s) for x in subexprs(e) if isinstance(x, Load) for i in x.index]
            places += s.index if isinstance(s, (Store, Accumulate)) else ()
    found = [x for e in places for x in subexprs(e) if isinstance(x, Load)]
    return list(dict.fromkeys(x.buffer for x in found if not x.index and x.type.is_int))


def _tried(s: Schedule, step: str, *args: str) -> Schedule:
    try:
        return getattr(s, step)(*args)  # type: ignore[no-any-return]
    except ScheduleError:
        return s


def _inwards(s: Schedule, row: str, target: Target, sizes: Mapping[str, int], *, but: str = "") -> Schedule:
    """The loop over rows inside of loops that hold several nests, `but` one."""
    refused = {but}
    while True:
        view = View(s.func, target, sizes)
        for p in [p for p in view.places if p.loop.var == row]:
            for x in _behind_tests(p.loop.body):
                if isinstance(x, Loop) and x.var not in refused and _nests(x.body) > 1:
                    refused.add(x.var)
                    s = _tried(s, "reorder", x.var, row)
                    break
            else:
                continue
            break
        else:
            return s


def _behind_tests(body: Body) -> Body:
    while len(body) == 1 and isinstance(body[0], If) and not body[0].orelse:
        body = body[0].then
    return body


def _terms(view: View, row: str) -> list[str]:
    """Loops in those over rows in which a nest sums up, behind other work: the operand is made there."""
    out = []
    for p in view.places:
        if p.loop.var != row:
            continue
        for x in _behind_tests(p.loop.body):
            if not isinstance(x, Loop) or len([y for y in x.body if not isinstance(y, Alloc)]) < 2:
                continue
            own = {y.name for y in x.body if isinstance(y, Alloc)}
            sums = [
                z for y in x.body if isinstance(y, Loop) for z in stmts((y,)) if isinstance(z, Accumulate)
            ]
            if sums and all(not uses(z, x.var) and z.buffer not in own for z in sums):
                out.append(x.var)
    return list(dict.fromkeys(out))


def _tileable(view: View, row: str) -> list[Product]:
    """The products of nests that a loop over rows is the outermost loop of, with it as their rows."""
    out: list[Product] = []
    for p in view.places:
        if p.loop.var == row and p.loop.mark is None:
            found = [q for q in products(view, p.loop) if q.rows == p.name and not q.outside]
            out += found[:1]
    return out


def _tiled(
    s: Schedule, p: Product, block: RowBlock, values: Values, target: Target, sizes: Mapping[str, int]
) -> tuple[Schedule, list[Mark]]:
    view = View(s.func, target, sizes)
    chosen: dict[str, Value] = {k.name: k.default for k in knobs(p, view, int(values["tall"]))}
    if not p.gathered:
        return arranged(s, p, target, sizes, {**chosen, "pack": "none", "order": "rows"})
    width = int(chosen["wide"]) * int(chosen["lanes"])
    inside = values["pack"] == "inside" or not _whole(view, p, width)
    chosen |= {"pack": "panel", "order": "columns"}
    return arranged(s, p, target, sizes, chosen, "" if inside else block.around)


def _whole(view: View, p: Product, width: int) -> bool:
    """Whether panels count from the start of the operands: loops around the nest move them by whole ones."""
    root = view.place(p.rows)
    assert root is not None
    around = [x.var for x in root.outer]
    for a in accesses(root.loop.body):
        for buffer, dim in p.packed:
            moves = [steps(a, var, view.sizes)[dim] for var in around] if a.buffer == buffer else []
            if any(move is None or move % width for move in moves):
                return False
    return True
