"""The autotuner: tuned against hand-written schedules and NumPy, and its search against plainer ones.

    python -m benchmarks tuning            the table: each kernel is tuned from program order, without hints
    python -m benchmarks.tuning record [N] measures a space of products once, or N of it -> tuning.json
    python -m benchmarks.tuning compare    strategies on that space, five seeds each    -> tuning.png

The strategies are compared on recorded times, so that all of them see the same ones: a simulated clock counts
what building and measuring took when the space was recorded. KDSL_TUNING_SECONDS is the time for each kernel
of the table (default 60), KDSL_BENCHMARK a part of the names to tune.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import kdsl
from benchmarks import kernels as k
from benchmarks import peers_numpy
from benchmarks.cases import normal
from benchmarks.timing import duration, interleaved_medians, other_threads, table
from kdsl.runtime.targets import resolve
from kdsl.tune.building import Builder, Built, built
from kdsl.tune.guiding import ModelGuide
from kdsl.tune.plotting import draw_curves
from kdsl.tune.search import STRATEGIES, Search, StrategyName
from kdsl.tune.sketches import sketches
from kdsl.tune.space import Candidate, Sketch

RECORDED = Path(__file__).with_name("tuning.json")


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
    times = interleaved_medians(
        {
            "tuned": lambda: tuned(*case.args),
            "by hand": lambda: by_hand(*case.args),
            "numpy": case.numpy,
        },
        pause=0.05,
    )
    least = "> " if result.at_least else ""
    counts = ", ".join(f"{n} {status}" for status, n in result.counts.most_common())
    return [
        least + duration(result.baseline),
        duration(times["tuned"]),
        f"{times['by hand'] / times['tuned']:.2f} x",
        f"{times['numpy'] / times['tuned']:.2f} x",
        counts,
        f"{result.seconds:.0f}",
    ]


# ------------------------------------------------------------------- the comparison

SIZES = {"M": 512, "K": 512, "N": 512}
PINS = {
    "tall": [2, 3, 4, 5, 6, 8, 12],
    "wide": [1, 2, 4, 6],
    "lanes": 16,
    "registers": 4,
    "threads": "all",
}
"""The part of the space that is recorded: all of it can be measured in some minutes."""
SEEDS = 5
BATCH = 8


def recorded_sketches() -> tuple[kdsl.Schedule, list[Sketch]]:
    """The kernel in program order, and the sketches with the knobs that are recorded."""
    from kdsl.tune.choice import pinned

    start = k.matmul.schedule()
    return start, pinned(sketches(start, resolve("cpu"), SIZES), PINS)


def record(most: int = 10_000, path: Path = RECORDED) -> None:
    """Measures candidates once, in random order, and writes what is known of each.

    Interrupted, it goes on when started again.
    """
    args = (normal(512, 512), normal(512, 512), np.zeros((512, 512), "f4"))
    threads = kdsl.get_num_threads()
    result = kdsl.autotune(k.matmul, args, seconds=None, trials=most, strategy="random", pins=PINS)
    start, found = recorded_sketches()
    named = {s.name: s for s in found}
    rows = []
    for t in result.trials:
        if t.sketch not in named:
            continue
        candidate = Candidate(named[t.sketch], t.values)
        b = built(candidate, start, resolve("cpu"), SIZES, threads)
        rows.append(
            {
                "sketch": t.sketch,
                "values": dict(t.values),
                "status": t.status,
                "time": t.time,
                "seconds": round(t.seconds, 4),
                "building": round(b.spent, 4),
                "predicted": b.predicted,
                "features": [float(f"{x:.6g}") for x in b.features],
            }
        )
    about = {"sizes": SIZES, "threads": threads, "baseline": result.baseline, "candidates": rows}
    path.write_text(json.dumps(about))


@dataclass
class Replayed(Builder):
    """Builds from the record, and counts the seconds that it would have taken."""

    rows: dict[object, dict[str, Any]] = field(default_factory=dict)
    clock: float = 0.0

    def _all(self, candidates: Sequence[Candidate]) -> list[Built]:
        out = []
        for c in candidates:
            row = self.rows[c.key]
            self.clock += row["building"] / self.threads
            refused = "refused" if row["status"] == "refused" else ""
            out.append(Built("", "", row["predicted"], tuple(row["features"]), refused))
        return out


def simulated(
    about: dict[str, Any], found: Sequence[Sketch], start: kdsl.Schedule, strategy: StrategyName, seed: int
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Best time over simulated seconds, and over the number of measured candidates."""
    named = {s.name: s for s in found}
    rows = {Candidate(named[r["sketch"]], r["values"]).key: r for r in about["candidates"]}
    builder = Replayed(start, resolve("cpu"), SIZES, about["threads"], rows=rows)
    search = Search(found, seed, strategy, ModelGuide(builder, found, seed))
    # What was not recorded is not there.
    search.seen |= {c.key for s in found for c in s.candidates() if c.key not in rows}
    by_seconds: list[tuple[float, float]] = []
    by_trials: list[tuple[float, float]] = []
    measured, best = 0, float("inf")
    while batch := search.ask(BATCH):
        builder.build(batch)
        for c in batch:
            r = rows[c.key]
            builder.clock += r["seconds"] / about["threads"]
            measured += 1
            good = r["time"] if r["status"] == "ok" else None
            search.tell(c, good)
            if good is not None and good < best:
                best = good
                by_seconds.append((builder.clock, best))
                by_trials.append((float(measured), best))
    return by_seconds, by_trials


def compare(path: Path = RECORDED) -> str:
    """Draws the strategies, and says how many candidates each needs to come near the best one."""
    about = json.loads(path.read_text())
    start, found = recorded_sketches()
    best = min(r["time"] for r in about["candidates"] if r["status"] == "ok")
    over_seconds, over_trials, lines = {}, {}, []
    for strategy in STRATEGIES:
        runs = [simulated(about, found, start, strategy, seed) for seed in range(SEEDS)]
        over_seconds[strategy] = [s for s, _ in runs]
        over_trials[strategy] = [t for _, t in runs]
        needed = []
        for within in (1.1, 1.02):
            reached = [next(n for n, time in t if time <= within * best) for _, t in runs]
            needed.append(f"{sorted(reached)[SEEDS // 2]:.0f}")
        lines.append([strategy, *needed])
    count = len(about["candidates"])
    title = f"matmul 512³: {count} candidates, {SEEDS} seeds"
    draw_curves(path.with_name("tuning-seconds.png"), over_seconds, title)
    draw_curves(path.with_name("tuning.png"), over_trials, title, across="candidates measured")
    return table(["candidates until within", "10 % of the best", "2 %"], lines)


if __name__ == "__main__":
    begin = time.time()
    if sys.argv[1:] == ["record"]:
        record()
    elif sys.argv[1:2] == ["record"]:
        record(int(sys.argv[2]))
    elif sys.argv[1:] == ["compare"]:
        print(compare())
    else:
        print(main())
    print(f"{time.time() - begin:.0f} s", file=sys.stderr)
