"""`schedule="auto"`: which schedule a call gets, from the tuning database or at once from the cost model.

    signature --> variants, each for all sizes or for one class of sizes
                    |  none takes this call
                    v
        stored for this class of sizes  >  stored for the same powers of two  >  instant  >  program order

A stored schedule whose assumptions the call does not meet is passed over. A variant takes calls of all sizes,
so the class of the first call decides; but where other classes have stored schedules, and where a schedule
assumes something, it takes only what fits: its code tests that as call conditions, and passes other calls on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kdsl.errors import KdslError
from kdsl.frontend_ast import build
from kdsl.ir.binding import binding_plan
from kdsl.ir.params import ArrayParam, ScalarParam
from kdsl.runtime import log
from kdsl.runtime.cache import default_folder, disk_cache
from kdsl.runtime.compile import Request, program
from kdsl.runtime.fingerprint import quick_key
from kdsl.runtime.interface import Interface
from kdsl.runtime.sizes import bind_sizes
from kdsl.runtime.threads import get_num_threads
from kdsl.tune.database import Database, Key, database, default_path
from kdsl.tune.problem import holds, kernel_key, powers, scalar_number, sizes_class

if TYPE_CHECKING:
    from kdsl.ir.nodes import Condition, Func
    from kdsl.runtime.arguments import Arguments
    from kdsl.runtime.kernel import Kernel
    from kdsl.runtime.program import Program
    from kdsl.runtime.scheduling import Recipe
    from kdsl.sched import Schedule
    from kdsl.target import Target

AUTO = "auto"
"""As a schedule: chosen at the call."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A program for one signature. `only`: the sizes class that it is for, empty for all; `conditions`: what
    its schedule assumes besides."""

    program: Program
    request: Request
    only: str
    conditions: tuple[Condition, ...]

    def takes(self, sizes: Mapping[str, int], scalars: Mapping[str, Any]) -> bool:
        """Whether a call with these sizes and scalars can be run by it."""
        if self.only and sizes_class(sizes) != self.only:
            return False
        return holds(self.conditions, sizes, scalars)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a call gets: a schedule, where it comes from, and for which class alone (empty: for all)."""

    schedule: Schedule
    origin: str
    only: str


@dataclass(frozen=True, slots=True)
class _Call:
    """What of a call decides: `key` is the kernel's hash."""

    key: str
    sizes: Mapping[str, int]
    scalars: Mapping[str, Any]


def variant(kernel: Kernel[Any], given: Arguments, known: list[Variant]) -> Variant:
    """The variant for a call: one of those that are `known`, or a new one."""
    if known:
        interface = known[0].program.interface
        sizes, scalars = _bound(interface, given)
        for found in known:
            if found.takes(sizes, scalars):
                return found
    choice, base = _chosen(kernel, given)
    s = choice.schedule
    extra = tuple([c for c in s.func.conditions if c not in base.conditions])
    for fact in class_facts(choice.only):
        s = s.assume(fact)
    request = Request(kernel.__kdsl_source__, given.signature, kernel._resolved(), s if s.steps else None)
    log.debug("%s: schedule %s", kernel.name, choice.origin)
    return Variant(program(request), request, choice.only, extra)


def recipe(kernel: Kernel[Any], given: Arguments) -> Recipe | None:
    """The schedule that a call gets."""
    chosen = _chosen(kernel, given)[0].schedule
    return chosen if chosen.steps else None


def newest(func: Func, target: Target) -> Schedule:
    """`func` with the steps that were stored last for this target, whatever the sizes."""
    from kdsl.sched import Schedule

    store, here = tuning_database(), fingerprint(target)
    for sizes, found in store.classes(kernel_key(func)):
        if found == here:
            best = store.best(Key(kernel_key(func), sizes, here))
            s = None if best is None else _replayed(Schedule(func), best.steps)
            if s is not None:
                return s
    return Schedule(func)


def _chosen(kernel: Kernel[Any], given: Arguments) -> tuple[Choice, Func]:
    """The schedule for a call, and the kernel in program order."""
    from kdsl.sched import Schedule

    func = build(kernel.__kdsl_source__, given.signature)
    interface = Interface.of(func, kernel.__kdsl_source__)
    call = _Call(kernel_key(func), *_bound(interface, given))
    target = kernel._resolved()
    start = Schedule(func)
    store, here, own = tuning_database(), fingerprint(target), sizes_class(call.sizes)
    classes = [c for c, found in store.classes(call.key) if _same_target(found, here)]
    only = own if any(c != own for c in classes) else ""
    for key in _keys(store, call, here):
        best = store.best(key)
        s = None if best is None else _replayed(start, best.steps)
        if s is not None and holds(s.func.conditions, call.sizes, call.scalars):
            return Choice(s, f"stored for {key.sizes or 'all sizes'}", only), func
        log.debug("%s: the stored schedule for %s does not fit", kernel.name, key.sizes)
    if target.kind == "interpreter":
        return Choice(start, "none", only), func
    return Choice(_instant(kernel, given, start, target, call), "at once", only), func


def _keys(store: Database, call: _Call, here: str) -> list[Key]:
    """Where to look: this class before the same powers of two, this number of threads before others."""
    own = sizes_class(call.sizes)
    found = [
        (c != own, target != here, n, Key(call.key, c, target))
        for n, (c, target) in enumerate(store.classes(call.key))
        if powers(c) == powers(own) and _same_target(target, here)
    ]
    return [key for *_, key in sorted(found, key=lambda row: row[:3])]


def _same_target(a: str, b: str) -> bool:
    return a.partition("/")[0] == b.partition("/")[0]


def _replayed(start: Schedule, steps: str) -> Schedule | None:
    """The stored steps; None when they are refused, or no steps, by this version."""
    from kdsl.sched.step import from_json

    try:
        return start.replay(from_json(steps))
    except KdslError as error:
        log.debug("%s: a stored schedule is refused: %s", start.func.name, error.title)
        return None


def _instant(kernel: Kernel[Any], given: Arguments, start: Schedule, target: Target, call: _Call) -> Schedule:
    """The best schedule by the cost model, which is remembered: choosing takes longer than compiling."""
    from kdsl.tune.auto import instant

    cache, threads = disk_cache(), get_num_threads()
    variant = f"instant {threads} {sizes_class(call.sizes)}"
    quick = None
    if cache is not None:
        quick = quick_key(kernel.__kdsl_source__, given.signature, target, variant, cache)
    if cache is not None and quick is not None:
        entry = cache.load(quick)
        s = None if entry is None else _replayed(start, json.dumps(entry.header["schedule"]))
        if s is not None:
            return s
    s = instant(start, target, call.sizes, threads=threads)
    if cache is not None and quick is not None:
        cache.store(quick, {"schedule": json.loads(s.to_json())})
    return s


def _bound(interface: Interface, given: Arguments) -> tuple[dict[str, int], dict[str, Any]]:
    """Sizes and scalars of a call."""
    params, values = interface.params, given.for_ir()
    shapes = {n: v.shape for n, (p, v) in enumerate(zip(params, values)) if isinstance(p, ArrayParam)}
    sizes = bind_sizes(interface.name, params, binding_plan(params, interface.sizes), shapes)
    scalars = {p.name: scalar_number(v) for p, v in zip(params, values) if isinstance(p, ScalarParam)}
    return {name: sizes[name] for name in interface.sizes}, scalars


def class_facts(only: str) -> list[str]:
    """What `assume` takes for a sizes class: `M > 512`, `M <= 1024`, `M % 64 == 0`."""
    out = []
    for part in only.split():
        name, _, rest = part.partition("=2^")
        power, _, by = rest.partition("/")
        top = 1 << int(power)
        out.append(f"{name} <= {top}")
        if top > 1:
            out.append(f"{name} > {top // 2}")
        out.append(f"{name} % {by or 8} {'==' if by else '!='} 0")
        if by == "8":
            out.append(f"{name} % 64 != 0")
    return out


def fingerprint(target: Target) -> str:
    """What schedules are kept under: the target, and the number of threads that share a loop."""
    return fingerprint_of(target, get_num_threads() if target.kind == "cpu" else 1)


def fingerprint_of(target: Target, threads: int) -> str:
    """`fingerprint` for another number of threads."""
    return f"{target.fingerprint}/{threads}"


def tuning_database() -> Database:
    """The database that this process uses now."""
    return database(default_path(default_folder()))
