"""Ways to schedule one nest on a GPU: products in tiles, rows and sums by work-groups, stages in tiles.

tile i x j           each invocation a tile of sums in its registers
shared tile i x j    so, and the work-group copies what it needs of the operands into its own memory
rows of i            each iteration a work-group, whose invocations share the loops in it
partial sums of i    blocks for work-groups, which add up together
P in shared tiles    the part of a local array that a work-group reads, made by it
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Accumulate, Alloc, Loop
from kdsl.ir.walk import stmts
from kdsl.sched import Schedule
from kdsl.sched.grid.limits import shared_arrays
from kdsl.sched.recipes import gpu_register_tile, gpu_share, gpu_sum
from kdsl.sched.recipes import gpu_tile as shared_tile
from kdsl.target import Target
from kdsl.tune.nests import Place, View, loads, uses
from kdsl.tune.spaces.grids import (
    AXES,
    SHAPES,
    band,
    chain,
    fits,
    group_knob,
    named,
    open_nests,
    shape_of,
    three,
    with_own_arrays,
)
from kdsl.tune.spaces.products import Product, blocks, new_loops, products
from kdsl.tune.spaces.space import Knob, Values, Way
from kdsl.tune.spaces.stages import Stage, stages
from kdsl.tune.spaces.sums import sums

Sizes = Mapping[str, int]

TOO_MUCH = "K0369"
"""Work-groups would have more shared memory than the device."""
KEPT = 64
"""Bytes of shared memory that the compiler may need itself."""
LONG = 16
"""Loops of fewer iterations are not shared by a work-group."""


def gpu_ways(view: View) -> list[Way]:
    """The ways of all nests, those of one nest from the most promising one. None is tried yet."""
    found = [p for p in products(view) if p.rows and not any("@" in n for n in p.band)]
    out = [way for p in found for way in _product(p, view)]
    terms = {name for p in found for name in p.terms}
    for place in open_nests(view):
        if not place.outer and {x.name for x in _shared(view, place)} - terms:
            out.append(_rows(place, view))
    for place in sums(view):
        if "@" not in place.name:
            out.append(_sum(place, view))
    for stage in stages(view):
        out += _stage(stage, view)
    return out


# -------------------------------------------------------------------------- products


def _product(p: Product, view: View) -> list[Way]:
    target, limits = view.target, view.target.limits
    operands = _operands(p, view)
    tall, wide = Knob("tall", (1, 2, 4, 8), 8), Knob("wide", (1, 2, 4, 8), 8)

    def registers(s: Schedule, values: Values) -> Schedule:
        s = _outside(_in_cells(s, p, view), p)
        size = int(values["tall"]), int(values["wide"])
        return gpu_register_tile(s, p.rows, p.columns, list(p.terms), size, int(values["across"]))

    def shared(s: Schedule, values: Values) -> Schedule:
        s = _outside(_in_cells(s, p, view), p)
        x, y = shape_of(values["group"])
        size = int(values["tall"]), int(values["wide"])
        most = limits.shared_bytes - KEPT
        return _in_shared_memory(s, p, operands, (x, y), size, int(values["depth"]), most)

    across = [n for n in (4, 8, 16, 32, 64) if n <= min(limits.invocations, limits.block[0])] or [1]
    own = (tall, wide, Knob("across", tuple(across), 8 if 8 in across else across[-1]))
    root = _root(view, p.columns)
    out = [Way(f"tile {p.rows} x {p.columns}", root, own, registers)]
    groups = [s for s in SHAPES if fits(s, limits) and s[1] > 1]
    if operands and groups and target.limits.shared_bytes:
        start = (8, 8) if (8, 8) in groups else groups[0]
        more = (
            Knob("group", tuple(map(named, groups)), named(start)),
            Knob("tall", (1, 2, 4, 8), 4),
            Knob("wide", (1, 2, 4, 8), 4),
            Knob("depth", (4, 8, 16, 32), 8),
        )
        out.append(Way(f"shared tile {p.rows} x {p.columns}", root, more, shared))
    return out


def _operands(p: Product, view: View) -> list[str]:
    """The arrays that the terms of a product are made of."""
    found = [
        x
        for s in stmts(view.func.body)
        if isinstance(s, Accumulate) and s.buffer == p.target
        for x in loads(s.value)
        if x.index and x.buffer != p.target
    ]
    return list(dict.fromkeys([x.buffer for x in found]))


def _in_cells(s: Schedule, p: Product, view: View) -> Schedule:
    """The sums of a product as a local each, where they go to an array: what holds it is a register then."""
    if p.scalar:
        return s
    free = [x for x in view.places if x.name in (*p.outside, p.rows, p.columns)]
    last = max(free, key=lambda x: len(x.outer))
    if any(x.name in p.terms and x.loop.id in {y.id for y in last.outer} for x in view.places):
        s = s.reorder(*[x.name for x in free], *p.terms)
    before, s = s, s.stage(p.target, free[-1].name, memory="register")
    for name in new_loops(before, s):
        s = s.unroll(name)
    return s


def _outside(s: Schedule, p: Product) -> Schedule:
    """Loops over other cells along z of the grid."""
    if len(p.outside) > 1:
        s = s.reorder(*p.outside, p.rows, p.columns)
    names = list(p.outside)
    while len(names) > 1:
        s = s.collapse(names[0], names[1], into=f"{names[0]}_{names[1]}")
        names[:2] = [f"{names[0]}_{names[1]}"]
    return s.bind(names[0], "grid.z") if names else s


def _in_shared_memory(
    s: Schedule,
    p: Product,
    operands: Sequence[str],
    group: tuple[int, int],
    registers: tuple[int, int],
    depth: int,
    most: int,
) -> Schedule:
    """So many terms at a time, or as many as the device's memory is for; if need be smaller tiles."""
    (x, y), (tall, wide) = group, registers
    while True:
        size = y * tall, x * wide, depth
        try:
            made = shared_tile(s, p.rows, p.columns, p.terms, operands, size, (tall, wide), min(4, wide))
            if _shared_bytes(made) <= most or depth * tall * wide == 1:
                return made
        except ScheduleError as error:
            if error.code != TOO_MUCH or depth * tall * wide == 1:
                raise
        if depth > 1:
            depth //= 2
        elif wide >= tall:
            wide //= 2
        else:
            tall //= 2


def _shared_bytes(s: Schedule) -> int:
    """Bytes of shared memory of a work-group."""
    return sum(sum(shared_arrays(x).values()) for x in s.func.body if isinstance(x, Loop))


# -------------------------------------------------------------------------- rows


def _shared(view: View, p: Place) -> list[Place]:
    """The loops in the iterations of a nest that a work-group can share."""
    out: list[Place] = []
    inside = chain(view, p)[-1]

    def visit(loops: Sequence[Loop]) -> None:
        for loop in loops:
            x = view.of(loop)
            if x.trips >= LONG and (view.parallel(x) or _sums_up(x)):
                out.append(x)
            else:
                visit(_children(loop))

    # Of a nest whose loops are all there is in each other, the innermost one is what is shared.
    visit(_children(inside.loop))
    return out


def _children(loop: Loop) -> list[Loop]:
    """The loops in a loop that are in no other one in it."""
    inner = [x for x in stmts(loop.body) if isinstance(x, Loop)]
    deeper = {y.id for x in inner for y in stmts(x.body) if isinstance(y, Loop)}
    return [x for x in inner if x.id not in deeper]


def _sums_up(p: Place) -> bool:
    """Whether a loop adds up into what is made outside of it; a step tells whether that is all it does."""
    made = {x.name for x in stmts(p.loop.body) if isinstance(x, Alloc)}
    return any(
        isinstance(x, Accumulate) and x.buffer not in made and not uses(x, p.loop.var)
        for x in stmts(p.loop.body)
    )


def _rows(place: Place, view: View) -> Way:
    target, sizes = view.target, view.sizes

    def build(s: Schedule, values: Values) -> Schedule:
        x, _ = shape_of(values["group"])
        return rows(s, place.name, target, sizes, x)

    knob = group_knob(target.limits, planes=False)
    return Way(f"rows of {place.name}", place.name, (knob,), build)


def rows(s: Schedule, name: str, target: Target, sizes: Sizes, invocations: int) -> Schedule:
    """Each iteration of a nest a work-group, whose invocations share the loops in it."""
    view = View(s.func, target, sizes)
    place = view.place(name)
    assert place is not None
    if not view.parallel(place):
        s = with_own_arrays(s, view, place)
    view = View(s.func, target, sizes)
    root = view.place(name)
    assert root is not None
    loops = band(view, root)
    if len(loops) < len(chain(view, root)):
        raise ScheduleError("K0381", f"the iterations of `{name}` are not independent")
    s = shared_loops(s, name, target, sizes, invocations)
    s, names = three(s, [x.name for x in loops])
    for axis, loop in zip(AXES, reversed(names)):
        s = s.bind(loop, f"grid.{axis}")  # type: ignore[arg-type]
    return s


def shared_loops(s: Schedule, name: str, target: Target, sizes: Sizes, invocations: int) -> Schedule:
    """The loops in an iteration of a nest, shared by the invocations of a work-group."""
    done: set[str] = set()
    while True:
        view = View(s.func, target, sizes)
        root = view.place(name)
        assert root is not None
        marked = {x.id for p in view.places if p.loop.mark is not None for x in (p.loop, *p.inner)}
        todo = [x for x in _shared(view, root) if x.loop.id not in marked and x.loop.var not in done]
        if not todo:
            break
        before, s = s, gpu_share(s, todo[0].name, invocations)
        done |= set(new_loops(before, s))
    if not done:
        raise ScheduleError("K0381", f"there is no loop in `{name}` to share")
    return s


# -------------------------------------------------------------------------- sums


def _sum(place: Place, view: View) -> Way:
    target, sizes = view.target, view.sizes

    def flat(s: Schedule, values: Values) -> Schedule:
        x, _ = shape_of(values["group"])
        return gpu_sum(s, place.name, int(values["block"]), x)

    def nested(s: Schedule, values: Values) -> Schedule:
        x, _ = shape_of(values["group"])
        s = s.rfactor(place.name)
        return shared_loops(s, place.name, target, sizes, x).bind(place.name, "grid.x")

    groups = group_knob(target.limits, planes=False)
    name = f"partial sums of {place.name}"
    if place.inner:
        return Way(name, _root(view, place.name), (groups,), nested)
    block = Knob("block", (1 << 10, 1 << 12, 1 << 14, 1 << 16), 1 << 12)
    return Way(name, _root(view, place.name), (block, groups), flat)


# -------------------------------------------------------------------------- stages


def _stage(stage: Stage, view: View) -> list[Way]:
    limits = view.target.limits

    def tiles(s: Schedule, values: Values) -> Schedule:
        return in_tiles(s, stage, shape_of(values["group"]), int(values["rows"]))

    def nowhere(s: Schedule, _: Values) -> Schedule:
        return s.inline(stage.local)

    root = stage.local
    heights = Knob("rows", (1, 2, 4, 8) if stage.rows else (1,), 4 if stage.rows else 1)
    groups = group_knob(limits, planes=bool(stage.rows))
    return [
        Way(f"{root} inline", root, (), nowhere),
        Way(f"{root} in shared tiles", root, (groups, heights), tiles),
    ]


def in_tiles(s: Schedule, stage: Stage, group: tuple[int, int], rows: int) -> Schedule:
    """A tile of the result for each work-group, which makes the part of the local array that it reads."""
    x, y = group
    i, j = stage.rows, stage.columns
    if not i:
        s, j_o, j_i = blocks(s, j, x * y)
        return s.compute_at(stage.local, j_o).bind(j_o, "grid.x").bind(j_i, "block.x")
    s = s.tile([i, j], [y * rows, x]).compute_at(stage.local, f"{j}_o")
    s = s.bind(f"{i}_o", "grid.y").bind(f"{j}_o", "grid.x")
    if y > 1:
        s = s.split(f"{i}_i", rows) if rows > 1 else s
        s = s.bind(f"{i}_i_o" if rows > 1 else f"{i}_i", "block.y")
    if rows > 1:
        last = f"{i}_i_i" if y > 1 else f"{i}_i"
        s = s.reorder(f"{j}_i", last).unroll(last)
    return s.bind(f"{j}_i", "block.x")


def _root(view: View, name: str) -> str:
    place = view.place(name)
    assert place is not None
    return view.of(place.outer[0]).name if place.outer else place.name
