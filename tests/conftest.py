"""Options and fixtures for all tests: a private cache folder, `--update-messages`, Vulkan's validation layer.

Where the layer is installed it watches all work on Vulkan devices; a test fails when it has said something.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator

import pytest

from kdsl.backends import vulkan

_cache = tempfile.TemporaryDirectory(prefix="kdsl-tests-")
os.environ["KDSL_CACHE_DIR"] = _cache.name

try:
    from kdsl.backends.vulkan import validation
except (ImportError, OSError):  # no package, or no loader
    pass
else:
    if validation.installed():
        os.environ.setdefault(validation.VARIABLE, "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-messages",
        action="store_true",
        help="write the golden error messages of tests/messages anew",
    )


@pytest.fixture
def update_messages(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-messages"))


@pytest.fixture(autouse=True)
def no_word_of_the_validation_layer() -> Iterator[None]:
    """Fails a test while which the layer said something."""
    yield
    if "kdsl.backends.vulkan.instance" in sys.modules and validation.messages:
        said = "\n".join(validation.messages)
        validation.messages.clear()
        pytest.fail(f"Vulkan's validation layer: {said}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missing = vulkan.available()
    if missing is not None:
        terminalreporter.write_line(f"tests on Vulkan devices were skipped: {missing}")


def pytest_unconfigure(config: pytest.Config) -> None:
    _cache.cleanup()
