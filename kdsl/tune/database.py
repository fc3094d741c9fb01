"""What has been measured, on disk: an SQLite file that processes share and later runs go on from.

    trials   one row for each candidate that was tried: kernel, sizes class, target, sizes, the trial as JSON
    best     one row for each (kernel, sizes class, target): the steps that are used from now on

`kernel` is a hash of the IR in program order, `target` a fingerprint with the number of threads. A trial is
stored when it is done, so that a process that is killed loses the one in flight. A file that SQLite cannot
read is moved aside, which a log line says, and a new one begun: tuned schedules are lost, never a call.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from kdsl.errors import KdslError
from kdsl.forks import whole
from kdsl.tune.trial import Trial

VARIABLE = "KDSL_TUNING_DB"
"""Names the file, instead of `tuning.sqlite` in the cache folder."""
FORMAT = "kdsl tuning 1"
SCHEMA = """
CREATE TABLE IF NOT EXISTS trials (
    kernel TEXT, class TEXT, target TEXT, name TEXT, sizes TEXT, key TEXT, at REAL, trial TEXT,
    PRIMARY KEY (kernel, class, target, sizes, key)
);
CREATE TABLE IF NOT EXISTS best (
    kernel TEXT, class TEXT, target TEXT, name TEXT, sizes TEXT, at REAL, time REAL, speedup REAL, steps TEXT,
    PRIMARY KEY (kernel, class, target)
);
"""
_COLUMNS = {
    "trials": ("kernel", "class", "target", "name", "sizes", "key", "at", "trial"),
    "best": ("kernel", "class", "target", "name", "sizes", "at", "time", "speedup", "steps"),
}
_BUSY_S = 10.0

_of_parents: list[sqlite3.Connection] = []
"""Connections of the processes that this one was forked from, never to be closed."""

R = TypeVar("R")
log = logging.getLogger("kdsl")


@dataclass(frozen=True, slots=True)
class Key:
    """What a result is for. `sizes` is the class (see `problem.sizes_class`)."""

    kernel: str
    sizes: str
    target: str


@dataclass(frozen=True, slots=True)
class Best:
    """The schedule to use: steps as JSON; `time` of a call in seconds at `sizes`, `speedup` over the kernel
    as it was."""

    name: str
    sizes: Mapping[str, int]
    time: float
    speedup: float
    steps: str


class Database:
    """The file at `path`, or memory alone where that is None or cannot be written."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    # -- trials

    def store(self, key: Key, name: str, sizes: Mapping[str, int], trial: Trial) -> None:
        """Keeps a trial; a newer one of the same candidate replaces it."""
        row = (
            *_fields(key),
            name,
            json.dumps(dict(sizes)),
            trial.key,
            time.time(),
            json.dumps(trial.to_json()),
        )
        self._do(lambda c: c.execute("INSERT OR REPLACE INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row))

    def trials(self, key: Key, sizes: Mapping[str, int]) -> list[Trial]:
        """What has been tried before at exactly these sizes, in the order of time."""
        found = self._do(
            lambda c: c.execute(
                "SELECT trial FROM trials WHERE kernel = ? AND class = ? AND target = ? AND sizes = ? "
                "ORDER BY at, rowid",
                (*_fields(key), json.dumps(dict(sizes))),
            ).fetchall()
        )
        out = []
        for (text,) in found or ():
            with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
                out.append(Trial.from_json(json.loads(text)))
        return out

    # -- the best

    def set_best(self, key: Key, best: Best) -> None:
        """From now on this one is used."""
        row = (
            *_fields(key), best.name, json.dumps(dict(best.sizes)), time.time(), best.time, best.speedup,
            best.steps,
        )  # fmt: skip
        self._do(lambda c: c.execute("INSERT OR REPLACE INTO best VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row))

    def best(self, key: Key) -> Best | None:
        """The one to use; None when there is none."""
        found = self._do(
            lambda c: c.execute(
                "SELECT name, sizes, time, speedup, steps FROM best "
                "WHERE kernel = ? AND class = ? AND target = ?",
                _fields(key),
            ).fetchone()
        )
        if not found:
            return None
        with contextlib.suppress(ValueError, TypeError, RecursionError):
            name, sizes, seconds, speedup, steps = found
            return Best(name, json.loads(sizes), float(seconds), float(speedup), str(steps))
        return None

    def classes(self, kernel: str) -> list[tuple[str, str]]:
        """(sizes class, target) of each stored best of a kernel."""
        found = self._do(
            lambda c: c.execute(
                "SELECT class, target FROM best WHERE kernel = ? ORDER BY at DESC", (kernel,)
            ).fetchall()
        )
        return [(str(a), str(b)) for a, b in found or ()]

    # -- as text

    def lines(self) -> Iterator[str]:
        """The whole database as lines of JSON."""
        yield json.dumps({"format": FORMAT})
        for table in ("best", "trials"):
            rows = self._do(lambda c, t=table: _rows(c, t)) or []  # type: ignore[misc]
            for row in rows:
                if any(isinstance(value, bytes) for value in row.values()):  # of a damaged file
                    continue
                yield json.dumps({"table": table, **row})

    def read(self, lines: Iterable[str]) -> int:
        """Takes rows that `lines` gave, newer ones before those that are here; how many it took."""
        rows: dict[str, list[dict[str, Any]]] = {"best": [], "trials": []}
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if number == 1:
                    if row["format"] != FORMAT:
                        raise ValueError(row["format"])
                    continue
                rows[row.pop("table")].append(row)
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise KdslError(
                    "K0806",
                    f"line {number} is no line of an exported tuning database",
                    help="pass a text that `kdsl tune --export` wrote",
                ) from None
        return sum([self._take(table, found) for table, found in rows.items()])

    def _take(self, table: str, rows: list[dict[str, Any]]) -> int:
        """Inserts rows of another database."""

        def insert(c: sqlite3.Connection) -> int:
            columns = [r[1] for r in c.execute(f"PRAGMA table_info({table})")]
            taken = 0
            for row in rows:
                old = c.execute(
                    f"SELECT at FROM {table} WHERE kernel = ? AND class = ? AND target = ?"
                    + (" AND sizes = ? AND key = ?" if table == "trials" else ""),
                    [
                        row.get(n)
                        for n in ("kernel", "class", "target", *(_MORE if table == "trials" else ()))
                    ],
                ).fetchone()
                if old is not None and old[0] >= (row.get("at") or 0):
                    continue
                marks = ", ".join("?" for _ in columns)
                c.execute(
                    f"INSERT OR REPLACE INTO {table} VALUES ({marks})", [row.get(name) for name in columns]
                )
                taken += 1
            return taken

        return self._do(insert) or 0

    # -- the connection

    def _do(self, use: Callable[[sqlite3.Connection], R]) -> R | None:
        """Runs `use` in a transaction. A damaged file is replaced; None when nothing works."""
        with whole, self._lock:
            for last in (False, True):
                try:
                    with self._open() as connection:
                        return use(connection)
                except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
                    if _in_order(error):
                        log.warning("tuning database %s: %s", self.path, error)
                        return None
                    self.close()
                    if last or self.path is None:
                        log.warning("tuning database %s: %s", self.path, error)
                        return None
                    self._move_aside(error)
        return None

    def _open(self) -> sqlite3.Connection:
        if self._connection is not None and self.path is not None and self._process != os.getpid():
            # SQLite's connections do not live through a fork, and even closing one harms the parent's.
            _of_parents.append(self._connection)
            self._connection = None
        if self._connection is not None:
            return self._connection
        self._process = os.getpid()
        if self.path is not None:
            try:
                self._connection = _connected(self.path)
                return self._connection
            except sqlite3.OperationalError as error:
                log.warning("tuning database %s is not used: %s", self.path, error)
                self.path = None
        self._connection = _connected(":memory:")
        return self._connection

    def _move_aside(self, error: Exception) -> None:
        assert self.path is not None
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.time_ns()}")
        log.warning("tuning database %s is damaged (%s): moved to %s", self.path, error, aside.name)
        try:
            os.replace(self.path, aside)
            for suffix in ("-wal", "-shm"):
                self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        except OSError as e:
            log.warning("tuning database %s cannot be moved: %s", self.path, e)
            self.path = None

    def close(self) -> None:
        """Closes the file; it is opened again when needed."""
        with whole, self._lock:
            if self._connection is not None:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.close()
            self._connection = None


_MORE = ("sizes", "key")


def _in_order(error: Exception) -> bool:
    """Whether the file is: it was locked by others for long, or the disk is full, read-only or fails. Any
    other trouble, such as a missing column, is damage."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.OperationalError) and (code is None or (code & 0xFF) in _CIRCUMSTANCES)


_CIRCUMSTANCES = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
}


def _fields(key: Key) -> tuple[str, str, str]:
    return key.kernel, key.sizes, key.target


def _rows(c: sqlite3.Connection, table: str) -> list[dict[str, Any]]:
    found = c.execute(f"SELECT * FROM {table} ORDER BY at, rowid")
    names = [d[0] for d in found.description]
    return [dict(zip(names, row)) for row in found]


def _connected(path: Path | str) -> sqlite3.Connection:
    if isinstance(path, Path):
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        except OSError as error:
            raise sqlite3.OperationalError(str(error)) from None
    connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
    # Damaged text is no error of the whole file: its row makes no sense.
    connection.text_factory = lambda data: data.decode(errors="replace")
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.executescript(SCHEMA)
        for table, columns in _COLUMNS.items():
            found = tuple([row[1] for row in connection.execute(f"PRAGMA table_info({table})")])
            if found != columns:
                raise sqlite3.DatabaseError(f"the table {table} has other columns: {', '.join(found)}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def default_path(folder: Path | None) -> Path | None:
    """The file to use: `KDSL_TUNING_DB`, else in the cache `folder`; None for memory alone."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    return None if folder is None or chosen == "" else folder / "tuning.sqlite"


@cache
def database(path: Path | None) -> Database:
    """The database in a file, one object for the process."""
    return Database(path)
