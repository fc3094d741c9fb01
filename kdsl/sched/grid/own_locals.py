"""Local arrays that the iterations of a loop share, made for each of them where that makes these independent.

    S: f32[N]                               for i in range(M):
    for i in range(M):                          S: f32[N]
        for j in range(N):                      for j in range(N):
            S[j] = f(X, i, j)          ->           S[j] = f(X, i, j)
        for j_1 in range(N):                    for j_1 in range(N):
            Y[i, j_1] = g(S, j_1)                   Y[i, j_1] = g(S, j_1)

The step is `privatize`, with its proof; it is kept only where the loop is proved independent after it.
"""

from __future__ import annotations

from collections.abc import Callable

from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Alloc, Func, Loop
from kdsl.ir.printer import stored_buffers
from kdsl.ir.walk import stmts
from kdsl.sched.rewriting.tree import places
from kdsl.sched.text import copy_names

Independent = Callable[[Func, Loop], bool]

KINDS = ("bind", "parallel")
"""Marks that say where to cut."""


def with_own_locals(func: Func, independent: Independent) -> Func:
    """`func` with such arrays in their loops; itself when there are none."""
    shared = {s.name for s in stmts(func.body) if isinstance(s, Alloc) and s.shape}
    if not shared:
        return func
    apart: list[int] = []
    for n in range(len(list(places(func)))):
        place = list(places(func))[n]
        loop, inside = place.loop, list(stmts(place.loop.body))
        chosen = any(isinstance(s, Loop) and s.mark is not None and s.mark.kind in KINDS for s in inside)
        if loop.mark is not None or chosen or any(s.id in apart for s in place.outer):
            continue
        wanted = (stored_buffers(loop.body) & shared) - {s.name for s in inside if isinstance(s, Alloc)}
        if independent(func, loop):
            apart.append(loop.id)
        elif wanted:
            tried = _privatised(func, n, sorted(wanted))
            if tried is not None and independent(tried, list(places(tried))[n].loop):
                func = tried
                apart = [list(places(func))[n].loop.id]
    return func


def _privatised(func: Func, n: int, names: list[str]) -> Func | None:
    """The function with these arrays in its loop number `n`; None where that is not proved."""
    from kdsl.sched.schedule import Schedule

    s = Schedule(func)
    try:
        for name in names:
            s = s.privatize(name, copy_names(s.func)[list(places(s.func))[n].loop.id])
    except ScheduleError:
        return None
    return s.func
