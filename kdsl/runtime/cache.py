"""The disk cache: compiled code by content key, shared by processes, private to its owner.

One file an entry, `KEY.kdsl`:

```
b"KDSL" schema:u32 header_bytes:u32 code_bytes:u64 sha256(header + code):32 header (JSON) code
```

Nothing in it is executed while it is read (no pickle). A file is written beside its place and moved there, so
a reader sees all of it or nothing; whatever does not check out is a miss. The oldest entries go when the
folder outgrows `LIMIT_BYTES`; an entry's modification time is the time it was last used, to the hour.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import sys
import time
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from kdsl.runtime import log

SCHEMA = 1
LIMIT_BYTES = 512 << 20
_SUFFIX = ".kdsl"
PROOFS_SUFFIX = ".log"
"""Of the files of `runtime.proofs`, which live here too."""
_FRAME = struct.Struct("<4sIIQ32s")
_MAGIC = b"KDSL"
_TOUCH_AFTER_S = 3600
_STALE_TEMPORARY_S = 3600


@dataclass(frozen=True, slots=True)
class Entry:
    """What a file holds: a JSON object and bytes."""

    header: dict[str, Any]
    code: bytes


@dataclass(frozen=True, slots=True)
class Info:
    """What a cache holds: `kernels` maps a kernel's name to its number of entries; times are Unix seconds.

    `proofs` is the number of answers about schedules.
    """

    folder: Path
    entries: int
    proofs: int
    bytes: int
    kernels: dict[str, int]
    oldest_s: float | None
    newest_s: float | None


@dataclass(frozen=True, slots=True)
class DiskCache:
    """Entries in `folder`, which exists and belongs to this user alone (see `open_folder`)."""

    folder: Path

    def load(self, key: str) -> Entry | None:
        """The entry of `key`; None when there is none, or none that is whole."""
        path = self.folder / (key + _SUFFIX)
        try:
            with open(path, "rb") as file:
                data = file.read()
                age_s = time.time() - os.fstat(file.fileno()).st_mtime
        except OSError:
            return None
        entry = _unframe(data)
        if entry is None:
            log.warning("cache entry %s is damaged; it will be rebuilt", path)
            return None
        if age_s > _TOUCH_AFTER_S:
            try:
                os.utime(path)
            except OSError as e:  # another process removed it, or the disk is read-only: the data is here
                log.debug("cache entry %s not touched: %s", path, e)
        return entry

    def store(self, key: str, header: dict[str, Any], code: bytes = b"") -> None:
        """Writes an entry, replacing one of the same key; a disk that refuses costs a log line."""
        path = self.folder / (key + _SUFFIX)
        temporary = self.folder / f"{key}.{os.getpid()}.{time.monotonic_ns()}.tmp"
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
            try:
                with open(fd, "wb") as file:
                    file.write(_framed(header, code))
                os.replace(temporary, path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        except OSError as e:
            log.warning("cache entry %s not written: %s", path, e)
            return
        self._evict()

    def info(self) -> Info:
        """Counts and sizes; reads the header of every entry."""
        kernels: dict[str, int] = {}
        proofs = 0
        files = self._files()
        for path, _, _ in files:
            try:
                data = path.read_bytes()
            except OSError:
                continue
            if path.suffix == PROOFS_SUFFIX:
                proofs += sum(1 for line in data.split(b"\n") if line)
                continue
            entry = _unframe(data)
            if entry is not None and "kernel" in entry.header:
                name = str(entry.header["kernel"])
                kernels[name] = kernels.get(name, 0) + 1
        times = [mtime for _, _, mtime in files]
        return Info(
            self.folder,
            sum(kernels.values()),
            proofs,
            sum(size for _, size, _ in files),
            dict(sorted(kernels.items())),
            min(times, default=None),
            max(times, default=None),
        )

    def clear(self) -> int:
        """Removes every entry; gives the number removed."""
        removed = 0
        for path, _, _ in self._files(temporaries=True):
            try:
                path.unlink()
                removed += path.suffix != ".tmp"
            except FileNotFoundError:
                continue
        return removed

    def _files(self, temporaries: bool = False) -> list[tuple[Path, int, float]]:
        """(path, bytes, modification time) of each entry, and of files left by writers that died."""
        out = []
        with os.scandir(self.folder) as found:
            for file in found:
                if file.name.endswith((_SUFFIX, PROOFS_SUFFIX)) or (
                    temporaries and file.name.endswith(".tmp")
                ):
                    try:
                        status = file.stat(follow_symlinks=False)
                    except FileNotFoundError:  # removed by another process meanwhile
                        continue
                    out.append((Path(file.path), status.st_size, status.st_mtime))
        return out

    def _evict(self) -> None:
        """Removes the longest unused entries of a folder over its limit, and temporaries nobody will move."""
        files = self._files(temporaries=True)
        total = sum(size for _, size, _ in files)
        now = time.time()
        for path, size, mtime in sorted(files, key=lambda f: f[2]):
            stale = path.suffix == ".tmp" and now - mtime > _STALE_TEMPORARY_S
            if total <= LIMIT_BYTES and not stale:
                continue
            try:
                path.unlink(missing_ok=True)
            except OSError as e:
                log.debug("cache entry %s not removed: %s", path, e)
            total -= size


def _framed(header: dict[str, Any], code: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":"), sort_keys=True).encode()
    digest = hashlib.sha256(text + code).digest()
    return _FRAME.pack(_MAGIC, SCHEMA, len(text), len(code), digest) + text + code


def _unframe(data: bytes) -> Entry | None:
    if len(data) < _FRAME.size:
        return None
    magic, schema, header_bytes, code_bytes, digest = _FRAME.unpack_from(data)
    body = data[_FRAME.size :]
    if magic != _MAGIC or schema != SCHEMA or len(body) != header_bytes + code_bytes:
        return None
    if hashlib.sha256(body).digest() != digest:
        return None
    return Entry(json.loads(body[:header_bytes]), body[header_bytes:])


# ------------------------------------------------------------------ the folder


def default_folder() -> Path | None:
    """`KDSL_CACHE_DIR`, or kdsl's place in the user's cache folder.

    None when the variable is empty, or when the user has no home.
    """
    chosen = os.environ.get("KDSL_CACHE_DIR")
    try:
        if chosen is not None:
            return Path(chosen).expanduser().absolute() if chosen else None
        return _user_folder()
    except RuntimeError:  # `expanduser` finds no home
        return None


def _user_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", "~/AppData/Local")).expanduser() / "kdsl" / "cache"
    if sys.platform == "darwin":
        return Path("~/Library/Caches/kdsl").expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path("~/.cache").expanduser()) / "kdsl"


def unsafe_folder(folder: Path) -> str | None:
    """Why code from `folder` must not be run: None when it is this user's and nobody else can write to it."""
    status = os.stat(folder)
    if not stat.S_ISDIR(status.st_mode):
        return "it is not a folder"
    if sys.platform == "win32":  # the profile's access list protects it; there are no mode bits to test
        return None
    if status.st_uid != os.geteuid():
        return f"it belongs to another user (uid {status.st_uid})"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others can write to it (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


@cache
def open_folder(folder: Path) -> DiskCache | None:
    """The cache in `folder`, made if missing (mode 0700); None, with one warning, when it cannot be used."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        reason = unsafe_folder(folder)
    except OSError as e:
        reason = str(e)
    if reason is None:
        return DiskCache(folder)
    warnings.warn(
        f"kdsl does not use the cache folder {folder}: {reason}. Kernels are compiled again in each process; "
        "set KDSL_CACHE_DIR to a folder of your own (chmod 700)",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def disk_cache() -> DiskCache | None:
    """The cache that this process uses now; None when there is none."""
    folder = default_folder()
    return None if folder is None else open_folder(folder)
