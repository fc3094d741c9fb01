"""Runs `Launches` as the page on them says: each work-group's invocations from barrier to barrier.

Between two barriers one invocation runs after the other, in an order that the caller gives; what each touches
is noted. It is a race when two invocations of a work-group touch one cell between the same two barriers, or
two work-groups of a dispatch at any time, and one of them writes (two atomic updates may meet). It is an
error when the invocations of a work-group do not all come to the same barrier, when a cell is used before it
was set, and when a grid does not fit its loops.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from kdsl.analysis.axes import axis_of, meeting
from kdsl.dtypes import i64
from kdsl.ir.faults import condition_error
from kdsl.ir.interpreter import _Compiler, as_value
from kdsl.ir.interpreter_exprs import PRINT, RECORDER, Frame, Poison, make
from kdsl.ir.launch import Dispatch, HostIf, HostLoop, HostStep, HostSteps, Launches, Scratch
from kdsl.ir.launch_printer import dispatches
from kdsl.ir.nodes import (
    Alloc,
    ArrayParam,
    Barrier,
    Body,
    Const,
    If,
    Load,
    Loop,
    Stmt,
    Store,
    While,
)
from kdsl.ir.races import Recorder, Watch
from kdsl.ir.verify import verify
from kdsl.ir.walk import map_stmt, stmts
from kdsl.passes.moving_buffers import Move, moved

Steps = Callable[[Frame], Generator[int, None, "str | None"]]
ZERO = Const(0, i64)


class Race(Exception):
    """Two invocations meet."""


class Divergence(Exception):
    """The invocations of a work-group come to different barriers."""


def verify_launches(launches: Launches) -> None:
    """Every dispatch is IR: with its host variables as sizes and the scratch buffers as locals."""
    func = launches.func
    for d in dispatches(launches.steps):
        made = tuple([Alloc(s.name, s.dtype, tuple([ZERO] * len(s.shape))) for s in launches.scratch])
        verify(replace(func, sizes=(*func.sizes, *d.host_vars), body=(*made, *d.body)))
        for s in stmts(d.body):
            if isinstance(s, Loop) and axis_of(s).startswith("block"):
                assert s.lo == ZERO and s.step == Const(1, i64) and isinstance(s.hi, Const)
                assert 1 <= int(s.hi.value) <= d.block["xyz".index(axis_of(s)[-1])]


@dataclass
class Clock:
    """Who runs now."""

    dispatch: int = 0
    group: int = 0
    invocation: int = 0
    phase: int = 0


Event = tuple[int, int, int, int, str]
"""Dispatch, group, invocation, phase, and what is done."""


@dataclass
class Events:
    """What has been touched by whom since the dispatch began."""

    clock: Clock
    cells: dict[Hashable, set[Event]] = field(default_factory=dict)

    def touch(self, key: Hashable, touch: str, buffer: str, cell: tuple[int, ...]) -> None:
        c = self.clock
        mine = (c.dispatch, c.group, c.invocation, c.phase, "write" if touch == "update" else touch)
        seen = self.cells.setdefault(key, set())
        if mine in seen:
            return
        for other in seen:
            if other[4] == mine[4] and mine[4] in ("read", "atomic"):
                continue
            if other[1] != mine[1] or (other[2] != mine[2] and other[3] == mine[3]):
                raise Race(
                    f"`{buffer}`{list(cell)}: group {other[1]}, invocation {other[2]} {other[4]}s it, "
                    f"group {mine[1]}, invocation {mine[2]} {mine[4]}s it"
                )
        seen.add(mine)


class GroupWatch(Watch):
    """Notes touches of what several invocations see."""

    events: Events
    seen_by_all: set[str]
    of_group: set[str]

    def note(self, buffer: str, touch: Any, loc: Any, dtype: Any, op: str = "", index: Any = ()) -> Any:
        if buffer not in self.seen_by_all:
            return None
        events, local = self.events, buffer in self.of_group

        def noted(f: list[Any], key: Hashable, cell: tuple[int, ...]) -> None:
            events.touch((key, events.clock.group) if local else key, touch, buffer, cell)

        return noted


class GroupCompiler(_Compiler):
    """Statements with barriers, or bound loops, become generators that stop at each barrier."""

    axes: dict[str, int]
    group_memory: dict[int, Any]

    def steps(self, body: Body) -> Steps:
        parts = [self.step(s) for s in body]

        def run(f: Frame) -> Generator[int, None, str | None]:
            for part in parts:
                leave = yield from part(f)
                if leave is not None:
                    return leave
            return None

        return run

    def step(self, s: Stmt) -> Steps:
        plain = not any(isinstance(x, Barrier) or axis_of(x) for x in stmts((s,)))
        match s:
            case Barrier():

                def barrier(f: Frame) -> Generator[int, None, str | None]:
                    yield s.id
                    return None

                return barrier
            case Alloc(memory="shared"):
                return self.shared(s)
            case _ if plain and not any(isinstance(x, Alloc) and x.memory == "shared" for x in stmts((s,))):
                run = self.body((s,))

                def simple(f: Frame) -> Generator[int, None, str | None]:
                    return run(f)
                    yield 0

                return simple
            case Loop() if meeting(s) is not None:
                return self.together(s)
            case Loop():
                return self.any_loop(s)
            case While():
                cond, inside = self.expr(s.cond), self.steps(s.body)

                def while_(f: Frame) -> Generator[int, None, str | None]:
                    while cond(f):
                        leave = yield from inside(f)
                        if leave == "break":
                            break
                        if leave == "return":
                            return leave
                    return None

                return while_
            case If():
                test, then, orelse = self.expr(s.cond), self.steps(s.then), self.steps(s.orelse)

                def if_(f: Frame) -> Generator[int, None, str | None]:
                    return (yield from (then if test(f) else orelse)(f))

                return if_
            case _:
                raise AssertionError(type(s).__name__)

    def together(self, s: Loop) -> Steps:
        """The values of all invocations; they meet; the first one updates the cell with each of them."""
        at = meeting(s)
        assert at is not None
        kept = f"{at.buffer} of {s.id}"
        cell = Load(kept, (), at.value.dtype)
        inside: Body = (Store(kept, (), at.value),)
        loops: list[Loop] = []
        inner: Stmt = s
        while isinstance(inner, Loop):
            loops.append(inner)
            (inner,) = inner.body
        for loop in reversed(loops):
            inside = (replace(loop, body=inside),)
        b = self.buffer(kept, "local", 0)
        give = self.steps(inside)
        add = self.body((replace(at, value=cell),))

        def meet(f: Frame) -> Generator[int, None, str | None]:
            f[b.slot] = None
            yield from give(f)
            values = self.group_memory.setdefault(s.id, [])
            values.append(f[b.slot])
            yield s.id
            if all(f[self.axes[f"block.{a}"]] == 0 for a in "xyz"):
                for value in [v for v in values if v is not None]:
                    f[b.slot] = value
                    add(f)
                values.clear()
            return None

        return meet

    def any_loop(self, s: Loop) -> Steps:
        bounds, slot, axis = self.iterations(s), self.name(s.var), axis_of(s)
        inside = self.steps(s.body)

        def bound(f: Frame) -> Generator[int, None, str | None]:
            at, turns = f[self.axes[axis]], bounds(f)
            if axis.startswith("grid"):
                assert len(turns) == f[self.axes["groups." + axis[-1]]], f"{axis}: {turns}"
            if at < len(turns):
                f[slot] = turns[at]
                leave = yield from inside(f)
                assert leave is None
            return None

        def ordinary(f: Frame) -> Generator[int, None, str | None]:
            for i in bounds(f):
                f[slot] = i
                leave = yield from inside(f)
                if leave == "break":
                    break
                if leave == "return":
                    return leave
            return None

        return bound if axis else ordinary

    def shared(self, s: Alloc) -> Steps:
        shape = tuple([int(e.value) for e in s.shape if isinstance(e, Const)])
        assert len(shape) == len(s.shape) >= 1
        b, poison = self.buffer(s.name, "local", len(shape)), Poison(s.name, s.loc)

        def alloc(f: Frame) -> Generator[int, None, str | None]:
            if s.id not in self.group_memory:
                make(f, b, shape, poison)
                self.group_memory[s.id] = f[b.slot]
            f[b.slot], f[b.extents] = self.group_memory[s.id], shape
            return None
            yield 0

        return alloc


Order = Callable[[int], Sequence[int]]
"""In which order so many groups, or invocations, run."""


def in_order(n: int) -> Sequence[int]:
    return range(n)


def backwards(n: int) -> Sequence[int]:
    return range(n - 1, -1, -1)


def shuffled(seed: int) -> Order:
    rng = np.random.default_rng(seed)
    return lambda n: [int(x) for x in rng.permutation(n)]


class Model:
    """`launches`, ready to run any number of times."""

    def __init__(self, launches: Launches) -> None:
        self.launches = launches = with_subscripts(launches)
        self.clock = Clock()
        self.events = Events(self.clock)
        shared = {s.name for d in dispatches(launches.steps) for s in shared_allocs(d.body)}
        c = self.c = GroupCompiler(races=False)
        watch = GroupWatch(RECORDER)
        object.__setattr__(c, "watch", watch)
        watch.events = self.events
        watch.of_group = shared
        watch.seen_by_all = shared | {p.name for p in launches.func.arrays}
        watch.seen_by_all |= {s.name for s in launches.scratch}
        c.group_memory = {}
        names = [f"{kind}.{a}" for kind in ("grid", "block", "groups") for a in "xyz"]
        c.axes = {name: c.fresh() for name in names}
        func = launches.func
        self.sizes = [(name, c.name(name)) for name in func.sizes]
        self.scalars = [(p, c.name(p.name)) for p in func.params if not isinstance(p, ArrayParam)]
        self.arrays = [
            (p, c.buffer(p.name, "array", len(p.shape), p.name in func.options.may_alias))
            for p in func.arrays
        ]
        self.conditions = [(c.expr(x.expr), x) for x in func.conditions]
        self.scratch = [(s, c.buffer(s.name, "local", len(s.shape))) for s in launches.scratch]
        self.slots: dict[str, int] = {}
        self.bodies: dict[str, Steps] = {}
        self.extents = [[c.expr(e) for e in s.shape] for s in launches.scratch]
        self.steps = self.host(launches.steps)

    def host(self, steps: HostSteps) -> Callable[[Frame], None]:
        made = [self.host_step(s) for s in steps]

        def run(f: Frame) -> None:
            for step in made:
                step(f)

        return run

    def host_step(self, s: HostStep) -> Callable[[Frame], None]:
        c = self.c
        match s:
            case Dispatch():
                assert s.name not in self.bodies
                assert set(s.host_vars) <= {x for x in c.scope if isinstance(c.scope[x], int)}
                groups = [c.expr(e) for e in s.groups]
                self.bodies[s.name] = c.steps(s.body)
                return lambda f: self.dispatch(f, s, [n(f) for n in groups])
            case HostLoop():
                ends = [c.expr(e) for e in (s.lo, s.hi, s.step)]
                slot = c.name(s.var)
                inside = self.host(s.steps)

                def loop(f: Frame) -> None:
                    for i in range(*[e(f) for e in ends]):
                        f[slot] = i
                        inside(f)

                return loop
            case HostIf():
                test, then, orelse = c.expr(s.cond), self.host(s.then), self.host(s.orelse)
                return lambda f: then(f) if test(f) else orelse(f)

    def run(
        self,
        arrays: Mapping[str, np.ndarray[Any, Any]],
        scalars: Mapping[str, Any],
        sizes: Mapping[str, int],
        order: Order = in_order,
    ) -> None:
        """Writes `arrays` in place."""
        f: Frame = [None] * self.c.slots
        f[PRINT], f[RECORDER] = (lambda text: None), Recorder()
        self.order = order
        for name, slot in self.sizes:
            f[slot] = int(sizes[name])
        for p, slot in self.scalars:
            f[slot] = as_value(scalars[p.name], p.dtype)
        for test, what in self.conditions:
            if not test(f):
                raise condition_error(what.title, what.loc, sizes)
        for a, b in self.arrays:
            f[b.slot], f[b.extents] = arrays[a.name], arrays[a.name].shape
        for (s, b), extents in zip(self.scratch, self.extents):
            make(f, b, tuple([max(0, e(f)) for e in extents]), Poison(s.name, None))
        self.steps(f)

    def dispatch(self, f: Frame, d: Dispatch, groups: list[int]) -> None:
        self.clock.dispatch += 1
        self.events.cells.clear()
        assert all(n >= 0 for n in groups), (d.name, groups)
        ids = list(itertools.product(*map(range, groups)))
        for n in self.order(len(ids)):
            self.clock.group = n
            self.group(f, d, groups, ids[n])

    def group(self, outer: Frame, d: Dispatch, groups: list[int], group: tuple[int, ...]) -> None:
        self.c.group_memory.clear()
        running = []
        for block in itertools.product(*map(range, d.block)):
            f = list(outer)
            for a, axis in enumerate("xyz"):
                f[self.c.axes[f"grid.{axis}"]] = group[a]
                f[self.c.axes[f"block.{axis}"]] = block[a]
                f[self.c.axes[f"groups.{axis}"]] = groups[a]
            running.append(self.bodies[d.name](f))
        self.clock.phase = 0
        while running:
            reached: set[int] = set()
            for n in self.order(len(running)):
                self.clock.invocation = n
                try:
                    reached.add(next(running[n]))
                except StopIteration:
                    reached.add(-1)
            if len(reached) != 1:
                raise Divergence(f"{d.name}, group {group}: barriers {reached}")
            if reached == {-1}:
                return
            self.clock.phase += 1


def shared_allocs(body: Body) -> list[Alloc]:
    return [s for s in stmts(body) if isinstance(s, Alloc) and s.memory == "shared"]


def with_subscripts(launches: Launches) -> Launches:
    """Scalars that several invocations see as arrays of one element, so that they have a place."""
    moves = {s.name: Move(s.name, lambda index, _: (ZERO,)) for s in launches.scratch if not s.shape}
    one = Const(1, i64)

    def body_of(body: Body) -> Body:
        here = {s.name: Move(s.name, lambda index, _: (ZERO,)) for s in shared_allocs(body) if not s.shape}
        return with_extent(moved(body, {**moves, **here}, lambda stem: stem + "_old"), set(here))

    def with_extent(body: Body, names: set[str]) -> Body:
        out = []
        for s in body:
            if isinstance(s, Alloc) and s.name in names:
                s = replace(s, shape=(one,))
            out.append(map_stmt(s, lambda e: e, lambda b: with_extent(b, names)))
        return tuple(out)

    def steps(old: HostSteps) -> HostSteps:
        out: list[Any] = []
        for s in old:
            match s:
                case Dispatch():
                    out.append(replace(s, body=body_of(s.body)))
                case HostLoop():
                    out.append(replace(s, steps=steps(s.steps)))
                case HostIf():
                    out.append(replace(s, then=steps(s.then), orelse=steps(s.orelse)))
        return tuple(out)

    scratch = tuple([Scratch(s.name, s.dtype, s.shape or (one,)) for s in launches.scratch])
    return Launches(launches.func, steps(launches.steps), scratch)
