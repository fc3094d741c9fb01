"""GPUs: the outermost loops whose iterations are independent become grids of work-groups.

    for i in range(M):                  for i in bind(range(M), "grid.y"):
        for j in range(N):       ->         for j_o in bind(range((N + 63) // 64), "grid.x"):
            S(i, j)                             for j_i in bind(range(64), "block.x"): ...

Neighbouring invocations take neighbouring iterations of the inner one. Products get tiles of registers.
"""

from __future__ import annotations

from collections.abc import Mapping

from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Loop
from kdsl.sched import Schedule
from kdsl.sched.recipes import gpu_register_tile
from kdsl.target import Target
from kdsl.tune.nests import Place, View
from kdsl.tune.products import Product, blocks


def on_grid(s: Schedule, target: Target, sizes: Mapping[str, int], invocations: int) -> Schedule:
    """Each nest on a grid of its own, where one of its loops allows it."""
    tried: set[int] = set()
    while True:
        view = View(s.func, target, sizes)
        todo = [
            p
            for p in view.places
            if p.loop.id not in tried
            and p.loop.mark is None
            and not any(x.mark is not None for x in (*p.outer, *p.inner))
        ]
        if not todo:
            return s
        p = todo[0]
        tried.add(p.loop.id)
        if not view.parallel(p):
            continue
        inner = _inside(view, p)
        try:
            if inner is None:
                s = _bound(s, p.name, invocations)
            else:
                s = _bound(s.bind(p.name, "grid.y"), inner.name, invocations)
        except ScheduleError:
            continue


def _inside(view: View, p: Place) -> Place | None:
    """The one loop in `p`, if it is parallel too."""
    body = p.loop.body
    if len(body) != 1 or not isinstance(body[0], Loop):
        return None
    inner = view.of(body[0])
    return inner if view.parallel(inner) else None


def _bound(s: Schedule, name: str, invocations: int) -> Schedule:
    s, outer, inner = blocks(s, name, invocations)
    return s.bind(outer, "grid.x").bind(inner, "block.x")


def gpu_tile(s: Schedule, p: Product, tall: int, wide: int, invocations: int) -> Schedule:
    """A product with a tile of sums in the registers of each invocation."""
    for name in p.outside:
        s = s.bind(name, "grid.z")
    return gpu_register_tile(s, p.rows, p.columns, list(p.terms), (tall, wide), invocations)
