"""A table of how often each primitive is tested: `python -m pytest -p tests.sched.tally tests/sched`.

Named tests count once, however often they take a step; each step of a random program counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest

from kdsl.errors import ScheduleError
from kdsl.sched import Schedule
from kdsl.sched.primitive import PRIMITIVES

_named: dict[tuple[str, str], set[str]] = {}
_drawn: Counter[tuple[str, str]] = Counter()
_test = ["", False]


def _counting(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def note(outcome: str) -> None:
        test, random = _test
        if random:
            _drawn[name, outcome] += 1
        else:
            _named.setdefault((name, outcome), set()).add(str(test))

    @wraps(method)
    def counted(*args: Any, **kwargs: Any) -> Any:
        try:
            s = method(*args, **kwargs)
        except ScheduleError:
            note("refused")
            raise
        note("accepted")
        return s

    return counted


def pytest_configure() -> None:
    for name in PRIMITIVES:
        setattr(Schedule, name, _counting(name, getattr(Schedule, name)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    drawn = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    _test[:] = [item.nodeid, drawn or "test_random" in item.nodeid]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    write = terminalreporter.write_line
    write("| primitive | accepting tests | refusing tests | random: accepted | random: refused |")
    write("| --- | ---: | ---: | ---: | ---: |")
    for name in sorted(PRIMITIVES):
        tests = [len(_named.get((name, outcome), ())) for outcome in ("accepted", "refused")]
        draws = [_drawn[name, outcome] for outcome in ("accepted", "refused")]
        write("| " + " | ".join([f"`{name}`", *map(str, tests), *map(str, draws)]) + " |")
