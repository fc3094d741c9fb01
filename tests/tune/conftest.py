from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import kdsl


@pytest.fixture(autouse=True)
def own_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has a tuning database of its own."""
    path = tmp_path / "tuning.sqlite"
    monkeypatch.setenv("KDSL_TUNING_DB", str(path))
    return path


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, and so one worker."""
    before = kdsl.get_num_threads()
    kdsl.set_num_threads(1)
    yield
    kdsl.set_num_threads(before)
