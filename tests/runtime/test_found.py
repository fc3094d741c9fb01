"""What the stress scripts have found: a test for each, so that it stays found."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32, forks, i64
from kdsl.runtime import proofs
from kdsl.runtime.proofs import ProofLog
from kdsl.tune.database import Best, Database, Key
from kdsl.tune.trial import Trial
from tests.runtime.process import run_python

N = kdsl.sizes("N")
HUGE = 10**5000
"""Python refuses to print it."""
KEY, SIZES = Key("kernel", "N=2^4", "cpu/1"), {"N": 16}


@kdsl.kernel
def scale(A: f32[N], by: i64):
    for i in range(N):
        A[i] *= by


# ------------------------------------------------------------------ huge integers


def power(A: f32[N]):
    for i in range(N):
        A[i] = 2**100000


def shifted(A: f32[N]):
    for i in range(N):
        A[i] = 1 << 200000


def product(A: f32[N]):
    for i in range(N):
        A[i] = 2**1000 * 2**1000


def captured(A: f32[N]):
    for i in range(N):
        A[i] = HUGE


def literal(A: f32[N]):
    for i in range(N):
        A[i] = (
            0x100000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000
        )


@pytest.mark.parametrize("fn", [power, shifted, product, captured, literal], ids=lambda f: f.__name__)
def test_a_huge_constant_is_a_compile_error(fn: Any) -> None:
    with pytest.raises(kdsl.CompileError, match="bits"):
        kdsl.kernel(fn).ir()


def test_a_large_constant_is_a_float() -> None:
    @kdsl.kernel
    def large(A: kdsl.f64[N]):
        for i in range(N):
            A[i] = 2**1000

    A = np.zeros(2)
    large(A)
    assert (A == 2.0**1000).all()


def test_a_huge_argument_is_an_argument_error() -> None:
    A = np.ones(3, np.float32)
    with pytest.raises(kdsl.ArgumentError, match="an integer of 16610 bits, which does not fit i64"):
        scale(A, HUGE)
    with pytest.raises(kdsl.ArgumentError, match="is 9223372036854775808, which"):
        scale(A, 2**63)
    assert (A == 1).all()


def test_a_huge_annotation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2\*\*47"):
        f32[HUGE]

    with pytest.raises(kdsl.CompileError, match="not a kdsl type"):
        kdsl.kernel(_annotated)


def _annotated(A: HUGE):  # type: ignore[valid-type]
    A[0] = 1


@pytest.mark.parametrize("number", [HUGE, 1 << 63, -(1 << 64)], ids=["huge", "above", "below"])
def test_a_huge_factor_is_a_schedule_error(number: int) -> None:
    with pytest.raises(kdsl.ScheduleError, match=r"takes an integer, not an integer of \d+ bits"):
        scale.schedule().split("i", number)


# ------------------------------------------------------------------ files


def _filled(path: Path) -> Database:
    store = Database(path)
    store.set_best(KEY, Best("f", SIZES, 1e-6, 2.0, "[]"))
    for n in range(3):
        store.store(KEY, "f", SIZES, Trial("s", {"n": n}, "ok", time=1e-6))
    store.close()
    return store


@pytest.mark.parametrize(
    "damage",
    [
        "ALTER TABLE best RENAME COLUMN steps TO stepz",
        "ALTER TABLE best DROP COLUMN speedup",
        "ALTER TABLE trials ADD COLUMN more",
    ],
)
def test_a_database_with_another_schema_is_replaced(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tuning.sqlite"
    store = _filled(path)
    with sqlite3.connect(path) as c:
        c.execute(damage)
    c.close()
    with caplog.at_level(logging.WARNING, "kdsl"):
        for _ in range(2):
            store.set_best(KEY, Best("f", SIZES, 1e-6, 3.0, "[]"))
            store.store(KEY, "f", SIZES, Trial("s", {"n": 9}, "ok", time=1e-6))
    assert store.best(KEY) == Best("f", SIZES, 1e-6, 3.0, "[]")
    assert store.trials(KEY, SIZES)
    assert sum("is damaged" in r.getMessage() for r in caplog.records) == 1


def test_undecodable_rows_cost_themselves_alone(tmp_path: Path) -> None:
    path = tmp_path / "tuning.sqlite"
    store = _filled(path)
    with sqlite3.connect(path) as c:
        c.execute("UPDATE trials SET trial = CAST(X'FFFE7B' AS TEXT) WHERE rowid = 1")
        c.execute("UPDATE trials SET name = X'00FF' WHERE rowid = 2")
    c.close()
    assert len(store.trials(KEY, SIZES)) == 2
    assert store.best(KEY) is not None
    assert Database(None).read(store.lines()) == 3


def test_rows_nested_too_deep_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "tuning.sqlite"
    store = _filled(path)
    with sqlite3.connect(path) as c:
        c.execute("UPDATE trials SET trial = ? WHERE rowid = 1", ("[" * 100_000,))
        c.execute("UPDATE best SET sizes = ?", ("[" * 100_000,))
    c.close()
    assert len(store.trials(KEY, SIZES)) == 2 and store.best(KEY) is None
    with pytest.raises(kdsl.KdslError, match="line 1 is no line"):
        store.read(["[" * 100_000])


def test_a_proof_file_without_line_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "LIMIT_BYTES", 5000)
    path = tmp_path / "proofs.log"
    path.write_bytes(b"\0" * 20_000)
    log = ProofLog(path)
    log.put("k" * 40, "[1]")
    log.put("l" * 40, "[2]" + " " * 3000)
    assert log.get("k" * 40) == "[1]" and path.stat().st_size < 20_000


# ------------------------------------------------------------------ forks

FORKS = """
import os, random, threading, time, signal
import numpy as np, kdsl
from tests.stress import threads as work
stop = time.monotonic() + 6
def compile(n):
    draw = random.Random(n)
    while time.monotonic() < stop:
        work._compile(draw)
        work._schedule(draw)
workers = [threading.Thread(target=compile, args=(n,)) for n in range(2)]
for w in workers: w.start()
forks = 0
while time.monotonic() < stop:
    time.sleep(random.uniform(0, 0.1))
    child = os.fork()
    if child == 0:
        signal.alarm(60)  # its default action ends a child that hangs
        work._compile(random.Random(os.getpid()))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    forks += 1
for w in workers: w.join()
assert forks
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_forked_while_others_compile(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    run_python("-c", FORKS, KDSL_CACHE_DIR=str(tmp_path))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_fork_waits_for_work_and_work_for_the_fork() -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with forks.whole, forks.whole:
            inside.set()
            leave.wait(30)

    other = threading.Thread(target=work)
    other.start()
    inside.wait()
    threading.Timer(0.2, leave.set).start()
    child = os.fork()
    if child == 0:
        with forks.whole:
            os._exit(0 if leave.is_set() else 3)
    assert os.waitpid(child, 0)[1] == 0
    with forks.whole:  # a thread does not wait for its own work
        child = os.fork()
        if child == 0:
            with forks.whole:
                os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    other.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_opens_the_tuning_database_anew(tmp_path: Path) -> None:
    store = _filled(tmp_path / "tuning.sqlite")
    assert store.best(KEY) is not None
    child = os.fork()
    if child == 0:
        store.store(KEY, "f", SIZES, Trial("s", {"n": 77}, "ok", time=1e-6))
        store.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    store.store(KEY, "f", SIZES, Trial("s", {"n": 78}, "ok", time=1e-6))
    assert {t.values["n"] for t in store.trials(KEY, SIZES)} == {0, 1, 2, 77, 78}
    assert not list(tmp_path.glob("*.damaged-*"))


# ------------------------------------------------------------------ the folder of KDSL_DEBUG


def test_a_debug_folder_that_cannot_be_written_costs_log_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("KDSL_DEBUG", str(tmp_path / "file"))
    A = np.ones(3, np.float32)
    with caplog.at_level(logging.WARNING, "kdsl"):
        kdsl.kernel(scale.__wrapped__)(A, 2)
    assert (A == 2).all() and "not written" in caplog.text


def test_the_debug_folder_shows_the_kernel_before_its_schedule(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDSL_DEBUG", str(tmp_path))
    A = np.ones(3, np.float32)
    kdsl.kernel(scale.__wrapped__, schedule=lambda s: s.vectorize("i", 8))(A, 2)
    (folder,) = tmp_path.iterdir()
    texts = {p.name: p.read_text() for p in folder.iterdir()}
    assert "vectorize" not in texts["00-unscheduled.ir"] and "vectorize" in texts["01-ir"]
    assert any(n.endswith("-ll") for n in texts) and any(n.endswith("-s") for n in texts)
