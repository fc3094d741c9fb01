"""A table of how often each primitive is tested: `python -m pytest -p tests.sched.tally tests/sched`.

Named tests count once, however often they take a step; each step of a random program counts. Calls are
counted below the methods of `Schedule`, so that messages still name the line of the caller.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from kdsl.sched import Schedule
from kdsl.sched import primitive as declared
from kdsl.sched.primitive import PRIMITIVES
from kdsl.sched.step import Step

# By primitive and test; random programs go by the test "".
_asked: Counter[tuple[str, str]] = Counter()
_taken: Counter[tuple[str, str]] = Counter()
_test = [""]


def pytest_configure() -> None:
    bind, with_step = declared.bind, Schedule._with

    def counted_bind(name: str, *args: Any) -> Any:
        _asked[name, _test[0]] += 1
        return bind(name, *args)

    def counted_with(self: Schedule, step: Step, *args: Any) -> Schedule:
        _taken[step.name, _test[0]] += 1
        return with_step(self, step, *args)

    declared.bind = counted_bind
    Schedule._with = counted_with  # type: ignore[method-assign]


def pytest_runtest_setup(item: pytest.Item) -> None:
    drawn = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
    _test[0] = "" if drawn or "test_random" in item.nodeid else item.nodeid


def pytest_terminal_summary(terminalreporter: Any) -> None:
    write = terminalreporter.write_line
    write("| primitive | accepting tests | refusing tests | random: accepted | random: refused |")
    write("| --- | ---: | ---: | ---: | ---: |")
    for name in sorted(PRIMITIVES):
        tests = {test for primitive, test in _asked if primitive == name and test}
        accepting = sum(_taken[name, test] > 0 for test in tests)
        refusing = sum(_asked[name, test] > _taken[name, test] for test in tests)
        drawn = _taken[name, ""]
        cells = (accepting, refusing, drawn, _asked[name, ""] - drawn)
        write("| " + " | ".join([f"`{name}`", *map(str, cells)]) + " |")
