"""The roofline of this machine: how fast it computes and how fast it moves bytes, measured by kernels.

    peak        x = x * a + b on as many registers as hide its latency          flops a second
    bandwidth   A[i] = B[i] + s * C[i] (the STREAM triad) over 24 KiB ... 96 MiB   bytes a second

Measured when first asked for, some 2 s, and kept in the cache folder for this CPU and number of threads. The
triad counts 12 bytes for each element of f32, as STREAM does. Source: Williams, Waterman, Patterson:
Roofline (CACM 2009).
"""

# Annotations of kernels are shapes, which mypy does not know.
# mypy: disable-error-code="no-untyped-def, valid-type, index"

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsl.dtypes import DType, f32, f64, i64, sizes
from kdsl.lang import empty
from kdsl.runtime.cache import disk_cache
from kdsl.runtime.kernel import Kernel, kernel
from kdsl.runtime.targets import resolve
from kdsl.runtime.threads import get_num_threads, set_num_threads

if TYPE_CHECKING:
    from kdsl.target import Target

WORKING_SETS = (24 << 10, 512 << 10, 8 << 20, 96 << 20)
"""Bytes of the three arrays of the triad together: in L1, L2, L3 and memory of the usual CPU of 2020."""
CHAINS = 12
"""Independent vectors of sums: a fused multiply-add takes 4 cycles, and 2 start in each."""
SECONDS, ALTOGETHER_S = 0.002, 0.15
"""For one timing, and for all: the best one counts, as other work on the machine only slows it down."""
SCHEMA = "roofline 1"


@dataclass(frozen=True, slots=True)
class Roofline:
    """`peak` in flops a second by dtype name; `bandwidth` pairs (working set in bytes, bytes a second)."""

    threads: int
    peak: dict[str, float]
    bandwidth: tuple[tuple[int, float], ...]

    def bandwidth_for(self, working_set: float) -> tuple[int, float]:
        """The measured working set that is as large or larger, and its bandwidth; else memory's."""
        return next((row for row in self.bandwidth if row[0] >= working_set), self.bandwidth[-1])

    def attainable(self, dtype: DType, flops: float, moved: float) -> float:
        """Flops a second when `flops` operations wait for `moved` bytes: the lower one of the two roofs."""
        peak = self.peak.get(dtype.name, self.peak["f32"])
        if not moved:
            return peak
        return min(peak, flops / moved * self.bandwidth_for(moved)[1])


def roofline(threads: int) -> Roofline:
    """The roofline for so many threads."""
    target, store = resolve("cpu"), disk_cache()
    key = _key(target, threads)
    known = store.load(key) if store is not None else None
    if known is not None:
        h = known.header
        return Roofline(threads, dict(h["peak"]), tuple([(int(n), float(b)) for n, b in h["bandwidth"]]))
    found = _measured(threads)
    if store is not None:
        store.store(key, {"peak": found.peak, "bandwidth": found.bandwidth})
    return found


def _key(target: Target, threads: int) -> str:
    parts = (SCHEMA, target.fingerprint, platform.node(), str(threads))
    return "roof-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _measured(threads: int) -> Roofline:
    before = get_num_threads()
    set_num_threads(threads)
    try:
        peak = {t.name: _peak(t, threads) for t in (f32, f64)}
        return Roofline(threads, peak, tuple([(n, _bandwidth(n, threads)) for n in WORKING_SETS]))
    finally:
        set_num_threads(before)


@cache
def _chains(t: DType) -> Kernel[Any]:
    """`CHAINS` vectors of multiply-adds on each of T threads."""
    lanes = resolve("cpu").vector_bytes // t.bytes
    count = CHAINS * lanes
    T = sizes("T")
    X = t[T, count]

    @kernel
    def chains(X: X, rounds: i64):
        for n in range(T):
            x = empty((count,), t)
            for i in range(count):
                x[i] = X[n, i]
            for _ in range(rounds):
                for j in range(count):
                    x[j] = x[j] * 0.5 + 1.0
            for k in range(count):
                X[n, k] = x[k]

    s = chains.schedule()
    for loop in ("i", "j", "k"):
        s = s.vectorize(loop, lanes).unroll(loop)
    return chains.with_schedule(s.parallel("n"))


def _peak(t: DType, threads: int) -> float:
    run = _chains(t)
    lanes = resolve("cpu").vector_bytes // t.bytes
    x = np.zeros((threads, CHAINS * lanes), t.np)
    seconds = _seconds_a_round(lambda rounds: run(x, rounds))
    return 2 * x.size / seconds


@cache
def _triad() -> Kernel[Any]:
    """Each of T threads on N elements of its own."""
    T, N = sizes("T N")

    @kernel
    def triad(A: f32[T, N], B: f32[T, N], C: f32[T, N], s: f32, rounds: i64):
        for n in range(T):
            for _ in range(rounds):
                for i in range(N):
                    A[n, i] = B[n, i] + s * C[n, i]

    lanes = 4 * resolve("cpu").vector_bytes // f32.bytes
    return triad.with_schedule(triad.schedule().vectorize("i", lanes).parallel("n"))


def _bandwidth(working_set: int, threads: int) -> float:
    run = _triad()
    count = max(1, working_set // (3 * f32.bytes * threads))
    a, b, c = (np.ones((threads, count), np.float32) for _ in range(3))
    seconds = _seconds_a_round(lambda rounds: run(a, b, c, 0.5, rounds))
    return 3 * a.nbytes / seconds


def _seconds_a_round(run: Callable[[int], object]) -> float:
    """The best time of one round, as many at once as take `SECONDS`."""
    run(1)
    rounds, took = 1, 0.0
    while took < SECONDS:
        start = time.perf_counter()
        run(rounds)
        took = time.perf_counter() - start
        if took < SECONDS:
            rounds = max(2 * rounds, min(64 * rounds, int(1.2 * rounds * SECONDS / max(took, 1e-6))))
    best, until = took, time.perf_counter() + ALTOGETHER_S
    while (start := time.perf_counter()) < until:
        run(rounds)
        best = min(best, time.perf_counter() - start)
    return best / rounds
