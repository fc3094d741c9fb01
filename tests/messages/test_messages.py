"""Golden error messages: each `cases/NAME.py` is what a newcomer might write, `NAME.txt` the whole message.

`pytest tests/messages --update-messages` writes the texts anew; read them as a newcomer would before
committing: does it name the thing, show the place, say why, and give one way out?
"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import kdsl

CASES = sorted((Path(__file__).parent / "cases").glob("*.py"))


def message(case: Path) -> str:
    """The class and text of the error that running the file raises."""
    with pytest.raises(kdsl.KdslError) as caught:
        runpy.run_path(str(case))
    return f"{type(caught.value).__name__}\n{caught.value}\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_message(case: Path, update_messages: bool) -> None:
    text = message(case)
    golden = case.with_suffix(".txt")
    if update_messages:
        golden.write_text(text)
    assert text == golden.read_text()


def test_every_text_has_its_case() -> None:
    assert {p.stem for p in CASES[0].parent.glob("*.txt")} == {p.stem for p in CASES}
