"""Work that a fork must not cut in half: compiling, proving, loading modules, transactions.

A forked child has the memory of its parent and one thread: what other threads held locked stays locked. So a
fork waits until they have left `whole`, and they wait at its door meanwhile. Work inside may nest, and may
fork itself: a thread never waits for its own work.

    with whole:             @whole
        ...                 def f(): ...
"""

from __future__ import annotations

import contextlib
import os
import threading
import time

WAIT_S = 30.0
"""A fork waits no longer: work that waits for the forking thread itself would never end."""


class _Mine(threading.local):
    depth = 0


class _Whole(contextlib.ContextDecorator):
    """The one context manager; one object for all threads."""

    def __init__(self) -> None:
        self._mine = _Mine()
        self._changed = threading.Condition(threading.Lock())
        self._working = 0
        self._forking = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before, after_in_parent=self._after, after_in_child=self._after_in_child
            )

    def __enter__(self) -> None:
        if self._mine.depth == 0:
            with self._changed:
                while self._forking:
                    self._changed.wait()
                self._working += 1
        self._mine.depth += 1

    def __exit__(self, *error: object) -> None:
        self._mine.depth -= 1
        if self._mine.depth == 0:
            with self._changed:
                self._working -= 1
                if self._forking:
                    self._changed.notify_all()

    def _before(self) -> None:
        own = 1 if self._mine.depth else 0
        until = time.monotonic() + WAIT_S
        self._changed.acquire()
        self._forking += 1
        while self._working > own and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)

    def _after(self) -> None:
        self._forking -= 1
        self._changed.notify_all()
        self._changed.release()

    def _after_in_child(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._working = 1 if self._mine.depth else 0
        self._forking = 0


whole = _Whole()
