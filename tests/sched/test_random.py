"""Random kernels under random schedules: accepted means the same results, refused is a ScheduleError."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from kdsl.errors import CompileError, ScheduleError
from kdsl.sched import Schedule
from tests.differential.harness import load
from tests.sched.check import check_forms, check_meaning, func_of
from tests.sched.random_programs import Program, step

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)


def draw_schedule(data: Any, longest: int) -> Schedule | None:
    """A random kernel after random steps, with the earlier values checked; None when Python refuses it."""

    def pick(options: Any) -> Any:
        return data.draw(st.sampled_from(options))

    text = Program(pick).text()
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
