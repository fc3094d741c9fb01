"""Workers while one of them times: the others are stopped; and candidates whose worker somebody kills."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from kdsl.tune.measuring.measure import twice
from kdsl.tune.measuring.worker import quiet
from kdsl.tune.measuring.workers import Failed


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_processes_are_stopped_and_go_on() -> None:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for error in (None, ZeroDivisionError):
            with pytest.raises(error) if error else quiet(()), quiet([process.pid]):
                time.sleep(0.05)
                assert state(process.pid) == "T"
                if error:
                    raise error
            time.sleep(0.05)
            assert state(process.pid) in "RS"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(("outside", "tries"), [(True, 2), (False, 1)])
def test_whoever_kills_a_worker_decides_nothing(outside: bool, tries: int) -> None:
    seen = []

    def work() -> None:
        seen.append(1)
        raise Failed("crashed", "the process died", outside)

    with pytest.raises(Failed):
        twice(work)
    assert len(seen) == tries
