"""Proofs are kept on disk: known schedules load no isl, damage costs a proof, processes share the file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kdsl.runtime import proofs
from kdsl.runtime.proofs import ProofLog

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """\
import sys
import kdsl
from kdsl import f32

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


@kdsl.kernel
def triangle(A: f32[N, N]):
    for i in range(N):
        for j in range(i, N):
            A[i, j] *= 2.0


s = matmul.schedule().tile(["i", "j"], [64, 64]).reorder("i_o", "j_o", "k", "i_i", "j_i")
print(s.vectorize("j_i", 16).unroll("i_i", 4).parallel("i_o").stage("B", at="j_o"))
print(triangle.schedule().reorder("j", "i").parallel("j"))
for step in (lambda: matmul.schedule().parallel("k"), lambda: triangle.schedule().fuse("i", "j")):
    try:
        step()
    except kdsl.ScheduleError as refusal:
        print(refusal)
print("islpy" in sys.modules)
"""


def run(folder: Path, program: str = PROGRAM) -> str:
    """The output of the program, which lies in `folder`, as does its cache."""
    file = folder / "program.py"
    file.write_text(program)
    env = {**os.environ, "KDSL_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(file)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def log_of(folder: Path) -> Path:
    (found,) = (folder / "cache").glob("proofs-*.log")
    return found


def test_a_known_schedule_loads_no_isl(tmp_path: Path) -> None:
    first = run(tmp_path)
    again = run(tmp_path)
    assert first.endswith("True\n") and again.endswith("False\n")
    assert again.removesuffix("False\n") == first.removesuffix("True\n")


def test_refusals_speak_of_the_lines_of_the_present_source(tmp_path: Path) -> None:
    first = run(tmp_path)
    moved = run(tmp_path, "\n\n" + PROGRAM)
    assert "program.py:13:13" in first and "program.py:15:13" in moved
    assert run(tmp_path, "\n\n" + PROGRAM).replace("False", "True") == moved


def test_damage_costs_a_proof(tmp_path: Path) -> None:
    first = run(tmp_path)
    log = log_of(tmp_path)
    lines = log.read_bytes().split(b"\n")
    broken = [line.replace(b" true", b" tru") if n % 3 else line[:-9] for n, line in enumerate(lines)]
    log.write_bytes(b"\n".join(broken) + b"\0\xff")
    assert run(tmp_path).replace("False", "True") == first
    assert run(tmp_path).endswith("False\n")


def test_answers_come_back(tmp_path: Path) -> None:
    path = tmp_path / "proofs.log"
    one = ProofLog(path)
    assert one.get("a" * 40) is None
    one.put("a" * 40, "[1]")
    one.put("a" * 40, "[2]")
    assert one.get("a" * 40) == "[2]" == ProofLog(path).get("a" * 40)
    path.write_bytes(path.read_bytes().replace(b"[2]", b"[3]"))
    assert ProofLog(path).get("a" * 40) is None


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "LIMIT_BYTES", 4000)
    path = tmp_path / "proofs.log"
    log = ProofLog(path)
    for n in range(300):
        log.put(f"{n:040}", f"[{n}]")
        assert path.stat().st_size <= 4000 + 100
    again = ProofLog(path)
    assert again.get(f"{299:040}") == "[299]" and again.get(f"{0:040}") is None
    assert os.listdir(tmp_path) == ["proofs.log"]


def test_threads_share_a_log(tmp_path: Path) -> None:
    path = tmp_path / "proofs.log"
    log, other = ProofLog(path), ProofLog(path)

    def work(mine: ProofLog, start: int) -> None:
        for n in range(start, start + 200):
            mine.put(f"{n:040}", f"[{n}]")

    threads = [
        threading.Thread(target=work, args=(x, n * 200)) for n, x in enumerate((log, other, log, other))
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    again = ProofLog(path)
    assert all(again.get(f"{n:040}") == f"[{n}]" for n in range(800))


def test_a_disk_that_refuses_costs_the_proof_only(tmp_path: Path) -> None:
    log = ProofLog(tmp_path / "missing" / "proofs.log")
    log.put("a" * 40, "[1]")
    assert log.get("a" * 40) == "[1]"
