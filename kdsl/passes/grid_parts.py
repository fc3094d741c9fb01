"""Grids that are larger than a device allows, or need too much memory, go in parts: loops of the host.

for i in bind(range(N), "grid.y"):    for i_from in range(0, N, 65535):
    ...                         ->        for i in bind(range(i_from, min(i_from + 65535, N)), "grid.y"):
                                              ...
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from kdsl.analysis.axes import AXES, axis_of
from kdsl.dtypes import i64
from kdsl.ir.launch import Scratch
from kdsl.ir.nodes import Body, Const, Expr, If, Loop, Var
from kdsl.ir.walk import substitute
from kdsl.passes.counting import ONE, ZERO, op, step_of
from kdsl.passes.host_program import Prefix
from kdsl.passes.host_scalars import mapped
from kdsl.passes.launch_context import Context

ARENA_BYTES = 1 << 28
"""What the device buffers that a dispatch needs for its own may take together."""


@dataclass(frozen=True, slots=True)
class InParts:
    """A dispatch with loops of the host around it. For each of its loops over work-groups, outermost first:
    `groups`, how many it launches, and `extents`, how many of these its own buffers must have room for."""

    prefix: Prefix
    body: Body
    hosts: tuple[Loop, ...]
    groups: tuple[Expr, ...]
    extents: tuple[Expr, ...]


def in_parts(
    prefix: Prefix, body: Body, own: Sequence[Scratch], around: Sequence[Loop], context: Context
) -> InParts:
    """A dispatch in parts, as far as the limits of the device or the buffers `own` ask for it. `around`: the
    loops of the host that are there already."""
    counts = [context.count(s) for s in prefix if isinstance(s, Loop)]
    rooms = counts
    if own:
        rooms = [context.room(s, around, own[0].name) for s in prefix if isinstance(s, Loop)]
    left = memory_left(rooms, own, context)
    new: list[Loop | If] = []
    hosts: list[Loop] = []
    groups: list[Expr] = []
    extents: list[Expr] = []
    values: dict[str, Expr] = {}
    for s in prefix:
        if isinstance(s, If):
            new.append(replace(s, cond=substitute(s.cond, values)))
            continue
        n = len(groups)
        # Back ends lay many work-groups along x side by side along an axis that is not used.
        free = axis_of(s) == "grid.x" and len(counts) < len(AXES)
        most = most_groups(s, counts[n], rooms[n + 1 :], left, free, context)
        if most is None:
            new.append(s)
            groups.append(counts[n])
            extents.append(rooms[n])
            continue
        host = Loop(context.fresh(f"{s.var}_from"), ZERO, counts[n], most, (), loc=s.loc)
        context.ranges.host_loop(host)
        here = Var(host.var, i64)
        new.append(replace(s, lo=here, hi=op("min", op("+", here, most), counts[n]), step=ONE))
        hosts.append(host)
        groups.append(op("min", most, op("-", counts[n], here)))
        extents.append(op("min", rooms[n], most))
        if s.lo != ZERO or s.step != ONE:
            values[s.var] = op("+", s.lo, op("*", Var(s.var, i64), step_of(s)))
        if left is not None:
            left = op("//", left, op("max", extents[-1], 1))
    if values:
        body = mapped(body, lambda e: substitute(e, values))
    return InParts(tuple(new), body, tuple(hosts), tuple(groups), tuple(extents))


def most_groups(
    loop: Loop, count: Expr, inner: Sequence[Expr], left: Expr | None, free: bool, context: Context
) -> Expr | None:
    """How many iterations of `loop` one launch may have, where `inner` are the work-groups for each of them
    and memory is `left` for so many; None when all may. `free`: the device's limit does not matter."""
    limit = context.target.limits.groups[AXES.index(axis_of(loop)[-1])]
    most = Const(limit, i64) if context.ranges.of(count)[1] > limit and not free else None
    if left is None:
        return most
    for other in inner:
        left = op("//", left, op("max", other, 1))
    fits = op("max", left, 1)
    return fits if most is None else op("min", fits, most)


def memory_left(rooms: Sequence[Expr], own: Sequence[Scratch], context: Context) -> Expr | None:
    """How many work-groups fit into memory; None when all of `rooms` certainly do."""
    arena = min(ARENA_BYTES, context.target.limits.storage_bytes)
    total: Expr = ZERO
    most = 0
    for s in own:
        cells: Expr = Const(s.dtype.bits // 8, i64)
        for e in s.shape[len(rooms) :]:
            cells = op("*", cells, op("max", e, 0) if context.ranges.of(e)[0] < 0 else e)
        total = op("+", total, cells)
        ends = [context.ranges.of(e)[1] for e in s.shape[len(rooms) :]]
        most += s.dtype.bits // 8 * prod([max(0, end) for end in ends])
    if most * prod([max(0, context.ranges.of(c)[1]) for c in rooms]) <= arena:
        return None
    return op("//", Const(arena, i64), op("max", total, 1))
