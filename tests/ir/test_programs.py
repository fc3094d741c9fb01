"""The IR of real programs at every stage of lowering: verified, and its text reads back."""

from __future__ import annotations

import pytest

from kdsl.ir.nodes import Func
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.target import Target
from tests.check import Draw, Program
from tests.programs.test_programs import PROGRAMS


@pytest.mark.parametrize("program", PROGRAMS, ids=[p.id for p in PROGRAMS])
def test_every_stage_is_verified_and_reads_back(program: Program) -> None:
    args = program.arguments(Draw(0), *program.sizes[0])
    text = program.kernel.ir(*args)
    func = parse_func(text)
    assert print_func(func) == text
    stages = []

    def reads_back(stage: str, after: Func) -> None:
        stages.append(stage)
        assert parse_func(print_func(after)) == after, stage

    lower(func, Target("interpreter"), definition, verify=True, on_stage=reads_back)
    assert stages
