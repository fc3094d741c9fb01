"""Answers that outlive a process: what was once proved, or refused, is looked up by the text of the question.

    question = Question("mark", print_func(func), "3 parallel")
    question.recall()        # what `keep` got, in this process or in another one; None: not known
    question.keep([True])    # any JSON value but null

The questions are pure: the same text has the same answer, as long as kdsl and isl are the same. Which folder
keeps them, and for which version of both, is the run time's business (`lend`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, Protocol


class Store(Protocol):
    """Texts by key, kept on disk. A text may be lost, but not changed."""

    def get(self, key: str) -> str | None:
        """The text of a key."""

    def put(self, key: str, text: str) -> None:
        """Keeps a text."""


_find: Callable[[], Store | None] = lambda: None  # noqa: E731


def lend(find: Callable[[], Store | None]) -> None:
    """From now on questions are looked up in the store that `find` gives (None: in none)."""
    global _find
    _find = find


class Question:
    """One question: a kind, and all that its answer depends on."""

    __slots__ = ("_parts",)

    def __init__(self, kind: str, *parts: str) -> None:
        self._parts = kind, *parts

    @property
    def key(self) -> str:
        return hashlib.sha256("\0".join(self._parts).encode()).hexdigest()[:40]

    def recall(self) -> Any:
        """The answer; None when it is not known."""
        store = _find()
        text = store.get(self.key) if store is not None else None
        return None if text is None else json.loads(text)

    def keep(self, answer: Any) -> None:
        """Keeps an answer."""
        store = _find()
        if store is not None:
            store.put(self.key, json.dumps(answer, separators=(",", ":")))
