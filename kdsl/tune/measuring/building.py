"""From candidates to functions to be measured: their steps are taken, and proved, here or by workers at once.

A space that kdsl derived itself is rebuilt in each worker from the kernel's text, so that candidates cost the
parent nothing; a user's schedule function is run in this process alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from kdsl.errors import ScheduleError
from kdsl.ir import instructions
from kdsl.ir.nodes import Instruction
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.costs.cost import features, prediction
from kdsl.tune.costs.machine import machine
from kdsl.tune.measuring.problem import Problem
from kdsl.tune.spaces.grids import as_lanes
from kdsl.tune.spaces.sketches import sketches
from kdsl.tune.spaces.space import Candidate, Sketch, Value

if TYPE_CHECKING:
    from kdsl.ir.nodes import Func
    from kdsl.sched.schedule import Launcher

FAR = 10.0
"""How many times as long a load takes on a GPU as on a CPU, beside arithmetic: kernels that load much for few
operations are slow there."""

Row = tuple[str, Mapping[str, Any]]
"""A step: a primitive's name and its arguments."""
Rows = tuple[Mapping[str, Any], ...]
"""Instructions as plain data, for processes that do not have the module that declares them."""


@dataclass(frozen=True, slots=True)
class Built:
    """A candidate with its `steps` (as JSON) and the text of the scheduled function.

    `predicted`: seconds of a call by the cost model, `features`: what that looks at. A refused one has no
    text, and the reason as `refusal`. `spent`: seconds it took.
    """

    steps: str = ""
    ir: str = ""
    predicted: float = 0.0
    features: tuple[float, ...] = ()
    refusal: str = ""
    spent: float = 0.0
    instructions: Rows = ()
    """Instructions in it that a worker does not have."""

    @staticmethod
    def of(schedule: Schedule, target: Target, sizes: Mapping[str, int], threads: int, start: float) -> Built:
        """What becomes of a schedule; `start` is when its building began."""
        func = schedule.func
        seen, by = as_lanes(func, target) if target.kind == "vulkan" else (func, target)
        p = prediction(seen, by, sizes, threads=threads)
        far = FAR * p.work.loads / machine().hertz if target.kind == "vulkan" else 0.0
        found = features(seen, by, sizes, threads=threads)
        seconds = time.perf_counter() - start
        numbers = tuple([float(x) for x in np.asarray(found)])
        text = print_func(func)
        return Built(schedule.to_json(), text, p.seconds + far, numbers, "", seconds, declared(schedule))

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Built:
        """What `to_json` gave."""
        return Built(**{**row, **{name: tuple(row[name]) for name in ("features", "instructions")}})


@dataclass(frozen=True, slots=True)
class _Device:
    """What `held_to` lends a schedule: a target, and nothing that runs."""

    on: Target

    def target(self) -> Target | None:
        return self.on if self.on.kind == "vulkan" else None


def held_to(func: Func, target: Target) -> Schedule:
    """The schedule of `func` without steps, which are held to the limits of a target that is a GPU."""
    return Schedule(func, cast("Launcher", _Device(target)))


def built(
    candidate: Candidate, start: Schedule, target: Target, sizes: Mapping[str, int], threads: int
) -> Built:
    """Takes the steps of a candidate."""
    began = time.perf_counter()
    try:
        schedule = candidate.schedule(start)
    except ScheduleError as error:
        return Built(refusal=error.title or "refused", spent=time.perf_counter() - began)
    return Built.of(schedule, target, sizes, threads, began)


class Rebuilding:
    """Builds candidates of a space that kdsl derives, in another process than the search."""

    def __init__(self, problem: Problem, target: Target) -> None:
        self.problem, self.target = problem, target
        self._known: tuple[str, Schedule, dict[str, Sketch]] | None = None

    def build(self, prefix: str, sketch: str, values: dict[str, Value]) -> Built:
        """Takes the steps of a candidate behind those of `prefix`."""
        problem = self.problem
        if self._known is None or self._known[0] != prefix:
            start = held_to(problem.func, self.target).replay(rows_of(prefix))
            found = sketches(start, self.target, problem.sizes, threads=problem.threads)
            self._known = prefix, start, {s.name: s for s in found}
        _, start, named = self._known
        return built(Candidate(named[sketch], values), start, self.target, problem.sizes, problem.threads)


class Remote(Protocol):
    """Workers that build."""

    def build(self, request: Mapping[str, Any]) -> Future[Built | None]:
        """A request has "prefix" (steps as JSON), "sketch" (its name) and "values" of knobs.

        None: the worker was lost, and nobody knows.
        """


POLL_S = 0.02
"""Whoever waits for workers looks so often whether there is something else to do."""


@dataclass
class Builder:
    """Builds candidates of one problem once each. `remote`: by these workers; None: in this process."""

    start: Schedule
    target: Target
    sizes: Mapping[str, int]
    threads: int
    remote: Remote | None = None
    refused: Callable[[Candidate, Built], None] = lambda candidate, built: None
    """Told of each candidate that is refused."""
    waiting: Callable[[], None] = lambda: None
    """Called again and again while workers are waited for."""
    known: dict[object, Built] = field(default_factory=dict)
    _begun: dict[object, Future[Built | None]] = field(default_factory=dict)

    def begin(self, candidates: Sequence[Candidate]) -> None:
        """Has the workers build these; nobody waits for it."""
        if self.remote is None:
            return
        steps = self.start.to_json()
        for c in candidates:
            if c.key not in self.known and c.key not in self._begun:
                self._begun[c.key] = self.remote.build(
                    {"prefix": steps, "sketch": c.sketch.name, "values": dict(c.values)}
                )

    def ready(self, candidates: Sequence[Candidate]) -> bool:
        """Whether `build` has not to wait for workers."""
        return all(c.key not in self._begun or self._begun[c.key].done() for c in candidates)

    def build(self, candidates: Sequence[Candidate]) -> list[Built]:
        """What becomes of each."""
        self.begin(candidates)
        new = list({c.key: c for c in candidates if c.key not in self.known}.values())
        for candidate in new:
            found = self.known[candidate.key] = self._one(candidate)
            if found.refusal:
                self.refused(candidate, found)
        return [self.known[c.key] for c in candidates]

    def _one(self, candidate: Candidate) -> Built:
        begun = self._begun.get(candidate.key)
        if begun is not None:
            while not begun.done():
                self.waiting()
                wait([begun], POLL_S)
            found = self._begun.pop(candidate.key).result()
            if found is not None:
                return found
        return built(candidate, self.start, self.target, self.sizes, self.threads)


def declared(schedule: Schedule) -> Rows:
    """The instructions of a schedule that kdsl does not ship."""
    found = {i.name: i for step in schedule.steps for i in step.instructions if ":" in i.name}
    return tuple(
        [
            {
                "name": i.name,
                "meaning": print_func(i.meaning),
                "llvm": i.llvm,
                "features": list(i.features),
                "exact": i.exact,
                "software": None if i.software is None else print_func(i.software),
            }
            for i in found.values()
        ]
    )


def declare(rows: Rows) -> None:
    """Makes instructions known that `declared` took down."""
    for row in rows:
        made = Instruction(
            row["name"],
            parse_func(row["meaning"]),
            row["llvm"],
            tuple(row["features"]),
            row["exact"],
            None if row["software"] is None else parse_func(row["software"]),
        )
        instructions.register(made.name, lambda made=made: made)  # type: ignore[misc]


def rows_of(steps: str) -> list[Row]:
    """The steps in a text of `Schedule.to_json`."""
    return [(row["do"], {k: v for k, v in row.items() if k != "do"}) for row in json.loads(steps)["steps"]]
