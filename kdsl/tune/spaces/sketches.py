"""The sketches of a program: ways to schedule its nests, derived from it by analysis.

Each nest can be left to `rows` (vectors along memory, outer loops on threads), or get a way of its own:
`products` (tiles of sums in registers), `sums` (partial results). What a sketch's first candidate cannot do,
because a step is refused, makes the sketch disappear.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from kdsl.errors import ScheduleError
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.nests import View
from kdsl.tune.spaces.gpu_ways import gpu_ways
from kdsl.tune.spaces.grids import EACH, elementwise, group_knob, has_planes, on_grid, open_nests, shape_of
from kdsl.tune.spaces.planes import Plane, in_blocks, planes
from kdsl.tune.spaces.products import Product, added_rows, few_rows, knobs, products, register_tile
from kdsl.tune.spaces.row_blocks import RowBlock, blocked_rows, row_blocks
from kdsl.tune.spaces.rows import TOGETHER, need_vectors, on_threads, stream_knob, vectors
from kdsl.tune.spaces.space import Knob, Sketch, Value, Values, Way
from kdsl.tune.spaces.stages import Stage, at_rows, at_tiles, stages
from kdsl.tune.spaces.sums import FORMS, partial_sums, sums
from kdsl.tune.spaces.sweeps import Sweeps, sweeps, time_tiles

MOST = 24
"""Ways of one program; further alternatives are left out."""

Sizes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Rest:
    """The steps at the end of all sketches: vectors in what has none, threads; on a GPU grids."""

    target: Target
    sizes: Sizes
    knobs: tuple[Knob, ...]

    @staticmethod
    def of(view: View, threads: int = 1) -> Rest:
        """Those of a program, with the knobs that mean something for it, and on so many threads.

        On one thread loops are marked as on several: it makes no difference there, and none to choose.
        """
        if view.target.kind == "vulkan":
            group = group_knob(view.target.limits, planes=has_planes(view))
            each = (Knob("each", EACH, EACH[0]),) if elementwise(view) else ()
            knobs: tuple[Knob, ...] = (group, *each)
        else:
            knobs = (Knob("registers", (1, 2, 4, 8), 4), *stream_knob(view))
            knobs += (Knob("threads", ("one", "all"), "all"),) if threads > 1 else ()
        return Rest(view.target, view.sizes, knobs)

    def behind(self, way: Way, schedule: Schedule) -> Rest:
        """Without knobs where a way that works leaves nothing to a GPU's grids."""
        if self.target.kind != "vulkan":
            return self
        s = way.build(schedule, {k.name: k.default for k in way.knobs})
        return self if open_nests(View(s.func, self.target, self.sizes)) else replace(self, knobs=())

    @property
    def name(self) -> str:
        return "grids" if self.target.kind == "vulkan" else "vectors"

    def __call__(self, s: Schedule, values: Values) -> Schedule:
        if self.target.kind == "vulkan":
            group = values.get("group") or group_knob(self.target.limits, planes=False).default
            return on_grid(s, self.target, self.sizes, shape_of(group), str(values.get("each", EACH[0])))
        stream = str(values.get("stream", TOGETHER))
        s = vectors(s, self.target, self.sizes, int(values["registers"]), stream=stream)
        need_vectors(s)
        return on_threads(s, self.target, self.sizes) if values.get("threads", "all") == "all" else s


def sketches(schedule: Schedule, target: Target, sizes: Sizes, *, threads: int = 1) -> list[Sketch]:
    """The sketches of a schedule on so many threads, proved with their defaults; the one without steps is the
    last.

    Each way of one nest alone, the others in vectors; then the first way of all nests together; then program
    order on all threads, for what the compiler makes better vectors of.
    """
    rest = Rest.of(View(schedule.func, target, sizes), threads)
    found = [s for s in (sketch((), rest),) if works(s, schedule)]
    first: dict[str, Way] = {}
    for way in ways(schedule, target, sizes):
        alone = sketch((way,), rest)
        if works(alone, schedule):
            found.append(sketch((way,), rest.behind(way, schedule)))
            first.setdefault(way.root, way)
    together: list[Way] = []
    for way in first.values():
        if not together or works(sketch([*together, way], rest), schedule):
            together.append(way)
    if len(together) > 1:
        found.append(sketch(together, rest))
    return [*found, *threads_alone(schedule, target, sizes), Sketch("program order", (), lambda s, _: s)]


def threads_alone(schedule: Schedule, target: Target, sizes: Sizes) -> list[Sketch]:
    """Program order on all threads, where loops can be shared: one sketch, or none."""
    if target.kind != "cpu" or on_threads(schedule, target, sizes) is schedule:
        return []
    return [Sketch("threads", (), lambda s, _: on_threads(s, target, sizes))]


def sketch(ways: Iterable[Way], rest: Rest) -> Sketch:
    """The ways one after the other, then the rest. Knobs have the name of the nest before theirs."""
    chosen = list(ways)
    several = len(chosen) > 1
    own = [
        tuple([replace(k, name=f"{w.root}.{k.name}") for k in w.knobs]) if several else w.knobs
        for w in chosen
    ]

    def build(s: Schedule, values: Values) -> Schedule:
        for way in chosen:
            mine: dict[str, Value] = {
                k.name: values[f"{way.root}.{k.name}" if several else k.name] for k in way.knobs
            }
            s = way.build(s, mine)
        return rest(s, values)

    name = " + ".join([f"{w.name}" for w in chosen]) or rest.name
    knobs = [k for ks in own for k in ks]
    # A way's work-groups are those of what it leaves, too.
    return Sketch(name, (*knobs, *[k for k in rest.knobs if all(k.name != x.name for x in knobs)]), build)


def works(sketch: Sketch, schedule: Schedule) -> bool:
    """Whether its first candidate is legal."""
    try:
        sketch.build(schedule, sketch.defaults)
    except ScheduleError:
        return False
    return True


def ways(schedule: Schedule, target: Target, sizes: Sizes) -> list[Way]:
    """The ways of all nests, those of one nest from the most promising one. None is tried yet."""
    view = View(schedule.func, target, sizes)
    if target.kind == "vulkan":
        return _unique(gpu_ways(view))
    out: list[Way] = []
    rows = row_blocks(view)
    for block in rows:
        out.append(_rows(block, view))
    for p in products(view):
        if any("@" in n for n in p.band) or any(b.row in p.band for b in rows):
            continue
        out.append(_product(p, view))
        if few_rows(p, view):
            out.append(_added(p, view))
    for plane in planes(view):
        out.append(_plane(plane, view))
    for place in sums(view):
        out.append(_sum(place.name, view))
    for stage in stages(view):
        out += _stage(stage, view)
    for found in sweeps(schedule, view):
        out.append(_time(found, view))
    return _unique(out)


def _unique(ways: list[Way]) -> list[Way]:
    """Not more than `MOST` of them; of several of one name the first."""
    return list({(w.root, w.name): w for w in reversed(ways)}.values())[::-1][:MOST]


def _root(view: View, name: str) -> str:
    place = view.place(name)
    assert place is not None
    return view.of(place.outer[0]).name if place.outer else place.name


def _product(p: Product, view: View) -> Way:
    target, sizes = view.target, view.sizes

    def build(s: Schedule, values: Values) -> Schedule:
        return register_tile(s, p, target, sizes, values)

    rows = p.rows or "one row"
    return Way(f"tile {rows} x {p.columns}", _root(view, p.columns), knobs(p, view), build)


def _added(p: Product, view: View) -> Way:
    def build(s: Schedule, values: Values) -> Schedule:
        return added_rows(s, p, values)

    columns = view.place(p.columns)
    assert columns is not None
    sizes = (512, 1024, 2048, 4096)
    blocks = Knob("block", sizes, next((n for n in sizes if n >= columns.trips), sizes[-1]))
    own = (blocks, Knob("wide", (1, 2, 4, 8), 4), Knob("together", (4, 6, 8, 12), 6))
    return Way(f"rows of {p.terms[0]} x {p.columns}", _root(view, p.columns), own, build)


def _stage(stage: Stage, view: View) -> list[Way]:
    target, sizes = view.target, view.sizes

    def tiles(s: Schedule, values: Values) -> Schedule:
        return at_tiles(s, stage, int(values["rows"]), int(values["wide"]), target, sizes)

    def rows(s: Schedule, values: Values) -> Schedule:
        return at_rows(s, stage, int(values["rows"]), int(values["lanes"]), target, sizes)

    def nowhere(s: Schedule, _: Values) -> Schedule:
        return s.inline(stage.local)

    root = f"{stage.local}"
    heights = Knob("rows", (1, 2, 4, 6, 8) if stage.rows else (1,), 4 if stage.rows else 1)
    blocks = Knob("rows", (1, 4, 8, 16, 32, 64), 16)
    out = [Way(f"{root} in tiles", root, (heights, Knob("wide", (1, 2, 4), 1)), tiles)]
    if stage.rows:
        out.append(Way(f"{root} in rows", root, (blocks, Knob("lanes", (1, 2, 4, 8), 4)), rows))
    out.append(Way(f"{root} inline", root, (), nowhere))
    return out


def _rows(block: RowBlock, view: View) -> Way:
    target, sizes = view.target, view.sizes

    def build(s: Schedule, values: Values) -> Schedule:
        return blocked_rows(s, block, values, target, sizes)

    return Way(f"blocks of {block.row}", _root(view, block.row), block.knobs, build)


def _plane(plane: Plane, view: View) -> Way:
    def build(s: Schedule, values: Values) -> Schedule:
        return in_blocks(s, plane, values)

    name = f"blocks of {plane.outer} x {plane.inner}"
    return Way(name, _root(view, plane.inner), plane.knobs, build)


def _time(found: Sweeps, view: View) -> Way:
    target, sizes = view.target, view.sizes

    def build(s: Schedule, values: Values) -> Schedule:
        return time_tiles(s, found, int(values["rows"]), int(values["lanes"]), target, sizes)

    rows = Knob("rows", (16, 32, 64, 128, 256), 64)
    name = f"blocks of {found.loops[0]} over {found.time}"
    return Way(name, _root(view, found.time), (rows, Knob("lanes", (1, 2, 4), 1)), build)


def _sum(name: str, view: View) -> Way:
    target, sizes = view.target, view.sizes

    def build(s: Schedule, values: Values) -> Schedule:
        block, lanes, form = int(values["block"]), int(values["lanes"]), str(values["form"])
        return partial_sums(s, name, block, lanes, form, target, sizes)

    blocks = Knob("block", (1 << 12, 1 << 14, 1 << 15, 1 << 16, 1 << 17), 1 << 15)
    kept = (blocks, Knob("lanes", (2, 4, 8), 4), Knob("form", FORMS, "8 x 32"))
    return Way(f"partial sums of {name}", _root(view, name), kept, build)
