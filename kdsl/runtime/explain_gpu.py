"""Making an `Explanation` for a GPU: which loops are on its axes and which are not, why, what is launched.

Schedule --sched.grid--> Func --passes.launches--> Launches: groups, invocations, shared bytes, barriers
    |                         |
    +--analysis.cost----------+--> counts by loop, and the place of each: host, grid, group, block, invocation
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Literal

from kdsl.analysis.axes import axis_of, block_sizes, has_block, has_grid, is_grid
from kdsl.analysis.cost import Cost, cost
from kdsl.analysis.counting import Count
from kdsl.analysis.linear import extent
from kdsl.ir.launch import Dispatch, HostLoop, HostStep, Launches
from kdsl.ir.nodes import Alloc, Barrier, Body, Const, Func, Loop, While
from kdsl.ir.numbering import numbered
from kdsl.ir.printer import print_expr, print_head
from kdsl.ir.walk import stmt_bodies, stmts
from kdsl.passes.launches import launches
from kdsl.runtime.compile import lowered
from kdsl.runtime.explain import array_facts, checks
from kdsl.runtime.explanation import (
    DispatchFacts,
    Explanation,
    LoopFacts,
    Quantity,
    Unit,
    beyond_ones,
)
from kdsl.sched.grid.binding import bound, why_in_order
from kdsl.sched.grid.sharing import within_guards
from kdsl.sched.text import copy_names
from kdsl.target import Target

if TYPE_CHECKING:
    from kdsl.sched.schedule import Schedule

ANY = 1 << 47
"""No grid is longer: sizes are shorter."""

Place = Literal["host", "group", "invocation"]
"""Who runs what stands here: the host, a work-group as a whole, or each invocation."""


def explained_on_gpu(
    schedule: Schedule, target: Target, sizes: dict[str, int] | None, seconds: float | None
) -> Explanation:
    """What becomes of a schedule on the GPU `target`; `seconds` is the time of a call, if measured."""
    func = bound(schedule.func, target)
    numbers = numbered(func)
    low = lowered(numbers.func, target)
    costs, program = cost(func), cost(schedule.base)
    compulsory = sum(
        [
            (row.touched_read + row.touched_written) * row.dtype.bytes
            for row in program.arrays.values()
            if row.memory is None
        ],
        start=Count(),
    )
    flops = program.total_flops()

    def quantity(count: Count, unit: Unit = "") -> Quantity:
        return Quantity.of(count, program.atoms, program.sizes, sizes, unit)

    def own(count: Count, unit: Unit = "") -> Quantity:
        return Quantity.of(count, costs.atoms, costs.sizes, sizes, unit)

    where = beyond_ones(sorted(flops.where | compulsory.where, key=repr), program.sizes)
    return Explanation(
        kernel=func.name,
        target=target,
        threads=1,
        sizes=sizes,
        loops=tuple(_Loops(func, costs, sizes, _moved(schedule.func, func)).facts(func.body, 0, "host")),
        arrays=tuple(array_facts(costs, own)),
        dtype=program.float_type(),
        flops=quantity(flops),
        operators={op: quantity(c) for (_, op), c in program.flops.items()},
        calls={name: quantity(c) for name, c in program.calls.items()},
        compulsory=quantity(compulsory, "bytes"),
        where=tuple([f"{program.atoms.text(p, program.sizes)} >= 0" for p in where]),
        conditions=tuple([print_expr(c.expr, True) for c in low.conditions]),
        checks=tuple(checks(low, numbers)),
        seconds=seconds,
        dispatches=tuple(_dispatches(launches(low, _whole_grids(target)))),
    )


def _whole_grids(target: Target) -> Target:
    """The device, with grids of any length: they are not shown in the parts that one launch can take."""
    return replace(target, limits=replace(target.limits, groups=(ANY, ANY, ANY)))


# ------------------------------------------------------------------------------- loops


def _moved(before: Func, after: Func) -> frozenset[str]:
    """The local arrays that stood outside of all loops, and were made for each iteration of one."""
    outside = {s.name for s in before.body if isinstance(s, Alloc) and s.shape}
    return frozenset(outside - {s.name for s in after.body if isinstance(s, Alloc)})


@dataclass(frozen=True, slots=True)
class _Loops:
    func: Func
    costs: Cost
    sizes: dict[str, int] | None
    moved: frozenset[str]

    def facts(self, body: Body, depth: int, place: Place) -> Iterator[LoopFacts]:
        """The loops in `body`, which `place` runs."""
        for s in body:
            inner = place
            if isinstance(s, Loop):
                yield self.loop(s, depth, place)
                axis = axis_of(s)
                inner = "group" if axis.startswith("grid") else "invocation" if axis else place
                if place == "host" and not axis and not has_grid(s) and has_block(s):
                    inner = "group"
            for nested in stmt_bodies(s):
                yield from self.facts(nested, depth + isinstance(s, (Loop, While)), inner)

    def loop(self, s: Loop, depth: int, place: Place) -> LoopFacts:
        c = self.costs.loops[s.id]
        role, how, why = self.lowering(s, place)
        types = {row.name: row.dtype.bytes for row in self.costs.arrays.values()}
        touched = sum([n * types[b] for b, n in c.touched.items()], start=Count())

        def quantity(count: Count, unit: Unit = "") -> Quantity:
            return Quantity.of(count, self.costs.atoms, self.costs.sizes, self.sizes, unit)

        return LoopFacts(
            name=copy_names(self.func)[s.id],
            header=print_head(s).rstrip(":"),
            depth=depth,
            role=role,
            how=how,
            why=why,
            accesses=(),
            iterations=quantity(c.iterations),
            flops=quantity(c.flops),
            touched=quantity(touched, "bytes"),
        )

    def lowering(self, s: Loop, place: Place) -> tuple[str, str, str]:
        """Role, how, and why it is in order."""
        axis, kind = axis_of(s), s.mark.kind if s.mark is not None else ""
        if axis:
            count = extent(s)
            what = "work-groups" if is_grid(s) else "invocations"
            own = [
                f"`{x.name}`"
                for x in within_guards(s.body)[1]
                if isinstance(x, Alloc) and x.name in self.moved
            ]
            what += f", each with its own {' and '.join(own)}" if own else ""
            return axis.partition(".")[0], f"{axis}: {'' if count is None else f'{count} '}{what}", ""
        if kind == "unroll":
            return "unrolled", f"{extent(s)} copies, one after the other", ""
        if kind == "vectorize":
            return "vector", f"{extent(s)} elements at a time", ""
        if place == "invocation":
            return "in order", "in order, in each invocation", ""
        if has_grid(s) or (place == "host" and has_block(s)):
            return "host", "on the host, which starts what is inside once an iteration", ""
        if has_block(s):
            return "group", "in order, by the whole work-group", ""
        if place == "group":
            return "in order", "in order, once for the work-group", why_in_order(self.func, s)
        return "in order", "in order, in one invocation", why_in_order(self.func, s)


# -------------------------------------------------------------------------- dispatches


def _dispatches(made: Launches) -> Iterator[DispatchFacts]:
    yield from _steps(made.steps, ())


def _steps(steps: tuple[HostStep, ...], loops: tuple[str, ...]) -> Iterator[DispatchFacts]:
    for s in steps:
        match s:
            case Dispatch():
                yield _dispatch(s, loops)
            case HostLoop():
                yield from _steps(s.steps, (*loops, s.var))
            case _:
                yield from _steps(s.then, loops)
                yield from _steps(s.orelse, loops)


def _dispatch(d: Dispatch, loops: tuple[str, ...]) -> DispatchFacts:
    used = max([n + 1 for n, g in enumerate(d.groups) if g != Const(1, g.dtype)], default=1)
    shared = registers = 0
    for s in stmts(d.body):
        if isinstance(s, Alloc) and all(isinstance(e, Const) for e in s.shape):
            size = prod([int(e.value) for e in s.shape if isinstance(e, Const)]) * s.dtype.bytes
            if s.memory == "shared":
                shared += size
            else:
                registers += size
    return DispatchFacts(
        name=d.name,
        groups=tuple([print_expr(g, True) for g in d.groups[:used]]),
        block=d.block,
        shared_bytes=shared,
        private_bytes=registers,
        barriers=sum(isinstance(s, Barrier) for s in stmts(d.body)),
        loops=loops,
        alone=not any(map(has_grid, d.body)) and prod(block_sizes(d.body).values()) == 1,
    )
