"""Proofs on disk: the answers of the analysis, in one file for each version of kdsl and its tools.

`proofs-VERSION.log` in the cache folder has a line for each answer,

```
key:40 check:16 JSON
```

and is only ever appended to, a whole line in one write, so that processes may share it. A line that does not
check out is a miss. A file that outgrows `LIMIT_BYTES` loses its older half.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from functools import cache
from pathlib import Path

from kdsl.forks import whole
from kdsl.runtime import log
from kdsl.runtime.cache import PROOFS_SUFFIX, DiskCache, disk_cache
from kdsl.runtime.fingerprint import environment

LIMIT_BYTES = 4 << 20


class ProofLog:
    """The answers in one file: read when first asked for, those of this process appended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[bytes, bytes] | None = None
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> str | None:
        """The text kept for a key; None when there is none, or a damaged one."""
        line = self._known().get(key.encode())
        if line is None:
            return None
        check, _, text = line.partition(b" ")
        if check != _check(key.encode(), text):
            log.warning("a proof in %s is damaged; it will be made again", self.path)
            return None
        return text.decode()

    def put(self, key: str, text: str) -> None:
        """Keeps `text`, which is one line; a disk that refuses costs a log line."""
        name, value = key.encode(), text.encode()
        line = _check(name, value) + b" " + value
        self._known()[name] = line
        # The line end comes first: a line cut short by a crash spoils itself alone.
        record = b"\n" + name + b" " + line
        with whole, self._lock:
            try:
                fd = os.open(
                    self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600
                )
                try:
                    os.write(fd, record)
                    self._bytes = os.fstat(fd).st_size
                finally:
                    os.close(fd)
                if self._bytes > LIMIT_BYTES:
                    self._shorten()
            except OSError as e:
                log.warning("proof not written to %s: %s", self.path, e)

    def _known(self) -> dict[bytes, bytes]:
        with whole, self._lock:
            if self._lines is None:
                self._lines = _read(self.path)
            return self._lines

    def _shorten(self) -> None:
        """Keeps the newer half; what other processes append meanwhile may be lost, which costs a proof."""
        data = self.path.read_bytes()
        at = data.find(b"\n", len(data) // 2)
        newer = data[at:] if at >= 0 else b""  # no line ends there: what is no log is given up
        temporary = self.path.with_suffix(f".{os.getpid()}.{time.monotonic_ns()}.tmp")
        temporary.write_bytes(newer)
        os.replace(temporary, self.path)


def _read(path: Path) -> dict[bytes, bytes]:
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    found = (line.partition(b" ") for line in data.split(b"\n") if line)
    return {key: rest for key, _, rest in found}


def _check(key: bytes, text: bytes) -> bytes:
    return hashlib.sha256(key + b" " + text).hexdigest()[:16].encode()


def proof_log() -> ProofLog | None:
    """The log that this process uses now; None when there is no cache folder."""
    cache_ = disk_cache()
    return None if cache_ is None else _open(cache_)


@cache
def _open(cache_: DiskCache) -> ProofLog:
    version = hashlib.sha256("\0".join(environment(cache_)).encode()).hexdigest()[:16]
    return ProofLog(cache_.folder / f"proofs-{version}{PROOFS_SUFFIX}")
