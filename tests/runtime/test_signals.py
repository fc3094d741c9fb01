"""Ctrl-C and other signals reach Python while a kernel runs; nobody's handlers are touched."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.runtime.process import environment, run_python

KERNEL = """
import os, signal, sys, threading, time
import numpy as np
import kdsl
from kdsl import i64

@kdsl.kernel
def spin(n: i64) -> i64:
    s = 0
    for i in range(n):
        for j in range(1000):
            s = s * 3 + (i ^ j)
    return s

@kdsl.kernel
def spin_into(n: i64, out: i64[1]):
    for i in range(n):
        for j in range(1000):
            out[0] = out[0] * 3 + (i ^ j)

@kdsl.kernel
def chatter(n: i64):
    for i in range(n):
        print("line", i)

FOREVER = 10**12
out = np.zeros(1, np.int64)
spin(1); spin_into(1, out)
"""


def write(folder: Path, program: str) -> str:
    """The path of a file with the kernels and `program`."""
    path = folder / "program.py"
    path.write_text(KERNEL + program)
    return str(path)


def run(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Runs the kernels and `program` in a process of its own."""
    return run_python(write(folder, program))


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")


@pytest.mark.parametrize("call", ["spin(FOREVER)", "spin_into(FOREVER, out)"], ids=["slow", "entry"])
def test_ctrl_c_stops_a_long_kernel(tmp_path: Path, call: str) -> None:
    program = textwrap.dedent(f"""
        print("ready", flush=True)
        try:
            {call}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        spin_into(3, out)
        print("works", flush=True)
    """)
    process = subprocess.Popen(
        [sys.executable, write(tmp_path, program)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    start = time.perf_counter()
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert rest == "interrupted\nworks\n", errors
    assert errors == ""
    assert time.perf_counter() - start < 20


def test_handlers_run_and_the_kernel_goes_on(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
count = 0
def on_alarm(*_):
    global count
    count += 1
    if count == 3:
        raise TimeoutError("enough")
signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
for call in (lambda: spin(FOREVER), lambda: spin_into(FOREVER, out)):
    count = 0
    try:
        call()
    except TimeoutError as e:
        print(count, e)
signal.setitimer(signal.ITIMER_REAL, 0)
assert signal.getsignal(signal.SIGALRM) is on_alarm
""",
    )
    assert done.stdout == "3 enough\n3 enough\n" and done.stderr == ""


def test_a_signal_while_printing(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
def on_alarm(*_):
    raise TimeoutError
chatter(1)
signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    chatter(FOREVER)
except TimeoutError:
    print("stopped")
""",
    )
    assert done.stdout.startswith("line 0\nline 0\nline 1\n") and done.stdout.endswith("stopped\n")
    assert done.stderr == ""


def test_kernels_in_other_threads_run_on(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
result = []
thread = threading.Thread(target=lambda: result.append(spin(400_000)))
thread.start()
def on_alarm(*_):
    print("alarm", bool(result))
signal.signal(signal.SIGALRM, on_alarm)
signal.setitimer(signal.ITIMER_REAL, 0.05)
thread.join()
print(result == [spin(400_000)])
""",
    )
    assert done.stdout == "alarm False\nTrue\n" and done.stderr == ""


def test_after_fork(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
pid = os.fork()
if pid == 0:
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    def on_alarm(*_):
        raise TimeoutError
    signal.signal(signal.SIGALRM, on_alarm)
    try:
        spin(FOREVER)
    except TimeoutError:
        os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
    )
    assert done.stdout == "7\n"


@pytest.mark.skipif(sys.platform != "linux", reason="counts context switches in /proc")
def test_an_idle_process_has_no_ticking_thread(tmp_path: Path) -> None:
    done = run(
        tmp_path,
        """
time.sleep(0.2)
from pathlib import Path
def voluntary():
    total = 0
    for task in Path("/proc/self/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total
first = voluntary()
time.sleep(0.5)
print(voluntary() - first <= 3)
""",
    )
    assert done.stdout == "True\n"
