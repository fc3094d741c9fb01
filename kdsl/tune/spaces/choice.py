"""`kdsl.choice`: a user's own schedule with parameters that the tuner searches.

    def my_schedule(s, rows=kdsl.choice(4, 6, 8), packed=kdsl.choice(False, True)):
        ...
        return s

A choice of numbers or texts is its first value until the tuner passes another one, so that
`kernel.with_schedule(my_schedule)` works too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kdsl.errors import KdslError
from kdsl.sched import Schedule
from kdsl.tune.spaces.space import Knob, Sketch, Value, Values

CHOICES = "__kdsl_choices__"
"""The attribute of a default value that has the possible values."""


class _Whole(int):
    __kdsl_choices__: tuple[Any, ...]


class _Real(float):
    __kdsl_choices__: tuple[Any, ...]


class _Text(str):
    __kdsl_choices__: tuple[Any, ...]


class _Several(tuple[Any, ...]):
    __kdsl_choices__: tuple[Any, ...]


class _Other:
    """A choice between values that have no own kind of choice: True, False, None."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.__kdsl_choices__: tuple[Any, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.value)


_KINDS: dict[type, type] = {int: _Whole, float: _Real, str: _Text, tuple: _Several}


def choice(*values: Any) -> Any:
    """One of `values`, as the default of a parameter of a schedule function: the tuner tries them.

    Give numbers in ascending order: the search takes neighbours for alike. Values are plain data: numbers,
    texts, True, False, None, and tuples of them.
    """
    if not values:
        raise KdslError(
            "K0801", "`kdsl.choice()` leaves nothing to choose", help="give values: kdsl.choice(32, 64)"
        )
    for value in values:
        if not _plain(value):
            raise KdslError(
                "K0801",
                f"`kdsl.choice` takes plain data, not a {type(value).__name__}",
                help="choose among numbers, texts, True, False, None or tuples of them",
            )
    made = _KINDS.get(type(values[0]), _Other)(values[0])
    setattr(made, CHOICES, values)
    return made


def _plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def user_sketch(fn: Callable[..., Schedule]) -> Sketch:
    """The sketch of a schedule function: a knob for each parameter whose default is a `choice`."""
    knobs: list[Knob] = []
    meanings: dict[str, dict[Value, Any]] = {}
    for p in list(inspect.signature(fn).parameters.values())[1:]:
        values = getattr(p.default, CHOICES, None)
        if values is None:
            continue
        named = {_label(value): value for value in values}
        meanings[p.name] = named
        knobs.append(Knob(p.name, tuple(named), next(iter(named))))
    name = getattr(fn, "__name__", "schedule")

    def build(s: Schedule, values: Values) -> Schedule:
        made = fn(s, **{k: meanings[k].get(v, v) for k, v in values.items()})
        if not isinstance(made, Schedule):
            raise KdslError(
                "K0802",
                f"the space `{name}` gives a {type(made).__name__}, not a Schedule",
                help="end the function with `return s`",
            )
        return made

    return Sketch(name, tuple(knobs), build)


def _label(value: Any) -> Value:
    """`value` as a knob has it."""
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else repr(value)


def pinned(sketches: Sequence[Sketch], pins: Mapping[str, Any]) -> list[Sketch]:
    """The sketches with some knobs held: `pins` gives a value, or a list of values, by the knob's name.

    `pins={"sketch": "panels"}` keeps the sketches of that name.
    """
    wanted = {
        name: [_label(v) for v in given] if isinstance(given, (list, set, frozenset)) else [_label(given)]
        for name, given in pins.items()
    }
    chosen = wanted.pop("sketch", None)
    if chosen is not None:
        found = [s for s in sketches if s.name in chosen]
        if not found:
            raise KdslError(
                "K0803",
                f"there is no sketch `{chosen[0]}`",
                notes=[f"the sketches are {', '.join(f'`{s.name}`' for s in sketches)}"],
                help="pin one of these",
            )
        sketches = found
    knobs = sorted({k.name for s in sketches for k in s.knobs})
    for name in wanted:
        if name not in knobs:
            raise KdslError(
                "K0803",
                f"there is no knob `{name}`",
                notes=[f"the knobs are {', '.join(f'`{k}`' for k in knobs) or 'none'}"],
                help="pin one of these",
            )
    return [Sketch(s.name, tuple([_held(k, wanted) for k in s.knobs]), s.build) for s in sketches]


def _held(knob: Knob, wanted: Mapping[str, list[Value]]) -> Knob:
    if knob.name not in wanted:
        return knob
    values = tuple(wanted[knob.name])
    return Knob(knob.name, values, knob.default if knob.default in values else values[0])
