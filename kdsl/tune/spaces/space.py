"""A search space: sketches of schedules, and the knobs in them.

    Sketch("panels", (Knob("rows", (4, 6, 8), 6), Knob("terms", (256, 512), 512)), build)
    Candidate(sketch, {"rows": 6, "terms": 512}).schedule(start)

A sketch decides which steps are taken; its knobs decide sizes and orders. What works with a sketch's default
values is as a rule legal with all of them; where a step is refused, `build` raises `ScheduleError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod
from types import MappingProxyType

from kdsl.sched import Schedule

Value = int | str
"""What a knob is set to: plain data, for databases and JSON."""

Values = Mapping[str, Value]

Build = Callable[[Schedule, Values], Schedule]
"""Takes the steps of a sketch, by public primitives only. Raises `ScheduleError` when one is refused."""


@dataclass(frozen=True, slots=True)
class Knob:
    """A choice, by name: its possible values in their natural order, and the one to start from."""

    name: str
    values: tuple[Value, ...]
    default: Value

    def __post_init__(self) -> None:
        assert self.default in self.values, self


@dataclass(frozen=True, eq=False)
class Sketch:
    """A way to schedule a program. `name` is unique among the sketches of one program and stable."""

    name: str
    knobs: tuple[Knob, ...]
    build: Build

    @cached_property
    def defaults(self) -> Values:
        """The values to start from."""
        return MappingProxyType({k.name: k.default for k in self.knobs})

    @property
    def count(self) -> int:
        """The number of candidates."""
        return prod([len(k.values) for k in self.knobs])

    def candidates(self) -> Iterator[Candidate]:
        """All of them, the last knob changing fastest."""
        names = [k.name for k in self.knobs]
        for values in product(*[k.values for k in self.knobs]):
            yield Candidate(self, dict(zip(names, values)))

    def candidate(self, **values: Value) -> Candidate:
        """The one with these values, and the defaults for other knobs."""
        return Candidate(self, {**self.defaults, **values})


@dataclass(frozen=True, eq=False, slots=True)
class Candidate:
    """A sketch with a value for each of its knobs."""

    sketch: Sketch
    values: Values

    @property
    def key(self) -> tuple[str, tuple[tuple[str, Value], ...]]:
        """What tells candidates of one program apart."""
        return self.sketch.name, tuple([(k.name, self.values[k.name]) for k in self.sketch.knobs])

    def schedule(self, start: Schedule) -> Schedule:
        """`start` with the steps of the candidate. Raises `ScheduleError` when one is refused."""
        return self.sketch.build(start, self.values)


@dataclass(frozen=True, slots=True)
class Way:
    """What can be done to one nest: `root` names its outermost loop, `build` takes the steps."""

    name: str
    root: str
    knobs: tuple[Knob, ...]
    build: Build
