"""Every stress script for a moment; the scripts themselves take a seed and more time."""

from __future__ import annotations

import importlib

import pytest

from tests.stress.driver import short


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("sources", 2.0),
        ("ir_text", 1.5),
        ("schedules", 2.0),
        ("calls", 2.0),
        ("files", 3.0),
        ("threads", 2.0),
        ("kills", 1.5),
        ("memory", 1.0),
    ],
)
def test_for_a_moment(name: str, seconds: float) -> None:
    short(importlib.import_module(f"tests.stress.{name}").stress, seconds=seconds)
