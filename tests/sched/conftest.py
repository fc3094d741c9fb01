"""In all tests of schedules the witnesses of refusals are run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sched.witness import witnesses_checked


@pytest.fixture(autouse=True)
def _witnesses() -> Iterator[None]:
    with witnesses_checked():
        yield
