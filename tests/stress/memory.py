"""Memory over many calls and many compilations: what the process keeps must not grow.

    python -m tests.stress.memory

Both phases first run a part as warm-up. Growth is that of the resident set, in kilobytes.
"""

from __future__ import annotations

import contextlib
import gc
import linecache
import os
import tempfile
from typing import Any
from unittest import mock

import numpy as np

import kdsl
from kdsl import f32
from kdsl.errors import KdslError
from tests.stress.driver import Run, main

M, N = kdsl.sizes("M N")
CALLS, COMPILES = 100_000, 1_000
CALL_BYTES, COMPILE_BYTES = 40, 20_000
"""What a call, and a compilation whose kernel nobody holds, may leave behind."""


def resident_kb() -> int:
    """The resident set of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


@kdsl.kernel
def scale(A: f32[M, N], by: f32):
    for i in range(M):
        for j in range(N):
            A[i, j] *= by


@kdsl.kernel
def summed(A: f32[M, N]) -> f32[M]:
    out = kdsl.zeros(M, f32)
    for i in range(M):
        for j in range(N):
            out[i] += A[i, j]
    return out


@kdsl.kernel
def checked(A: f32[N], at: f32[N]):
    for i in range(N):
        assert A[i] >= 0, "below zero"
        at[i] = A[i]


def calls(run: Run, count: int) -> None:
    """Calls of all kinds: entries, the slow path, results, refusals, faults, parallel loops."""
    A = np.ones((8, 16), np.float32)
    F, T = np.asfortranarray(A), A[:, ::2]
    bad, out = -np.ones(4, np.float32), np.zeros(4, np.float32)
    fast = scale.with_schedule(lambda s: s.parallel("i").vectorize("j", 8))
    one = np.float32(1)

    def some(n: int) -> None:
        for _ in range(n // 10):
            scale(A, 1.0)
            scale(F, one)
            scale(T, by=1.0)
            fast(A, 1.0)
            summed(A)
            summed(T)
            scale.on("cpu")(A, 1)
            scale(A, True)
            with contextlib.suppress(KdslError):
                scale(A, "x")  # type: ignore[arg-type]
            with contextlib.suppress(KdslError):
                checked(bad, out)

    some(max(100, count // 5))
    gc.collect()
    before = resident_kb()
    some(count)
    gc.collect()
    grown = resident_kb() - before
    run.counts["calls"] += count
    run.counts["kB grown over calls"] += grown
    if grown * 1024 > CALL_BYTES * count + (1 << 20):
        run.find(f"{count} calls have left {grown} kB")


def compilations(run: Run, count: int) -> None:
    """Kernels with a constant of their own, each compiled, called and forgotten."""
    A = np.ones(8, np.float32)

    def some(first: int, n: int) -> None:
        for k in range(first, first + n):
            text = f"def f(A: f32[N]):\n    for i in range(N):\n        A[i] = A[i] * {k} + 1\n"
            name = f"<memory {k}>"
            linecache.cache[name] = (len(text), None, text.splitlines(True), name)
            scope: dict[str, Any] = {"f32": f32, "N": N}
            exec(compile(text, name, "exec"), scope)
            kernel: Any = kdsl.kernel(scope["f"])
            if k % 2:
                kernel = kernel.with_schedule(kernel.schedule().vectorize("i", 8))
            A[:] = 1
            kernel(A)
            if A[7] != np.float32(k) + 1:
                run.find(f"a wrong result of kernel {k}")
            del linecache.cache[name]

    warm, base = max(3, count // 10), run.random.randrange(1 << 20)
    some(base, warm)
    gc.collect()
    before = resident_kb()
    some(base + warm, count)
    gc.collect()
    grown = resident_kb() - before
    run.counts["compilations"] += count
    run.counts["kB grown over compilations"] += grown
    if grown * 1024 > COMPILE_BYTES * count + (4 << 20):
        run.find(f"{count} compilations have left {grown} kB")


def stress(run: Run) -> None:
    """The full numbers with the budget of a script, a thousandth of them with one of a few seconds."""
    full = run.seconds >= 30
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, KDSL_CACHE_DIR=folder):
        os.chmod(folder, 0o700)
        calls(run, CALLS if full else 500)
        compilations(run, COMPILES if full else 5)


if __name__ == "__main__":
    main(stress)
