"""A schedule at once: the best sketch by the cost model, nothing is measured.

What is best is searched with the cost model alone, from the default values of each sketch, until a fraction of
a second is over. Whatever the program, there is an answer: in the worst case the schedule as it was.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from kdsl.errors import ScheduleError
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.cost import predict
from kdsl.tune.sketches import Rest, Way, sketch, ways
from kdsl.tune.space import Candidate, Value

SECONDS = 0.6
"""For looking at more than the first candidate of each sketch."""

UNKNOWN = 256
"""What a size is taken for that nobody gave."""


def instant(
    schedule: Schedule, target: Target, sizes: Mapping[str, int], *, threads: int = 1, seconds: float = SECONDS
) -> Schedule:
    """The schedule with the steps of the best candidate by the cost model.

    `sizes`: typical ones; those that are missing are taken to be 256. The schedule is legal for all sizes.
    `seconds`: further sketches, and values of knobs, are looked at within this time.
    """
    return ranked(schedule, target, sizes, threads=threads, seconds=seconds)[0][1]


def ranked(
    schedule: Schedule, target: Target, sizes: Mapping[str, int], *, threads: int = 1, seconds: float = SECONDS
) -> list[tuple[float, Schedule, Candidate | None]]:
    """The schedules that were looked at, the one with the least predicted seconds first."""
    known = {name: sizes.get(name, UNKNOWN) for name in schedule.func.sizes}
    until = time.perf_counter() + seconds
    seen: list[tuple[float, Schedule, Candidate | None]] = []

    def look(candidate: Candidate | None) -> float:
        try:
            s = schedule if candidate is None else candidate.schedule(schedule)
        except ScheduleError:
            return float("inf")
        cost = predict(s.func, target, known, threads=threads)
        seen.append((cost, s, candidate))
        return cost

    look(None)
    rest = Rest(target, known)
    plain = sketch((), rest)
    unscheduled = look(Candidate(plain, plain.defaults))
    best: dict[str, tuple[float, Way]] = {}
    for way in ways(schedule, target, known):
        alone = sketch((way,), rest)
        cost = look(Candidate(alone, alone.defaults))
        if cost < best.get(way.root, (unscheduled, way))[0]:
            best[way.root] = cost, way
        if time.perf_counter() > until:
            break
    if len(best) > 1:
        together = sketch([way for _, way in best.values()], rest)
        look(Candidate(together, together.defaults))
    _refined(seen, look, until)
    return sorted(seen, key=lambda t: t[0])


def _refined(seen: list[tuple[float, Schedule, Candidate | None]], look: object, until: float) -> None:
    """Knobs of the best candidate one after the other, one value to each side."""
    assert callable(look)
    tried = {c.key for _, _, c in seen if c is not None}
    better = True
    while better and time.perf_counter() < until:
        cost, _, best = min(seen, key=lambda t: t[0])
        if best is None:
            return
        better = False
        for knob in best.sketch.knobs:
            at = knob.values.index(best.values[knob.name])
            for other in (at - 1, at + 1):
                if not 0 <= other < len(knob.values) or time.perf_counter() > until:
                    continue
                values: dict[str, Value] = {**best.values, knob.name: knob.values[other]}
                candidate = Candidate(best.sketch, values)
                if candidate.key in tried:
                    continue
                tried.add(candidate.key)
                better |= look(candidate) < cost * 0.98
