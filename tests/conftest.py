"""Options and fixtures for all tests: a private cache folder, `--update-messages`."""

from __future__ import annotations

import os
import tempfile

import pytest

_cache = tempfile.TemporaryDirectory(prefix="kdsl-tests-")
os.environ["KDSL_CACHE_DIR"] = _cache.name


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-messages",
        action="store_true",
        help="write the golden error messages of tests/messages anew",
    )


@pytest.fixture
def update_messages(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-messages"))


def pytest_unconfigure(config: pytest.Config) -> None:
    _cache.cleanup()
