"""Damaged files: entries of the cache, proofs, tuning databases cut, with flipped bits, zeroed or mixed up.

Whatever the files say, a kernel computes what it should: damage is a miss, or is moved aside and made anew.
Kernels are made again for each round, so that nothing is in memory.
"""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import kdsl
from kdsl import f32
from kdsl.errors import KdslError
from kdsl.runtime import cache, proofs
from kdsl.tune import database
from kdsl.tune.database import Best, Database, Key
from kdsl.tune.trial import Trial
from tests.stress.driver import Run, main

M, N = kdsl.sizes("M N")


def table(A: f32[M, N], B: f32[N, M]):
    for i in range(M):
        for j in range(N):
            B[j, i] = A[i, j] * 2


def tiled(s: Any) -> Any:
    """A schedule with several proofs."""
    return s.tile(["i", "j"], [4, 8]).reorder("j_o", "i_o", "j_i", "i_i").parallel("j_o").vectorize("i_i")


def damage(data: bytes, draw: random.Random) -> bytes:
    """`data` with one kind of damage."""
    if not data:
        return b"x"
    out = bytearray(data)
    match draw.randrange(7):
        case 0:
            return bytes(out[: draw.randrange(len(out))])
        case 1:
            for _ in range(draw.choice((1, 1, 2, 8, 64))):
                out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
        case 2:
            at = draw.randrange(len(out))
            out[at : at + 512] = bytes(len(out[at : at + 512]))
        case 3:
            at = draw.randrange(len(out))
            out[at:at] = draw.randbytes(draw.choice((1, 100, 5000)))
        case 4:
            return draw.randbytes(draw.choice((0, 1, 40, 5000)))
        case 5:
            at, size = draw.randrange(len(out)), draw.randrange(1, 400)
            del out[at : at + size]
        case 6:
            at, to = draw.randrange(len(out)), draw.randrange(len(out))
            size = min(64, len(out) - max(at, to))
            out[at : at + size] = out[to : to + size]
    return bytes(out)


def _call(run: Run, what: str) -> None:
    """Plain and scheduled calls in what is, for the files, a new process."""
    cache.open_folder.cache_clear()
    proofs._open.cache_clear()
    database.database.cache_clear()
    for recipe in (None, tiled, "auto"):
        kernel: Any = kdsl.kernel(table)
        kernel = kernel if recipe is None else kernel.with_schedule(recipe)
        A = np.arange(5 * 11, dtype=np.float32).reshape(5, 11)
        B = np.zeros((11, 5), np.float32)
        run.counts["calls"] += 1
        with run.guarded(f"a call with {what}", "", type(None)):  # type: ignore[arg-type]
            kernel(A, B)
            if not (B == 2 * A.T).all():
                run.find(f"a wrong result with {what}")


def _cache_round(run: Run, folder: Path) -> None:
    draw = run.random
    files = sorted(p for p in folder.iterdir() if p.suffix in (".kdsl", ".log"))
    if not files:
        return
    kept = {p: p.read_bytes() for p in files}
    for p in draw.sample(files, min(len(files), draw.choice((1, 1, 2, 3, len(files))))):
        if draw.random() < 0.05:
            p.unlink()
            p.mkdir()
        else:
            p.write_bytes(damage(kept[p], draw))
    run.counts["damaged cache files"] += 1
    _call(run, "damaged cache files")
    for p in folder.iterdir():
        if p.is_dir():
            p.rmdir()
    for p, data in kept.items():
        p.write_bytes(data)


def _database_round(run: Run, folder: Path) -> None:
    draw = run.random
    path = folder / "tuning.sqlite"
    kernel: Any = kdsl.kernel(table)
    from kdsl.runtime.auto import fingerprint
    from kdsl.tune.classes import sizes_class
    from kdsl.tune.measuring.problem import kernel_key

    s = tiled(kernel.schedule())
    key = Key(kernel_key(s.base), sizes_class({"M": 5, "N": 11}), fingerprint(kernel._resolved()))
    store = Database(path)
    store.set_best(key, Best("tiled", {"M": 5, "N": 11}, 1e-6, 2.0, s.to_json()))
    for n in range(20):
        store.store(key, "table", {"M": 5, "N": 11}, Trial("s", {"n": n}, "ok", time=1e-6, steps=s.to_json()))
    store._do(lambda c: c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    store.close()
    if draw.random() < 0.25:
        _garble_rows(path, draw)
    else:
        path.write_bytes(damage(path.read_bytes(), draw))
    run.counts["damaged databases"] += 1
    again = Database(path)
    with run.guarded("a damaged database", "", KdslError):
        again.best(key)
        again.trials(key, {"M": 5, "N": 11})
        again.classes(key.kernel)
        lines = list(again.lines())
        if draw.random() < 0.5 and len(lines) > 1:
            at = draw.randrange(len(lines))
            lines[at] = damage(lines[at].encode(), draw).decode(errors="replace")
        Database(None).read(lines)
    again.close()
    _call(run, "a damaged database")
    with run.guarded("a repaired database", "", KdslError):
        again = Database(path)
        again.set_best(key, Best("tiled", {"M": 5, "N": 11}, 1e-6, 2.0, s.to_json()))
        if again.best(key) is None:
            run.find("nothing can be stored after damage")
        again.close()
    for p in folder.glob("tuning.sqlite*"):
        p.unlink()


ROWS = (
    "", "null", "[]", "{}", '{"steps": 3}', "x" * 10000, b"\xff\xfe", None, 3, float("inf"), "[" * 100000,
    "1e999", '{"kernel":"table","steps":[{"do":"vectorize","loop":"i"},{"do":"parallel","loop":"q"}]}',
)  # fmt: skip


def _garble_rows(path: Path, draw: random.Random) -> None:
    c = sqlite3.connect(path)
    for table_, columns in (
        ("best", ("name", "sizes", "at", "time", "speedup", "steps", "class", "target")),
        ("trials", ("sizes", "key", "at", "trial")),
    ):
        for name in columns:
            if draw.random() < 0.4:
                c.execute(f"UPDATE OR IGNORE {table_} SET {name} = ?", (draw.choice(ROWS),))
    if draw.random() < 0.2:
        c.execute(f"ALTER TABLE {draw.choice(('best', 'trials'))} RENAME TO other")
    c.commit()
    c.close()


def stress(run: Run) -> None:
    """Until the budget is spent, in a folder of its own."""
    logging.getLogger("kdsl").addFilter(_quiet)
    try:
        with tempfile.TemporaryDirectory() as name, mock.patch.dict(os.environ, KDSL_CACHE_DIR=name):
            folder = Path(name)
            folder.chmod(0o700)
            _call(run, "an empty cache")
            for number in run.rounds():
                (_cache_round if number % 2 == 0 else _database_round)(run, folder)
    finally:
        logging.getLogger("kdsl").removeFilter(_quiet)
        cache.open_folder.cache_clear()
        proofs._open.cache_clear()


def _quiet(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING


if __name__ == "__main__":
    main(stress)
