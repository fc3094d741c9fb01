"""The tuning database: what it keeps, as text, damaged, shared, out of reach."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import kdsl
from kdsl.tune.database import Best, Database, Key, default_path
from kdsl.tune.trial import Trial
from tests.runtime.process import environment

KEY = Key("k" * 32, "N=2^10/64", "cpu/2")
SIZES = {"N": 1024}
BEST = Best("scale", SIZES, 0.001, 12.5, '{"kernel": "scale", "steps": []}')


def trial(n: int) -> Trial:
    return Trial("rows", {"lanes": n}, "ok", n / 1000, 0.1, float(n), "", "[]", "cpu/2")


def filled(path: Path | None) -> Database:
    database = Database(path)
    for n in (8, 16):
        database.store(KEY, "scale", SIZES, trial(n))
    database.store(KEY, "scale", SIZES, Trial("rows", {"lanes": 3}, "crashed", message="SIGSEGV"))
    database.set_best(KEY, BEST)
    return database


def test_keeps_and_gives_back(own_database: Path) -> None:
    filled(own_database).close()
    again = Database(own_database)
    assert [t.time for t in again.trials(KEY, SIZES)] == [0.008, 0.016, None]
    assert again.trials(KEY, SIZES)[0] == trial(8)
    assert again.trials(KEY, {"N": 1000}) == []
    assert again.best(KEY) == BEST
    assert again.best(Key(KEY.kernel, "N=2^3", KEY.target)) is None
    assert again.classes(KEY.kernel) == [(KEY.sizes, KEY.target)]
    assert os.stat(own_database).st_mode & 0o077 == 0


def test_a_newer_trial_replaces_the_old_one(own_database: Path) -> None:
    database = filled(own_database)
    database.store(KEY, "scale", SIZES, Trial("rows", {"lanes": 8}, "ok", 0.5))
    assert sorted(t.time or 0 for t in database.trials(KEY, SIZES)) == [0, 0.016, 0.5]


def test_as_text_and_back(own_database: Path, tmp_path: Path) -> None:
    lines = list(filled(own_database).lines())
    assert len(lines) == 1 + 1 + 3 and all(json.loads(line) for line in lines)
    other = Database(tmp_path / "other.sqlite")
    assert other.read(lines) == 4
    assert list(other.lines()) == lines
    # Rows that are as new are kept as they are.
    assert other.read(lines) == 0


@pytest.mark.parametrize("text", ["no JSON", '{"format": "other"}', '{"table": "best"}', "[1]"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(kdsl.KdslError, match="line 1 is no line of an exported tuning database") as caught:
        Database(None).read([text])
    assert caught.value.code == "K0806"


def test_a_damaged_file_is_moved_aside(own_database: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(own_database).close()
    own_database.write_bytes(b"this is no database at all" * 100)
    with caplog.at_level(logging.WARNING, "kdsl"):
        database = Database(own_database)
        assert database.best(KEY) is None
    assert "is damaged" in caplog.text and str(own_database) in caplog.text
    database.set_best(KEY, BEST)
    assert Database(own_database).best(KEY) == BEST
    assert len(list(own_database.parent.glob("*.damaged-*"))) == 1


def test_damage_in_the_middle(own_database: Path, caplog: pytest.LogCaptureFixture) -> None:
    database = filled(own_database)
    for n in range(400):
        database.store(KEY, "scale", SIZES, Trial("rows", {"lanes": n}, "ok", 1.0, steps="x" * 200))
    database.close()
    data = bytearray(own_database.read_bytes())
    data[4096:-4096] = b"\xff" * (len(data) - 8192)
    own_database.write_bytes(data)
    with caplog.at_level(logging.WARNING, "kdsl"):
        damaged = Database(own_database)
        damaged.trials(KEY, SIZES)
        damaged.set_best(KEY, BEST)
    assert Database(own_database).best(KEY) == BEST


def test_rows_that_make_no_sense_are_not_there(own_database: Path) -> None:
    database = filled(own_database)
    database.close()
    with sqlite3.connect(own_database) as connection:
        connection.execute("UPDATE trials SET trial = 'nonsense' WHERE key LIKE '%8%'")
        connection.execute("UPDATE best SET sizes = 'nonsense'")
    connection.close()
    assert len(database.trials(KEY, SIZES)) == 2
    assert database.best(KEY) is None


def test_a_place_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "kdsl"):
        database = filled(tmp_path / "file" / "tuning.sqlite")
    assert "is not used" in caplog.text
    assert database.best(KEY) == BEST


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDSL_TUNING_DB", str(tmp_path / "mine"))
    assert default_path(tmp_path) == tmp_path / "mine"
    monkeypatch.setenv("KDSL_TUNING_DB", "")
    assert default_path(tmp_path) is None
    monkeypatch.delenv("KDSL_TUNING_DB")
    assert default_path(tmp_path) == tmp_path / "tuning.sqlite"
    assert default_path(None) is None


WRITER = """
import sys
from tests.tune.test_database import KEY, SIZES, Database, Path, Trial
database = Database(Path(sys.argv[1]))
for n in range(100):
    database.store(KEY, "scale", SIZES, Trial(sys.argv[2], {"lanes": n}, "ok", 1.0))
"""


def test_processes_write_at_the_same_time(own_database: Path) -> None:
    run = [sys.executable, "-c", WRITER, str(own_database)]
    writers = [subprocess.Popen([*run, name], env=environment()) for name in ("a", "b")]
    assert [w.wait() for w in writers] == [0, 0]
    assert len(Database(own_database).trials(KEY, SIZES)) == 200
