"""One way to ask whether a schedule keeps its promises.

`check_schedule(kernel, build)` takes the steps of `build` and then

- verifies the IR and reads its text back;
- replays the trace, the JSON and a pickle: the same schedule;
- sees that every earlier value still prints what it printed;
- runs the function before and after, in the interpreter and compiled, at sizes 0, 1, prime and ragged: the
  same bits in every array. Floats hold small integers, so that any order is exact.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdsl.backends import llvm
from kdsl.errors import ArgumentError, ScheduleError
from kdsl.frontend_ast import KernelSource, build
from kdsl.ir import interpreter
from kdsl.ir.nodes import ArrayParam, Func
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from kdsl.ir.verify import verify
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.runtime.inspection import default_signature
from kdsl.sched import Schedule
from tests.backends import harness

Steps = Callable[[Schedule], Schedule]

EXTENTS = (7, 1, 0, 5, 13, 8, 3)
"""Sizes take these in turn, each from another place: ragged, equal to 1, empty, prime, whole blocks."""


def func_of(kernel: Any) -> Func:
    """The function of a kernel (or of a plain Python function) whose parameters are all annotated."""
    source = getattr(kernel, "__kdsl_source__", None) or KernelSource(kernel)
    return build(source, default_signature(source))


def schedule_of(kernel: Any) -> Schedule:
    """A schedule without steps."""
    return Schedule(func_of(kernel))


def sizes_to_try(func: Func, rounds: int = 5) -> list[dict[str, int]]:
    """Values for the sizes, different ones for different symbols."""
    step = 2
    return [
        {name: EXTENTS[(n + k * step) % len(EXTENTS)] for k, name in enumerate(func.sizes)}
        for n in range(rounds)
    ]


def arguments(func: Func, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Any]:
    """Arrays of small integers, and scalars, for one run."""
    rng = np.random.default_rng(seed)
    out: dict[str, Any] = {}
    for p in func.params:
        if isinstance(p, ArrayParam):
            shape = tuple(d.evaluate(sizes) for d in p.shape)
            out[p.name] = rng.integers(0, 4, shape).astype(p.dtype.np)
        else:
            out[p.name] = p.dtype.np.type(rng.integers(1, 5))
    return out


def interpreted(func: Func, given: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any] | str:
    """The arrays after a run of the interpreter, or the name of the error."""
    arrays = {k: v.copy() for k, v in given.items() if isinstance(v, np.ndarray)}
    scalars = {k: v for k, v in given.items() if not isinstance(v, np.ndarray)}
    try:
        with np.errstate(all="ignore"):
            interpreter.run(func, arrays, scalars, sizes)
    except ArgumentError:
        return "refused"
    except ArithmeticError as error:
        return type(error).__name__
    return arrays


def compiled(
    low: Func, given: Mapping[str, Any], sizes: Mapping[str, int], executable: Any
) -> dict[str, Any]:
    """The arrays after a run of machine code."""
    copy = {k: v.copy() if isinstance(v, np.ndarray) else v for k, v in given.items()}
    outcome = harness.run(low, copy, sizes, executable=executable)
    assert outcome.code == 0, outcome.site
    return {k: v for k, v in copy.items() if isinstance(v, np.ndarray)}


def check_forms(s: Schedule) -> None:
    """Text, trace, JSON and pickle all give the schedule back."""
    verify(s.func)
    verify(lower(s.func, llvm.host_target(), definition, verify=True))
    assert parse_func(print_func(s.func)) == s.func
    space: dict[str, Any] = {}
    exec(s.trace(), space)
    base = Schedule(s.base)
    for again in (
        space["schedule"](base),
        Schedule.from_json(s.base, s.to_json()),
        pickle.loads(pickle.dumps(s)),
    ):
        assert again == s and hash(again) == hash(s)
        assert again.ir() == s.ir() and again.trace() == s.trace()


def check_meaning(s: Schedule, rounds: int = 5, machine_code: bool = True) -> None:
    """The function before and after the steps leave the same arrays, or meet the same fault.

    A call may be refused where a step added a condition.
    """
    low = lower(s.func, llvm.host_target(), definition)
    executable = harness.build(low) if machine_code else None
    for seed, sizes in enumerate(sizes_to_try(s.base, rounds)):
        given = arguments(s.base, sizes, seed)
        want = interpreted(s.base, given, sizes)
        got = interpreted(s.func, given, sizes)
        if got == "refused" and s.func.conditions != s.base.conditions:
            continue
        same(want, got, f"interpreter, {sizes}", s)
        got = interpreted(low, given, sizes)
        if got == "refused":
            assert interpreted(lower(s.base, llvm.host_target(), definition), given, sizes) == "refused"
            continue
        same(want, got, f"lowered, {sizes}", s)
        if executable is not None and not isinstance(want, str):
            same(want, compiled(low, given, sizes, executable), f"compiled, {sizes}", s)


def same(want: Any, got: Any, where: str, s: Schedule) -> None:
    """Equal arrays, or the same fault."""
    if isinstance(want, str) or isinstance(got, str):
        assert want == got, f"{where}: {got}, expected {want}\n{s}"
        return
    for name in want:
        if not np.array_equal(got[name], want[name]):
            np.testing.assert_array_equal(got[name], want[name], err_msg=f"{where}: {name}\n{s.trace()}\n{s}")


def check_quickly(s: Schedule, rounds: int = 2) -> None:
    """The forms and the meaning at a few small sizes, in the interpreter: for cases by the thousand."""
    verify(s.func)
    assert parse_func(print_func(s.func)) == s.func
    assert Schedule.from_json(s.base, s.to_json()) == s
    low = lower(s.func, llvm.host_target(), definition, verify=True)
    for seed, sizes in enumerate(sizes_to_try(s.base, rounds)):
        given = arguments(s.base, sizes, seed)
        want, got = interpreted(s.base, given, sizes), interpreted(s.func, given, sizes)
        if got == "refused" and s.func.conditions != s.base.conditions:
            continue
        same(want, got, f"interpreter, {sizes}", s)
        got = interpreted(low, given, sizes)
        if got != "refused":
            same(want, got, f"lowered, {sizes}", s)


def check_schedule(kernel: Any, steps: Steps, *, machine_code: bool = True) -> Schedule:
    """See the module's text; gives the schedule."""
    start = schedule_of(kernel)
    text = str(start)
    s = steps(start)
    assert str(start) == text
    assert s.history()[0] == ("start", text)
    check_forms(s)
    check_meaning(s, machine_code=machine_code)
    return s


def refusal(kernel: Any, steps: Steps) -> str:
    """The whole message of the refused last step, without paths and line numbers. Nothing has changed."""
    start = schedule_of(kernel)
    before = str(start)
    with pytest.raises(ScheduleError) as caught:
        steps(start)
    assert str(start) == before
    text = re.sub(r"\([^ ()]*\.py:\d+\)", "(FILE)", str(caught.value))
    text = re.sub(r"--> \S*/(\w+\.py):(\d+):(\d+)", r"--> \1", text)
    return re.sub(r"-->( \w+\.py):\d+:\d+", r"-->\1", re.sub(r"(?m)^ *\d+ \|", "|", text))


def golden_texts(path: Path) -> dict[str, str]:
    """The messages of a golden file, by name."""
    found = re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", path.read_text(), re.M)
    return {name: text.rstrip("\n") for name, text in found}


def write_golden(path: Path, cases: Sequence[tuple[str, Any, Steps]]) -> None:
    """Writes the golden file anew."""
    path.write_text("\n\n".join(f"## {name}\n{refusal(k, s)}" for name, k, s in cases) + "\n")
