"""Vectors: each innermost loop in vectors where its iterations allow it, the outermost loops on all threads.

    for i in range(M):                      for i in parallel(range(M)):
        for j in range(N):            ->        for j in range((N + 63) // 64):
            S(i, j)                                 for j_v in vectorize(range(64)): ...

Where another loop of the nest moves along memory, it comes innermost first.
"""

from __future__ import annotations

from collections.abc import Mapping

from kdsl.analysis.linear import extent
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Accumulate, Alloc, Break, Const, Load, Loop, Return, Store, While
from kdsl.ir.walk import stmts
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.nests import Place, View, accesses, stride

SHORT = 8
"""Inner loops of a constant number of iterations up to this are written out inside of a vector."""


def vectors(
    s: Schedule, target: Target, sizes: Mapping[str, int], registers: int, *, within: str = ""
) -> Schedule:
    """Vectors of so many registers in all innermost loops (of one loop), where that is legal and useful.

    Loops that are marked stay as they are.
    """
    done: set[int] = set()
    while True:
        view = View(s.func, target, sizes)
        root = view.place(within) if within else None
        inside = None if root is None else {root.loop.id, *[x.id for x in root.inner]}
        todo = [
            p
            for p in view.innermost
            if p.loop.mark is None
            and not any(x.mark is not None and x.mark.kind == "vectorize" for x in p.outer)
            and p.loop.id not in done
            and (inside is None or p.loop.id in inside)
        ]
        if not todo:
            return s
        done.add(todo[0].loop.id)
        s = _vector(s, view, todo[0], registers)


def _vector(s: Schedule, view: View, p: Place, registers: int) -> Schedule:
    """The nest of an innermost loop with its best vector loop."""
    chain = [p, *[view.of(x) for x in reversed(p.outer) if x.mark is None]]
    short: list[Place] = []
    while chain and chain[0].constant is not None and chain[0].constant <= SHORT and len(chain) > 1:
        if chain[1].constant is None and len(chain[1].inner) > len(short) + 1:
            break
        short.append(chain.pop(0))
    lanes = max(1, view.lanes(p.loop.body) * registers)
    for q in sorted(chain[:3], key=lambda q: (_price(view, q, p), chain.index(q))):
        if _price(view, q, p) >= _price(view, None, p):
            break
        try:
            made = _made(s, view, q, chain[0], short, lanes)
            need_vectors(made)
        except ScheduleError:
            continue
        return made
    return s


def _made(s: Schedule, view: View, q: Place, last: Place, short: list[Place], lanes: int) -> Schedule:
    if q.loop.id != last.loop.id:
        names = [view.of(x).name for x in last.outer if any(x.id == y.id for y in (q.loop, *q.inner))]
        order = [*[n for n in names if n != q.name], last.name, q.name]
        s = s.reorder(*order)
    size = q.constant
    name = q.name if q.loop.id == last.loop.id else q.loop.var
    for inner in short:
        s = s.unroll(inner.loop.var)
    if size is not None and size <= lanes:
        return s.vectorize(name)
    while lanes > 8 and q.trips <= lanes // 2:
        lanes //= 2
    return s.vectorize(name, lanes)


def _price(view: View, q: Place | None, innermost: Place) -> float:
    """Cycles for an element, roughly, when `q` is the vector; of scalar code when None."""
    total = 0.0
    for a in accesses(innermost.loop.body):
        if isinstance(a, Load) and not a.index:
            continue
        store = not isinstance(a, Load)
        step = 0 if not a.index else stride(a, innermost.loop.var if q is None else q.loop.var, view.sizes)
        if q is None:
            total += 1.0 if step in (0, 1) else 1.3
        elif step == 0:
            total += 0.3 if store and isinstance(a, Store) else 0.05
        else:
            total += 0.1 if step == 1 else 0.9
    return total


LANE_BYTES = 32 * 1024
"""Code generation has so much room for a local array of a vector loop, all lanes together."""


def need_vectors(s: Schedule) -> None:
    """Raises ScheduleError when a vector loop holds what its lanes cannot do together: another marked loop,
    an exit, a large local array. Code generation would say so later."""
    for loop in stmts(s.func.body):
        if not isinstance(loop, Loop) or loop.mark is None or loop.mark.kind != "vectorize":
            continue
        for x in stmts(loop.body):
            marked = isinstance(x, Loop) and x.mark is not None and x.mark.kind != "unroll"
            if marked or isinstance(x, (Return, Break)) or (isinstance(x, Alloc) and _large(x, loop)):
                raise ScheduleError(
                    "K0381", f"the vector loop `{loop.var}` holds what lanes cannot do together"
                )


def _large(x: Alloc, loop: Loop) -> bool:
    size = (extent(loop) or 1) * x.dtype.bytes
    for e in x.shape:
        size *= int(e.value) if isinstance(e, Const) else LANE_BYTES
    return size > LANE_BYTES


def on_threads(s: Schedule, target: Target, sizes: Mapping[str, int]) -> Schedule:
    """Of each nest the outermost loop whose iterations are independent, and several, on the worker pool."""
    tried: set[int] = set()
    while True:
        view = View(s.func, target, sizes)
        todo = [
            p
            for p in view.places
            if p.loop.id not in tried
            and p.loop.mark is None
            and p.trips > 1
            and not any(x.mark is not None for x in p.outer)
            and not any(x.mark is not None and x.mark.kind == "parallel" for x in p.inner)
        ]
        if not todo:
            return s
        tried.add(todo[0].loop.id)
        if _heavy(todo[0]) and view.parallel(todo[0]):
            try:
                s = s.parallel(todo[0].name)
            except ScheduleError:
                continue


def _heavy(p: Place) -> bool:
    """Whether the loop has anything to share out: it computes elements of arrays."""
    return any(
        isinstance(x, (While, Loop)) or (isinstance(x, (Store, Accumulate)) and x.index)
        for x in stmts(p.loop.body)
    )
