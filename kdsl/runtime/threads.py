"""How many threads work on a parallel loop."""

from __future__ import annotations

import functools
import operator
import os
from collections.abc import Callable

from kdsl.errors import ArgumentError
from kdsl.runtime import log

LIMIT = 1024
on_change: list[Callable[[int], None]] = []
"""Called with each new number: the pool, once there is one."""
_chosen: int | None = None


def get_num_threads() -> int:
    """How many threads work on a parallel loop, the calling one included.

    Unless set by `set_num_threads`: `KDSL_NUM_THREADS`, or the number of CPUs that this process may use.
    """
    return _default() if _chosen is None else _chosen


def set_num_threads(n: int) -> None:
    """Lets `n` threads work on a parallel loop, the calling one included; 1 runs loops serially.

    Workers that are no longer wanted have ended when this returns.
    """
    global _chosen
    try:
        number = operator.index(n)
    except TypeError:
        number = 0
    if not 1 <= number <= LIMIT or isinstance(n, bool):
        raise ArgumentError(
            "K0422",
            f"the number of threads cannot be {n!r}",
            notes=[f"it is an integer from 1 to {LIMIT}"],
            help="`kdsl.set_num_threads(1)` runs parallel loops serially",
        )
    _chosen = number
    for resize in on_change:
        resize(number)


@functools.cache
def _default() -> int:
    wanted = os.environ.get("KDSL_NUM_THREADS", "")
    if wanted.isdecimal() and 1 <= int(wanted) <= LIMIT:
        return int(wanted)
    if wanted:
        log.warning("KDSL_NUM_THREADS is %r, which is no number from 1 to %d", wanted, LIMIT)
    return available()


def available() -> int:
    """The number of CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return min(LIMIT, len(os.sched_getaffinity(0)))
    return min(LIMIT, os.cpu_count() or 1)
