"""Stores that follow each other and fill all cells between their lanes: one row of the lanes' values, woven.

    for n in vectorize(range(64)):          T[n, 0] = a; T[n, 1] = b       (two stores, each 2 elements apart)
        T[n, 0] = A[0, n]           ->      store <128 x i8> a0 b0 a1 b1 a2 b2 ..., ptr %T
        T[n, 1] = A[1, n]

Each alone would be a scatter.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdsl.analysis.linear import difference
from kdsl.backends.llvm import lane_access, memory
from kdsl.backends.llvm.lanes import Lanes
from kdsl.backends.llvm.memory import Buffer
from kdsl.backends.llvm.types import memory_type
from kdsl.ir.nodes import Body, Load, Store
from kdsl.ir.walk import subexprs


def interleaved(lanes: Lanes, body: Body, at: int) -> int:
    """Emits the stores from `body[at]` on as one, if they fill a row; gives their number, or 0."""
    first = body[at]
    if lanes.mask or not isinstance(first, Store):
        return 0
    buffer = lanes.x.buffers[first.buffer]
    step = lane_access.distance(lanes, buffer, first.index)
    if step is None or not 2 <= step <= lane_access.MAX_STRIDE or buffer.shared or buffer.lanes:
        return 0
    group = [s for s in body[at : at + step] if isinstance(s, Store) and _joins(lanes, buffer, s, step)]
    offsets = [_offset(buffer, first, s) for s in group]
    least = min([n for n in offsets if n is not None], default=0)
    places = [n - least for n in offsets if n is not None]
    if sorted(places) != list(range(step)):
        return 0
    ty = memory_type(buffer.dtype)
    raws = [""] * step
    for s, place in zip(group, places):
        raw = lanes.wide.to_memory(buffer.dtype, lanes.emit(s.value))
        raws[place] = lanes.operand(ty, raw).split("> ", 1)[1]
    start = group[places.index(0)]
    pointer = memory.address(lanes.b, buffer, [lanes.x.emit(e) for e in start.index])
    row = _woven(lanes, ty, raws)
    lanes.b.do(
        f"store <{step * lanes.count} x {ty}> {row}, ptr {pointer}, align {buffer.dtype.bytes}{buffer.alias}"
    )
    return step


def _joins(lanes: Lanes, buffer: Buffer, s: Store, step: int) -> bool:
    """Whether the store may run together with others to `buffer`."""
    reads = [e.buffer for root in (s.value, *s.index) for e in subexprs(root) if isinstance(e, Load)]
    return (
        s.buffer == buffer.name
        and not s.checked
        and buffer.name not in reads
        and lane_access.distance(lanes, buffer, s.index) == step
    )


def _offset(buffer: Buffer, first: Store, s: Store) -> int | None:
    """How many elements after `first` the store `s` writes."""
    total, size = 0, 1
    for a, b, extent in zip(reversed(s.index), reversed(first.index), reversed(buffer.extents)):
        gap = difference(a, b)
        if gap is None or (gap and not size):
            return None
        total += gap * size
        size = size * int(extent) if extent.isdigit() else 0
    return total


def _woven(lanes: Lanes, ty: str, rows: list[str]) -> str:
    """Lane 0 of each row, lane 1 of each, and so on."""
    count = lanes.count
    if len(rows) == 3:
        pair = _shuffled(lanes, ty, count, rows[0], rows[1], range(2 * count))
        wide = _shuffled(lanes, ty, count, rows[2], "poison", [n % count for n in range(2 * count)])
        order = [row * count + lane for lane in range(count) for row in range(3)]
        return _shuffled(lanes, ty, 2 * count, pair, wide, order)
    width = count
    while len(rows) > 1:
        # Far ones first: a c, b d, and then a b c d.
        half = len(rows) // 2
        order = [lane + n * width for lane in range(width) for n in range(2)]
        rows = [_shuffled(lanes, ty, width, rows[n], rows[n + half], order) for n in range(half)]
        width *= 2
    return rows[0]


def _shuffled(lanes: Lanes, ty: str, width: int, a: str, b: str, order: Sequence[int]) -> str:
    picks = ", ".join([f"i32 {n}" for n in order])
    operands = f"<{width} x {ty}> {a}, <{width} x {ty}> {b}"
    return lanes.b.value(f"shufflevector {operands}, <{len(order)} x i32> <{picks}>")
