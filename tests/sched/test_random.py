"""Random kernels under random schedules: accepted means the same results, refused is a ScheduleError.

Hypothesis draws and shrinks some; many more are made from seeds, and made smaller by leaving out lines and
steps. `KDSL_FUZZ_EXAMPLES` is the number of seeds.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from kdsl.errors import CompileError, KdslError, ScheduleError
from kdsl.sched import Schedule
from tests.differential.harness import load
from tests.sched.check import (
    arguments,
    check_forms,
    check_meaning,
    check_quickly,
    func_of,
    interpreted,
    sizes_to_try,
)
from tests.sched.random_programs import Pick, Program, step
from tests.sched.random_reductions import Reductions
from tests.sched.shrink import smaller

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
EXAMPLES = int(os.environ.get("KDSL_FUZZ_EXAMPLES", "1200"))
BATCHES = 8


def start_of(text: str) -> Schedule | None:
    """The schedule without steps of a kernel's text; None when Python refuses the kernel."""
    try:
        return Schedule(func_of(load(text)["program"]))
    except CompileError:
        return None


def walk(pick: Pick, s: Schedule, longest: int) -> Schedule:
    """`s` after random steps; what refuses says so as it should, and changes nothing."""
    shown = str(s)
    first = s
    for _ in range(pick(range(1, longest + 1))):
        try:
            s = step(pick, s)
        except ScheduleError as refusal:
            assert refusal.code.startswith("K03") and refusal.help
    assert str(first) == shown
    return s


def draw_schedule(
    data: Any, longest: int, program: Callable[[Pick], Program | Reductions] = Program
) -> Schedule | None:
    """A random kernel after random steps; None when Python refuses it."""

    def pick(options: Any) -> Any:
        return data.draw(st.sampled_from(options))

    text = program(pick).text()
    note(text)
    s = start_of(text)
    if s is None:
        return None
    s = walk(pick, s, longest)
    note(s.trace())
    return s


@settings(QUIET, max_examples=40)
@given(st.data())
def test_results_stay(data: Any) -> None:
    s = draw_schedule(data, 5)
    if s is not None:
        check_forms(s)
        check_meaning(s, rounds=4, machine_code=False)


@settings(QUIET, max_examples=12)
@given(st.data())
def test_results_stay_compiled(data: Any) -> None:
    s = draw_schedule(data, 4)
    if s is None:
        return
    try:
        check_meaning(s, rounds=3)
    except ScheduleError as error:
        # Legal, but more than the target has room for: local arrays of all lanes, of a symbolic size.
        assert error.code == "K0382"


@pytest.mark.parametrize("batch", range(BATCHES))
def test_many(batch: int) -> None:
    for seed in range(batch, EXAMPLES, BATCHES):
        dice = random.Random(seed)
        text = Program(dice.choice, rich=seed % 4 != 0).text()
        s = start_of(text)
        if s is None:
            continue
        try:
            s = walk(dice.choice, s, 6)
            check_quickly(s)
        except Exception as error:
            small = smaller(text, s.steps, error)
            raise AssertionError(f"seed {seed}:\n{small}") from error


@settings(QUIET, max_examples=60)
@given(st.data())
def test_results_of_reductions_stay(data: Any) -> None:
    s = draw_schedule(data, 4, Reductions)
    if s is not None and not reads_unset_locals(s):
        check_forms(s)
        check_meaning(s, rounds=4, machine_code=False)


def reads_unset_locals(s: Schedule) -> bool:
    """Of the kernel itself."""
    try:
        for seed, sizes in enumerate(sizes_to_try(s.base, 4)):
            interpreted(s.base, arguments(s.base, sizes, seed), sizes)
    except KdslError as fault:
        assert fault.code == "K0610"
        return True
    return False
