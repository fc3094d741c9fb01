"""Sums of a long loop into one cell: partial sums for blocks, which threads share out.

for i in range(N): total += X[i]   ->   for i_o in parallel(...): for i_i: ... total_r[i_o] += X[...]
                                        for i_o_r: total += total_r[i_o_r]

The sum of a block is one of wide vectors, or of several narrow ones that are added one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Accumulate
from kdsl.ir.walk import stmts
from kdsl.sched import Schedule
from kdsl.sched.recipes import reduce_registers
from kdsl.target import Target
from kdsl.tune.nests import Place, View, uses
from kdsl.tune.spaces.rows import TOGETHER, vectors

LONG = 1 << 15
"""Iterations below which partial sums for threads do not pay."""


def sums(view: View) -> list[Place]:
    """Outermost loops that accumulate into cells that stay the same, and hold none that could be parallel."""
    out = []
    for p in view.places:
        if p.loop.mark is not None or any(x.mark for x in (*p.outer, *p.inner)):
            continue
        work = p.trips
        for x in p.inner:
            work *= max(1.0, view.of(x).trips)
        if work < LONG or p.trips < 8 or view.parallel(p):
            continue
        if any(view.parallel(view.of(x)) for x in p.outer):
            continue
        own = [s for s in stmts(p.loop.body) if isinstance(s, Accumulate) and not uses(s, p.loop.var)]
        if own:
            out.append(p)
    return [p for p in out if not any(q.loop.id in {x.id for x in p.outer} for q in out)]


FORMS = (TOGETHER, "4 x 64", "8 x 64", "4 x 32", "8 x 32")
"""How the sum of a block is kept: in one vector, or in so many vectors of so many bytes."""


def partial_sums(
    s: Schedule, name: str, block: int, registers: int, form: str, target: Target, sizes: Mapping[str, int]
) -> Schedule:
    """Partial results for blocks of a loop, the loops in a block in vectors; `form`: one of `FORMS`."""
    var = name.partition("@")[0]
    s = s.split(name, block).rfactor(f"{var}_o")
    if form != TOGETHER:
        s = _one_by_one(s, View(s.func, target, sizes), f"{var}_o", form)
    s = vectors(s, target, sizes, registers, within=f"{var}_o")
    return s.parallel(f"{var}_o")


def _one_by_one(s: Schedule, view: View, within: str, form: str) -> Schedule:
    """The innermost loop in vectors of sums one after the other, where it is one that sums."""
    root = view.place(within)
    assert root is not None
    inner = [p for p in (root, *map(view.of, root.inner)) if not p.inner]
    if len(inner) != 1 or inner[0] is root:
        return s
    count, width = map(int, form.split(" x "))
    lanes = max(2, width * view.lanes(inner[0].loop.body) // view.target.vector_bytes)
    try:
        return reduce_registers(s, inner[0].name, lanes, count)
    except ScheduleError:
        return s
