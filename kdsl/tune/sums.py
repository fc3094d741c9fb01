"""Sums of a long loop into one cell: partial sums for blocks, which threads share out.

for i in range(N): total += X[i]   ->   for i_o in parallel(...): for i_i: ... total_r[i_o] += X[...]
                                        for i_o_r: total += total_r[i_o_r]
"""

from __future__ import annotations

from collections.abc import Mapping

from kdsl.ir.nodes import Accumulate, Loop
from kdsl.ir.walk import stmts
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.nests import Place, View, uses
from kdsl.tune.rows import vectors

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


def partial_sums(
    s: Schedule, name: str, block: int, registers: int, target: Target, sizes: Mapping[str, int]
) -> Schedule:
    """Partial results for blocks of a loop, the loops in a block in vectors."""
    var = name.partition("@")[0]
    s = s.split(name, block).rfactor(f"{var}_o")
    s = vectors(s, target, sizes, registers, within=f"{var}_o")
    view = View(s.func, target, sizes)
    place = view.place(f"{var}_o")
    assert place is not None and isinstance(place.loop, Loop)
    return s.parallel(f"{var}_o")
