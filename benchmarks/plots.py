"""Results as pictures: bars of how much faster kdsl is than each peer, GFLOP/s of products by size."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from benchmarks.compared import NAMES
from benchmarks.machine import CURVE
from benchmarks.results import Results
from benchmarks.tables import threads

COLOURS = {"numpy": "#4c72b0", "numba": "#55a868", "torch": "#dd8452"}


def draw(results: Results, folder: Path) -> None:
    """Writes `faster.svg`, where anything was measured."""
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kdsl"})
    if not results.threads:
        return
    cases, counts = results.cases, results.threads
    figure = Figure(figsize=(5 * len(counts) + 1.5, 0.42 * len(cases) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(counts), sharex=True, sharey=True, squeeze=False)[0]
    for axes, count in zip(panels, counts, strict=True):
        _bars(axes, results, count)
    panels[0].set_yticks(range(len(cases)), cases)
    panels[0].invert_yaxis()
    handles = [Patch(color=COLOURS[p], label=f"faster than {NAMES[p]}") for p in results.peers]
    figure.legend(handles=handles, frameon=False, ncols=len(handles), loc="outside lower center")
    figure.suptitle("How many times as fast as each peer kdsl is (medians; lines: quartiles)")
    figure.savefig(folder / "faster.svg", metadata={"Date": None})


def draw_curve(results: Results, folder: Path) -> None:
    """Writes `matmul.svg`, where GFLOP/s by size were measured."""
    if "lines" not in results.curve:
        return
    with tempfile.TemporaryDirectory() as there:
        data = Path(there, "matmul.json")
        data.write_text(json.dumps(results.curve))
        picture = (folder / "matmul.svg").resolve()
        command = [sys.executable, str(CURVE), "--read", str(data), "--picture", str(picture)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _bars(axes: Any, results: Results, count: int) -> None:
    height = 0.8 / len(results.peers)
    for n, peer in enumerate(results.peers):
        places, medians, spreads = [], [], []
        for at, case in enumerate(results.cases):
            row = results.row(case, peer)
            if row is not None and (timing := row.on(count)) is not None:
                ratio = timing.faster
                places.append(at - 0.4 + (n + 0.5) * height)
                medians.append(ratio.median)
                spreads.append((ratio.median - ratio.q1, ratio.q3 - ratio.median))
        # Bars begin at 1, where both are as fast.
        axes.barh(
            places,
            [m - 1 for m in medians],
            height,
            left=1,
            xerr=list(zip(*spreads)) or None,
            color=COLOURS[peer],
            error_kw={"elinewidth": 1, "ecolor": "0.25"},
        )
    axes.set_xscale("log", base=2)
    axes.axvline(1, color="0.2", linewidth=1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} x")
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(threads(count))
