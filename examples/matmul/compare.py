"""A matrix product every way: program order, by hand step by step, tuned; CPU and Vulkan; four types.

    python examples/matmul/compare.py [--size 512] [--type f32 ...] [--tune SECONDS]
    python examples/matmul/compare.py --picture matmul.svg

Kernels and schedules are those of the files beside this one. The first form prints a table: each row is
checked, then all of one type are timed in turn beside NumPy. NumPy has no fast product of bytes or of bf16:
those stand beside its product of f32. `auto` is what `kdsl.autotune` has stored for this size, or else what a
cost model proposes at once; with `--tune` each kernel is tuned for so many seconds before.

The second form draws GFLOP/s of f32 against the size, 128 to 2048, beside NumPy's BLAS and the peak of this
machine as kdsl measures it; about a minute. It needs matplotlib. NumPy has as many threads as kdsl where
threadpoolctl is installed, and else those of OPENBLAS_NUM_THREADS.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu
import matmul
import ml_dtypes
import numpy as np
import quantised
import scheduled

import kdsl

Array = np.ndarray[Any, Any]
Recipe = Callable[[kdsl.Schedule], kdsl.Schedule]

TYPES = ("f32", "f64", "bf16", "u8*s8")
SIZES = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048)


@dataclass(frozen=True, slots=True)
class Problem:
    """A product of `n` x `n` matrices of one type: the naive kernel, its arguments, and NumPy's product."""

    type: str
    kernel: Any
    A: Array
    B: Array
    C: Array
    steps: dict[str, tuple[Any, Recipe]]
    """The schedule by hand, step by step: the kernel that each begins with, and what it does to it."""
    numpy: Callable[[], Array]

    def agree(self, C: Array, name: str) -> None:
        """Sums of n terms in another order; integers are exact."""
        n = len(C)
        tolerance = 0.0 if self.type == "u8*s8" else 1e-4 * n
        error = np.abs(C.astype(np.float64) - self.numpy()).max()
        if not error <= tolerance:
            raise SystemExit(f"{self.type}, {name}: wrong result, error {error:.3g}")


def rows(s: kdsl.Schedule, lanes: int = 16) -> kdsl.Schedule:
    """The innermost loop runs along rows of B, a vector at a time."""
    return s.reorder("i", "k", "j").vectorize("j", lanes).parallel("i")


def tiles(s: kdsl.Schedule, lanes: int = 16) -> kdsl.Schedule:
    """Tiles of 6 rows and 4 vectors, whose sums stay in registers."""
    s = s.tile(["i", "j"], [6, 4 * lanes]).reorder("j_o", "i_o", "k", "i_i", "j_i")
    return s.vectorize("j_i", lanes).unroll("j_i").unroll("i_i").parallel("j_o")


def problem(type_: str, n: int) -> Problem:
    rng = np.random.default_rng(0)
    if type_ in ("f32", "f64"):
        dtype, lanes = (np.float32, 16) if type_ == "f32" else (np.float64, 8)
        A, B = (rng.standard_normal((n, n), dtype=dtype) for _ in range(2))
        C, D = np.empty((n, n), dtype), np.empty((n, n), dtype)
        steps = {
            "rows in vectors": (matmul.matmul, lambda s: rows(s, lanes)),
            "sums in registers": (matmul.matmul, lambda s: tiles(s, lanes)),
            "B packed, in blocks": (scheduled.matmul, lambda s: scheduled.blis(s, lanes)),
        }
        return Problem(type_, matmul.matmul, A, B, C, steps, lambda: np.matmul(A, B, out=D))
    if type_ == "bf16":
        A, B = (rng.standard_normal((n, n)).astype(ml_dtypes.bfloat16) for _ in range(2))
        kernel, by_hand, result = quantised.matmul_bf16, quantised.schedule_bf16, np.float32
    else:
        A, B = rng.integers(0, 256, (n, n), np.uint8), rng.integers(-128, 128, (n, n), np.int8)
        kernel, by_hand, result = quantised.matmul_u8s8, quantised.schedule_u8s8, np.int32
    X, Y, Z = A.astype(np.float32), B.astype(np.float32), np.empty((n, n), np.float32)
    steps = {"rows in vectors": (kernel, rows), "dot-product instructions": (kernel, by_hand)}
    return Problem(type_, kernel, A, B, np.empty((n, n), result), steps, lambda: np.matmul(X, Y, out=Z))


def ways(p: Problem, target: str, tune: float) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names, and what makes the kernel: making it may be refused, as where a device has no f64."""
    naive = p.kernel.on(target)
    yield "program order", lambda: naive
    if target == "cpu":
        for name, (kernel, recipe) in p.steps.items():
            yield name, lambda k=kernel, r=recipe: k.with_schedule(r(k.schedule(p.A, p.B, p.C)))
    else:
        yield "sums in registers", lambda: naive.with_schedule(gpu.registers(naive.schedule(p.A, p.B, p.C)))
    if tune:
        yield f"tuned for {tune:g} s", lambda: naive.with_schedule(tuned(naive, p, tune))
    else:
        yield "auto", lambda: naive.with_schedule("auto")


def tuned(kernel: Any, p: Problem, seconds: float) -> kdsl.Schedule:
    return kdsl.autotune(kernel, (p.A, p.B, p.C), seconds=seconds, trials=None).schedule


def table(types: list[str], n: int, threads: int, repeat: int, tune: float) -> None:
    """Prints a row for each way, those of one type timed in turn."""
    targets = ["cpu"]
    for device in kdsl.devices():
        if device.name == "vulkan":
            if device.available:
                targets.append("vulkan")
                print(f"vulkan: {device.description}")
            else:
                print(f"no Vulkan here: {device.missing}")
    print(f"{n} x {n} x {n}, {threads} thread{'s' * (threads > 1)}, medians of up to {repeat} runs\n")
    print(f"{'':7}{'':8}{'':26}{'ms':>10}{'Gop/s':>10}{'of NumPy':>10}")
    for type_ in types:
        p = problem(type_, n)
        runs: dict[tuple[str, str], Callable[[], object]] = {("", "NumPy"): p.numpy}
        missing: dict[tuple[str, str], str] = {}
        for target in targets:
            for name, make in ways(p, target, tune):
                try:
                    runs[target, name] = ready(p, make(), name, target)
                except kdsl.KdslError as error:
                    missing[target, name] = error.title
        ms = quantised.median_ms(runs, repeat, seconds=1.0, pause=0.3 if threads > 1 else 0.0)
        for (target, name), time in ms.items():
            label = "NumPy's f32" if target == "" and type_ not in ("f32", "f64") else name
            share = f"{100 * ms['', 'NumPy'] / time:.0f} %"
            print(f"{type_:7}{target:8}{label:26}{time:10.2f}{2e-6 * n**3 / time:10.1f}{share:>10}")
        for (target, name), why in missing.items():
            print(f"{type_:7}{target:8}{name:26}not here: {why}")
    print("results agree")


def ready(p: Problem, kernel: Any, name: str, target: str) -> Callable[[], object]:
    """A call on arrays that lie where they are needed, checked."""
    p.C[...] = 0
    kernel(p.A, p.B, p.C)
    p.agree(p.C, f"{name} on {target}")
    if target == "cpu":
        return lambda: kernel(p.A, p.B, p.C)
    a, b, c = (kdsl.to_device(x, target) for x in (p.A, p.B, p.C))

    def run() -> None:
        kernel(a, b, c)
        kdsl.synchronize(target)

    return run


# -------------------------------------------------------------------- by size


def curve(sizes: list[int], most: int, seconds: float) -> dict[str, Any]:
    """GFLOP/s by size, on one thread and on `most`, with the peak."""
    from kdsl.runtime.roofline import roofline

    before = kdsl.get_num_threads()
    lines = []
    for threads in dict.fromkeys((1, most)):
        share_threads(threads)
        line: dict[str, Any] = {"threads": threads, "kdsl": [], "numpy": []}
        for n in sizes:
            p = problem("f32", n)
            kernel, recipe = p.steps["B packed, in blocks"]
            ours = ready(p, kernel.with_schedule(recipe), "B packed, in blocks", "cpu")
            pause = 0.3 if threads > 1 else 0.0
            ms = quantised.median_ms({"kdsl": ours, "numpy": p.numpy}, 15, seconds / 2, pause)
            for name, time in ms.items():
                line[name].append(2e-6 * n**3 / time)
            rates = f"{line['kdsl'][-1]:.1f}, NumPy {line['numpy'][-1]:.1f} GFLOP/s"
            print(f"{threads} thread{'s' * (threads > 1)}, {n}: {rates}")
        line["peak"] = roofline(threads).peak["f32"] / 1e9
        lines.append(line)
    share_threads(before)
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]["name"]
    return {"sizes": sizes, "blas": blas, "lines": lines}


def share_threads(count: int) -> None:
    """So many threads for kdsl, and for NumPy's BLAS where threadpoolctl is installed."""
    kdsl.set_num_threads(count)
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        return
    threadpool_limits(count, user_api="blas")


def draw(found: dict[str, Any], path: Path) -> None:
    """A panel for each number of threads."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kdsl"})
    lines, sizes = found["lines"], found["sizes"]
    figure = Figure(figsize=(4.6 * len(lines), 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, line in zip(figure.subplots(1, len(lines), squeeze=False)[0], lines, strict=True):
        peak, threads = line["peak"], line["threads"]
        axes.axhline(peak, color="0.4", linestyle=":", label=f"peak, {peak:.0f} GFLOP/s")
        axes.plot(sizes, line["kdsl"], "o-", color="#3f51b5", label="kdsl, schedule by hand")
        blas = "OpenBLAS" if "openblas" in found["blas"] else found["blas"]
        axes.plot(sizes, line["numpy"], "s--", color="#dd8452", label=f"NumPy ({blas})")
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(n) for n in sizes], rotation=45)
        axes.set_xticks([], minor=True)
        axes.set_ylim(0, 1.08 * max(peak, *line["kdsl"], *line["numpy"]))
        axes.set_xlabel("n, for a product of n x n matrices of f32")
        axes.set_ylabel("GFLOP/s")
        axes.set_title(f"{threads} thread{'s' * (threads > 1)}")
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, **({"metadata": {"Date": None}} if path.suffix == ".svg" else {"dpi": 120}))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=512, help="n for the n x n matrices (default 512)")
    parser.add_argument("--type", nargs="+", choices=TYPES, default=TYPES, help="of elements (default all)")
    parser.add_argument("--threads", type=int, default=kdsl.get_num_threads(), help="(default: all)")
    parser.add_argument("--repeat", type=int, default=15, help="timed runs; the median counts (default 15)")
    parser.add_argument("--tune", type=float, default=0.0, metavar="SECONDS", help="tune each kernel so long")
    parser.add_argument("--picture", type=Path, help="draw GFLOP/s by size into this file (SVG, PNG, PDF)")
    parser.add_argument("--json", type=Path, help="write GFLOP/s by size into this file")
    parser.add_argument("--read", type=Path, help="draw what --json has written, measure nothing")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of the picture")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each size of the picture (default 1)")
    options = parser.parse_args()
    if not (options.picture or options.json):
        share_threads(options.threads)
        table(options.type, options.size, options.threads, options.repeat, options.tune)
        return
    if options.picture and importlib.util.find_spec("matplotlib") is None:
        sys.exit("no picture: matplotlib is not installed (pip install 'kdsl[plot]')")
    if options.read:
        found = json.loads(options.read.read_text())
    else:
        found = curve(options.sizes, options.threads, options.seconds)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.picture:
        draw(found, options.picture)
    print("results agree")


if __name__ == "__main__":
    main()
