"""An analytical model: how long a scheduled function takes, in seconds, from its text and sizes.

    instructions   what each innermost loop starts in one iteration, against the ports of a core      `work`
    latency        sums that wait for their last term
    traffic        bytes that each level of the caches takes in, from the footprints of loops        `traffic`

The time of each outermost statement is the largest of these, with a part of the others; parallel loops share
it out. It is made to rank schedules of one function, not to be right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, log1p

import numpy as np

from kdsl.ir.nodes import Body, Func, Loop, Stmt
from kdsl.ir.walk import stmts
from kdsl.target import Target
from kdsl.tune.costs.execution import Work
from kdsl.tune.costs.machine import Machine, machine
from kdsl.tune.costs.traffic import Memory
from kdsl.tune.costs.work import Worker

OVERLAP = 0.25
"""The part of the shorter ones of computing and waiting for each level that is not hidden by the longest."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """`seconds` in all; what it is made of: cycles of computing, bytes into L1, L2 and L3, counts of work."""

    seconds: float
    cycles: float
    bytes_in: tuple[float, float, float]
    work: Work
    forks: float


SHARED = float(1 << 14)
"""Statements of a parallel loop below which it runs in the calling thread: about what generated code asks."""


def predict(
    func: Func, target: Target, sizes: Mapping[str, int], *, threads: int = 1, on: Machine | None = None
) -> float:
    """Seconds for one call of a scheduled function, before lowering, with arrays of these sizes."""
    return prediction(func, target, sizes, threads=threads, on=on).seconds


def prediction(
    func: Func, target: Target, sizes: Mapping[str, int], *, threads: int = 1, on: Machine | None = None
) -> Prediction:
    """`predict`, with its parts."""
    here = on or machine()
    memory = Memory(func, sizes, here)
    worker = Worker(func, target, sizes, memory)
    seconds = cycles = forks = 0.0
    bytes_in = [0.0, 0.0, 0.0]
    total = Work()
    for s in func.body:
        done = worker.body((s,))
        used = done.cycles()
        into = [memory.into((s,), level) for level in range(3)]
        moved = [sum(arrays.values()) for arrays in into]
        served = memory.served(s)
        waits = [moved[0] / here.bandwidths[0]]
        for arrays, width in zip(into[1:], here.bandwidths[1:]):
            waits.append(sum([b * served.get(name, 1.0) for name, b in arrays.items()]) / width)
        share, entries = _shared((s,), worker, threads)
        parts = sorted([used / here.hertz, *waits])
        seconds += (parts[-1] + OVERLAP * sum(parts[:-1])) * share
        seconds += entries * (here.fork_s if threads > 1 else here.fork_s / 200)
        cycles, forks, total = cycles + used, forks + entries, total + done
        bytes_in = [a + b for a, b in zip(bytes_in, moved)]
    first, second, third = bytes_in
    return Prediction(seconds + 1e-7, cycles, (first, second, third), total, forks)


def _shared(body: Body, worker: Worker, threads: int) -> tuple[float, float]:
    """The part of the time that is left when threads share parallel loops, and how often these start."""

    def visit(body: Body, times: float) -> tuple[float, float, float]:
        """Seconds-like weights: of all, with threads; entries of parallel loops."""
        whole = left = entries = 0.0
        for s in body:
            if not isinstance(s, Loop):
                continue
            trips = worker.trips(s)
            if s.mark is not None and s.mark.kind == "parallel":
                weight = max(trips, 1) * _size(s)
                shared = weight >= SHARED
                whole += times * weight
                left += times * weight * (ceil(trips / threads) / max(trips, 1) if shared else 1.0)
                entries += times if shared else 0.0
                continue
            if any(isinstance(x, Loop) and x.mark and x.mark.kind == "parallel" for x in stmts(s.body)):
                a, b, c = visit(s.body, times * trips)
                whole, left, entries = whole + a, left + b, entries + c
            else:
                weight = times * max(trips, 1) * _size(s)
                whole, left = whole + weight, left + weight
        return whole, left, entries

    def _size(s: Loop) -> float:
        return worker.weight(s)

    whole, left, entries = visit(body, 1.0)
    return (left / whole if whole else 1.0), entries


def features(func: Func, target: Target, sizes: Mapping[str, int], *, threads: int = 1) -> np.ndarray:
    """What a learned model sees of a scheduled function: counts on a logarithmic scale, as many for all.

    f64[FEATURES].
    """
    p = prediction(func, target, sizes, threads=threads)
    w = p.work
    everything: list[Stmt] = list(stmts(func.body))
    loops = [s for s in everything if isinstance(s, Loop)]
    marks = [s.mark.kind for s in loops if s.mark is not None]
    counts = (
        p.seconds * 1e9, p.cycles, *p.bytes_in, w.arith, w.loads, w.stores, w.issued, w.latency, w.gathered,
        w.spilled, w.iterations, w.calls, w.registers, p.forks, len(everything), len(loops),
        marks.count("unroll"), marks.count("vectorize"), marks.count("parallel"), w.overlapped,
    )  # fmt: skip
    return np.array([log1p(max(0.0, float(c))) for c in counts])


FEATURES = 22
"""The length of `features`."""
