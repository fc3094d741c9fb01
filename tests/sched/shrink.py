"""Makes a failing case of a random test smaller: fewer steps, fewer lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kdsl.errors import KdslError
from kdsl.sched import Schedule
from kdsl.sched.step import Step
from tests.differential.harness import load
from tests.sched.check import check_quickly, func_of
from tests.sched.witness import witnesses_checked

Rows = list[tuple[str, dict[str, Any]]]


def failure(text: str, rows: Rows) -> str:
    """The kind of the failure of this kernel under these steps; "" when there is none."""
    try:
        with witnesses_checked():
            check_quickly(Schedule(func_of(load(text)["program"])).replay(rows), rounds=5)
    except KdslError as error:
        return error.code
    except Exception as error:
        return type(error).__name__
    return ""


def smaller(text: str, steps: Sequence[Step], error: Exception) -> str:
    """A smaller kernel and fewer steps that fail in the same way, as text."""
    rows: Rows = [(s.name, dict(s.args)) for s in steps]
    kind = failure(text, rows)
    lines = text.splitlines()
    if not kind:
        return f"{text}\n{rows}\n(does not fail again: {type(error).__name__}: {error})"
    rows = fewer(rows, lambda left: failure("\n".join(lines) + "\n", left) == kind)
    lines = fewer(lines, lambda left: failure("\n".join(left) + "\n", rows) == kind)
    return "\n".join([*lines, "", *map(str, rows), f"{kind}: {error}"])


def fewer(items: list[Any], fails: Callable[[list[Any]], bool]) -> list[Any]:
    """`items` without those that are not needed for the failure."""
    at = 0
    while at < len(items):
        left = items[:at] + items[at + 1 :]
        # A `while` that no longer counts would not end.
        if not str(items[at]).endswith("+= 1") and fails(left):
            items = left
        else:
            at += 1
    return items
