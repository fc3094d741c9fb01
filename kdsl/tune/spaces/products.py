"""Products: sums of terms in which operands are used for several rows or columns; tiles of them in registers.

    for i:                                 for j_o in parallel(...):        # a panel of columns
        for j:                                 ... copy of the panel of B ...
            acc = 0                            for i_o:
            for k: acc += A[i, k] * B[k, j]  ->    for k:
            C[i, j] = acc                              for i_i in unroll(range(6)):
                                                           for j_i in unroll(range(4)):
                                                               for j_i_v in vectorize(range(16)): ...

Found by roles: `terms` are the loops in which the cell of an accumulation stays, `columns` is one that moves
along memory (or along a dimension that a copy can put last), `rows` one for which an operand is used again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Accumulate, Alloc, Load, Loop
from kdsl.ir.walk import stmts
from kdsl.sched import Schedule
from kdsl.sched.rewriting.layout import Layout
from kdsl.target import Target
from kdsl.tune.nests import View, dimension, loads, steps, stride, uses, walked
from kdsl.tune.spaces.space import Knob, Values

FEW = 8
"""Loops over terms of a constant number of iterations up to this are written out."""


@dataclass(frozen=True, slots=True)
class Product:
    """One accumulation and the loops around it, by name. `rows` is "" for a product with a vector.

    `outside`: loops over other cells, which stay outside. `packed`: operands that move with the columns, with
    the dimension in which they do; `gathered` says that one of them has to be copied to run along memory.
    """

    rows: str
    columns: str
    terms: tuple[str, ...]
    outside: tuple[str, ...]
    written_out: tuple[str, ...]
    target: str
    scalar: bool
    packed: tuple[tuple[str, int], ...]
    gathered: bool
    lanes: int

    @property
    def band(self) -> tuple[str, ...]:
        return (*self.outside, self.rows, self.columns, *self.terms)


def products(view: View, root: Loop | None = None) -> list[Product]:
    """The products of a function, or of a nest; the most likely assignment of roles comes first for each.

    The loops around the nest's `root` are none of theirs.
    """
    out: list[Product] = []
    for s, loops in walked(view.func.body if root is None else (root,)):
        if isinstance(s, Accumulate) and s.op == "+":
            out += _roles(view, s, loops)
    return out


def _roles(view: View, s: Accumulate, chain: Sequence[Loop]) -> Iterator[Product]:
    if any(x.mark is not None for x in chain) or len(chain) < 2:
        return
    cells = {x.var for x in chain if uses(s, x.var)}
    if s.buffer in view.allocs:
        made = {x.id for x in view.allocs[s.buffer][1]}
        cells |= {x.var for x in chain if x.id in made}
    terms = [x for x in chain if x.var not in cells]
    free = [x for x in chain if x.var in cells]
    operands = [x for x in loads(s.value) if x.index]
    if not terms or not operands or not free:
        return
    lanes = view.lanes((s,))
    for columns in _columns(view, s, free, operands):
        moving = [a for a in operands if uses(a, columns.var)]
        rows = [
            x
            for x in free
            if x is not columns
            and any(not uses(a, x.var) for a in moving)
            and any(uses(a, x.var) for a in operands)
        ]
        packed = _packed(view, moving, columns, chain)
        far = {a.buffer for a in moving if stride(a, columns.var, view.sizes) != 1}
        gathered = bool(far)
        if (
            all(uses(a, columns.var) for a in operands)
            or (gathered and not rows)
            or far - {b for b, _ in packed}
        ):
            continue
        choices: list[Loop | None] = [*rows] or [None]
        for row in choices:
            names = [view.of(x).name for x in free if x is not columns and x is not row]
            yield Product(
                "" if row is None else view.of(row).name,
                view.of(columns).name,
                tuple([view.of(x).name for x in terms]),
                tuple(names),
                tuple([x.var for x in terms if (view.of(x).constant or FEW + 1) <= FEW][-1:]),
                s.buffer,
                not s.index,
                tuple(packed),
                gathered,
                lanes,
            )


def _packed(
    view: View, moving: Sequence[Load], columns: Loop, chain: Sequence[Loop]
) -> list[tuple[str, int]]:
    """The operands that panels can be made of, with the dimension of the columns: nothing else moves it."""
    out: dict[str, int] = {}
    for a in moving:
        dim = dimension(a, columns.var, view.sizes)
        others = [
            x for x in chain if x is not columns and dim is not None and steps(a, x.var, view.sizes)[dim]
        ]
        if dim is not None and not others and out.setdefault(a.buffer, dim) != dim:
            return []
        if dim is None or others:
            out.pop(a.buffer, None)
    return list(out.items())


def _columns(view: View, s: Accumulate, free: Sequence[Loop], operands: Sequence[Load]) -> list[Loop]:
    """The loops over cells that a vector can run along: in all operands that move with one of them it counts
    elements of one dimension. Those in which they lie next to each other come first, inner ones before."""
    found = []
    for n, x in enumerate(reversed(free)):
        moving = [a for a in operands if uses(a, x.var)]
        # Registers hold the sums in the order of their array: vectors have to lie along it.
        if not moving or (s.index and uses(s, x.var) and stride(s, x.var, view.sizes) != 1):
            continue
        if any(dimension(a, x.var, view.sizes) is None for a in moving):
            continue
        found.append((sum(stride(a, x.var, view.sizes) != 1 for a in moving), n, x))
    return [x for _, _, x in sorted(found, key=lambda t: t[:2])]


# -------------------------------------------------------------------------- knobs


HEIGHTS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)
WIDTHS = (1, 2, 3, 4, 6, 7, 8)


def knobs(p: Product, view: View, tall: int = 0) -> tuple[Knob, ...]:
    """Sizes that suit the registers and caches. `tall`: the rows of a tile, where they are given."""
    rows = view.place(p.rows) if p.rows else None
    columns, terms = view.place(p.columns), [view.place(t) for t in p.terms]
    assert columns is not None
    far = 1.0 if rows is None else rows.trips
    vector = view.target.vector_bytes
    lane_counts = [n for n in (p.lanes // 2, p.lanes) if n >= 4] or [p.lanes]
    heights = [n for n in HEIGHTS if n <= max(1, far) and tall in (0, n)]
    widths = [n for n in WIDTHS if (n - 1) * lane_counts[0] < columns.trips or n == 1]
    price, tall, wide, lanes = min(
        [
            (_tile_price(t, w, n, far, columns.trips, p.lanes, view.target.vector_registers), t, w, n)
            for t in heights
            for w in widths
            for n in lane_counts
        ]
    )
    assert price > 0
    long = max([t.trips for t in terms if t is not None], default=1.0)
    cuts = [n for n in (128, 256, 512, 1024) if n < long] if len(p.terms) == 1 and not p.scalar else []
    pack = p.gathered or (rows is not None and far > 4 * tall and long > 32)
    ways = ["panel"] if p.gathered else ["none", "panel"] if p.packed else ["none"]
    panel = PANEL_BYTES * p.lanes // (wide * lanes * vector)
    cut = max([n for n in cuts if n <= max(128, panel)], default=0) if long > 1.5 * panel else 0
    return (
        Knob("tall", tuple(heights), tall),
        Knob("wide", tuple(widths), wide),
        Knob("lanes", tuple(lane_counts), lanes),
        Knob("terms", (0, *cuts), cut),
        Knob("pack", tuple(ways), "panel" if pack and "panel" in ways else ways[0]),
        Knob("order", ("columns", "rows"), "columns" if pack and p.packed else "rows"),
    )


WAYS = 8
"""Lines with the same place in the first-level cache of the usual CPU."""
PANEL_BYTES = 1 << 18
"""A panel of an operand that stays in the second-level cache while tiles of rows go by."""


def _tile_price(
    tall: int, wide: int, lanes: int, rows: float, columns: float, full: int, registers: int
) -> float:
    """Cycles for each useful term of a tile: multiply-adds, loads, latency, waste at the edges, registers."""
    half = lanes / full
    sums, operands = tall * wide, wide + 1
    cycles = max(sums * max(half, 0.5), wide * max(half, 0.5) + 0.5 * tall, (sums + operands) / 4, 4.0)
    # Rows of more than eight lines apart may share one place of a first-level cache of eight ways.
    cycles += 0.5 + 0.1 * (wide + tall) + 1.0 * max(0, tall - WAYS)
    if sums + operands > registers:
        cycles += 2.0 * (sums + operands - registers)
    done_rows = ceil(rows / tall) * tall
    done_columns = ceil(columns / (wide * lanes)) * wide * lanes
    return cycles / (tall * wide * lanes) * done_rows / max(rows, 1) * done_columns / max(columns, 1)


# -------------------------------------------------------------------------- steps


@dataclass(frozen=True, slots=True)
class Mark:
    """A loop to be written out (`lanes` 0), or to be made vectors of so many lanes, also `written_out`.

    `within`: only its copies in a loop of that name.
    """

    loop: str
    lanes: int = 0
    written_out: bool = True
    within: str = ""


def register_tile(
    s: Schedule, p: Product, target: Target, sizes: Mapping[str, int], values: Values
) -> Schedule:
    """The steps of a product: a tile of sums in registers, panels of operands copied."""
    return marked(*arranged(s, p, target, sizes, values))


FEW_ROWS = 4
"""Rows of a product up to which its other operand is not used often enough to be taken in columns."""


def few_rows(p: Product, view: View) -> bool:
    """Whether a product has few rows, and an operand of which whole rows lie in memory."""
    rows = view.place(p.rows) if p.rows else None
    return len(p.terms) == 1 and not p.gathered and (rows is None or rows.trips <= FEW_ROWS)


def added_rows(s: Schedule, p: Product, values: Values) -> Schedule:
    """A product with few rows: some rows of the operand at a time, as they lie in memory, are added to the
    sums of a block of columns, which stay in the first-level cache.

        for j_o: for k_o: for j_i_o: for k_i in unroll(range(6)): for j_i_i in unroll(range(4)): ...
    """
    lanes = p.lanes
    s, j_o, j_b = blocks(s, p.columns, int(values["block"]))
    s, j, j_i = blocks(s, j_b, int(values["wide"]) * lanes)
    s, k_o, k_i = blocks(s, p.terms[0], int(values["together"]))
    around = [_stem(n) for n in (*p.outside, p.rows) if n]
    s = s.reorder(*around, j_o, k_o, j, k_i, j_i)
    s, marks = _in_registers(s, p.target, j, lanes)
    return marked(s, [*marks, Mark(k_i), Mark(j_i, lanes)])


def marked(s: Schedule, marks: Sequence[Mark]) -> Schedule:
    """The marks made. Vectors come last: each is proved again when something around it changes."""
    for mark in marks:
        if not mark.lanes:
            for name in _copies(s, mark):
                s = s.unroll(name)
    for mark in marks:
        if mark.lanes:
            after = s.vectorize(mark.loop, mark.lanes)
            s = after.unroll(mark.loop) if mark.written_out and new_loops(s, after) else after
    return s


def _copies(s: Schedule, mark: Mark) -> list[str]:
    """The names of the loops that a mark is for."""
    if not mark.within:
        return [mark.loop]
    every = [(x, outer) for x, outer in walked(s.func.body) if isinstance(x, Loop) and x.var == mark.loop]
    found = [n for n, (_, outer) in enumerate(every) if any(x.var == mark.within for x in outer)]
    return [f"{mark.loop}@{n}" if len(every) > 1 else mark.loop for n in found]


def arranged(
    s: Schedule, p: Product, target: Target, sizes: Mapping[str, int], values: Values, around: str = ""
) -> tuple[Schedule, list[Mark]]:
    """The loops and copies of a product, and the marks to be made. Panels are of the columns of a tile, or,
    with `around`, of all that an iteration of this loop needs."""
    tall, wide, lanes = int(values["tall"]), int(values["wide"]), int(values["lanes"])
    width = wide * lanes
    ks = [_stem(t) for t in p.terms]
    s, j_o, j_i = blocks(s, p.columns, width)
    i_o, i_i = "", ""
    row = View(s.func, target, sizes).place(p.rows) if p.rows else None
    if p.rows and tall == 1:
        i_o = _stem(p.rows)
    elif p.rows and row is not None and row.constant == tall:
        i_i = p.rows
    elif p.rows:
        s, i_o, i_i = blocks(s, p.rows, tall)
    k_o = ""
    if values["terms"]:
        s, k_o, ks[0] = blocks(s, p.terms[0], int(values["terms"]))
    nest = [j_o, k_o, i_o] if values["order"] == "columns" else [i_o, j_o, k_o]
    outside = [*[_stem(o) for o in p.outside], *[n for n in nest if n]]
    inside = [n for n in (i_i, j_i) if n]
    s = s.reorder(*outside, *ks, *inside)
    marks: list[Mark] = []
    if values["pack"] == "panel" and (around or values["order"] == "columns"):
        for buffer, dim in p.packed:
            s, vector = _panel(s, buffer, dim, around or k_o or j_o, width)
            marks.append(Mark(vector, lanes, written_out=False))
    if outside and (not p.scalar or k_o):
        s, more = _in_registers(s, p.target, outside[-1], lanes)
        marks += more
    s, more = _sums_of_lanes(s, View(s.func, target, sizes), p.target, j_i, lanes)
    marks += more
    marks.append(Mark(j_i, lanes))
    known = {x.var for x in stmts(s.func.body) if isinstance(x, Loop)}
    # Rows that are no blocks have a name that other loops may have too.
    marks += [Mark(_stem(i_i), within="" if i_o else j_o)] if i_i else []
    marks += [Mark(name) for name in p.written_out if name in known]
    return s, marks


def _sums_of_lanes(
    s: Schedule, view: View, target: str, columns: str, lanes: int
) -> tuple[Schedule, list[Mark]]:
    """Where what is done to the sums of a tile reduces them too (to the greatest of a row): one result for
    each lane, these combined behind. And how the new loops are marked."""
    marks: list[Mark] = []
    for p in reversed([p for p in view.places if p.loop.var == columns]):
        found = [x for x in stmts(p.loop.body) if isinstance(x, Accumulate) and not uses(x, columns)]
        cells = list(dict.fromkeys(x.buffer for x in found if x.buffer != target))
        if len(cells) != 1 or p.inner:
            continue
        try:
            after, outer, inner = blocks(s, p.name, lanes)
            made = after.rfactor(inner, cells[0])
        except ScheduleError:
            continue
        marks += [Mark(outer), *[Mark(name, lanes) for name in (inner, *new_loops(after, made))]]
        s = made
    return s, marks


def blocks(s: Schedule, loop: str, size: int) -> tuple[Schedule, str, str]:
    """A loop in blocks, by names that no other loop has: the schedule, the outer loop, the inner one."""
    stem, taken = _stem(loop), {x.var for x in stmts(s.func.body) if isinstance(x, Loop)}
    n = 1
    while {f"{stem}_o{n if n > 1 else ''}", f"{stem}_i{n if n > 1 else ''}"} & taken:
        n += 1
    number = str(n) if n > 1 else ""
    outer, inner = f"{stem}_o{number}", f"{stem}_i{number}"
    return s.split(loop, size, (outer, inner) if number else None), outer, inner


def _stem(name: str) -> str:
    return name.partition("@")[0]


def new_loops(before: Schedule, after: Schedule) -> list[str]:
    """The variables of the loops that `before` has not, in program order."""
    known = {x.var for x in stmts(before.func.body) if isinstance(x, Loop)}
    return list(
        dict.fromkeys(x.var for x in stmts(after.func.body) if isinstance(x, Loop) and x.var not in known)
    )


def _panel(s: Schedule, buffer: str, dim: int, at: str, width: int) -> tuple[Schedule, str]:
    """A copy of what one iteration of `at` touches, the dimension `dim` cut into panels with it last; and the
    innermost loop that copies."""
    rank = next((len(a.shape) for a in s.func.arrays if a.name == buffer), 0)
    rank = rank or next(len(x.shape) for x in stmts(s.func.body) if isinstance(x, Alloc) and x.name == buffer)
    tile = tuple([width if n == dim else None for n in range(rank)])
    others = [n if n < dim else n + 1 for n in range(rank) if n != dim]
    layout: Layout = {"tile": tile, "order": (dim, *others, dim + 1)}
    after = s.stage(buffer, at=at, layout=layout)
    return after, new_loops(s, after)[-1]


def _in_registers(s: Schedule, buffer: str, at: str, lanes: int) -> tuple[Schedule, list[Mark]]:
    """The part of an array that one iteration of `at` touches in registers; how its copies are marked."""
    after = s.stage(buffer, at=at, memory="register")
    groups: dict[str, list[str]] = {}
    for name in new_loops(s, after):
        groups.setdefault(name.rstrip("0123456789"), []).append(name)
    marks = []
    for names in groups.values():
        marks += [Mark(name) for name in names[:-1]] + [Mark(names[-1], lanes)]
    return after, marks
