"""Which of several programs is the fastest, from times of calls on a machine that others use too.

rounds     program a   b     c        each round calls every program once, so that what slows the machine
1          1.0         1.1   1.2      down for a while slows all of them: a time counts in units of the
2          2.0         2.2   2.4      mean of its round
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import geometric_mean, median

FEW = 3
"""So many are not told apart any further: by now the best has been compared often enough."""


def typical(times: Sequence[float]) -> float:
    """The lower quartile: other work on the machine only ever makes a call slower."""
    return sorted(times)[len(times) // 4]


def by_round(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The time of each in units of the mean of its round, the median of all rounds."""
    means = [geometric_mean(row) for row in zip(*times.values())]
    return {id: median([t / mean for t, mean in zip(mine, means)]) for id, mine in times.items()}


def ranked(times: Mapping[str, Sequence[float]]) -> list[tuple[str, float]]:
    """(id, seconds), the fastest first; compared by rounds, on the scale of the fastest one."""
    if not times:
        return []
    order = sorted(by_round(times).items(), key=lambda row: row[1])
    best, least = order[0]
    scale = typical(times[best]) / least
    return [(id, relative * scale) for id, relative in order]


def knockout(
    ids: Sequence[str], seconds: float, timed: Callable[[Sequence[str], float], Mapping[str, Sequence[float]]]
) -> list[tuple[str, float]]:
    """(id, seconds), the fastest first, of those that `timed` has times of.

    They are timed again and again without the slower half, until few are left. Each stage takes as long, so
    that the nearer two are, the more often they are compared. A time is that of a program's last stage.
    """
    stages = [len(ids)] if ids else []
    while stages and stages[-1] > FEW:
        stages.append((stages[-1] + 1) // 2)
    found = [(id, 0.0) for id in ids]
    for count in stages:
        found = ranked(timed([id for id, _ in found[:count]], seconds / len(stages))) + found[count:]
    return found
