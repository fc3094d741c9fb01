"""Random kernels under random schedules: accepted means the same results, refused is a ScheduleError."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from kdsl.errors import CompileError, KdslError, ScheduleError
from kdsl.sched import Schedule
from tests.differential.harness import load
from tests.sched.check import arguments, check_forms, check_meaning, func_of, interpreted, sizes_to_try
from tests.sched.random_programs import Pick, Program, step
from tests.sched.random_reductions import Reductions

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def draw_schedule(
    data: Any, longest: int, program: Callable[[Pick], Program | Reductions] = Program
) -> Schedule | None:
    """A random kernel after random steps, with the earlier values checked; None when Python refuses it."""

    def pick(options: Any) -> Any:
        return data.draw(st.sampled_from(options))

    text = program(pick).text()
    note(text)
    try:
        s = Schedule(func_of(load(text)["program"]))
    except CompileError:
        return None
    for _ in range(data.draw(st.integers(1, longest))):
        before, shown = s, str(s)
        try:
            s = step(pick, s)
        except ScheduleError as refusal:
            assert refusal.code.startswith("K03") and refusal.help
        assert str(before) == shown
    note(s.trace())
    return s


@settings(QUIET, max_examples=100)
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
    if s is not None:
        check_meaning(s, rounds=3)


@settings(QUIET, max_examples=100)
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
