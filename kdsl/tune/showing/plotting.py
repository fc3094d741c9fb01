"""Curves of tunings: the best time so far against the seconds since the start, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdsl.errors import KdslError
from kdsl.tune.result import duration

Curve = Sequence[tuple[float, float]]
"""(seconds since the start, best time so far in seconds) at each change."""


def draw_curves(
    path: Path,
    curves: Mapping[str, Sequence[Curve]],
    title: str,
    baseline: float | None = None,
    until: float | None = None,
    across: str = "seconds of tuning",
) -> Path:
    """Draws curves into a file (its suffix says the format), those of one name in one colour with their
    median.

    `baseline` is the time of a call before. KdslError when matplotlib is not installed.
    """
    figure_class, canvas_class, ticker = _matplotlib()
    figure = figure_class(figsize=(7.2, 4.2), layout="constrained")
    canvas_class(figure)
    axes = figure.add_subplot()
    end = until or max([c[-1][0] for group in curves.values() for c in group if c], default=1.0)
    for n, (name, group) in enumerate(curves.items()):
        colour = f"C{n}"
        for curve in group if len(group) > 1 else ():
            x, y = stairs(curve, end)
            axes.plot(x, y, color=colour, alpha=0.25, linewidth=0.8)
        x, y = median_curve(group, end)
        if x:
            label = f"{name}, median of {len(group)}" if len(group) > 1 else name
            axes.plot(x, y, color=colour, linewidth=2, label=label)
    axes.set_yscale("log")
    found = [value for group in curves.values() for c in group for _, value in c]
    if baseline is not None:
        axes.axhline(
            baseline, color="0.5", linestyle="--", linewidth=1, label=f"before: {duration(baseline)}"
        )
    if found:
        axes.set_ylim(0.9 * min(found), 1.1 * min(max([*found, baseline or 0.0]), 30 * min(found)))
    axes.set_xlim(0.0, end)
    axes.set_xlabel(across)
    axes.set_ylabel("best time of a call so far")
    axes.yaxis.set_major_locator(ticker.LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0)))
    axes.yaxis.set_minor_locator(ticker.NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: duration(value))
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    return path


def _matplotlib() -> tuple[Any, Any, Any]:
    try:
        from matplotlib import ticker
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise KdslError(
            "K0808",
            "matplotlib, which draws plots, is not installed",
            help="pip install kdsl[plot], or write a page, which needs nothing: result.report('tuning.html')",
        ) from None
    return Figure, FigureCanvasAgg, ticker


def stairs(curve: Curve, end: float) -> tuple[list[float], list[float]]:
    """The corners of a curve that keeps its value until the next change."""
    x: list[float] = []
    y: list[float] = []
    for at, value in curve:
        if y:
            x.append(at)
            y.append(y[-1])
        x.append(at)
        y.append(value)
    if x and x[-1] < end:
        x.append(end)
        y.append(y[-1])
    return x, y


def median_curve(group: Sequence[Curve], end: float) -> tuple[list[float], list[float]]:
    """The median of curves at each of their changes, from where all have a value."""
    curves = [c for c in group if c]
    if not curves:
        return [], []
    begin = max(c[0][0] for c in curves)
    places = sorted({at for c in curves for at, _ in c if at >= begin} | {begin})
    found = []
    for at in places:
        values = sorted([[v for when, v in c if when <= at][-1] for c in curves])
        middle = len(values) // 2
        value = values[middle] if len(values) % 2 else (values[middle - 1] * values[middle]) ** 0.5
        found.append((at, value))
    return stairs(found, end)
