"""Random programs mean the same as Python, by the interpreter and compiled."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tests.check import TARGETS
from tests.differential.generator import Generator, Source
from tests.differential.harness import agree

EXAMPLES = int(os.environ.get("KDSL_FUZZ_EXAMPLES", "150"))


@st.composite
def programs(draw: st.DrawFn) -> Source:
    def pick(options: Sequence[Any]) -> Any:
        return options[draw(st.integers(0, len(options) - 1))]

    return Generator(pick).program()


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(programs())
def test_random_programs(source: Source) -> None:
    note(source.text)
    agree(source.text, source.arguments(), targets=("interpreter", "cpu") if source.math else TARGETS)
