"""The run-time table of compiled CPU kernels: the stop word and who sets it, `print`, memory.

How Ctrl-C reaches a long kernel without touching anybody's signal handlers:

```
stop word 1, watchdog parked --kernel polls--> poll: word := 0, wake the watchdog, let Python handle signals
    ^                                                                    |
    +--------------- the watchdog, PERIOD_S later: word := 1 ------------+
```
So short kernels pay one poll (about a microsecond) in PERIOD_S seconds, an idle process has no timer, and
Python's own handlers run, in the main thread, while the kernel waits; when one raises, the kernel stops.
"""

from __future__ import annotations

import _thread
import ctypes
import functools
import os
import queue
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from kdsl.backends.base import Site
from kdsl.backends.llvm.symbols import address_of
from kdsl.dtypes import DType

PERIOD_S = 0.05


class Watchdog:
    """Sets the stop word some time after a poll; one thread in the process, parked while nothing polls."""

    def __init__(self) -> None:
        self.word = ctypes.c_uint32(1)
        self._polled: queue.SimpleQueue[None] = queue.SimpleQueue()
        # Called by machine code: a C function, so no Python frame in which a signal handler could raise.
        self.wake: Callable[[], None] = functools.partial(self._polled.put, None)
        self._start()
        os.register_at_fork(after_in_child=self._start)

    def _start(self) -> None:
        self.word.value = 1
        # Not `threading.Thread`, whose `start` waits for the new thread: this is part of a first call.
        _thread.start_new_thread(self._loop, ())

    def _loop(self) -> None:
        while True:
            self._polled.get()
            time.sleep(PERIOD_S)
            self.word.value = 1


@functools.cache
def watchdog() -> Watchdog:
    """The process's watchdog, started at first use."""
    return Watchdog()


class RunTable:
    """The table of one loaded kernel; `address` belongs into slot 2 of its frames."""

    def __init__(self, sites: Sequence[Site], poll_address: int, pool_address: int = 0) -> None:
        guard = watchdog()
        allocate, self._allocate = _aligned_alloc()
        self._sites = sites
        self._print = self._on_print
        self._slots = (ctypes.c_size_t * 7)(
            ctypes.addressof(guard.word),
            poll_address,
            id(self._print),
            allocate,
            address_of("_aligned_free" if sys.platform == "win32" else "free"),
            id(guard.wake),
            pool_address,
        )
        self.address = ctypes.addressof(self._slots)

    def _on_print(self, site_number: int, count: int, values: int) -> None:
        """Called by machine code; what it raises stops the kernel."""
        sys.stdout.write(printed(self._sites[site_number - 1], ctypes.string_at(values, 8 * count)))


def printed(site: Site, raw: bytes) -> str:
    """What `print` writes for the values in `raw` (8-byte slots): as Python prints NumPy scalars."""
    at = 0
    texts = []
    for item in site.items:
        if isinstance(item, DType):
            code = "d" if item.is_float else "q" if item.kind == "int" else "Q"
            (number,) = struct.unpack_from(f"={code}", raw, at)
            at += 8
            texts.append(str(item(number)))
        else:
            texts.append(item)
    return site.sep.join(texts) + site.end


def _aligned_alloc() -> tuple[int, Any]:
    """The address of `aligned_alloc`, and what must stay alive for it."""
    if sys.platform != "win32":
        return address_of("aligned_alloc"), None
    msvcrt = ctypes.cdll.msvcrt
    msvcrt._aligned_malloc.restype = ctypes.c_void_p
    msvcrt._aligned_malloc.argtypes = (ctypes.c_size_t, ctypes.c_size_t)
    prototype = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)
    swapped = prototype(lambda align, size: msvcrt._aligned_malloc(size, align))
    return ctypes.cast(swapped, ctypes.c_void_p).value or 0, swapped
