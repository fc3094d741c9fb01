"""How long a step of a schedule takes: its arguments, the proof or refusal, the new loops.

The schedules are those of the speed table and of the attention example, replayed step by step without what
earlier processes proved. Each is replayed three times, and the fastest counts.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator

import kdsl
from benchmarks import kernels as k
from benchmarks.timing import duration, table
from examples.attention.attention import in_tiles, online
from kdsl.analysis import answers


def schedules() -> Iterator[kdsl.Schedule]:
    yield k.blocked(k.matmul.schedule())
    yield k.blocked_f64(k.matmul_f64.schedule())
    yield k.few_rows(k.matmul.schedule())
    yield k.few_columns(k.matmul_dots.schedule())
    yield k.elements(k.gelu.schedule())
    yield k.streamed(k.saxpy.schedule())
    yield k.shared_sum(k.total.schedule())
    yield k.by_rows(k.softmax.schedule())
    yield k.streamed_rows(k.layernorm.schedule())
    yield k.channels(k.conv2d.schedule())
    yield k.window(k.blur.schedule(), 16)
    yield k.window(k.blur_u16.schedule(), 32)
    yield k.all_steps(k.jacobi.schedule())
    yield in_tiles(online.schedule())


def main() -> str:
    """Times each step; returns the Markdown table: by primitive, and all."""
    with_answers = answers._find
    answers.lend(lambda: None)
    try:
        found = list(schedules())
        seconds: dict[str, list[float]] = defaultdict(list)
        for s in found:
            runs = [_replayed(s) for _ in range(3)]
            for step, *times in zip(s.steps, *runs):
                seconds[step.name].append(min(times))
    finally:
        answers.lend(with_answers)
    every = [t for times in seconds.values() for t in times]
    rows = [_row(f"`{name}`", seconds[name]) for name in sorted(seconds)]
    return table(["step", "number", "median", "95 %", "longest"], [*rows, _row("all", every)])


def _replayed(s: kdsl.Schedule) -> list[float]:
    out = []
    now = kdsl.Schedule(s.base)
    for step in s.steps:
        start = time.perf_counter()
        now = now.replay([(step.name, dict(step.args))])
        out.append(time.perf_counter() - start)
    return out


def _row(name: str, times: list[float]) -> list[str]:
    times = sorted(times)
    late = times[min(len(times) - 1, round(0.95 * len(times)))]
    return [name, str(len(times)), *map(duration, (statistics.median(times), late, times[-1]))]
