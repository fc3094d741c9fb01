"""Time loops around sweeps: all steps for a block of rows before the next block.

    for t:                            for i_o:                      # slanted blocks
        for i: B[i] = f(A)                for t:
        for i_1: A[i_1] = g(B)     ->         for i_i in parallel(...): B[i - 2 * t] = f(A)
                                              for i_i in parallel(...): A[i - 2 * t - 1] = g(B)

The sweeps are fused, each as much later as the dependences ask for; the fused loop is skewed by the least
factor for which its blocks may stand outside of the time loop. Both are found by trying: steps are proved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Alloc, If, Loop
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.nests import Place, View
from kdsl.tune.spaces.rows import vectors

SHIFTS = (0, 1, 2)
SKEWS = (0, 1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Sweeps:
    """A time loop, the loops in it that are fused, how much later each comes, and the skew."""

    time: str
    loops: tuple[str, ...]
    shifts: tuple[int, ...]
    skew: int


def sweeps(s: Schedule, view: View) -> list[Sweeps]:
    """Loops that hold nothing but loops, whose iterations depend on each other, and can be tiled together."""
    out = []
    for p in view.places:
        body = [x for x in p.loop.body if not isinstance(x, Alloc)]
        if p.loop.mark is not None or p.trips < 2 or not body or not all(isinstance(x, Loop) for x in body):
            continue
        inner = [view.of(x) for x in body if isinstance(x, Loop)]
        if len(inner) > 4 or any("@" in x.name or x.loop.mark is not None for x in (p, *inner)):
            continue
        if not all(_grid(x, view) for x in inner) or view.parallel(p):
            continue
        found = _found(s, p.name, [x.name for x in inner])
        if found is not None:
            out.append(found)
    return out


def _grid(p: Place, view: View) -> bool:
    """A sweep over more than one line, in any order."""
    return bool(p.inner) and p.trips > 4 and view.parallel(p)


def _found(s: Schedule, time: str, loops: list[str]) -> Sweeps | None:
    """The least shifts and skew that are legal."""
    first = loops[0]
    shifts = []
    for other in loops[1:]:
        for shift in SHIFTS:
            try:
                s = s.fuse(first, other, shift=shift)
            except ScheduleError:
                continue
            shifts.append(shift)
            break
        else:
            return None
    for skew in SKEWS:
        try:
            _blocks(s, time, first, skew, 64)
        except ScheduleError:
            continue
        return Sweeps(time, tuple(loops), tuple(shifts), skew)
    return None


def _blocks(s: Schedule, time: str, first: str, skew: int, rows: int) -> Schedule:
    if skew:
        s = s.skew(first, time, skew)
    return s.split(first, rows).reorder(f"{first}_o", time, f"{first}_i")


def time_tiles(
    s: Schedule, found: Sweeps, rows: int, registers: int, target: Target, sizes: Mapping[str, int]
) -> Schedule:
    """The steps; sweeps are taken apart again in the blocks, where each of them is parallel."""
    first = found.loops[0]
    for other, shift in zip(found.loops[1:], found.shifts):
        s = s.fuse(first, other, shift=shift)
    s = _blocks(s, found.time, first, found.skew, rows)
    s = apart(s, f"{first}_i", target, sizes)
    return vectors(s, target, sizes, registers, within=f"{first}_o")


def apart(s: Schedule, var: str, target: Target, sizes: Mapping[str, int]) -> Schedule:
    """The loops of a name cut wherever that is legal, so that each nest in them has one of its own."""
    refused: set[tuple[int, int]] = set()
    while True:
        places = [p for p in View(s.func, target, sizes).places if p.loop.var == var and p.loop.mark is None]
        todo = [(p, n) for p in places for n in _cuts(p.loop) if (p.loop.id, n) not in refused]
        if not todo:
            return s
        place, cut = todo[0]
        try:
            s = s.fission(place.name, after=cut)
        except ScheduleError:
            refused.add((place.loop.id, cut))


def _cuts(loop: Loop) -> list[int]:
    """The places in a loop's body before and after each loop, as `fission` counts them."""
    body = loop.body
    while len(body) == 1 and isinstance(body[0], If) and not body[0].orelse:
        body = body[0].then
    has = [isinstance(x, (Loop, If)) for x in body]
    real = [not isinstance(x, Alloc) for x in body]
    return [n for n in range(len(body) - 1) if (has[n] or has[n + 1]) and any(real[: n + 1])]
