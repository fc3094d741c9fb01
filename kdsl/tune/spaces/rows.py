"""Vectors: each innermost loop in vectors where its iterations allow it, the outermost loops on all threads.

    for i in range(M):                      for i in parallel(range(M)):
        for j in range(N):            ->        for j in range((N + 63) // 64):
            S(i, j)                                 for j_v in vectorize(range(64)): ...

Where another loop of the nest moves along memory, it comes innermost first. Loops that only write elements
nobody touched before can be streams: a vector written out several times, line after line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod

from kdsl.analysis.linear import extent
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Body,
    Break,
    Call,
    Const,
    If,
    Load,
    Loop,
    Return,
    Stmt,
    Store,
    While,
)
from kdsl.ir.walk import stmt_bodies, stmt_exprs, stmts, subexprs
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.costs.cost import SHARED
from kdsl.tune.costs.machine import machine
from kdsl.tune.costs.pressure import MATH
from kdsl.tune.costs.traffic import Memory
from kdsl.tune.nests import Access, Place, View, accesses, stride, uses
from kdsl.tune.spaces.products import blocks
from kdsl.tune.spaces.space import Knob

SHORT = 8
"""Inner loops of a constant number of iterations up to this are written out inside of a vector."""

TOGETHER = "together"
STREAMS = (TOGETHER, "1 x 64", "4 x 64", "8 x 64", "4 x 32", "8 x 32")
"""How streams are written: as all vectors, or so many vectors of so many bytes one after the other."""
LONG = 1024
"""Bytes of a loop that is worth to be written as a stream."""
LIGHT = 10.0
"""Cycles of math functions for an element's register below which a loop waits for memory."""


def vectors(
    s: Schedule,
    target: Target,
    sizes: Mapping[str, int],
    registers: int,
    *,
    within: str = "",
    stream: str = TOGETHER,
) -> Schedule:
    """Vectors of so many registers in all innermost loops (of one loop), where that is legal and useful.

    Loops that are marked stay as they are. `stream`: one of `STREAMS`, for the loops that are streams.
    """
    if stream != TOGETHER:
        view = View(s.func, target, sizes)
        root = view.place(within) if within else None
        for p in streams(view):
            if root is None or root.loop.id in {p.loop.id, *[x.id for x in p.outer]}:
                s = streamed(s, p, stream, _widest(view, p))
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


def streams(view: View) -> list[Place]:
    """Innermost loops that only write the next elements of arrays which no loop before them in the same nest
    touches: what they write comes from memory and goes there."""
    out: list[Place] = []
    touched: dict[int, set[str]] = {}
    for p in view.innermost:
        before = touched.setdefault((p.outer[0] if p.outer else p.loop).id, set())
        found = [a for a in accesses(p.loop.body) if a.index]
        written = {a.buffer for a in found if not isinstance(a, Load)}
        own = {x.name for x in stmts(p.loop.body) if isinstance(x, Alloc) and not x.shape}
        if (
            p.loop.mark is None
            and not any(x.mark is not None for x in p.outer)
            and p.trips * _widest(view, p) >= LONG
            and all(_element(x, own) for x in stmts(p.loop.body))
            and all(_next(a, p, view) for a in found)
            and written
            and not written & (before | view.allocs.keys())
            and view.vector(p, view.lanes(p.loop.body))
        ):
            out.append(p)
        before |= {a.buffer for a in found}
    return out


def _element(x: Stmt, own: set[str]) -> bool:
    """Whether a statement writes nothing but elements and the scalars of an iteration."""
    if isinstance(x, (Store, Accumulate)):
        return bool(x.index) or x.buffer in own
    return isinstance(x, If) or (isinstance(x, Alloc) and not x.shape)


def _next(a: Access, p: Place, view: View) -> bool:
    """Whether an access moves along memory, or loads the same again; sums are of other cells each time."""
    step = stride(a, p.loop.var, view.sizes)
    if isinstance(a, Load):
        return step in (0, 1)
    return step == 1 and (isinstance(a, Store) or all(uses(a, x.var) for x in p.outer))


def _widest(view: View, p: Place) -> int:
    """Bytes of the widest type that a loop computes with."""
    return max(1, view.target.vector_bytes // view.lanes(p.loop.body))


def stream_knob(view: View) -> tuple[Knob, ...]:
    """How streams are written, where there are some: light ones beyond the caches line after line; half a
    line at a time where elements are loaded first, since NumPy's whole lines cross into the next."""
    found = streams(view)
    if not found:
        return ()
    here = machine()
    start = TOGETHER
    if Memory(view.func, view.sizes, here).all_bytes > here.caches[1] and all(_light(p) for p in found):
        start = "4 x 32" if all(_updates(p) for p in found) else "8 x 64"
    return (Knob("stream", STREAMS, start),)


def _updates(p: Place) -> bool:
    """Whether a loop loads all that it writes."""
    every = list(accesses(p.loop.body))
    loaded = {a.buffer for a in every if isinstance(a, (Load, Accumulate))}
    return all(a.buffer in loaded for a in every)


def _light(p: Place) -> bool:
    every = [x for s in stmts(p.loop.body) for e in stmt_exprs(s) for x in subexprs(e)]
    return sum([MATH.get(x.fn, 4.0) for x in every if isinstance(x, Call)]) <= LIGHT


def streamed(s: Schedule, p: Place, form: str, bytes_each: int) -> Schedule:
    """A loop as a stream, if steps allow it: `form` is "8 x 64" for eight vectors of 64 bytes."""
    count, width = map(int, form.split(" x "))
    try:
        after = s.vectorize(p.name, max(2, width // bytes_each))
        need_vectors(after)
        if count == 1:
            return after
        after, _, inner = blocks(after, p.name, count)
        return after.unroll(inner)
    except ScheduleError:
        return s


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
        last = chain[0]
        for inside in (last,) if q.loop.id == last.loop.id else (last, q):
            # Where it cannot come innermost, its lanes run the loops in it: each has a sum of its own.
            try:
                made = _made(s, view, q, inside, short if inside is last else [], lanes)
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
        if _heavy(todo[0]) and _worth(view, todo[0]) and view.parallel(todo[0]):
            try:
                s = s.parallel(todo[0].name)
            except ScheduleError:
                continue


def _worth(view: View, p: Place) -> bool:
    """Whether starting threads costs less than they gain: always for a whole nest, which may be larger in
    another call; inside of a loop that starts them again and again only when there is much to do."""
    if not p.outer:
        return True
    paths = [p.trips * prod([view.of(x).trips for x in chain]) for chain in _chains(p.loop)]
    return max(paths, default=p.trips) >= SHARED


def _chains(loop: Loop) -> Iterator[tuple[Loop, ...]]:
    """The loops in `loop` down to each innermost one."""
    inner = list(_nearest(loop.body))
    for x in inner:
        for chain in _chains(x):
            yield x, *chain
    if not inner:
        yield ()


def _nearest(body: Body) -> Iterator[Loop]:
    """The outermost loops in statements."""
    for s in body:
        if isinstance(s, Loop):
            yield s
        else:
            for inner in stmt_bodies(s):
                yield from _nearest(inner)


def _heavy(p: Place) -> bool:
    """Whether the loop has anything to share out: it computes elements of arrays."""
    return any(
        isinstance(x, (While, Loop)) or (isinstance(x, (Store, Accumulate)) and x.index)
        for x in stmts(p.loop.body)
    )
