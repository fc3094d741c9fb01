"""The worker pool of parallel loops: its machine code, when its threads start and when they end.

One pool for the process, made when the first kernel with a parallel loop is loaded; what it runs is
`backends.llvm.pool`. Workers are daemon threads that spend their lives in that code, without the GIL. They
start when a loop first needs them, and again in a child after `fork`, which has none.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import os
import threading
import time

from kdsl.backends import llvm
from kdsl.backends.llvm import pool as machine
from kdsl.backends.llvm import pool_threads
from kdsl.runtime import log
from kdsl.runtime.cache import disk_cache
from kdsl.runtime.fingerprint import environment
from kdsl.runtime.threads import get_num_threads, on_change

_EXIT_WAIT_S = 0.2


def pool_address() -> int:
    """The address of the pool's state, for run-time tables; 0 where there is no pool (not on Linux)."""
    if not pool_threads.supported(llvm.host_target()):
        return 0
    with _making:
        if not _pools:
            _pools.append(Pool())
            on_change.append(_pools[0].resize)
    return _pools[0].address


class Pool:
    """The pool's machine code, its state and its workers.

    Its memory is never given back: workers may be in it until the process has ended.
    """

    def __init__(self) -> None:
        code = llvm.load_code(_machine_code())
        self.address = code.address(machine.STATE)
        self._park = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(code.address(machine.PARK))
        self._wake = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(code.address(machine.WAKE))
        self._code = code
        self._start = self.start
        self._workers: list[threading.Thread] = []
        self._changing = threading.RLock()
        self._set("run", code.address(machine.RUN))
        self._set("start", id(self._start))
        self._set("threads", get_num_threads())
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self))
        os.register_at_fork(after_in_child=self._after_fork)
        atexit.register(self.close)

    def start(self) -> None:
        """Starts the workers that are missing; called by machine code, with the GIL."""
        with self._changing:
            if self._get("closed"):
                return
            wanted = self._get("threads") - 1
            try:
                for at in range(wanted):
                    if at < len(self._workers) and self._workers[at].is_alive():
                        continue
                    worker = threading.Thread(
                        target=self._park, args=(self.address, at + 1), name=f"kdsl-{at + 1}", daemon=True
                    )
                    worker.start()
                    self._workers[at : at + 1] = [worker]
            except RuntimeError as e:  # the system has no more threads, or the interpreter is ending
                log.warning("parallel loops go on with %d threads: %s", len(self._workers) + 1, e)
                self._set("threads", len(self._workers) + 1)
            self._set("workers", len(self._workers))

    def resize(self, threads: int) -> None:
        """Sets the number of threads; waits until workers that are too many have ended."""
        with self._changing:
            self._set("threads", threads)
            leaving = self._workers[threads - 1 :]
            if not leaving:
                return
            self._wake(self.address)
            for worker in leaving:
                worker.join()
            del self._workers[threads - 1 :]
            self._set("workers", len(self._workers))

    def close(self) -> None:
        """Ends the workers at the exit of the interpreter; loops run serially from now on."""
        self._set("closed", 1)
        self._wake(self.address)
        deadline = time.monotonic() + _EXIT_WAIT_S
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))

    def _after_fork(self) -> None:
        """The child has no workers, and nobody else that could be in the middle of a loop."""
        self._changing = threading.RLock()
        self._workers = []
        for field in ("workers", "busy", "done", "sleepers"):
            self._set(field, 0)
        for at in range(machine.MAX_RANGES):
            self._set("tickets", machine.CLOSED_ITEM, 64 * at)
            self._set("thread", 0, 64 * at)

    def _get(self, field: str) -> int:
        return int(ctypes.c_int64.from_address(self.address + machine.FIELDS[field]).value)

    def _set(self, field: str, value: int, offset_bytes: int = 0) -> None:
        """Stores 8 bytes: for an i32 field, those behind it become 0 too."""
        ctypes.c_int64.from_address(self.address + machine.FIELDS[field] + offset_bytes).value = value


_pools: list[Pool] = []
_making = threading.Lock()
os.register_at_fork(after_in_child=lambda: globals().update(_making=threading.Lock()))


def _machine_code() -> bytes:
    """The pool's object code, from the disk cache if it is there."""
    target, cache = llvm.host_target(), disk_cache()
    parts = (machine.pool_text(target), target.fingerprint, *environment(cache))
    key = "pool-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()
    entry = cache.load(key) if cache is not None else None
    if entry is not None:
        return entry.code
    code = llvm.compile_pool(target)
    if cache is not None:
        cache.store(key, {"pool": target.name}, code)
    return code
