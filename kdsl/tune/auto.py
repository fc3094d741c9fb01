"""A schedule at once: the best sketch by the cost model, nothing is measured.

What is best is searched with the cost model alone, from the default values of each sketch. Whatever the
program, there is an answer: in the worst case the schedule as it was. The same program gets the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kdsl.errors import ScheduleError
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.costs.cost import predict
from kdsl.tune.nests import View
from kdsl.tune.spaces.sketches import Rest, sketch, threads_alone, ways
from kdsl.tune.spaces.space import Candidate, Way

LOOKS = 3
"""Candidates that are looked at beyond the first ones of the sketches."""

DOUBT = 1.05
"""Other values than the defaults have to be so much better: the model does not see less."""

UNKNOWN = 256
"""What a size is taken for that nobody gave."""


def instant(
    schedule: Schedule, target: Target, sizes: Mapping[str, int], *, threads: int = 1, looks: int = LOOKS
) -> Schedule:
    """The schedule with the steps of the best candidate by the cost model.

    `sizes`: typical ones; those that are missing are taken to be 256. The schedule is legal for all sizes.
    `looks`: values of knobs that are tried beyond the defaults.
    """
    return ranked(schedule, target, sizes, threads=threads, looks=looks)[0][1]


def ranked(
    schedule: Schedule, target: Target, sizes: Mapping[str, int], *, threads: int = 1, looks: int = LOOKS
) -> list[tuple[float, Schedule, Candidate | None]]:
    """The schedules that were looked at, the one with the least predicted seconds first."""
    if target.kind == "interpreter":
        return [(0.0, schedule, None)]
    with schedule.remembering() as start:
        return _ranked(start, target, sizes, threads, looks)


def _ranked(
    schedule: Schedule, target: Target, sizes: Mapping[str, int], threads: int, looks: int
) -> list[tuple[float, Schedule, Candidate | None]]:
    known = {name: sizes.get(name, UNKNOWN) for name in schedule.func.sizes}
    seen: list[tuple[float, Schedule, Candidate | None]] = []
    rest = Rest.of(View(schedule.func, target, known), threads)
    plain = sketch((), rest)

    def look(candidate: Candidate | None) -> float:
        try:
            s = schedule if candidate is None else candidate.schedule(schedule)
        except ScheduleError:
            return float("inf")
        if target.kind != "cpu":
            # The model is one of a CPU: elsewhere the first way that fits is taken, or else the rest alone.
            seen.append((2.0 if candidate is None else float(candidate.sketch is plain), s, candidate))
            return seen[-1][0]
        cost = predict(s.func, target, known, threads=threads)
        if candidate is not None and candidate.values != candidate.sketch.defaults:
            cost *= DOUBT
        seen.append((cost, s, candidate))
        return cost

    look(None)
    unscheduled = look(Candidate(plain, plain.defaults))
    for shared in threads_alone(schedule, target, known) if threads > 1 else ():
        look(Candidate(shared, {}))
    best: dict[str, tuple[float, Way]] = {}
    for way in ways(schedule, target, known):
        alone = sketch((way,), rest)
        cost = look(Candidate(alone, alone.defaults))
        if cost < best.get(way.root, (unscheduled, way))[0]:
            best[way.root] = cost, way
    chosen: list[Way] = []
    for _, way in sorted(best.values(), key=lambda t: t[0]):
        together = sketch([*chosen, way], rest)
        if not chosen or look(Candidate(together, together.defaults)) < float("inf"):
            chosen.append(way)
    if target.kind == "cpu":
        _refined(seen, look, looks)
    return sorted(seen, key=lambda t: t[0])


def _refined(
    seen: list[tuple[float, Schedule, Candidate | None]], look: Callable[[Candidate], float], looks: int
) -> None:
    """Knobs of the best candidate one after the other, one value to each side."""
    tried = {c.key for _, _, c in seen if c is not None}
    better = True
    while better:
        cost, _, best = min(seen, key=lambda t: t[0])
        if best is None:
            return
        better = False
        for knob in best.sketch.knobs:
            at = knob.values.index(best.values[knob.name])
            for other in (at - 1, at + 1):
                if not 0 <= other < len(knob.values):
                    continue
                candidate = best.sketch.candidate(**{**best.values, knob.name: knob.values[other]})
                if candidate.key in tried:
                    continue
                if not looks:
                    return
                looks -= 1
                tried.add(candidate.key)
                better |= look(candidate) < cost
