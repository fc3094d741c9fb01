"""Processes killed (SIGKILL) at random moments while they write entries, proofs and tuning results.

What a process had said to be stored is there afterwards, whole; what it was writing is there whole or not at
all; later processes go on with the same files.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kdsl.runtime.cache import DiskCache
from kdsl.runtime.proofs import ProofLog
from kdsl.tune.database import Best, Database, Key
from kdsl.tune.trial import Trial
from tests.stress.driver import Run, main

ROOT = Path(__file__).resolve().parents[2]
KEY = Key("kernel", "N=2^4", "cpu/1")
SIZES = {"N": 16}


def write(folder: Path, start: int) -> None:
    """Stores numbers from `start` on in all three, and says each when it is stored."""
    cache, log, data = (
        DiskCache(folder),
        ProofLog(folder / "proofs-x.log"),
        Database(folder / "tuning.sqlite"),
    )
    for n in range(start, start + 1_000_000):
        cache.store(f"k{n % 50}", {"kernel": "f", "n": n}, bytes([n % 251]) * 20_000)
        log.put(f"{n:040x}", f"[{n}]" + " " * 200)
        data.store(KEY, "f", SIZES, Trial("s", {"n": n}, "ok", time=n / 1e6, steps="x" * 300))
        data.set_best(KEY, Best("f", SIZES, n / 1e6, 1.0, str(n)))
        os.write(1, f"{n}\n".encode())


def check(run: Run, folder: Path, last: int) -> None:
    """What must be there when everything up to `last` was said to be stored."""
    cache, log, data = (
        DiskCache(folder),
        ProofLog(folder / "proofs-x.log"),
        Database(folder / "tuning.sqlite"),
    )
    for n in range(max(0, last - 49), last + 1):
        entry = cache.load(f"k{n % 50}")
        # The process may have gone one further before it died.
        if entry is None or entry.header["n"] not in (n, n + 50):
            run.find(f"entry {n} of {last} is {entry and entry.header}")
        elif entry.code != bytes([entry.header["n"] % 251]) * 20_000:
            run.find(f"entry {n} has other code")
    for n in range(last + 1):
        if log.get(f"{n:040x}") != f"[{n}]" + " " * 200:
            run.find(f"proof {n} of {last} is lost")
            break
    found = {int(t.values["n"]) for t in data.trials(KEY, SIZES)}
    if not found >= set(range(last + 1)):
        run.find(f"trials of {last} are lost: {sorted(set(range(last + 1)) - found)[:5]}")
    best = data.best(KEY)
    if last >= 0 and (best is None or int(best.steps) < last):
        run.find(f"the best of {last} is {best and best.steps}")
    data.close()
    if list(folder.glob("*.damaged-*")):
        run.find("a kill has damaged the database")
    run.counts["checked numbers"] += last + 1


def stress(run: Run) -> None:
    """Until the budget is spent: write, kill, check."""
    with tempfile.TemporaryDirectory() as name:
        folder, last = Path(name), -1
        for _ in run.rounds():
            code = f"from tests.stress.kills import write, Path; write(Path({name!r}), {last + 1})"
            env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
            writer = subprocess.Popen(
                [sys.executable, "-c", code], stdout=subprocess.PIPE, env=env, text=True
            )
            assert writer.stdout is not None
            said = [writer.stdout.readline()]
            time.sleep(run.random.uniform(0, 0.4))
            writer.send_signal(signal.SIGKILL)
            said += writer.stdout.read().splitlines()
            writer.wait()
            numbers = [int(s) for s in said if s.strip().isdigit()]
            if not numbers:
                run.find("the writer said nothing")
                return
            last = numbers[-1]
            run.counts["kills"] += 1
            check(run, folder, last)
            if last > 20_000:
                return


if __name__ == "__main__":
    main(stress)
