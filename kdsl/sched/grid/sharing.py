"""Sharing out the points of independent loops to work-groups and invocations: what `binding` writes.

for i: for j: S(i, j)      ->      grid.y i: grid.x j_o: block.x j_i: if j_o * 64 + j_i < N: S(...)

and, in a work-group of 16 x 16 invocations, so that consecutive ones touch consecutive elements,

for r in range(32):                for r_c_y in bind(range(16), "block.y"):
    for c in range(8):     ->          for r_c_x in bind(range(16), "block.x"):
        S(r, c)                            S((r_c_y * 16 + r_c_x) // 8, (r_c_y * 16 + r_c_x) % 8)

The loops of a band stand one directly inside the other, but for conditions, and any two of its points are
independent: in which order they run, and on what, is free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

from kdsl.analysis.axes import AXES
from kdsl.analysis.linear import extent, faultless
from kdsl.ir.nodes import Alloc, Body, Expr, Func, If, Loop, Mark, fresh_id
from kdsl.ir.walk import stmts
from kdsl.sched.rewriting.arith import add, binary, ceil_div, const, divides, mul, var, within
from kdsl.sched.rewriting.ranges import at, length, trips
from kdsl.sched.rewriting.tree import Track, bound, places

INVOCATIONS = 64
"""Invocations of a work-group that is made here: a subgroup of any device, or more of them."""

Block = tuple[int, int, int]
"""Invocations of a work-group along x, y, z."""

LONG = 1 << 15
"""Inner loops of more points in all are not counted together with a loop of unknown length."""


@dataclass(frozen=True, slots=True)
class Band:
    """Independent loops, outermost first. `block`: the work-group that they are in; None: they make
    work-groups. `ragged`: a loop directly inside whose length depends on them."""

    loops: tuple[Loop, ...]
    block: Block | None = None
    ragged: Loop | None = None


def points(band: Band) -> int | None:
    """The number of points; None when it is not a constant."""
    counts = [extent(loop) for loop in (*band.loops, *([band.ragged] if band.ragged else []))]
    return None if None in counts else prod([c or 0 for c in counts])


def within_guards(body: Body) -> tuple[list[If], Body]:
    """The conditions around all of `body`, which cannot fault, and what they guard."""
    guards: list[If] = []
    while len(body) == 1 and isinstance(guard := body[0], If) and not guard.orelse and faultless(guard.cond):
        guards.append(guard)
        body = guard.then
    return guards, body


def shared_out(func: Func, band: Band) -> Body:
    """What takes the place of the band's outermost loop."""
    cut = _Cut(func, band)
    if band.block is None:
        cut.work_groups()
    else:
        cut.invocations(band.block)
    return cut.made()


@dataclass(slots=True)
class _Cut:
    """New loops by where they stand, each list from the innermost outwards: work-groups, invocations, what an
    invocation repeats. `values` are the old variables by the new ones, `tests` keep to the old ranges."""

    func: Func
    band: Band
    grid: list[Loop] = field(default_factory=list)
    block: list[Loop] = field(default_factory=list)
    rounds: list[Loop] = field(default_factory=list)
    values: dict[str, Expr] = field(default_factory=dict)
    tests: list[Expr] = field(default_factory=list)
    taken: set[str] = field(init=False)

    def __post_init__(self) -> None:
        first = self.band.loops[0]
        above = next(p.outer for p in places(self.func) if p.loop.id == first.id)
        self.taken = bound((first,)) | {s.var for s in above} | set(self.func.sizes)
        self.taken |= {p.name for p in self.func.params}
        self.taken |= {s.name for s in stmts(self.func.body) if isinstance(s, Alloc)}

    # -- the two ways to cut

    def work_groups(self) -> None:
        """The innermost loops make the invocations, the others the work-groups."""
        threads = 1
        grids, blocks = [*reversed(AXES)], [*reversed(AXES)]
        if self.band.ragged is not None:
            self.along(self.band.ragged, INVOCATIONS, blocks.pop(), None)
            threads = INVOCATIONS
        for loop in reversed(self.band.loops):
            count, left = extent(loop), INVOCATIONS // threads
            if count is not None and left > 1 and count <= 2 * left and blocks:
                self.whole(loop, self.block, f"block.{blocks.pop()}")
                threads *= count
            elif left > 1 and blocks and grids:
                self.along(loop, left, blocks.pop(), grids.pop())
                threads *= left
            elif grids:
                self.whole(loop, self.grid, f"grid.{grids.pop()}")
            else:
                self.whole(loop, self.rounds, "")

    def invocations(self, size: Block) -> None:
        """A loop for each axis, x for the innermost; or all loops together, if that takes fewer rounds."""
        axes = [(n, axis) for n, axis in zip(size, AXES) if n > 1]
        loops = [*reversed(self.band.loops)]
        counts = [extent(loop) for loop in loops]
        apart = prod([-(-(c or LONG) // n) for c, (n, _) in zip(counts, axes)])
        apart *= prod([c or LONG for c in counts[len(axes) :]])
        inner = prod([c or LONG for c in counts[:-1]])
        if len(loops) > 1 and inner < LONG and -(-inner * (counts[-1] or LONG) // prod(size)) < apart:
            self.together(inner, axes)
            return
        for n, loop in enumerate(loops):
            count = counts[n]
            if n >= len(axes):
                self.whole(loop, self.rounds, "")
            elif count is not None and count <= axes[n][0]:
                self.whole(loop, self.block, f"block.{axes[n][1]}")
            else:
                self.along(loop, *axes[n], None)

    # -- pieces

    def whole(self, loop: Loop, where: list[Loop], axis: str) -> None:
        """All of a loop in one place."""
        where.append(replace(loop, mark=self.mark(loop, axis) if axis else None))

    def along(self, loop: Loop, n: int, block: str, grid: str | None) -> None:
        """Blocks of `n` iterations, those of a block along the axis `block` of the work-group."""
        outer, inner = self.named(f"{loop.var}_o"), self.named(f"{loop.var}_i")
        t = add(mul(var(outer), n), var(inner))
        count = trips(loop, self.func, True)
        blocks = replace(loop, var=outer, lo=const(0), hi=ceil_div(count, n), step=const(1), mark=None)
        if grid is None:
            self.rounds.append(blocks)
        else:
            self.grid.append(replace(blocks, mark=self.mark(loop, f"grid.{grid}")))
        self.block.append(self.counter(loop, inner, n, f"block.{block}"))
        self.values[loop.var] = at(loop, t)
        if not divides(self.func, count, n):
            counted = loop.step != const(1)
            self.tests.append(within(None, t, count) if counted else within(None, at(loop, t), loop.hi))

    def together(self, inner: int, axes: Sequence[tuple[int, str]]) -> None:
        """The points of all loops, one after the other: inner loops have `inner` of them in all."""
        loops = self.band.loops
        stem, size = "_".join([loop.var for loop in loops]), prod([n for n, _ in axes])
        first = extent(loops[0])
        total = const(first * inner) if first is not None else mul(length(loops[0], self.func), inner)
        few = first is not None and first * inner <= size
        t: Expr = const(0)
        if not few:
            name = self.named(f"{stem}_o")
            self.rounds.append(
                replace(loops[0], var=name, lo=const(0), hi=ceil_div(total, size), step=const(1), mark=None)
            )
            t = mul(var(name), size)
        scale = 1
        for n, axis in axes:
            name = self.named(f"{stem}_{axis}")
            count = min(n, -(-(first or 0) * inner // scale)) if few else n
            self.block.append(self.counter(loops[0], name, count, f"block.{axis}"))
            t = add(t, mul(var(name), scale))
            scale *= count
        if first is None or (scale != first * inner if few else first * inner % size):
            self.tests.append(within(None, t, total))
        stride = 1
        for loop in reversed(loops):
            number = t if stride == 1 else binary("//", t, const(stride))
            if loop is not loops[0]:
                count = extent(loop) or 1
                number = binary("%", number, const(count))
                stride *= count
            self.values[loop.var] = at(loop, number)

    def counter(self, loop: Loop, name: str, count: int, axis: str) -> Loop:
        """A loop over the invocations along an axis."""
        return Loop(
            name, const(0), const(count), const(1), (), self.mark(loop, axis), loc=loop.loc, id=fresh_id()
        )

    def mark(self, loop: Loop, axis: str) -> Mark:
        return Mark("bind", axis, loop.mark is not None and loop.mark.unsafe)

    def named(self, name: str) -> str:
        """`name`, numbered if it is taken."""
        n, free = 1, name
        while free in self.taken:
            n += 1
            free = f"{name}{n}"
        self.taken.add(free)
        return free

    # -- all of it

    def made(self) -> Body:
        """The new loops around what the old ones repeated."""
        guards: list[If] = []
        chain = [*self.band.loops, *([self.band.ragged] if self.band.ragged else [])]
        for loop in chain[:-1]:
            guards += within_guards(loop.body)[0]
        track = Track()
        body = chain[-1].body
        for guard in reversed(guards):
            body = (replace(guard, then=body),)
        body = track.substitute(body, self.values)
        for test in reversed(self.tests):
            body = (If(test, body, loc=chain[-1].loc),)
        for loop in (*self.rounds, *self.block, *self.grid):
            body = (replace(loop, body=body),)
        return body
