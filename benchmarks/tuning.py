"""The autotuner: tuned against hand-written schedules and NumPy, and its search against plainer ones.

    python -m benchmarks tuning            the table: each kernel is tuned from program order, without hints
    python -m benchmarks.tuning record     measures the candidates of two spaces once -> tuning.json
    python -m benchmarks.tuning compare    strategies on these, five seeds each       -> docs/pictures

The strategies are compared on recorded times, so that all of them see the same ones: a simulated clock counts
what building and measuring took when the space was recorded. The table has the best time of the space,
divided by the best one after so many candidates: the median over the seeds.

KDSL_TUNING_SECONDS is the time for each kernel of the first table (default 60), KDSL_BENCHMARK a part of the
names to tune.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, prod
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import kdsl
from benchmarks import kernels as k
from benchmarks import peers_numpy
from benchmarks.cases import normal
from benchmarks.timing import duration, interleaved_medians, other_threads, table
from kdsl.runtime.targets import resolve
from kdsl.runtime.threads import available
from kdsl.tune.measuring.building import Builder, Built, built
from kdsl.tune.searching.guiding import ModelGuide
from kdsl.tune.searching.search import STRATEGIES, Search, StrategyName
from kdsl.tune.showing.plotting import draw_curves
from kdsl.tune.spaces.choice import pinned
from kdsl.tune.spaces.sketches import sketches
from kdsl.tune.spaces.space import Candidate, Sketch

RECORDED = Path(os.environ.get("KDSL_RECORDED", Path(__file__).with_name("tuning.json")))
PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
Curve = list[tuple[float, float]]


# ------------------------------------------------------------------------ the table


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel with the arguments it is tuned for, its hand-written schedule, and what NumPy users write."""

    name: str
    kernel: Any
    args: tuple[Any, ...]
    by_hand: Callable[[kdsl.Schedule], kdsl.Schedule]
    numpy: Callable[[], object]


def product(m: int, n: int, terms: int) -> Case:
    A, B, C, D = normal(m, terms), normal(terms, n), np.zeros((m, n), "f4"), np.zeros((m, n), "f4")
    name = f"matmul {m}x{terms}x{n}"
    return Case(name, k.matmul, (A, B, C), k.blocked, lambda: np.matmul(A, B, out=D))


def cases() -> Iterator[Case]:
    """Those of the autotuner's issue that have a hand-written schedule here."""
    yield from (product(512, 512, 512), product(1024, 1024, 1024), product(1000, 1001, 999))
    X, Y, Z = normal(4096, 1024), *[np.empty((4096, 1024), "f4") for _ in range(2)]
    g, b = normal(1024), normal(1024)
    yield Case("softmax 4096x1024", k.softmax, (X, Y), k.by_rows, peers_numpy.softmax(X, Z))
    yield Case(
        "layernorm 4096x1024",
        k.layernorm,
        (X, g, b, Y),
        k.streamed_rows,
        peers_numpy.layernorm(X, g, b, Z),
    )
    V, W, U = normal(1 << 22), *[np.empty(1 << 22, "f4") for _ in range(2)]
    yield Case("gelu 2²²", k.gelu, (V, W), k.elements, peers_numpy.gelu(V, U))
    L = normal(1 << 24)
    yield Case("sum 2²⁴", k.total, (L,), k.shared_sum, lambda: np.sum(L))
    yield blurred()
    yield swept()
    images, F = normal(64, 58, 58), normal(64, 64, 3, 3)
    mine, theirs = np.empty((64, 56, 56), "f4"), np.empty((64, 56, 56), "f4")
    yield Case(
        "conv2d 64x56²",
        k.conv2d,
        (images, F, mine),
        k.channels,
        peers_numpy.conv2d(images, F, theirs),
    )


def blurred() -> Case:
    A, B, Z = normal(2050, 2050), *[np.empty((2048, 2048), "f4") for _ in range(2)]
    return Case("blur 2048²", k.blur, (A, B), lambda s: k.window(s, 16), peers_numpy.blur(A, Z))


def swept() -> Case:
    A = normal(2048, 2048)
    args, other = (A.copy(), A.copy()), (A.copy(), A.copy())
    return Case("Jacobi 2048²", k.jacobi, args, k.all_steps, peers_numpy.jacobi(*other))


def main() -> str:
    """Tunes each kernel on one thread and on all; returns the Markdown table."""
    seconds = float(os.environ.get("KDSL_TUNING_SECONDS", "60"))
    wanted = os.environ.get("KDSL_BENCHMARK", "")
    before = kdsl.get_num_threads()
    lines = []
    try:
        for case in cases():
            if wanted not in case.name:
                continue
            for threads in dict.fromkeys((1, before)):
                kdsl.set_num_threads(threads)
                other_threads(threads)
                lines.append([case.name, str(threads), *row(case, seconds)])
                print(" | ".join(lines[-1]), file=sys.stderr, flush=True)
    finally:
        kdsl.set_num_threads(before)
        other_threads(1)
    head = [
        "kernel",
        "threads",
        "before",
        "tuned",
        "by hand / tuned",
        "NumPy / tuned",
        "candidates",
        "seconds",
    ]
    return table(head, lines)


def row(case: Case, seconds: float) -> list[str]:
    """Tunes one kernel, then times it in turn with the others."""
    result = kdsl.autotune(case.kernel, case.args, seconds=seconds, trials=None, resume=False)
    tuned = case.kernel.with_schedule(result.schedule)
    by_hand = case.kernel.with_schedule(case.by_hand(case.kernel.schedule()))
    ours = {"tuned": lambda: tuned(*case.args), "by hand": lambda: by_hand(*case.args)}
    times = interleaved_medians(ours, seconds=2.5, rounds=25)
    # Threads of NumPy's BLAS are awake for a while after their work: it is timed apart.
    other = interleaved_medians({"tuned": ours["tuned"], "numpy": case.numpy}, pause=0.15)
    least = "> " if result.at_least else ""
    counts = ", ".join(f"{n} {status}" for status, n in result.counts.most_common())
    return [
        least + duration(result.baseline),
        duration(times["tuned"]),
        f"{times['by hand'] / times['tuned']:.2f} x",
        f"{other['numpy'] / other['tuned']:.2f} x",
        counts,
        f"{result.seconds:.0f}",
    ]


# ------------------------------------------------------------------- the comparison

HELD = ("lanes", "registers")
"""Knobs that stay as they are in the recorded spaces."""
MOST = 240
"""Candidates of a recorded space, about."""
SEEDS = 5
BATCH = 4
"""Candidates of a batch, as on two cores: the search hears of one when the next one is chosen."""
NEAR = 1.0 / 0.95
AFTER = (4, 8, 16, 32, 64)


def problems() -> dict[str, tuple[Any, tuple[Any, ...], dict[str, int]]]:
    """Kernels whose spaces are recorded, their arguments and sizes."""
    matrices = normal(512, 512), normal(512, 512), np.zeros((512, 512), "f4")
    channels = normal(64, 58, 58), normal(64, 64, 3, 3), np.empty((64, 56, 56), "f4")
    return {
        "matmul 512": (k.matmul, matrices, {"M": 512, "K": 512, "N": 512}),
        "conv2d 64x56²": (k.conv2d, channels, {"C": 64, "D": 64, "H": 56, "W": 56}),
    }


@dataclass(frozen=True, slots=True)
class Recorded:
    """A kernel in program order with the part of its space that is recorded."""

    start: kdsl.Schedule
    sizes: dict[str, int]
    pins: dict[str, Any]
    sketches: list[Sketch]

    @staticmethod
    def of(kernel: Any, args: tuple[Any, ...], sizes: dict[str, int]) -> Recorded:
        start = kernel.schedule(*args)
        whole = sketches(start, resolve("cpu"), sizes)
        pins = thinned(whole)
        return Recorded(start, sizes, pins, pinned(whole, pins))


def thinned(whole: Sequence[Sketch]) -> dict[str, Any]:
    """Values of each knob, spread over what it has, so that about `MOST` candidates are left."""
    largest = max(whole, key=lambda s: s.count)
    knobs = {kn.name: kn for s in (*whole, largest) for kn in s.knobs}
    left = {n: [kn.default] if n in HELD else list(kn.values) for n, kn in knobs.items()}

    def count() -> int:
        return sum(prod([len(left[kn.name]) for kn in s.knobs]) for s in whole)

    while count() > MOST:
        name = max(left, key=lambda n: len(left[n]))
        values, fewer = list(knobs[name].values), len(left[name]) - 1
        if fewer < 2:
            break
        at = {round(n * (len(values) - 1) / (fewer - 1)) for n in range(fewer)}
        default = values.index(knobs[name].default)
        at = at - {min(at, key=lambda n: abs(n - default))} | {default}
        left[name] = [values[n] for n in sorted(at)]
    return left


def record(path: Path = RECORDED) -> None:
    """Measures the candidates once on one thread, in random order, and writes what is known of each.

    Interrupted, it goes on when started again.
    """
    target, about = resolve("cpu"), {}
    kdsl.set_num_threads(1)
    for name, (kernel, args, sizes) in problems().items():
        space = Recorded.of(kernel, args, sizes)
        most = sum(s.count for s in space.sketches)
        result = kdsl.autotune(
            kernel, args, seconds=None, trials=most, strategy="random", pins=space.pins, progress=True
        )
        if result.interrupted:
            raise KeyboardInterrupt
        named = {s.name: s for s in space.sketches}
        rows = []
        for t in result.trials:
            if t.sketch not in named:
                continue
            candidate = Candidate(named[t.sketch], t.values)
            b = built(candidate, space.start, target, space.sizes, 1)
            rows.append(
                {
                    "sketch": t.sketch,
                    "values": dict(t.values),
                    "status": t.status,
                    "time": t.time,
                    "seconds": round(t.seconds, 4),
                    "building": round(t.building, 4),
                    "loops": hashlib.sha256(b.ir.encode()).hexdigest()[:16],
                    "predicted": b.predicted,
                    "features": [float(f"{x:.6g}") for x in b.features],
                }
            )
        about[name] = {"workers": available(), "baseline": result.baseline, "candidates": rows}
        path.write_text(json.dumps(about))
        print(f"{name}: {len(rows)} candidates", file=sys.stderr)


@dataclass
class Replayed(Builder):
    """Builds from the record, and counts the seconds that it would have taken."""

    rows: dict[object, dict[str, Any]] = field(default_factory=dict)
    workers: int = 1
    clock: float = 0.0

    def _one(self, candidate: Candidate) -> Built:
        row = self.rows[candidate.key]
        self.clock += row["building"] / self.workers
        refused = "refused" if row["status"] == "refused" else ""
        return Built("", row["loops"], row["predicted"], tuple(row["features"]), refused)


def simulated(
    about: dict[str, Any], space: Recorded, strategy: StrategyName, seed: int
) -> tuple[Curve, Curve]:
    """Best time over simulated seconds, and over the number of measured candidates."""
    named = {s.name: s for s in space.sketches}
    rows = {
        Candidate(named[r["sketch"]], r["values"]).key: r for r in about["candidates"] if r["sketch"] in named
    }
    builder = Replayed(space.start, resolve("cpu"), space.sizes, 1, rows=rows, workers=about["workers"])
    search = Search(space.sketches, seed, strategy, ModelGuide(builder, space.sketches, seed))
    # What was not recorded is not there.
    search.seen |= {c.key for s in space.sketches for c in s.candidates() if c.key not in rows}
    by_seconds: list[tuple[float, float]] = []
    by_trials: list[tuple[float, float]] = []
    measured, best = 0, float("inf")
    goal = min(r["time"] for r in rows.values() if r["status"] == "ok")
    batch = search.ask(BATCH)
    while batch and best > goal:
        following = search.ask(BATCH)
        for c in batch:
            r = rows[c.key]
            builder.clock += r["seconds"] / builder.workers
            measured += 1
            good = r["time"] if r["status"] == "ok" else None
            search.tell(c, good)
            if good is not None and good < best:
                best = good
                by_seconds.append((builder.clock, best))
                by_trials.append((float(measured), best))
        batch = following
    return by_seconds, by_trials


def compare(path: Path = RECORDED, pictures: Path = PICTURES) -> str:
    """Draws the strategies (with matplotlib), and says how good each is after so many candidates."""
    whole = json.loads(path.read_text())
    lines = []
    for (name, problem), picture in zip(problems().items(), ("matmul", "conv2d")):
        about, space = whole[name], Recorded.of(*problem)
        best = min(r["time"] for r in about["candidates"] if r["status"] == "ok")
        over_trials = {}
        for strategy in STRATEGIES:
            runs = [simulated(about, space, strategy, seed) for seed in range(SEEDS)]
            over_trials[strategy] = [t for _, t in runs]
            cells = []
            for after in AFTER:
                times = [min([time for n, time in t if n <= after], default=inf) for _, t in runs]
                cells.append(f"{best / median(times):.2f}")
            tries = [next(n for n, time in t if time <= NEAR * best) for _, t in runs]
            seconds = [next(n for n, time in s if time <= NEAR * best) for s, _ in runs]
            lines.append([name, strategy, *cells, f"{median(tries):.0f}", f"{median(seconds):.1f} s"])
        title = f"{name}: {len(about['candidates'])} candidates, {SEEDS} seeds"
        try:
            draw_curves(pictures / f"tuning-{picture}.svg", over_trials, title, across="candidates measured")
        except kdsl.KdslError as error:  # without matplotlib there is the table alone
            print(error.title, file=sys.stderr)
    head = ["kernel", "strategy", *[f"after {n}" for n in AFTER], "candidates to 0.95", "seconds to 0.95"]
    return table(head, lines)


if __name__ == "__main__":
    begin = time.time()
    if sys.argv[1:] == ["record"]:
        record()
    elif sys.argv[1:] == ["compare"]:
        print(compare())
    else:
        print(main())
    print(f"{time.time() - begin:.0f} s", file=sys.stderr)
