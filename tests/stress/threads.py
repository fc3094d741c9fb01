"""Eight threads that call, compile, schedule and tune at once, and processes that fork and spawn meanwhile.

Every thread knows what its calls must give. The kernels are shared; each thread makes new ones too.
"""

from __future__ import annotations

import linecache
import multiprocessing
import os
import random
import tempfile
import threading
import time
import traceback
from collections import Counter
from typing import Any
from unittest import mock

import numpy as np

import kdsl
from kdsl import f32, i32
from kdsl.errors import ArgumentError, KdslError, ScheduleError
from tests.stress.driver import Run, main

M, N = kdsl.sizes("M N")
T = kdsl.typevar("T", f32, i32)
THREADS = 8
JOIN_S = 120.0


@kdsl.kernel
def scale(A: T[M, N], by: T):
    for i in range(M):
        for j in range(N):
            A[i, j] *= by


@kdsl.kernel
def cumulate(A: f32[M, N]) -> f32[M]:
    out = kdsl.zeros(M, f32)
    for i in range(M):
        for j in range(N):
            out[i] += A[i, j]
    return out


FAST = scale.with_schedule(lambda s: s.parallel("i").vectorize("j", 8))
AUTO = scale.with_schedule("auto")


def _call(draw: random.Random) -> None:
    dtype = draw.choice((np.float32, np.int32))
    A = np.full((draw.randrange(1, 20), draw.randrange(1, 40)), 3, dtype)
    A = draw.choice((A, A.T, A[::2], np.asfortranarray(A)))
    draw.choice((scale, scale, FAST, AUTO))(A, 2)
    assert (A == 6).all(), f"{A.dtype} {A.shape} {A.strides}"
    total = cumulate(np.ones((3, 5), np.float32))
    assert (total == 5).all()


def _refused(draw: random.Random) -> None:
    try:
        scale(np.ones(3, np.float32), 2)
    except ArgumentError as error:
        assert "expected 2" in str(error)
    else:
        raise AssertionError("not refused")


def _compile(draw: random.Random) -> None:
    k = draw.randrange(40)
    name = f"<threads {k} {threading.get_ident()} {draw.random()}>"
    text = f"def f(A: f32[N]):\n    for i in range(N):\n        A[i] = A[i] + {k}\n"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    scope: dict[str, Any] = {"f32": f32, "N": N}
    exec(compile(text, name, "exec"), scope)
    kernel: Any = kdsl.kernel(scope["f"])
    A = np.zeros(9, np.float32)
    kernel(A)
    assert (k == A).all()


def _schedule(draw: random.Random) -> None:
    s = scale.schedule(np.ones((4, 4), np.float32), 2.0)
    s = s.tile(["i", "j"], [draw.choice((2, 3, 4)), draw.choice((4, 8))])
    try:
        s = s.reorder("i_o", "j_o", "i_i", "j_i").vectorize("j_i")
        s.fuse("i_o", "j_o")
    except ScheduleError:
        pass
    A = np.full((5, 7), 2, np.float32)
    s(A, 2.0)
    assert (A == 4).all()


def _look(draw: random.Random) -> None:
    assert "for i in range(M)" in cumulate.ir()
    assert "define" in cumulate.llvm()
    kdsl.set_num_threads(draw.choice((1, 2, 3)))


def _tune(draw: random.Random) -> None:
    A = np.ones((16, 32), np.float32)
    best = kdsl.autotune(scale, (A, np.float32(1)), seconds=0.5, trials=2)
    assert best.schedule is not None


def _child(queue: Any) -> None:
    try:
        draw = random.Random(os.getpid())
        for _ in range(3):
            _call(draw)
        _compile(draw)
        queue.put("right")
    except BaseException:
        queue.put(traceback.format_exc())


def _process(draw: random.Random, method: str) -> None:
    context = multiprocessing.get_context(method)
    queue = context.SimpleQueue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    until = time.monotonic() + 60
    while child.is_alive() and time.monotonic() < until:
        child.join(1)
        time.sleep(0.01)  # another thread's `start` may have seen the end, and not noted it yet
    if child.is_alive():
        child.kill()
        raise AssertionError(f"a child ({method}) hangs")
    assert child.exitcode == 0, f"a child ({method}) ended with {child.exitcode}"
    said = queue.get()
    assert said == "right", said


JOBS = {
    "call": 60,
    "refused": 10,
    "compile": 8,
    "schedule": 6,
    "look": 4,
    "tune": 0.15,
    "fork": 0.5,
    "spawn": 0.15,
}


def _do(job: str, draw: random.Random) -> None:
    match job:
        case "call":
            for _ in range(20):
                _call(draw)
        case "refused":
            _refused(draw)
        case "compile":
            _compile(draw)
        case "schedule":
            _schedule(draw)
        case "look":
            _look(draw)
        case "tune":
            _tune(draw)
        case "fork" | "spawn":
            _process(draw, job)


def stress(run: Run) -> None:
    """Until the budget is spent; then every thread must end."""
    counts: Counter[str] = Counter()
    found: list[str] = []
    lock = threading.Lock()
    stop = time.monotonic() + run.seconds
    long = run.seconds > 10

    def worker(number: int) -> None:
        draw = random.Random(f"{run.seed} {number}")
        jobs = [j for j in JOBS if long or j not in ("tune", "spawn")]
        if number == 0 and long:
            jobs = ["tune", "fork", "spawn", "call"]
        while time.monotonic() < stop and not found:
            job = draw.choices(jobs, [JOBS[j] for j in jobs])[0]
            try:
                _do(job, draw)
            except (KdslError, AssertionError, Exception):
                with lock:
                    found.append(f"thread {number}: {job}\n{traceback.format_exc()}")
            with lock:
                counts[job] += 1

    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, KDSL_CACHE_DIR=folder):
        os.chmod(folder, 0o700)
        threads = [threading.Thread(target=worker, args=(n,), daemon=True) for n in range(THREADS)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(max(0.0, stop + JOIN_S - time.monotonic()))
        if any(t.is_alive() for t in threads):
            found.append(f"{sum(t.is_alive() for t in threads)} threads hang")
            import faulthandler

            faulthandler.dump_traceback(all_threads=True)
    kdsl.set_num_threads(os.cpu_count() or 1)
    run.counts.update(counts)
    for finding in found:
        run.find(finding)


if __name__ == "__main__":
    main(stress)
