"""Timing on noisy machines: contenders are interleaved in one process, and medians are compared."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import kdsl

Contenders = Mapping[str, Callable[[], object]]


def interleaved_medians(
    contenders: Contenders, *, seconds: float = 1.0, rounds: int = 15, pause: float = 0.0
) -> dict[str, float]:
    """Median seconds of one call of each contender.

    Each is called once to warm up; then `rounds` rounds run all of them in turn, each round beginning with
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
    samples: dict[str, list[float]] = {name: [] for name in contenders}
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
    return {name: statistics.median(s) for name, s in samples.items()}


def medians_by_threads(
    contenders: Contenders, *, seconds: float = 1.0, on_threads: Callable[[int], None] | None = None
) -> dict[int, dict[str, float]]:
    """`interleaved_medians` with kdsl and NumPy's BLAS on one thread each, then on all of kdsl's pool.

    Without threadpoolctl the BLAS keeps the number of threads that it has. `on_threads` tells others how many
    they may use.
    """
    threads = kdsl.get_num_threads()
    out: dict[int, dict[str, float]] = {}
    try:
        for count in dict.fromkeys((1, threads)):
            kdsl.set_num_threads(count)
            _blas_threads(count)
            if on_threads is not None:
                on_threads(count)
            pause = 0.1 if count > 1 else 0.0
            out[count] = interleaved_medians(contenders, seconds=seconds, pause=pause)
    finally:
        kdsl.set_num_threads(threads)
        _blas_threads(1)
    return out


def _blas_threads(count: int) -> None:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return
    threadpool_limits(count, user_api="blas")


def machine() -> str:
    """One line: processor, cores, Python, and the versions of the packages that matter."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(
            line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line
        )
        cpu = {k.strip(): v.strip() for k, v in fields.items()}.get("model name", cpu)
    versions = []
    for package in ("numpy", "llvmlite", "numba"):
        try:
            versions.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return f"{cpu}, Python {platform.python_version()}, {', '.join(versions)}"


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
