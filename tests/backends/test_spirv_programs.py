"""Every program becomes a valid module, without a device; tests/programs run them on one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdsl.errors import TargetError
from kdsl.ir.nodes import ArrayParam, Func
from kdsl.ir.parser import parse_func
from tests.backends.spirv_harness import EVERYTHING, compiled, needs_validator, valid
from tests.check import Draw, Program
from tests.programs.test_programs import PROGRAMS

DRAWN = [p for p in PROGRAMS if "cpu" in p.targets]


def contiguous(func: Func) -> Func:
    """As a device sees a kernel: its arrays are packed."""
    params = [replace(p, contiguous=True) if isinstance(p, ArrayParam) else p for p in func.params]
    return replace(func, params=tuple(params))


@needs_validator
@pytest.mark.parametrize("program", DRAWN, ids=lambda p: p.id)
def test_program_is_valid(program: Program) -> None:
    arguments = program.arguments(Draw(0), *program.sizes[0])
    func = contiguous(parse_func(program.kernel.on("cpu").ir(*arguments)))
    valid(compiled(func, EVERYTHING))


PRINTS = """
def show(A: f32[N]):
    for i in range(N):
        print(A[i])
"""


def test_print_is_refused() -> None:
    with pytest.raises(TargetError, match="K0510"):
        compiled(parse_func(PRINTS), EVERYTHING)
