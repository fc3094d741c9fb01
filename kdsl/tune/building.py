"""From candidates to functions to be measured: their steps are taken, and proved, here or by workers at once.

A space that kdsl derived itself is rebuilt in each worker from the kernel's text, so that candidates cost the
parent nothing; a user's schedule function is run in this process alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from kdsl.errors import ScheduleError
from kdsl.ir import instructions
from kdsl.ir.nodes import Instruction
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from kdsl.sched import Schedule
from kdsl.target import Target
from kdsl.tune.cost import features, predict
from kdsl.tune.space import Candidate

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
        predicted = predict(func, target, sizes, threads=threads)
        found = features(func, target, sizes, threads=threads)
        seconds = time.perf_counter() - start
        numbers = tuple([float(x) for x in np.asarray(found)])
        text = print_func(func)
        return Built(schedule.to_json(), text, float(predicted), numbers, "", seconds, declared(schedule))

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {name: getattr(self, name) for name in self.__slots__}

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Built:
        """What `to_json` gave."""
        return Built(**{**row, **{name: tuple(row[name]) for name in ("features", "instructions")}})


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


class Remote(Protocol):
    """Workers that build."""

    def __len__(self) -> int: ...
    def build(self, number: int, request: Mapping[str, Any]) -> Built: ...


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
    known: dict[object, Built] = field(default_factory=dict)

    def build(self, candidates: Sequence[Candidate]) -> list[Built]:
        """What becomes of each."""
        new = list({c.key: c for c in candidates if c.key not in self.known}.values())
        for candidate, found in zip(new, self._all(new)):
            self.known[candidate.key] = found
            if found.refusal:
                self.refused(candidate, found)
        return [self.known[c.key] for c in candidates]

    def _all(self, candidates: Sequence[Candidate]) -> list[Built]:
        if self.remote is None:
            return [built(c, self.start, self.target, self.sizes, self.threads) for c in candidates]
        remote, steps = self.remote, self.start.to_json()
        requests = [
            {"do": "build", "prefix": steps, "sketch": c.sketch.name, "values": dict(c.values)}
            for c in candidates
        ]
        numbers = list(range(len(remote)))

        def work(request: Mapping[str, Any]) -> Built:
            number = numbers.pop()
            try:
                return remote.build(number, request)
            finally:
                numbers.append(number)

        threads = ThreadPoolExecutor(len(numbers))
        try:
            return list(threads.map(work, requests))
        finally:
            threads.shutdown(cancel_futures=True)


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
