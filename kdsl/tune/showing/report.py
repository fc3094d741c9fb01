"""A tuning as an HTML page: the curve, the schedule, where it stands under the roofline, the candidates."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from kdsl.errors import KdslError
from kdsl.sched.html import card, highlighted, pre, schedule_page
from kdsl.tune.result import duration, figure, tried
from kdsl.tune.trial import Trial

if TYPE_CHECKING:
    from kdsl.tune.result import Result

SHOWN = 30
"""Candidates in the table: the fastest ones."""
WIDTH, HEIGHT, LEFT, BOTTOM = 640, 240, 70, 34
_COLOURS = {
    "ok": "var(--vec)",
    "slow": "var(--dim)",
    "wrong": "var(--par)",
    "crashed": "var(--par)",
    "hung": "var(--par)",
}


def page(result: Result) -> str:
    """A whole document."""
    title = html.escape(f"{result.kernel}: tuned by kdsl")
    head = f'<meta charset="utf-8"><title>{title}</title>'
    style = (
        "<style>body{max-width:960px;margin:2em auto;padding:0 1em;font-family:system-ui,sans-serif}</style>"
    )
    parts = [body(result), schedule_page(result.schedule), _explained(result)]
    return f"<!doctype html><html><head>{head}{style}</head><body>{''.join(parts)}</body></html>\n"


def body(result: Result) -> str:
    """What was found, as a card."""
    where = result.target + (f", {result.threads} threads" if result.threads > 1 else "")
    sizes = "".join([f", {name} = {value}" for name, value in result.sizes.items()])
    least = "at least " if result.at_least else ""
    gained = (
        f"<p><b>{duration(result.time)}</b> a call, {least}<b>{figure(result.speedup)}</b> times as fast as "
        f"before ({least}{duration(result.baseline)})</p>"
    )
    ended = ", ended by Ctrl-C" if result.interrupted else ""
    count = f"<p>{html.escape(tried(result.counts))} in {figure(result.seconds)} s{ended}</p>"
    trace = result.schedule.trace().rstrip().split("\n")
    lines = pre([f"<div>{highlighted(line)}</div>" for line in trace])
    found = f"<details open><summary>As Python</summary>{lines}</details>"
    return card(
        result.kernel,
        f"tuned on {where}{sizes}",
        gained,
        count,
        curve_svg(result),
        found,
        _table(result.trials),
    )


def curve_svg(result: Result) -> str:
    """Each candidate as a dot, and the best so far as a line, times on a logarithmic scale."""
    dots = [t for t in result.trials if t.ok and t.time is not None and not t.stored]
    if not dots:
        return ""
    times = [t.time for t in dots if t.time is not None] + [result.time]
    low, high = math.log10(min(times)) - 0.05, math.log10(min(max(times), 100 * min(times))) + 0.05
    end = max([result.seconds, *[t.at for t in dots]])

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - 10) * at / end

    def y(time: float) -> float:
        share = (math.log10(time) - low) / max(high - low, 1e-9)
        return 10 + (HEIGHT - BOTTOM - 10) * (1 - min(1.0, share))

    parts = []
    for n in range(5):
        value = 10 ** (low + (high - low) * n / 4)
        level = f"{y(value):.1f}"
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{level}" y2="{level}" stroke="var(--line)"/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{duration(value)}</text>'
        )
        at = end * n / 4
        anchor = "end" if n == 4 else "middle"
        parts.append(f'<text x="{x(at):.1f}" y="{HEIGHT - 14}" text-anchor="{anchor}">{figure(at)} s</text>')
    for t in dots:
        name = html.escape(f"{t.candidate}: {duration(t.time or 0)}", quote=True)
        parts.append(
            f'<circle cx="{x(t.at):.1f}" cy="{y(t.time or 0):.1f}" r="2.5" fill="var(--vec)" opacity="0.45">'
            f"<title>{name}</title></circle>"
        )
    points, last = [], None
    for at, time in result.curve():
        if last is not None:
            points.append(f"{x(at):.1f},{last:.1f}")
        last = y(time)
        points.append(f"{x(at):.1f},{last:.1f}")
    if last is not None:
        points.append(f"{x(end):.1f},{last:.1f}")
    line = f'<polyline points="{" ".join(points)}" fill="none" stroke="var(--par)" stroke-width="2"/>'
    style = 'style="font:11px system-ui;fill:var(--dim);max-width:100%"'
    inside = "".join(parts) + line
    return f'<p><svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" role="img" {style}>{inside}</svg></p>'


def _table(trials: Sequence[Trial]) -> str:
    """The fastest candidates, then those that failed otherwise than by a refusal."""
    fast = sorted([t for t in trials if t.ok], key=lambda t: t.time or math.inf)[:SHOWN]
    failed = [t for t in trials if t.status in ("wrong", "crashed", "hung")][:SHOWN]
    rows = []
    for t in [*fast, *failed]:
        colour = _COLOURS.get(t.status, "inherit")
        time = "" if t.time is None else duration(t.time)
        rows.append(
            f"<tr><td><code>{html.escape(t.candidate)}</code></td>"
            f'<td style="color:{colour}">{t.status}</td><td>{html.escape(t.message)}</td><td>{time}</td></tr>'
        )
    head = "<tr><th>candidate</th><th></th><th></th><th>time</th></tr>"
    return (
        f'<details><summary>Candidates</summary><table class="wide">{head}{"".join(rows)}</table></details>'
    )


def _explained(result: Result) -> str:
    """How the schedule is lowered, what it costs, and its share of the roofline."""
    try:
        explanation = result.schedule.explain(**result.sizes)
    except KdslError as error:
        return f"<p>{html.escape(error.title)}</p>"
    found: str = replace(explanation, seconds=result.time)._repr_html_()
    return found
