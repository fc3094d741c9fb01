"""Declaring a primitive: one typed function from `Edit` to `Edit`; the rest follows from it.

    @primitive
    def split(edit: Edit, loop: str, factor: int, *, tail: Tail = "guard") -> Edit: ...

becomes a method of `Schedule` with the same parameters, which records the step.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

from kdsl.forks import whole
from kdsl.sched.edit import Edit
from kdsl.sched.step import bind
from kdsl.source import Loc

if TYPE_CHECKING:
    from kdsl.sched.schedule import Schedule

P = ParamSpec("P")

PRIMITIVES: dict[str, Callable[..., Edit]] = {}
"""Every primitive by its name, as declared."""

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def primitive(fn: Callable[Concatenate[Edit, P], Edit]) -> Callable[Concatenate[Schedule, P], Schedule]:
    """Registers `fn` and gives the method that checks its arguments, runs it and records the step."""
    name = fn.__name__
    PRIMITIVES[name] = fn

    @functools.wraps(fn)
    def method(self: Schedule, /, *args: P.args, **kwargs: P.kwargs) -> Schedule:
        with whole:
            step, bound = bind(name, fn, args, kwargs, _callers_line())
            edit = Edit(self.func, step, len(self.steps) + 1, self.target)
            return self._taken(step, lambda: fn(edit, *bound.args, **bound.kwargs).func)

    return method


def _callers_line() -> Loc | None:
    """The line outside of this package that asked for the step."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    return None if frame is None else Loc(frame.f_code.co_filename, frame.f_lineno)
