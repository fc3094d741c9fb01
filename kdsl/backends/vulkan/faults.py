"""The status buffer: what device code says of a fault.

Words of 32 bits: lock, order key (2 words), site (1-based, 0: none), value (i64, 2 words), extent (i64, 2
words). Of several faults the one with the smallest order key stays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kdsl.backends.vulkan.api import ffi

WORDS_BYTES = 32
STATUS_BYTES = 256
"""What is set to zeros: a whole region, so more than the words."""
_SITE = 3


class Fault(NamedTuple):
    """Site number `site` (1-based) faulted: see `backends.base.Site`."""

    site: int
    value: int
    extent: int


class Status:
    """The words where the host sees them."""

    __slots__ = ("_longs", "_words")

    def __init__(self, address: int) -> None:
        self._words: Any = ffi.cast("volatile uint32_t *", address)
        self._longs: Any = ffi.cast("int64_t *", address)
        self.clear()

    def take(self) -> Fault | None:
        """The fault, if there was one; the words are zeros then."""
        site = self._words[_SITE]
        if not site:
            return None
        found = Fault(site, self._longs[2], self._longs[3])
        self.clear()
        return found

    def clear(self) -> None:
        """Sets all words to zero."""
        ffi.memmove(self._words, bytes(STATUS_BYTES), STATUS_BYTES)
