"""Stages: a local array made in one nest and read in another, made where it is read instead.

    for y: for x: P[y, x] = f(A)            for i_o in parallel(...):
    for i: for j: B[i, j] = g(P)     ->         for j_o: P: the 6 x 16 cells that 4 x 16 cells of B need
                                                     ... P = f(A) ...   ... B = g(P) ...

In a tile that is one vector wide all of it stays in registers; rows of tiles keep a larger part in the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdsl.ir.nodes import Accumulate, Load, Loop, Store
from kdsl.ir.walk import stmt_exprs, stmts, subexprs
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.nests import Place, View, stride, uses
from kdsl.tune.spaces.rows import vectors


@dataclass(frozen=True, slots=True)
class Stage:
    """A local array, and the two innermost loops that read it, by name. `rows` is "" where there is one."""

    local: str
    rows: str
    columns: str
    producers: tuple[str, ...]
    """The variables of the loops that make it."""
    lanes: int


def stages(view: View) -> list[Stage]:
    """Local arrays that one nest makes and another one, a plain nest of elements, reads last."""
    out = []
    for name, (alloc, around) in view.allocs.items():
        if not alloc.shape:
            continue
        depth = len(around)
        makers = [p for p in view.places if len(p.outer) == depth and _writes(p.loop, name)]
        readers = [p for p in view.places if len(p.outer) == depth and _reads(p.loop, name)]
        if not makers or len(readers) != 1 or any(p.loop.id == readers[0].loop.id for p in makers):
            continue
        nest = _chain(view, readers[0])
        if nest is None or any(p.loop.mark for p in nest):
            continue
        inner = nest[-1]
        if any(isinstance(s, Accumulate) for s in stmts(inner.loop.body)):
            continue
        targets = [s for s in stmts(inner.loop.body) if isinstance(s, Store) and s.index]
        if any(stride(s, inner.loop.var, view.sizes) != 1 for s in targets):
            continue
        made = tuple(dict.fromkeys([x.var for p in makers for x in (p.loop, *p.inner)]))
        rows = nest[-2].name if len(nest) > 1 else ""
        out.append(Stage(name, rows, inner.name, made, view.lanes(readers[0].loop.body)))
    return out


def _chain(view: View, p: Place) -> list[Place] | None:
    """The loops of a nest without branches, outermost first."""
    out = [p]
    while out[-1].inner:
        inside = [x for x in out[-1].loop.body if isinstance(x, Loop)]
        if len(inside) != 1:
            return None
        out.append(view.of(inside[0]))
    return out


def _writes(loop: Loop, name: str) -> bool:
    return any(isinstance(s, (Store, Accumulate)) and s.buffer == name for s in stmts(loop.body))


def _reads(loop: Loop, name: str) -> bool:
    return any(
        isinstance(x, Load) and x.buffer == name
        for s in stmts(loop.body)
        for e in stmt_exprs(s)
        for x in subexprs(e)
    )


def at_tiles(
    s: Schedule, stage: Stage, rows: int, wide: int, target: Target, sizes: Mapping[str, int]
) -> Schedule:
    """The part of the local that a tile of `rows` x one vector reads, made in registers."""
    lanes = wide * stage.lanes
    if stage.rows:
        s = s.tile([stage.rows, stage.columns], [rows, lanes])
    else:
        s = s.split(stage.columns, lanes)
    s = s.compute_at(stage.local, f"{stage.columns}_o")
    view = View(s.func, target, sizes)
    inside = view.place(f"{stage.columns}_o")
    assert inside is not None
    for p in [view.of(x) for x in inside.inner]:
        if p.inner or p.loop.mark is not None:
            continue
        if p.constant is not None and p.constant <= 256 and _along(p, view):
            s = s.vectorize(p.name)
    for p in [View(s.func, target, sizes).of(x) for x in _inner(s, target, sizes, f"{stage.columns}_o")]:
        if p.loop.mark is None and p.constant is not None and p.constant <= 16:
            s = s.unroll(p.name)
    return s


def _inner(s: Schedule, target: Target, sizes: Mapping[str, int], name: str) -> list[Loop]:
    place = View(s.func, target, sizes).place(name)
    return [] if place is None else place.inner


def _along(p: Place, view: View) -> bool:
    found = [x for x in stmts(p.loop.body) if isinstance(x, (Store, Accumulate)) and x.index]
    return all(stride(x, p.loop.var, view.sizes) == 1 and uses(x, p.loop.var) for x in found)


def at_rows(
    s: Schedule, stage: Stage, rows: int, registers: int, target: Target, sizes: Mapping[str, int]
) -> Schedule:
    """The part of the local that a block of rows reads, made before them."""
    s = s.split(stage.rows, rows) if rows > 1 else s
    at = f"{stage.rows}_o" if rows > 1 else stage.rows
    return vectors(s.compute_at(stage.local, at), target, sizes, registers, within=at)
