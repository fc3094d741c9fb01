"""Making an `Explanation`: lowers a schedule, asks the back end what it did, counts, measures.

Schedule --numbered--> Func --passes.lower--> Func --backends.llvm.lowering--> notes by number
    |                                                                            |
    +--analysis.cost--> counts by loop ------------------------------------------+--> Explanation
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsl.analysis.cost import Cost, cost
from kdsl.analysis.counting import Count
from kdsl.analysis.linear import extent
from kdsl.backends import llvm
from kdsl.dtypes import DType, i64
from kdsl.errors import ArgumentError, ScheduleError
from kdsl.frontend_ast import build
from kdsl.frontend_ast.source import MISSING
from kdsl.ir.binding import binding_plan
from kdsl.ir.nodes import (
    Accumulate,
    ArrayParam,
    Atomic,
    Body,
    Cast,
    Expr,
    If,
    Load,
    Loop,
    Stmt,
    Store,
    While,
)
from kdsl.ir.numbering import Numbered, copies, numbered
from kdsl.ir.printer import print_expr, print_head, stored_buffers
from kdsl.ir.walk import exprs, map_expr_children, stmt_bodies, stmts
from kdsl.runtime.arguments import arguments, bind
from kdsl.runtime.compile import lowered
from kdsl.runtime.device_array import DeviceArray, synchronize, to_device
from kdsl.runtime.explanation import (
    AccessFacts,
    ArrayFacts,
    Explanation,
    LoopFacts,
    Quantity,
    Unit,
    beyond_ones,
)
from kdsl.runtime.roofline import roofline
from kdsl.runtime.scheduling import started
from kdsl.runtime.sizes import bind_sizes
from kdsl.runtime.targets import resolve
from kdsl.runtime.threads import get_num_threads
from kdsl.sched.text import copy_names

if TYPE_CHECKING:
    from kdsl.backends.llvm.watch import LaneNote, Lowering
    from kdsl.ir.nodes import Func
    from kdsl.runtime.arguments import Arguments
    from kdsl.runtime.kernel import Kernel
    from kdsl.sched.schedule import Schedule

TIMED_S, TIMED_CALLS = 0.5, 50
"""Calls are timed for so long, or so often."""


def wanted_sizes(func: Func, given: Mapping[str, Any]) -> dict[str, int] | None:
    """The sizes that `explain(M=…, N=…)` asks for; None for none."""
    if not given:
        return None
    known = ", ".join(f"`{s}`" for s in func.sizes) or "none"
    for name, value in given.items():
        if name not in func.sizes:
            raise ArgumentError(
                "K0358",
                f"`{name}` is no size of {func.name}",
                notes=[f"its sizes are {known}"],
                help="explain() takes the sizes, or the arguments of a call",
            )
        if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < 0:
            raise ArgumentError(
                "K0358", f"the size `{name}` cannot be {value!r}", help="pass an integer of 0 or more"
            )
    missing = [s for s in func.sizes if s not in given]
    if missing:
        raise ArgumentError(
            "K0358",
            f"the size `{missing[0]}` of {func.name} is missing",
            notes=[f"its sizes are {known}"],
            help=f"give all of them: explain({', '.join(f'{s}={given.get(s, 1024)}' for s in func.sizes)})",
        )
    return {s: int(given[s]) for s in func.sizes}


def explained(schedule: Schedule, sizes: dict[str, int] | None, seconds: float | None = None) -> Explanation:
    """What becomes of a schedule; `seconds` is the time of a call at these sizes, if measured."""
    if schedule.target is not None:
        from kdsl.runtime.explain_gpu import explained_on_gpu

        return explained_on_gpu(schedule, schedule.target, sizes, seconds)
    target = resolve("cpu")
    numbers = numbered(schedule.func)
    low = lowered(numbers.func, target)
    became = llvm.lowering(low, target)
    costs = cost(schedule.func)
    program = costs if not schedule.steps else cost(schedule.base)
    threads = get_num_threads() if became.parallel else 1
    explaining = _Explaining(schedule, numbers, low, became, costs, sizes, threads)
    compulsory = sum(
        [
            (row.touched_read + row.touched_written) * row.dtype.bytes
            for row in program.arrays.values()
            if row.memory is None
        ],
        start=Count(),
    )
    flops = program.total_flops()
    order = program.sizes

    def quantity(count: Count, unit: Unit = "") -> Quantity:
        return Quantity.of(count, program.atoms, order, sizes, unit)

    where = beyond_ones(sorted(flops.where | compulsory.where, key=repr), order)
    return Explanation(
        kernel=schedule.func.name,
        target=target,
        threads=threads,
        sizes=sizes,
        loops=tuple(explaining.loops(schedule.func.body, 0, None)),
        arrays=tuple(array_facts(costs, explaining.quantity)),
        dtype=program.float_type(),
        flops=quantity(flops),
        operators={op: quantity(c) for (_, op), c in program.flops.items()},
        calls={name: quantity(c) for name, c in program.calls.items()},
        compulsory=quantity(compulsory, "bytes"),
        where=tuple([f"{program.atoms.text(p, order)} >= 0" for p in where]),
        conditions=tuple([print_expr(c.expr, True) for c in low.conditions]),
        checks=tuple(checks(low, numbers)),
        roofline=None if sizes is None else roofline(threads),
        seconds=seconds,
    )


@dataclass(slots=True)
class _Explaining:
    schedule: Schedule
    numbers: Numbered
    low: Func
    became: Lowering
    costs: Cost
    sizes: dict[str, int] | None
    threads: int
    names: dict[int, str] = field(init=False)
    made: dict[int, list[Stmt]] = field(init=False)
    types: dict[str, DType] = field(init=False)

    def __post_init__(self) -> None:
        func = self.schedule.func
        self.names = copy_names(func)
        self.made = copies(self.numbers, self.low)
        self.types = {p.name: p.dtype for p in func.arrays}
        for s in stmts(func.body):
            if isinstance(s, (Store, Accumulate, Atomic)):
                self.types[s.buffer] = s.value.dtype
        self.types |= {e.buffer: e.type for e in exprs(func.body) if isinstance(e, Load)}

    def quantity(self, count: Count, unit: Unit = "") -> Quantity:
        return Quantity.of(count, self.costs.atoms, self.costs.sizes, self.sizes, unit)

    # -- loops

    def loops(self, body: Body, depth: int, vector: Loop | None) -> list[LoopFacts]:
        """The loops in `body`, which stands in the vector loop `vector`."""
        out: list[LoopFacts] = []
        for s in body:
            if isinstance(s, Loop):
                out.append(self.loop(s, depth, vector))
            marked = s.mark.kind if isinstance(s, Loop) and s.mark is not None else ""
            is_vector = marked in ("vectorize", "tensorize")
            inner = s if is_vector and isinstance(s, Loop) else vector
            for nested in stmt_bodies(s):
                out += self.loops(nested, depth + isinstance(s, (Loop, While)), inner)
        return out

    def loop(self, s: Loop, depth: int, vector: Loop | None) -> LoopFacts:
        c = self.costs.loops[s.id]
        touched = sum(
            [
                c.touched[b] * self.types[b].bytes
                for b in c.touched
                if self.costs.arrays[b].memory != "register"
            ],
            start=Count(),
        )
        role, how, why = self.lowering(s, vector)
        notes = [n for n in self.became.lanes if self.numbers.origin(n.loop) is s]
        if self.is_versioned(s):
            how += "; whole tiles run without tests"
        return LoopFacts(
            name=self.names[s.id],
            header=print_head(s).rstrip(":"),
            depth=depth,
            role=role,
            how=how,
            why=why,
            accesses=tuple(self.accesses(notes)),
            iterations=self.quantity(c.iterations),
            flops=self.quantity(c.flops),
            touched=self.quantity(touched, "bytes"),
        )

    def is_versioned(self, s: Loop) -> bool:
        """Whether what the loop holds stands several times: for whole tiles, and with tests for the edges."""
        made = [x for x in self.made.get(s.id, ()) if isinstance(x, Loop)]
        return any(
            isinstance(x, If) and bool(self.loops_of(x.then) & self.loops_of(x.orelse))
            for loop in made
            for x in loop.body
        )

    def loops_of(self, body: Body) -> set[int]:
        """The loops of the schedule (by id) that the loops in `body` come from."""
        found = [self.numbers.origin(x.loc) for x in stmts(body) if isinstance(x, Loop)]
        return {x.id for x in found if isinstance(x, Loop)}

    def lowering(self, s: Loop, vector: Loop | None) -> tuple[str, str, str]:
        """Role, how, and why it is scalar."""
        kind = s.mark.kind if s.mark is not None else ""
        loc = next((made.loc for made in self.made.get(s.id, ())), None)
        if kind == "vectorize":
            return "vector", self.vector(s), ""
        if kind == "unroll":
            return "unrolled", f"{extent(s)} copies, one after the other", ""
        if kind == "parallel":
            if loc in self.became.parallel:
                return "parallel", f"on {_threads(self.threads)}; on one where there is little work", ""
            return "in order", "in order: a loop around it is parallel", ""
        if kind == "bind":
            assert s.mark is not None
            return "in order", f"in order: {s.mark.axis} is an axis of a GPU", ""
        if kind == "tensorize":
            assert s.mark is not None and s.mark.instruction is not None
            done_by = s.mark.instruction
            if resolve("cpu").has(done_by.features):
                return "instruction", f"with the loops inside one call of {done_by.llvm}", ""
            missing = " and ".join(done_by.features)
            return "vector", f"vector code: the CPU lacks {missing} for {done_by.name}", ""
        if kind:
            return kind, f"marked `{kind}`", ""
        if not self.made.get(s.id):
            return "gone", "gone: it does nothing", ""
        if loc in self.became.vectorised:
            return "vector", f"vectors of {self.became.vectorised[loc]} lanes, made by LLVM", ""
        if vector is not None and vector.mark is not None and vector.mark.instruction is not None:
            return "instruction", f"in the instruction of {vector.var}", ""
        if vector is not None:
            return "in order", f"in order, all lanes of {vector.var} together", ""
        if any(isinstance(x, (Loop, While)) for x in stmts(s.body)):
            return "in order", "in order", ""
        if loc in self.became.dissolved:
            return "dissolved", "dissolved by LLVM: written out, or a call such as memset", ""
        return "in order", "in order, scalar", self.why_scalar(s)

    def why_scalar(self, s: Loop) -> str:
        """Whether a vector loop would be legal, and who else could have made vectors of it."""
        ours = any(
            isinstance(x, Loop) and x.mark is not None and x.mark.kind == "vectorize"
            for x in stmts(self.schedule.func.body)
        )
        llvms = (
            "a schedule with vectors keeps LLVM's vectoriser off"
            if ours
            else "LLVM's loop vectoriser left it so"
        )
        used = [self.types[b] for b in self.costs.loops[s.id].touched]
        lanes = resolve("cpu").vector_bytes // max([t.bytes for t in used], default=8)
        name = self.names[s.id]
        try:
            self.schedule.vectorize(name, lanes)
        except ScheduleError as error:
            return f"{llvms}; {error.title}"
        return f'{llvms}; s.vectorize("{name}", {lanes}) is legal'

    def vector(self, s: Loop) -> str:
        """`16 lanes of f32: 1 register of 512 bits`."""
        lanes, target = extent(s) or 0, resolve("cpu")
        inside = {e.type for e in exprs(s.body) if isinstance(e, Load)}
        inside |= {x.value.dtype for x in stmts(s.body) if isinstance(x, (Store, Accumulate, Atomic))}
        types = sorted([t for t in inside if t.kind != "bool"], key=lambda t: (-t.bytes, t.name))
        widest = types[0] if types else None
        if widest is None:
            return f"{lanes} lanes"
        registers = -(-lanes * widest.bytes // target.vector_bytes)
        of = " and ".join(t.name for t in types)
        few = "1 register" if registers == 1 else f"{registers} registers"
        return f"{lanes} lanes of {of}: {few} of {8 * target.vector_bytes} bits"

    def accesses(self, notes: Sequence[LaneNote]) -> list[AccessFacts]:
        """One row for each array and way."""
        ways: dict[tuple[str, str, int], dict[str, set[bool]]] = {}
        for n in notes:
            origin = self.numbers.origin(n.site)
            name = origin.buffer if isinstance(origin, (Load, Store, Accumulate, Atomic)) else n.buffer
            mode = "" if n.way in ("partial sums", "sum of lanes", "lane by lane") else n.mode
            apart = n.step if n.way == "strided" and n.step else 0
            ways.setdefault((name, n.way, apart), {}).setdefault(mode, set()).add(n.masked)
        out = []
        for (name, way, apart), modes in ways.items():
            if "" in modes:
                out.append(AccessFacts(name, _REDUCTIONS[way]))
                continue
            masks = set().union(*modes.values())
            masked = (
                "" if masks == {False} else ", masked" if masks == {True} else ", masked in the last tile"
            )
            words = way if way in ("gather", "scatter") else f"{way} {' and '.join(modes)}"
            if apart:
                words += f", {apart} apart"
            if way == "broadcast":
                words, masked = "one scalar for all lanes", ""
            elif way == "last lane":
                words = "one scalar store: the last lane stays"
            out.append(AccessFacts(name, words + masked))
        return out


# ------------------------------------------------------------------ arrays, checks


def array_facts(costs: Cost, quantity: Callable[[Count, Unit], Quantity]) -> list[ArrayFacts]:
    """The arrays with their bytes."""
    return [
        ArrayFacts(
            row.name,
            row.dtype,
            "argument" if row.memory is None else "local" if row.memory == "auto" else row.memory,
            quantity(row.touched * row.dtype.bytes, "bytes"),
            None if row.memory == "register" else quantity(row.read * row.dtype.bytes, "bytes"),
            None if row.memory == "register" else quantity(row.written * row.dtype.bytes, "bytes"),
        )
        for row in costs.arrays.values()
    ]


def checks(low: Func, numbers: Numbered) -> list[str]:
    """The accesses that are tested when they run."""
    found: dict[str, None] = {}
    sites: list[Any] = [e for e in exprs(low.body) if isinstance(e, Load)]
    sites += [s for s in stmts(low.body) if isinstance(s, (Store, Accumulate, Atomic))]
    for site in sites:
        origin = numbers.origin(site.loc)
        if site.checked and isinstance(origin, (Load, Store, Accumulate, Atomic)):
            index = ", ".join([print_expr(_uncast(i), True) for i in origin.index])
            dims = ", ".join(map(str, site.checked))
            found[f"{origin.buffer}[{index}], dimension {dims}"] = None
    return list(found)


def _uncast(e: Expr) -> Expr:
    """An index as the user wrote it: its conversion to 64 bits goes without saying."""
    return _uncast(e.x) if isinstance(e, Cast) and e.type == i64 else map_expr_children(e, _uncast)


_REDUCTIONS = {
    "partial sums": "partial results, one a lane, combined behind the loop",
    "sum of lanes": "the lanes combined in each iteration",
    "lane by lane": "atomic, one lane after the other",
}


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


# ------------------------------------------------------------------------ timing


def sizes_of(func: Func, given: Arguments) -> dict[str, int]:
    """The sizes of a call."""
    params, values = func.params, given.for_ir()
    plan = binding_plan(params, func.sizes)
    shapes = {n: v.shape for n, (p, v) in enumerate(zip(params, values)) if isinstance(p, ArrayParam)}
    return bind_sizes(func.name, params, plan, shapes)


def timed(kernel: Kernel[Any], func: Func, given: Arguments, args: Sequence[Any]) -> float:
    """The least time of a call in seconds. `args` are its objects, one for each parameter of the kernel.

    Arrays that the kernel writes are copies of the arguments.
    """
    source = kernel.__kdsl_source__
    written = stored_buffers(func.body) & {p.name for p in func.arrays}
    values = [_copy(v) if p.name in written else x for p, v, x in zip(source.params, given.values, args)]
    positional = len(values) - source.fn.__code__.co_kwonlyargcount
    keywords = {p.name: v for p, v in zip(source.params[positional:], values[positional:])}
    first = values[:positional]
    on_device = any(isinstance(v, DeviceArray) for v in values)

    def run() -> None:
        kernel(*first, **keywords)
        if on_device:
            synchronize(kernel.target)

    run()
    times: list[float] = []
    until = time.perf_counter() + TIMED_S
    while len(times) < 3 or (len(times) < TIMED_CALLS and time.perf_counter() < until):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    # The roofline is the best that was measured, too.
    return min(times)


def _copy(x: np.ndarray[Any, Any] | DeviceArray) -> np.ndarray[Any, Any] | DeviceArray:
    """The same elements with the same strides in other memory."""
    if isinstance(x, DeviceArray):
        return to_device(x.numpy(), x.device)
    steps = [(n - 1) * stride for n, stride in zip(x.shape, x.strides)] if x.size else []
    before, behind = -sum(s for s in steps if s < 0), sum(s for s in steps if s > 0)
    memory = np.empty(before + behind + x.itemsize, np.uint8)
    new: np.ndarray[Any, Any] = np.ndarray(x.shape, x.dtype, memory.data, before, x.strides)
    new[...] = x
    return new


# ------------------------------------------------------------------ from schedules


def explain(
    kernel: Kernel[Any], schedule: Schedule, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Explanation:
    """The explanation of a schedule of `kernel`, in sizes, for sizes, or for the arguments of a call."""
    source = kernel.__kdsl_source__
    if not args and not any(p.name in kwargs for p in source.params):
        return explained(schedule, wanted_sizes(schedule.func, kwargs))
    given = arguments(source, args, kwargs, kernel.target)
    func = build(source, given.signature)
    if schedule.base != func:
        schedule = started(schedule, func)
    sizes = sizes_of(func, given)
    runs = kernel.with_schedule(schedule) if schedule.steps else kernel
    objects = [p.default if x is MISSING else x for p, x in zip(source.params, bind(source, args, kwargs))]
    return explained(schedule, sizes, timed(runs, func, given, objects))
