"""Every program of the suite as launches: unscheduled on one invocation, and with its outer loops bound."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from kdsl.analysis.linear import extent
from kdsl.errors import ScheduleError, TargetError
from kdsl.ir.interpreter import Interpreter
from kdsl.ir.nodes import ArrayParam, Func, Loop
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.passes.launches import launches
from kdsl.runtime.arguments import arguments
from kdsl.runtime.compile import Request, front
from kdsl.runtime.interface import Interface
from kdsl.runtime.program import Program as Made
from kdsl.sched import Schedule
from kdsl.sched.rewriting.tree import places
from kdsl.target import Target
from tests.check import Draw, Program, clone, results
from tests.launches.check import TARGET
from tests.launches.model import Model, shuffled, verify_launches
from tests.programs.test_programs import PROGRAMS


class Run:
    """An executor of the model, or of the interpreter."""

    def __init__(self, func: Func, model: bool) -> None:
        self.func = func
        if model:
            made = launches(lower(func, TARGET, definition), TARGET)
            verify_launches(made)
            self.model = Model(made)
        else:
            self.plain = Interpreter(lower(func, Target("cpu"), definition), races=False)
        self.is_model = model

    def run(self, values: Sequence[Any], sizes: Mapping[str, int]) -> None:
        named = dict(zip([p.name for p in self.func.params], values))
        arrays = {p.name: named[p.name] for p in self.func.params if isinstance(p, ArrayParam)}
        scalars = {k: v for k, v in named.items() if k not in arrays}
        if self.is_model:
            self.model.run(arrays, scalars, sizes, shuffled(0))
        else:
            self.plain.run(arrays, scalars, sizes, on_print=lambda text: None)


def bound(func: Func) -> Func:
    """`func` with loops bound to axes where that is proved: the outermost ones, and those of constant extent
    inside of one another as they come."""
    s = Schedule(func)
    names = [p.loop.var for p in places(s.func) if not p.outer]
    for name in dict.fromkeys(names):
        try:
            t = s.split(name, 3)
            s = t.bind(f"{name}_o", "grid.x").bind(f"{name}_i", "block.x")
        except ScheduleError:
            continue
    for name in dict.fromkeys([p.loop.var for p in places(s.func) if len(p.outer) >= 2]):
        if not any(extent(p.loop) for p in places(s.func) if p.loop.var == name):
            continue
        try:
            s = s.bind(name, "block.y")
        except ScheduleError:
            continue
    return s.func


def compare(program: Program, sizes: tuple[int, ...], seed: int, schedule: bool) -> None:
    args = program.arguments(Draw(seed), *sizes)
    source = program.kernel.__kdsl_source__
    outcomes = []
    given = arguments(source, args, {})
    request = Request(source, given.signature, Target("interpreter"))
    func = front(request)
    if schedule:
        func = bound(func)
        if not any(isinstance(p.loop, Loop) and p.loop.mark for p in places(func)):
            pytest.skip("no outer loop is independent")
    for model in (False, True):
        mine = [clone(a) for a in args]
        made = Made.of(Interface.of(func, source), Run(func, model))
        found = results(made(arguments(source, tuple(mine), {}).for_ir()))
        outcomes.append([np.asarray(x) for x in itertools.chain(mine, found)])
    for want, got in zip(*outcomes):
        assert want.dtype == got.dtype and want.tobytes() == got.tobytes()


@pytest.mark.parametrize("program", [pytest.param(p, id=p.id) for p in PROGRAMS])
@pytest.mark.parametrize("schedule", [False, True], ids=["one", "bound"])
def test_program(program: Program, schedule: bool) -> None:
    for seed, sizes in enumerate(program.sizes[:2] if schedule else program.sizes):
        try:
            compare(program, sizes, seed, schedule)
        except TargetError as e:
            assert schedule, e
            pytest.skip(f"refused: {e.title}")
