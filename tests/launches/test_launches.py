"""Bound loop nests as launches: the same results as the interpreter, and every barrier is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdsl.ir.launch_printer import print_launches
from tests.launches.check import (
    TARGET,
    barriers,
    check_launches,
    every_barrier_is_needed,
    launched,
)
from tests.launches.kernels import ALL

GOLDEN = Path(__file__).with_name("launches.txt")


@pytest.mark.parametrize("name", ALL)
def test_same_results(name: str) -> None:
    check_launches(ALL[name])


def test_texts(update_messages: bool) -> None:
    text = "\n".join([print_launches(launched(text)) for text in ALL.values()])
    if update_messages:
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@pytest.mark.parametrize(
    "name",
    [
        "MATMUL",
        "REGISTERS",
        "BLUR",
        "ROWS",
        "TREE",
        "GROUP_SCRATCH",
        "DEVICE",
        "DOUBLE",
        "HALO",
        "LEAVING",
        "SEARCH",
    ],
)
def test_every_barrier_is_needed(name: str) -> None:
    made = launched(ALL[name])
    assert barriers(made)
    every_barrier_is_needed(made)


def test_data_that_do_not_meet_need_no_barrier() -> None:
    assert len(barriers(launched(ALL["DOUBLE"]))) == 1
    assert len(barriers(launched(ALL["HALO"]))) == 1


@pytest.mark.parametrize("name", ALL)
def test_in_parts(name: str) -> None:
    """A device with few work-groups and little memory."""
    limits = replace(TARGET.limits, groups=(3, 2, 2), storage_bytes=500)
    check_launches(ALL[name], replace(TARGET, limits=limits))
