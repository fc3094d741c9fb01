"""Witnesses are run: at the sizes that a refusal names, the two iterations do touch the element it names.

The interpreter records every access with the values of the loop variables around it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from kdsl.analysis import dependence
from kdsl.analysis.verdict import Verdict, Violation
from kdsl.dtypes import DType
from kdsl.errors import KdslError
from kdsl.ir import interpreter
from kdsl.ir.interpreter_exprs import Buffer, Eval, Frame, unflattened
from kdsl.ir.nodes import Alloc, ArrayParam, Body, Expr, Func, Stmt
from kdsl.ir.races import Touch
from kdsl.ir.walk import stmts
from kdsl.mathlib import definition
from kdsl.passes.expand_math import expand_math
from kdsl.source import Loc


@dataclass(frozen=True)
class Event:
    """One access, in program order. `iteration`: the loops around, by variable."""

    number: int
    loc: Loc | None
    buffer: str
    cell: tuple[int, ...]
    touch: str
    iteration: dict[str, int]


Closures = interpreter._Compiler


@dataclass(slots=True)
class _Recorder(Closures):
    events: list[Event] = field(default_factory=list)
    loops: list[tuple[str, int]] = field(default_factory=list)

    def name(self, name: str) -> int:
        slot = Closures.name(self, name)
        self.loops.append((name, slot))
        return slot

    def body(self, body: Body) -> interpreter.Run:
        depth = len(self.loops)
        made = Closures.body(self, body)
        del self.loops[depth:]
        return made

    def stmt(self, s: Stmt) -> interpreter.Run:
        depth = len(self.loops)
        made = Closures.stmt(self, s)
        del self.loops[depth:]
        return made

    def watched(
        self, b: Buffer, index: tuple[Expr, ...], loc: Loc | None, touch: Touch, dtype: DType, op: str = ""
    ) -> Eval:
        at, loops, events = self.position(b, index, loc), tuple(self.loops), self.events

        def noted(f: Frame) -> Any:
            place = at(f)
            flat = unflattened(place, f[b.extents]) if b.kind == "local" else place
            cell = flat if isinstance(flat, tuple) else (flat,)
            events.append(Event(len(events), loc, b.name, cell, touch, {n: f[s] for n, s in loops}))
            return place

        return noted


class _Recording(interpreter.Interpreter):
    """An interpreter that records."""

    def __init__(self, func: Func) -> None:
        self.recorder = _Recorder(races=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(interpreter, "_Compiler", lambda races: self.recorder)
            super().__init__(func, races=False)


def events(func: Func, given: dict[str, int]) -> list[Event] | None:
    """All accesses of one run at these sizes and scalars, arrays of zeros; None when it ends with a fault."""
    func = expand_math(func, definition)
    machine = _Recording(func)
    sizes = {name: given.get(name, 0) for name in func.sizes}
    arrays: dict[str, Any] = {}
    scalars: dict[str, Any] = {}
    for p in func.params:
        if isinstance(p, ArrayParam):
            arrays[p.name] = np.zeros(tuple(d.evaluate(sizes) for d in p.shape), p.dtype.np)
        else:
            scalars[p.name] = given.get(p.name, 1)
    try:
        machine.run(arrays, scalars, sizes, on_print=lambda text: None)
    except KdslError as error:
        assert error.code.startswith("K06"), error
        return None
    return machine.recorder.events


WRITES = ("write", "update", "atomic")


def assert_genuine(func: Func, found: Violation) -> None:
    """The two instances of the violation touch its cell in that order, one of them writing."""
    made = {s.name for s in stmts(func.body) if isinstance(s, Alloc)}
    if found.buffer not in made | {p.name for p in func.params}:
        return  # an instance that is lost or doubled, or the flow of control
    run = events(func, found.sizes)
    if run is None:
        return
    seen = [e for e in run if e.buffer == found.buffer and e.cell == found.cell]

    def matching(loc: Loc | None, iteration: dict[str, int], reads: bool) -> list[Event]:
        return [
            e
            for e in seen
            if all(e.iteration.get(k) == v for k, v in iteration.items())
            and (loc is None or e.loc is None or e.loc == loc)
            and ((e.touch == "read") if reads else (e.touch in WRITES))
        ]

    first = matching(found.first, found.first_iter, found.kind == "anti")
    second = matching(found.second, found.second_iter, found.kind == "flow")
    assert any(a.number < b.number for a in first for b in second), f"{found}\n{first}\n{second}"


@contextmanager
def witnesses_checked() -> Iterator[list[Violation]]:
    """Every violation that the analysis finds meanwhile is run; gives the list of them."""
    found: list[Violation] = []
    mark, rewrite = dependence.check_mark, dependence.check_rewrite

    def check_mark(func: Func, loop_id: int, kind: Any, lanes: int | None = None) -> Verdict:
        return checked(func, mark(func, loop_id, kind, lanes))

    def check_rewrite(before: Func, after: Func, origins: Any) -> Verdict:
        return checked(before, rewrite(before, after, origins))

    def checked(func: Func, verdict: Verdict) -> Verdict:
        if isinstance(verdict, Violation):
            if verdict not in found:
                assert_genuine(func, verdict)
            found.append(verdict)
        return verdict

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dependence, "check_mark", check_mark)
        patch.setattr(dependence, "check_rewrite", check_rewrite)
        yield found
