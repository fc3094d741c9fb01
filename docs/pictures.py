"""Draws the pictures of legality.md from real schedules: `python docs/pictures.py` (a test checks them).

Each is the iteration space of a loop nest at small sizes, walked as its IR says; an arrow goes from the
iteration that writes an element to one that reads it. Witnesses are those of real refusals.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import kdsl
from kdsl import f32
from kdsl.ir.nodes import Binary, Body, Compare, Const, Expr, Func, If, Load, Logic, Loop, Store, Var
from kdsl.ir.walk import subexprs

PICTURES = Path(__file__).resolve().parent / "pictures"

T, N = kdsl.sizes("T N")


@kdsl.kernel
def jacobi(A: f32[T + 1, N + 2]):
    for t in range(T):
        for i in range(N):
            A[t + 1, i + 1] = (A[t, i] + A[t, i + 1] + A[t, i + 2]) / 3


# ------------------------------------------------------------------- instances

Names = dict[str, int]
Cell = tuple[int, ...]


@dataclass(frozen=True)
class Instance:
    """One execution of the statement: the loops around it, the cell it writes and those it reads."""

    loops: Names
    writes: Cell
    reads: tuple[Cell, ...]


OPERATORS = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": min,
    "max": max,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
}


def value(e: Expr, names: Names) -> int:
    """The value of an expression of loop variables and sizes."""
    if isinstance(e, Const):
        return int(e.value)
    if isinstance(e, Var):
        return names[e.name]
    assert isinstance(e, Binary | Compare | Logic)
    return int(OPERATORS[e.op](value(e.a, names), value(e.b, names)))


def instances(body: Body, names: Names) -> Iterator[Instance]:
    """The instances of the stores of a body, in the order in which they run."""
    for s in body:
        if isinstance(s, Loop):
            for n in range(value(s.lo, names), value(s.hi, names), value(s.step, names)):
                yield from instances(s.body, {**names, s.var: n})
        elif isinstance(s, If):
            yield from instances(s.then if value(s.cond, names) else s.orelse, names)
        else:
            assert isinstance(s, Store)
            loads = [e for e in subexprs(s.value) if isinstance(e, Load)]
            yield Instance(
                names,
                tuple(value(e, names) for e in s.index),
                tuple(tuple(value(e, names) for e in load.index) for load in loads),
            )


def run(func: Func, **sizes: int) -> list[Instance]:
    return list(instances(func.body, dict(sizes)))


# --------------------------------------------------------------------- drawing

STEP, EDGE = 44, 58
PAPER, INK, FAINT, BAD = "#fbfbf8", "#2b3440", "#8a94a3", "#c4302b"
TILES = ("#dbe7f5", "#e4efd9", "#f6e6cf", "#e9dff0", "#d8ecea", "#f4dcdc", "#e8e8e0", "#d9dff2")


@dataclass(frozen=True)
class Point:
    x: int
    y: int


def at(p: Point) -> tuple[int, int]:
    return EDGE + STEP * p.x, EDGE + STEP * p.y


def arrow(a: Point, b: Point, colour: str, width: float) -> str:
    """From the rim of one point to that of another."""
    (x1, y1), (x2, y2) = at(a), at(b)
    length = ((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5
    dx, dy = (x2 - x1) / length, (y2 - y1) / length
    kind = "bad" if colour == BAD else "good"
    return (
        f'<line x1="{x1 + 8 * dx:.1f}" y1="{y1 + 8 * dy:.1f}" x2="{x2 - 13 * dx:.1f}" '
        f'y2="{y2 - 13 * dy:.1f}" stroke="{colour}" stroke-width="{width}" marker-end="url(#{kind})"/>'
    )


def text(x: float, y: float, words: str, colour: str = INK, anchor: str = "start", size: int = 13) -> str:
    escaped = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}" text-anchor="{anchor}">{escaped}</text>'


def head(name: str, colour: str) -> str:
    return (
        f'<marker id="{name}" viewBox="0 0 8 8" refX="4" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto" markerUnits="userSpaceOnUse"><path d="M0 0L8 4L0 8z" fill="{colour}"/></marker>'
    )


def picture(
    points: list[tuple[Point, Instance]],
    axes: tuple[str, str],
    caption: list[str],
    tiles: dict[Point, tuple[int, int]] | None = None,
    witness: tuple[Point, Point] | None = None,
) -> str:
    """An SVG: points, the arrows between them, tiles behind them, and a witness in red."""
    columns = 1 + max(p.x for p, _ in points)
    rows = 1 + max(p.y for p, _ in points)
    width, height = EDGE + STEP * columns, EDGE + STEP * rows + 20 * len(caption)
    width = max(width, 40 + max(round(7.3 * len(line)) for line in caption))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="system-ui, sans-serif">',
        f"<defs>{head('good', FAINT)}{head('bad', BAD)}</defs>",
        f'<rect width="{width}" height="{height}" rx="8" fill="{PAPER}"/>',
        text(EDGE - 8, 24, f"{axes[1]} →", FAINT),
        text(14, EDGE + 5, f"{axes[0]} ↓", FAINT),
    ]
    order = list(dict.fromkeys(tiles.values())) if tiles else []
    for p, tile in (tiles or {}).items():
        x, y = at(p)
        colour = TILES[order.index(tile) % len(TILES)]
        out.append(
            f'<rect x="{x - STEP // 2}" y="{y - STEP // 2}" width="{STEP}" height="{STEP}" fill="{colour}"/>'
        )
    writer = {instance.writes: p for p, instance in points}
    for p, instance in points:
        for cell in instance.reads:
            source = writer.get(cell)
            if source is not None and (source, p) != witness:
                out.append(arrow(source, p, FAINT, 1.2))
    if witness is not None:
        out.append(arrow(*witness, BAD, 2.6))
    for p, _ in points:
        x, y = at(p)
        out.append(f'<circle cx="{x}" cy="{y}" r="5" fill="{BAD if p in (witness or ()) else INK}"/>')
    for n, tile in enumerate(order):
        own = [at(p) for p, t in (tiles or {}).items() if t == tile]
        x, y = min(own, key=lambda c: (c[1], c[0]))
        number = text(x - STEP // 2 + 4, y - STEP // 2 + 14, str(n + 1), INK, size=12)
        out.append(number.replace("<text", '<text paint-order="stroke" stroke="#fff" stroke-width="3"'))
    for n, line in enumerate(caption):
        out.append(text(16, EDGE + STEP * rows + 20 * n - 4, line))
    return "\n".join([*out, "</svg>"]) + "\n"


# -------------------------------------------------------------------- pictures


def placed(func: Func, down: str, right: str, **sizes: int) -> list[tuple[Point, Instance]]:
    found = run(func, **sizes)
    return [(Point(i.loops[right], i.loops[down]), i) for i in found]


def refusal(make: object) -> tuple[str, dict[str, int], list[Names]]:
    """The label of a refused step, its sizes, and the two iterations of its witness."""
    assert callable(make)
    try:
        make()
    except kdsl.ScheduleError as error:
        label = next(line for line in str(error).splitlines() if "^ " in line).split("^ ")[-1]
        label = re.sub(r"line \d+", "the statement", label)
        pairs = [(k, int(v)) for k, v in re.findall(r"\b([A-Za-z_]\w*)=(\d+)", label)]
        sizes = {k: v for k, v in pairs if k in "TN"}
        loops = [(k, v) for k, v in pairs if k not in "TN"]
        return label, sizes, [dict(loops[:2]), dict(loops[2:4])]
    raise AssertionError("this step is to be refused")


def space() -> str:
    func = jacobi.schedule().func
    return picture(
        placed(func, "t", "i", T=4, N=8),
        ("t", "i"),
        ["T=4, N=8. Each point is one run of the statement; arrows go from", "a write to the reads of it."],
    )


def refused_parallel() -> str:
    label, sizes, (first, second) = refusal(lambda: jacobi.schedule().parallel("t"))
    points = placed(jacobi.schedule().func, "t", "i", T=sizes["T"] + 1, N=sizes["N"] + 3)
    caption = ['s.parallel("t") is refused:', *halves(label)]
    ends = (Point(first["i"], first["t"]), Point(second["i"], second["t"]))
    return picture(points, ("t", "i"), caption, witness=ends)


def refused_tile() -> str:
    label, _, (first, second) = refusal(lambda: jacobi.schedule().tile(["t", "i"], [4, 4]))
    points = placed(jacobi.schedule().func, "t", "i", T=4, N=12)
    tiles = {p: (p.y // 4, p.x // 4) for p, _ in points}
    caption = ['s.tile(["t", "i"], [4, 4]) is refused:', *halves(label)]
    ends = (Point(first["i"], first["t"]), Point(second["i"], second["t"]))
    return picture(points, ("t", "i"), caption, tiles, ends)


def skewed() -> str:
    func = jacobi.schedule().skew("i", "t", 1).func
    return picture(
        placed(func, "t", "i", T=4, N=8),
        ("t", "i"),
        ['After s.skew("i", "t", 1): i counts from t.', "No arrow goes to the left any more."],
    )


def tiled() -> str:
    func = jacobi.schedule().skew("i", "t", 1).tile(["t", "i"], [4, 4]).func
    points, tiles = [], {}
    for instance in run(func, T=8, N=12):
        loops = instance.loops
        p = Point(4 * loops["i_o"] + loops["i_i"], 4 * loops["t_o"] + loops["t_i"])
        points.append((p, instance))
        tiles[p] = (loops["t_o"], loops["i_o"])
    caption = [
        "Tiles of the skewed nest in the order in which they run (T=8, N=12):",
        "arrows enter a tile only from earlier ones.",
    ]
    return picture(points, ("t", "i"), caption, tiles)


def halves(label: str) -> list[str]:
    """A long label in lines of at most 70 characters."""
    lines = [""]
    for word in label.split():
        if len(lines[-1]) + len(word) > 70:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


ALL = {
    "space.svg": space,
    "refused-parallel.svg": refused_parallel,
    "refused-tile.svg": refused_tile,
    "skewed.svg": skewed,
    "tiled.svg": tiled,
}

if __name__ == "__main__":
    PICTURES.mkdir(exist_ok=True)
    for name, draw in ALL.items():
        (PICTURES / name).write_text(draw())
