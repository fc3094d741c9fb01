"""Random kernels after random steps, bound as far as that is proved: their launches compute the same."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from kdsl.errors import TargetError
from kdsl.ir.interpreter import Interpreter
from kdsl.ir.launch import Launches
from kdsl.ir.launch_printer import print_launches
from kdsl.ir.nodes import Func
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.sched.grid.binding import bound
from kdsl.target import Target
from tests.launches.check import TARGET, arguments, launched, outcome, same, sizes_to_try
from tests.launches.model import Model, shuffled
from tests.sched.random_programs import Pick, Program
from tests.sched.random_reductions import Reductions
from tests.sched.test_random import start_of, walk

SMALL = replace(TARGET, limits=replace(TARGET.limits, groups=(2, 3, 2), storage_bytes=2000, shared_bytes=64))


def check_random(pick: Pick, note: Callable[[str], object] = lambda text: None) -> bool:
    """False when Python refuses the kernel, or a GPU what it would be."""
    program: Any = pick((Program, Program, Reductions))
    text = program(pick).text()
    note(text)
    s = start_of(text)
    if s is None:
        return False
    s = walk(pick, s, pick((1, 2, 4)))
    note(s.trace())
    try:
        made = launched(bound(s.func), pick((TARGET, SMALL)))
    except TargetError as refused:
        assert refused.code.startswith(("K053", "K054"))
        return False
    note(print_launches(made))
    check_run(s.func, made, pick((0, 1, 2)))
    return True


def check_run(func: Func, made: Launches, seed: int) -> None:
    model = Model(made)
    plain = Interpreter(lower(func, Target("cpu"), definition), races=False)
    for n, at in enumerate(sizes_to_try(func, 3)):
        given = arguments(func, at, n)
        want = outcome(plain.run, given, at)
        got = outcome(model.run, given, at, order=shuffled(seed))
        if isinstance(want, str):
            # Which of several faults comes first is not said.
            assert isinstance(got, str) and got[:10] == want[:10], (got, want)
        else:
            same(got, want, f"sizes {at}")


@settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, max_examples=10)
@given(st.data())
def test_random_kernels(data: Any) -> None:
    def pick(options: Any) -> Any:
        return data.draw(st.sampled_from(options))

    check_random(pick, note)


@pytest.mark.parametrize("seed", range(16))
def test_seeds(seed: int) -> None:
    check_random(random.Random(seed).choice)
