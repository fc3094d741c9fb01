"""What a process pays before the first result: import, first call without and with a warm disk cache.

Each figure is the median over processes of their own, with byte code cached as usual; a first call is timed
by itself. A cold one also imports the compiler; "after another kernel", whose first call the decorator's
column then holds, that has happened before: it is the compilation alone.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.timing import table

ROUNDS = 9
HEAD = """
import time
import numpy as np
start = time.perf_counter()
{imports}
imported = time.perf_counter()
"""
TAIL = """
decorated = time.perf_counter()
A, B, C = (np.ones((8, 8), np.float32) for _ in range(3))
called = time.perf_counter()
matmul(A, B, C)
done = time.perf_counter()
print((imported - start) * 1e3, (decorated - imported) * 1e3, (done - called) * 1e3)
"""
KDSL = """
M, N, K = kdsl.sizes("M N K")

@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc
"""
OTHER = """
@kdsl.kernel
def copy(A: f32[N], B: f32[N]):
    for i in range(N):
        B[i] = A[i]

copy(np.ones(8, np.float32), np.ones(8, np.float32))
"""
NUMBA = """
@numba.njit(cache={cache})
def matmul(A, B, C):
    for i in range(A.shape[0]):
        for j in range(B.shape[1]):
            acc = np.float32(0)
            for k in range(A.shape[1]):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc
"""


def run(program: Path, cache: str) -> list[float]:
    """Milliseconds of import, decoration and first call in a new process."""
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "KDSL_CACHE_DIR": cache, "PYTHONPATH": str(root)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True, check=True
    )
    return [float(x) for x in done.stdout.split()]


def main() -> str:
    """The table, as Markdown."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        ours = HEAD.format(imports="import kdsl\nfrom kdsl import f32") + KDSL
        programs = {"kdsl": ours + TAIL, "kdsl, cold, after another kernel": ours + OTHER + TAIL}
        if importlib.util.find_spec("numba") is not None:
            programs["numba"] = HEAD.format(imports="import numba") + NUMBA.format(cache=False) + TAIL
            programs["numba, cached"] = HEAD.format(imports="import numba") + NUMBA.format(cache=True) + TAIL
        files = {}
        for name, text in programs.items():
            files[name] = folder / f"run_{name.replace(', ', '_')}.py"
            files[name].write_text(text)
        warm = str(folder / "cache")
        contenders = {"kdsl, cold": (files["kdsl"], ""), "kdsl, warm": (files["kdsl"], warm)}
        contenders |= {name: (path, "") for name, path in files.items() if name != "kdsl"}
        for path, cache in contenders.values():
            run(path, cache)
        samples: dict[str, list[list[float]]] = {name: [] for name in contenders}
        for _ in range(ROUNDS):
            for name, (path, cache) in contenders.items():
                samples[name].append(run(path, cache))
    rows = [
        [name, *(f"{statistics.median(column):.1f}" for column in zip(*figures))]
        for name, figures in samples.items()
    ]
    return table(["", "import ms", "decorator ms", "first call ms"], rows)
