"""Bound loop nests as launches: the same results as the interpreter, and every barrier is needed."""

from __future__ import annotations

import pytest

from kdsl.ir.parser import parse_func
from tests.launches.check import arguments, barriers, check_launches, launched, outcome, sizes_to_try, without
from tests.launches.kernels import ALL
from tests.launches.model import Model, Race


@pytest.mark.parametrize("name", ALL)
def test_same_results(name: str) -> None:
    check_launches(ALL[name])


@pytest.mark.parametrize("name", ["MATMUL", "REGISTERS", "BLUR", "ROWS", "TREE", "GROUP_SCRATCH", "DEVICE"])
def test_every_barrier_is_needed(name: str) -> None:
    made = launched(ALL[name])
    func = parse_func(ALL[name])
    assert barriers(made)
    for barrier in barriers(made):
        model = Model(without(made, barrier))
        with pytest.raises(Race):
            for n, at in enumerate(sizes_to_try(func, 7)):
                outcome(model.run, arguments(func, at, n), at)
