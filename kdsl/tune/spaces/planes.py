"""Blocks of a plane: two loops of which each moves along memory in another array, as in a transpose.

    for i in range(M):                      for i_o ...: for j_o ...:
        for j in range(N):            ->        for j_i in range(8):
            Y[j, i] = X[i, j]                       for i_i in vectorize(range(8)): Y[j, i] = X[i, j]

In program order one of the arrays is touched a line for each element, and the lines are gone from the cache
before their other elements come. A block is about as large as the lines that it touches. Vectors lie along
the array that is written: lines that are stored in parts cost more than lines loaded in parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdsl.ir.nodes import Load
from kdsl.sched import Schedule
from kdsl.tune.nests import View, accesses, stride, uses
from kdsl.tune.spaces.space import Knob, Value


@dataclass(frozen=True, slots=True)
class Plane:
    """Two loops, one directly in the other; `along` is the one of which vectors are made."""

    outer: str
    inner: str
    along: str
    lanes: int
    """Elements of a register."""

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """Iterations of a block, of the outer and of the inner loop."""
        sizes = (4, 8, 16, 32, 64)
        return Knob("tall", sizes, 8), Knob("broad", sizes, 8)


def planes(view: View) -> list[Plane]:
    """Innermost pairs of loops whose accesses disagree on which one moves along memory. Loops of a sum are no
    such pair: those have tiles of their own."""
    out = []
    for p in view.innermost:
        q = view.of(p.outer[-1]) if p.outer else None
        if q is None or len(q.loop.body) != 1 or p.loop.mark is not None or q.loop.mark is not None:
            continue
        if "@" in p.name or "@" in q.name:
            continue
        found = [a for a in accesses(p.loop.body) if len(a.index) > 1]
        one, other = ([a for a in found if stride(a, x.loop.var, view.sizes) == 1] for x in (q, p))
        sums = any(
            not (uses(a, p.loop.var) and uses(a, q.loop.var)) for a in found if not isinstance(a, Load)
        )
        if not one or not other or sums:
            continue
        written = [a for a in one if not isinstance(a, Load)]
        out.append(Plane(q.name, p.name, q.name if written else p.name, view.lanes(p.loop.body)))
    return out


def in_blocks(s: Schedule, plane: Plane, values: Mapping[str, Value]) -> Schedule:
    """The plane in blocks, the loop along the written array in vectors."""
    tall, broad = int(values["tall"]), int(values["broad"])
    s = s.tile([plane.outer, plane.inner], [tall, broad])
    size = broad
    if plane.along == plane.outer:
        s = s.reorder(f"{plane.inner}_i", f"{plane.outer}_i")
        size = tall
    return s.vectorize(f"{plane.along}_i", min(plane.lanes, size))
