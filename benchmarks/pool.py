"""The worker pool: what a fork and join costs beside `ThreadPoolExecutor`, and what two threads gain.

`tick` is a parallel loop with almost nothing to do, forced onto the pool; "cold" is after a pause, in which
the workers have gone to sleep. `saxpy` is bound by caches and memory, `rows` by the vector units (which two
hyperthreads of a core share), `chains` by the latency of additions.
"""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.timing import duration, interleaved_medians, table
from kdsl.backends import llvm
from kdsl.backends.base import FrameLayout
from kdsl.backends.llvm import parallel
from kdsl.ir.nodes import ArrayParam
from kdsl.ir.parser import parse_func
from kdsl.runtime.pool import pool_address
from kdsl.runtime.table import RunTable
from kdsl.runtime.threads import get_num_threads, set_num_threads

TICK = """
def tick(A: i64[N]):
    for i in parallel(range(N)):
        A[i] += 1
"""
SAXPY = """
def saxpy(a: f32, X: f32[B, L], Y: f32[B, L]):
    for i in parallel(range(B)):
        for j in range(L):
            Y[i, j] = a * X[i, j] + Y[i, j]
"""
ROWS = """
def rows(X: f32[B, L], Y: f32[B, L]):
    for i in parallel(range(B)):
        for j in range(L):
            x: f32
            x = X[i, j]
            for k in range(32):
                x = x * x - 0.5
            Y[i, j] = x
"""
CHAINS = """
def chains(X: f32[B, L], Y: f32[B, L]):
    for i in parallel(range(B)):
        s: f32
        s = 0.0
        for j in range(L):
            s = s * 0.5 + X[i, j]
        Y[i, 0] = s
"""
_alive: list[Any] = []


def call(text: str, arguments: dict[str, Any], sizes: dict[str, int]) -> Callable[[], int]:
    """A call of a kernel given as IR, its frame made once."""
    func = parse_func(text)
    executable = llvm.load(llvm.compile(func, llvm.host_target()))
    run_table = RunTable((), executable.poll_address, pool_address())
    layout = FrameLayout.of(func)
    frame = (ctypes.c_int64 * layout.slots)()
    frame[2] = run_table.address
    for p, slot in zip(func.params, layout.params):
        value = arguments[p.name]
        is_array = isinstance(p, ArrayParam)
        frame[slot] = value.ctypes.data if is_array else int.from_bytes(value.tobytes(), "little")
    for name, slot in zip(func.sizes, layout.sizes):
        frame[slot] = sizes[name]
    _alive.append((executable, run_table, arguments, frame))
    run, address = executable.run, ctypes.addressof(frame)
    return lambda: run(address)


def cold(run: Callable[[], object], rounds: int = 100) -> float:
    """Median seconds of a call some milliseconds after the last one."""
    samples = []
    for _ in range(rounds):
        time.sleep(0.003)
        start = time.perf_counter()
        run()
        samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def fork_and_join() -> str:
    """The table of latencies, for as many threads as the process may use."""
    threads = get_num_threads()
    above, parallel.PARALLEL_ABOVE = parallel.PARALLEL_ABOVE, -1.0
    tick = call(TICK, {"A": np.zeros(2 * threads, "i8")}, {"N": 2 * threads})
    parallel.PARALLEL_ABOVE = above
    serial = call(TICK, {"A": np.zeros(2 * threads, "i8")}, {"N": 2 * threads})
    with ThreadPoolExecutor(threads) as executor:

        def submit() -> None:
            for future in [executor.submit(int) for _ in range(threads)]:
                future.result()

        contenders = {"the call alone": serial, "pool": tick, "ThreadPoolExecutor": submit}
        warm = interleaved_medians(contenders)
        rows = [[name, duration(warm[name]), duration(cold(run))] for name, run in contenders.items()]
    return table([f"fork and join, {threads} threads", "back to back", "cold"], rows)


def speed_up() -> str:
    """The table of one thread against two: the best of some calls, as another process may have a core."""
    rows = []
    for name, text, b, length in (
        ("saxpy 64 x 1024", SAXPY, 64, 1024),
        ("saxpy 64 x 16384", SAXPY, 64, 16384),
        ("saxpy 1024 x 16384", SAXPY, 1024, 16384),
        ("rows 64 x 1024", ROWS, 64, 1024),
        ("chains 64 x 4096", CHAINS, 64, 4096),
    ):
        x, y = np.full((b, length), 0.5, "f4"), np.zeros((b, length), "f4")
        run = call(text, {"X": x, "Y": y, "a": np.float32(0)}, {"B": b, "L": length})

        best = {1: math.inf, 2: math.inf}
        for threads in (1, 2) * 30:
            set_num_threads(threads)
            for _ in range(10):
                start = time.perf_counter()
                run()
                best[threads] = min(best[threads], time.perf_counter() - start)
        rows.append([name, duration(best[1]), duration(best[2]), f"{best[1] / best[2]:.2f}"])
    return table(["", "1 thread", "2 threads", "speed-up"], rows)


def main() -> str:
    """Both tables."""
    before = get_num_threads()
    text = fork_and_join() + "\n\n" + speed_up()
    set_num_threads(before)
    return text
