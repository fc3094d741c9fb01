"""Timing on noisy machines: contenders are interleaved in one process, and medians are compared."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import kdsl

Contenders = Mapping[str, Callable[[], object]]
Samples = dict[str, list[float]]
"""Seconds of one call by contender; those of one round have one index."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its quartiles, the least and the largest sample."""

    least: float
    q1: float
    median: float
    q3: float
    most: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Of one sample or more."""
        least, most = min(samples), max(samples)
        if least == most:
            return cls(least, least, least, least, least)
        return cls(least, *statistics.quantiles(samples, n=4, method="inclusive"), most)


def interleaved(
    contenders: Contenders, *, seconds: float = 1.0, rounds: int = 15, pause: float = 0.0
) -> Samples:
    """Seconds of one call of each contender in each of `rounds` rounds.

    Each is called once to warm up; then the rounds run all of them in turn, each round beginning with
    another one, each timed over as many calls as make the whole take about `seconds`. `pause` seconds before
    each, and one call that is not timed: threads of a BLAS spin for a while after their work, and would take
    the next one's core.
    """
    share = seconds / (rounds * len(contenders))
    calls: dict[str, int] = {}
    for name, run in contenders.items():
        run()
        start = time.perf_counter()
        run()
        calls[name] = max(1, int(share / max(time.perf_counter() - start, 1e-7)))
    samples: Samples = {name: [] for name in contenders}
    order = list(contenders.items())
    for _ in range(rounds):
        order.append(order.pop(0))
        for name, run in order:
            n = calls[name]
            if pause:
                time.sleep(pause)
                run()
            start = time.perf_counter()
            for _ in range(n):
                run()
            samples[name].append((time.perf_counter() - start) / n)
    return samples


def interleaved_medians(
    contenders: Contenders, *, seconds: float = 1.0, rounds: int = 15, pause: float = 0.0
) -> dict[str, float]:
    """The medians of `interleaved`."""
    samples = interleaved(contenders, seconds=seconds, rounds=rounds, pause=pause)
    return {name: statistics.median(s) for name, s in samples.items()}


def by_threads(contenders: Contenders, *, seconds: float = 1.0, rounds: int = 15) -> dict[int, Samples]:
    """`interleaved` on one thread, then on all of kdsl's pool: kdsl, NumPy's BLAS, and what else is loaded of
    Numba and PyTorch.

    Without threadpoolctl the BLAS keeps the number of threads that it has.
    """
    threads = kdsl.get_num_threads()
    out: dict[int, Samples] = {}
    try:
        for count in dict.fromkeys((1, threads)):
            kdsl.set_num_threads(count)
            other_threads(count)
            pause = 0.15 if count > 1 else 0.0
            out[count] = interleaved(contenders, seconds=seconds, rounds=rounds, pause=pause)
    finally:
        kdsl.set_num_threads(threads)
        other_threads(1)
    return out


def medians_by_threads(contenders: Contenders, *, seconds: float = 1.0) -> dict[int, dict[str, float]]:
    """The medians of `by_threads`."""
    found = by_threads(contenders, seconds=seconds)
    return {n: {who: statistics.median(s) for who, s in samples.items()} for n, samples in found.items()}


def other_threads(count: int) -> None:
    """How many threads NumPy's BLAS, PyTorch and Numba may use."""
    with suppress(ImportError):
        from threadpoolctl import threadpool_limits

        threadpool_limits(count, user_api="blas")
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(count)
    if (numba := sys.modules.get("numba")) is not None:
        numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first column is left-aligned, the others right."""
    lines = ["| " + " | ".join(header) + " |", "| --- |" + " ---: |" * (len(header) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """`seconds` with a unit that leaves one to three digits before the point."""
    for scale, unit in ((1e-9, "ns"), (1e-6, "µs"), (1e-3, "ms")):
        if seconds < 1000 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"
