"""Random programs mean the same as Python, interpreted and compiled; their IR survives every pass."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from kdsl.ir.verify import verify
from kdsl.mathlib import definition
from kdsl.passes.pipeline import lower
from kdsl.runtime.targets import resolve
from tests.check import TARGETS
from tests.differential.generator import Generator
from tests.differential.harness import agree, load
from tests.differential.model import Source

EXAMPLES = int(os.environ.get("KDSL_FUZZ_EXAMPLES", "150"))


@st.composite
def programs(draw: st.DrawFn) -> Source:
    def pick(options: Sequence[Any]) -> Any:
        return options[draw(st.integers(0, len(options) - 1))]

    return Generator(pick).program()


checked = settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


@checked
@given(programs())
def test_random_programs(source: Source) -> None:
    note(source.text)
    agree(source.text, source.arguments(), targets=TARGETS[1:] if source.math else TARGETS)


@checked
@given(programs())
def test_ir_of_random_programs(source: Source) -> None:
    """It prints, parses back to itself, and is valid before and after each pass."""
    note(source.text)
    text = load(source.text)["program"].ir(*source.arguments())
    note(text)
    func = parse_func(text)
    assert print_func(func) == text
    verify(func)
    stages: list[str] = []
    lower(func, resolve("cpu"), definition, verify=True, on_stage=lambda _, f: stages.append(print_func(f)))
    for stage in stages:
        assert print_func(parse_func(stage)) == stage
