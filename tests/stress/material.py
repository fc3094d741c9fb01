"""The kernels of `tests/programs`, which the scripts damage and call."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

import tests.programs
from tests.check import Program


@cache
def programs() -> tuple[Program, ...]:
    """All programs, in the order of their modules."""
    found: list[Program] = []
    for module in pkgutil.walk_packages(tests.programs.__path__, "tests.programs."):
        if not module.ispkg and ".test_" not in module.name:
            found += importlib.import_module(module.name).PROGRAMS
    return tuple(found)
