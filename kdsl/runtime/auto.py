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

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import FunctionType
from typing import TYPE_CHECKING, Any

from kdsl.errors import KdslError
from kdsl.ir.binding import binding_plan
from kdsl.ir.params import ArrayParam, ScalarParam
from kdsl.runtime import log
from kdsl.runtime.cache import default_folder, disk_cache
from kdsl.runtime.compile import Request, program
from kdsl.runtime.fingerprint import quick_key
from kdsl.runtime.interface import Interface
from kdsl.runtime.scheduling import Steps
from kdsl.runtime.sizes import bind_sizes
from kdsl.runtime.threads import get_num_threads
from kdsl.tune.classes import powers, scalar_number, sizes_class
from kdsl.tune.database import Database, Key, database, default_path

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
        if not self.conditions:
            return True
        from kdsl.tune.measuring.problem import holds

        return holds(self.conditions, sizes, scalars)


@dataclass(frozen=True, slots=True)
class Choice:
    """What a call gets: a schedule, where it comes from, and for which class alone (empty: for all).

    `conditions`: what the schedule assumes besides.
    """

    recipe: Recipe
    origin: str
    only: str = ""
    conditions: tuple[Condition, ...] = ()


def variant(kernel: Kernel[Any], given: Arguments, known: list[Variant]) -> Variant:
    """The variant for a call: one of those that are `known`, or a new one."""
    if known:
        sizes, scalars = bound(known[0].program.interface, given)
        for found in known:
            if found.takes(sizes, scalars):
                return found
    choice = Chooser(kernel, given).choice()
    log.debug("%s: schedule %s", kernel.name, choice.origin)
    recipe = limited(choice.recipe, choice.only)
    request = Request(kernel.__kdsl_source__, given.signature, kernel._resolved(), recipe)
    return Variant(program(request), request, choice.only, choice.conditions)


def recipe(kernel: Kernel[Any], given: Arguments) -> Recipe:
    """The schedule that a call gets."""
    return Chooser(kernel, given).choice().recipe


def newest(func: Func, target: Target) -> Schedule:
    """`func` with the steps that were stored last for this target, whatever the sizes."""
    from kdsl.sched import Schedule
    from kdsl.tune.measuring.problem import kernel_key

    store, here, key = tuning_database(), fingerprint(target), kernel_key(func)
    for sizes, found in store.classes(key):
        if found == here:
            best = store.best(Key(key, sizes, here))
            s = None if best is None else replayed(Schedule(func), best.steps)
            if s is not None:
                return s
    return Schedule(func)


class Chooser:
    """Chooses for one call. The kernel's IR is built only for what the disk cache does not know."""

    def __init__(self, kernel: Kernel[Any], given: Arguments) -> None:
        self.kernel, self.given = kernel, given
        self.target = kernel._resolved()
        self.cache = disk_cache()
        self.key, interface = self._outside()
        self.sizes, self.scalars = bound(interface, given)
        self.own = sizes_class(self.sizes)

    @cached_property
    def func(self) -> Func:
        """The kernel in program order."""
        from kdsl.frontend_ast import build

        return build(self.kernel.__kdsl_source__, self.given.signature)

    def choice(self) -> Choice:
        """The schedule for the call."""
        here = fingerprint(self.target)
        store = tuning_database()
        classes = [row for row in store.classes(self.key) if _same_target(row[1], here)]
        only = self.own if any(c != self.own for c, _ in classes) else ""
        for key in self._keys(classes, here):
            best = store.best(key)
            found = None if best is None else self._usable(best.steps, f"stored for {key.sizes}", only)
            if found is not None:
                return found
        if self.target.kind == "interpreter":
            return Choice(Steps.none(self.kernel.name), "program order", only)
        remembered = self._remembered()
        found = None if remembered is None else self._usable(remembered, "at once", only)
        if found is None:
            found = self._usable(self._instant(), "at once", only)
        assert found is not None, "it was made for this kernel"
        return found

    def _keys(self, classes: list[tuple[str, str]], here: str) -> list[Key]:
        """Where to look: this class before the same powers of two, this number of threads before others."""
        found = [
            (c != self.own, target != here, n, Key(self.key, c, target))
            for n, (c, target) in enumerate(classes)
            if powers(c) == powers(self.own)
        ]
        return [key for *_, key in sorted(found, key=lambda row: row[:3])]

    def _usable(self, steps: str, origin: str, only: str) -> Choice | None:
        """A stored schedule, if this version accepts it and the call meets what it assumes."""
        known = self._load(f"steps {steps}")
        if known is not None and known["plain"]:
            return Choice(Steps(steps), origin, only)
        from kdsl.sched import Schedule
        from kdsl.tune.measuring.problem import holds

        s = replayed(Schedule(self.func), steps)
        if s is None:
            return None
        more = tuple([c for c in s.func.conditions if c not in self.func.conditions])
        named = any(":" in i.name for step in s.steps for i in step.instructions)
        self._store(f"steps {steps}", {"plain": not more and not named})
        if not holds(more, self.sizes, self.scalars):
            log.debug("%s: the schedule %s does not fit these sizes", self.kernel.name, origin)
            return None
        return Choice(s, origin, only, more)

    def _remembered(self) -> str | None:
        """The steps that the cost model chose before, in this process or in another one."""
        known = self._load(self._choice)
        steps = None if known is None else known.get("steps")
        return steps if isinstance(steps, str) else None

    def _instant(self) -> str:
        """The best schedule by the cost model, which is remembered: choosing takes longer than compiling."""
        from kdsl.tune.auto import instant
        from kdsl.tune.measuring.building import held_to

        threads = get_num_threads()
        steps = instant(held_to(self.func, self.target), self.target, self.sizes, threads=threads).to_json()
        self._store(self._choice, {"steps": steps})
        return steps

    @property
    def _choice(self) -> str:
        """What the cost model's choice is remembered as."""
        return f"instant {get_num_threads()} {self.own}"

    def _outside(self) -> tuple[str, Interface]:
        """The kernel's hash and interface."""
        source, signature = self.kernel.__kdsl_source__, self.given.signature
        known = self._load("outside")
        if known is not None:
            return str(known["kernel"]), Interface.from_json(known["interface"], source, signature)
        from kdsl.tune.measuring.problem import kernel_key

        interface, key = Interface.of(self.func, source), kernel_key(self.func)
        self._store("outside", {"kernel": key, "interface": interface.to_json()})
        return key, interface

    def _load(self, what: str) -> dict[str, Any] | None:
        """What is remembered of this kernel, signature and target."""
        name = self._name(what)
        entry = None if name is None or self.cache is None else self.cache.load(name)
        return None if entry is None else entry.header

    def _store(self, what: str, header: dict[str, Any]) -> None:
        name = self._name(what)
        if name is not None and self.cache is not None:
            self.cache.store(name, header)

    def _name(self, what: str) -> str | None:
        if self.cache is None:
            return None
        source, signature = self.kernel.__kdsl_source__, self.given.signature
        return quick_key(source, signature, self.target, f"auto {what}", self.cache)


def limited(recipe: Recipe, only: str) -> Recipe:
    """A schedule that takes calls of one class alone."""
    facts = [("assume", {"cond": fact}) for fact in class_facts(only)]
    if not facts:
        return recipe
    if isinstance(recipe, Steps):
        return recipe.then(facts)
    assert not isinstance(recipe, FunctionType)
    return recipe.replay(facts)  # type: ignore[union-attr]


def replayed(start: Schedule, steps: str) -> Schedule | None:
    """The stored steps; None when they are refused, or no steps, by this version."""
    from kdsl.sched.step import from_json

    try:
        return start.replay(from_json(steps))
    except KdslError as error:
        log.debug("%s: a stored schedule is refused: %s", start.func.name, error.title)
        return None


def bound(interface: Interface, given: Arguments) -> tuple[dict[str, int], dict[str, Any]]:
    """Sizes and scalars of a call."""
    params, values = interface.params, given.for_ir()
    shapes = {n: v.shape for n, (p, v) in enumerate(zip(params, values)) if isinstance(p, ArrayParam)}
    sizes = bind_sizes(interface.name, params, binding_plan(params, interface.sizes), shapes)
    scalars = {p.name: scalar_number(v) for p, v in zip(params, values) if isinstance(p, ScalarParam)}
    return {name: sizes[name] for name in interface.sizes}, scalars


def _same_target(a: str, b: str) -> bool:
    return a.partition("/")[0] == b.partition("/")[0]


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
