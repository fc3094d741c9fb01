"""GPUs: the outermost loops whose iterations are independent become grids of work-groups.

    for i in range(M):                  for i in bind(range(M), "grid.y"):
        for j in range(N):       ->         for j_o in bind(range((N + 63) // 64), "grid.x"):
            S(i, j)                             for j_i in bind(range(64), "block.x"): ...

Neighbouring invocations take neighbouring iterations of the innermost one. Work-groups may be rectangles of
the two innermost loops, and an invocation may take several elements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import takewhile

from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Alloc, Body, Func, Loop, Mark, Stmt
from kdsl.ir.printer import stored_buffers
from kdsl.ir.walk import map_stmt, stmts
from kdsl.sched import Schedule
from kdsl.target import Limits, Target
from kdsl.tune.nests import Place, View
from kdsl.tune.spaces.products import blocks
from kdsl.tune.spaces.space import Knob

SHAPES = (
    (8, 1), (16, 1), (32, 1), (64, 1), (128, 1), (256, 1), (512, 1),
    (8, 4), (8, 8), (16, 8), (16, 16), (32, 8),
)  # fmt: skip
"""Work-groups: invocations along x and y."""
EACH = ("1", "2 apart", "4 apart", "8 apart", "2 together", "4 together")
"""Elements of an invocation: with those of the others between them, or as a vector."""
AXES = ("x", "y", "z")

Shape = tuple[int, int]


def fits(shape: Shape, limits: Limits) -> bool:
    """Whether a device can have such work-groups."""
    x, y = shape
    return x * y <= limits.invocations and x <= limits.block[0] and y <= limits.block[1]


def group_knob(limits: Limits, *, planes: bool, wanted: Shape = (64, 1)) -> Knob:
    """The work-groups that a device can have, of rows alone or of `planes` too. `wanted`: to start from, or
    the next smaller one."""
    shapes = [s for s in SHAPES if fits(s, limits) and (planes or s[1] == 1)] or [(1, 1)]
    small = [s for s in shapes if s[0] * s[1] <= wanted[0] * wanted[1]] or shapes[:1]
    start = wanted if wanted in shapes else max(small, key=lambda s: (s[0] * s[1], s[1] == wanted[1]))
    return Knob("group", tuple(map(named, shapes)), named(start))


def named(shape: Shape) -> str:
    """A work-group as a knob has it: "64", "8 x 8"."""
    return f"{shape[0]}" if shape[1] == 1 else f"{shape[0]} x {shape[1]}"


def shape_of(group: object) -> Shape:
    """What `named` wrote."""
    x, _, y = str(group).partition(" x ")
    return int(x), int(y or 1)


# -------------------------------------------------------------------------- bands


def band(view: View, p: Place) -> list[Place]:
    """The loops from `p` inwards, each all there is in the one before, whose iterations are independent."""
    return list(takewhile(view.parallel, chain(view, p)))


def chain(view: View, p: Place) -> list[Place]:
    """The loops from `p` inwards, each all there is in the one before."""
    out = [p]
    while len(out[-1].loop.body) == 1 and isinstance(inner := out[-1].loop.body[0], Loop):
        out.append(view.of(inner))
    return out


def open_nests(view: View) -> list[Place]:
    """The outermost loops that nothing has been done to."""
    return [
        p
        for p in view.places
        if p.loop.mark is None and not any(x.mark is not None for x in (*p.outer, *p.inner))
    ]


def with_own_arrays(s: Schedule, view: View, p: Place) -> Schedule:
    """Where iterations only share local arrays: each of the innermost loop that allows it has its own."""
    for x in reversed(chain(view, p)):
        arrays = {a.name for a in stmts(s.func.body) if isinstance(a, Alloc) and a.shape}
        inside = {a.name for a in stmts(x.loop.body) if isinstance(a, Alloc)}
        wanted = sorted((stored_buffers(x.loop.body) & arrays) - inside)
        if not wanted:
            continue
        try:
            tried = s
            for name in wanted:
                tried = tried.privatize(name, x.name)
        except ScheduleError:
            continue
        after = View(tried.func, view.target, view.sizes)
        here = after.place(p.name)
        if here is not None and len(band(after, here)) > [y.loop.id for y in chain(view, p)].index(x.loop.id):
            return tried
    return s


def on_grid(s: Schedule, target: Target, sizes: Mapping[str, int], group: Shape, each: str) -> Schedule:
    """Each nest on a grid of its own, where one of its loops allows it."""
    tried: set[int] = set()
    while True:
        view = View(s.func, target, sizes)
        todo = [p for p in open_nests(view) if p.loop.id not in tried]
        if not todo:
            return s
        p = todo[0]
        tried.add(p.loop.id)
        if not view.parallel(p):
            s = with_own_arrays(s, view, p)
            view = View(s.func, target, sizes)
            p = next(x for x in view.places if x.loop.id == p.loop.id)
        loops = band(view, p)
        if not loops:
            continue
        alone = not loops[-1].inner
        try:
            s = bound(s, [x.name for x in loops], group, each if alone else "1")
        except ScheduleError:
            continue


def bound(s: Schedule, names: Sequence[str], group: Shape, each: str) -> Schedule:
    """Nested loops on the axes of a grid, the innermost one along x, and along x of the work-group."""
    s, names = three(s, names)
    (x, y), (count, _, how) = group, each.partition(" ")
    if len(names) == 1:
        x, y = x * y, 1
    n = int(count)
    s, x_o, x_i = blocks(s, names[-1], x * n)
    axes, inside = [x_o, *reversed(names[:-1])], []
    if y > 1:
        s, axes[1], y_i = blocks(s, names[-2], y)
        s = s.reorder(axes[1], x_o, y_i, x_i)
        inside.append(y_i)
    if how == "together":
        s, x_i, v = blocks(s, x_i, n)
        s = vector(s, v)
    elif n > 1:
        s, r, x_i = blocks(s, x_i, x)
        s = s.reorder(x_i, r).unroll(r)
    for name, axis in zip(axes, AXES):
        s = s.bind(name, f"grid.{axis}")  # type: ignore[arg-type]
    for name, axis in zip((x_i, *inside), AXES):
        s = s.bind(name, f"block.{axis}")  # type: ignore[arg-type]
    return s


def three(s: Schedule, names: Sequence[str]) -> tuple[Schedule, list[str]]:
    """Nested loops as no more than a grid has axes: outer ones as one, or else without the inner ones."""
    found = list(names)
    while len(found) > len(AXES):
        try:
            s = s.collapse(found[0], found[1], into=f"{found[0]}_{found[1]}")
        except ScheduleError:
            return s, found[: len(AXES)]
        found[:2] = [f"{found[0]}_{found[1]}"]
    return s, found


def vector(s: Schedule, name: str) -> Schedule:
    """A short loop as a vector, or written out where lanes cannot do it together."""
    try:
        return s.vectorize(name)
    except ScheduleError:
        return s.unroll(name)


def _bands(view: View) -> list[list[Place]]:
    """What `on_grid` binds, but for what gets arrays of its own first."""
    out: list[list[Place]] = []
    for p in open_nests(view):
        if view.parallel(p) and not any(b[0].loop.id in {x.id for x in p.outer} for b in out):
            out.append(band(view, p))
    return out


def elementwise(view: View) -> bool:
    """Whether a nest computes element by element, so that an invocation can take several."""
    return any(not b[-1].inner for b in _bands(view))


def has_planes(view: View) -> bool:
    """Whether there may be two independent loops in a nest: one of them may wait for arrays of its own."""
    return any(len(b) > 1 for b in _bands(view)) or any(
        len(chain(view, p)) > 1 for p in open_nests(view) if not p.outer
    )


REGISTERS = 64
"""Registers of an invocation, about."""


def as_lanes(func: Func, target: Target) -> tuple[Func, Target]:
    """A function for a GPU, and the GPU, as the cost model, which is one of CPUs, can look at them.

    Invocations along x are lanes, as many in a register as a subgroup has; those along y and z, and
    work-groups, are loops; vectors are written out.
    """

    def body(stmts: Body) -> Body:
        return tuple([stmt(s) for s in stmts])

    def stmt(s: Stmt) -> Stmt:
        s = map_stmt(s, lambda e: e, body)
        if not isinstance(s, Loop) or s.mark is None:
            return s
        if s.mark.kind == "bind":
            return replace(s, mark=Mark("vectorize") if s.mark.axis == "block.x" else None)
        return replace(s, mark=Mark("unroll")) if s.mark.kind == "vectorize" else s

    lanes = max(4, target.limits.subgroup)
    seen = replace(target, vector_bytes=4 * lanes, vector_registers=REGISTERS)
    return replace(func, body=body(func.body)), seen
