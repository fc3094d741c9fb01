"""Parallel loops: what they compute, whatever the number of threads; faults, signals, fork and the end."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl.backends.llvm import compile_pool, host_target, llvm_text, parallel, pool, pool_threads
from kdsl.backends.llvm.load import EngineCode, Executable
from kdsl.ir import interpreter
from kdsl.ir.parser import parse_func
from kdsl.runtime.pool import pool_address
from kdsl.runtime.threads import get_num_threads, set_num_threads
from tests.backends.harness import Outcome, Table, build, fill, run, same_bits

pytestmark = pytest.mark.skipif(
    not pool_threads.supported(host_target()), reason="no pool here: loops run serially"
)

THREADS = (1, 2, 3, 7)


@pytest.fixture(autouse=True)
def _always_shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Small loops too go to the pool."""
    monkeypatch.setattr(parallel, "PARALLEL_ABOVE", -1.0)
    before = get_num_threads()
    yield
    set_num_threads(before)


class Kernel:
    """A kernel given as IR text, compiled and with the pool in its table."""

    def __init__(self, text: str) -> None:
        self.func = parse_func(textwrap.dedent(text))
        self.executable = build(self.func)
        assert self.executable.parallel
        self.table = Table(self.executable, pool=pool_address())

    def __call__(self, arguments: dict[str, Any], sizes: dict[str, int]) -> Outcome:
        frame = fill(self.func, self.table, arguments, sizes)
        code = self.executable.run(ctypes.addressof(frame))
        return Outcome(code, frame[0], frame[1], self.executable.artifact.sites, self.table)

    def agrees(self, arguments: dict[str, Any], sizes: dict[str, int]) -> None:
        """With any number of threads it writes what the interpreter writes."""
        wanted = {n: np.array(v) for n, v in arguments.items() if isinstance(v, np.ndarray)}
        scalars = {n: v for n, v in arguments.items() if not isinstance(v, np.ndarray)}
        interpreter.run(self.func, wanted, scalars, sizes, races=False)
        for threads in THREADS:
            set_num_threads(threads)
            mine = {n: np.array(v) if isinstance(v, np.ndarray) else v for n, v in arguments.items()}
            assert self(mine, sizes).code == 0
            for name, array in wanted.items():
                assert same_bits(mine[name], array), (name, threads, sizes)


ROWS = """
def rows(A: i64[N, M], out: i64[N]):
    for i in parallel(range(N)):
        s: i64
        s = 0
        for j in range(M):
            s += A[i, j] * (i + 1)
        out[i] = s
"""


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(3).integers(-100, 100, shape)


@pytest.mark.parametrize("n", (0, 1, 2, 3, 13, 31, 32, 33, 500))
def test_sums_of_rows(n: int) -> None:
    Kernel(ROWS).agrees({"A": numbers(n, 5), "out": np.zeros(n, "i8")}, {"N": n, "M": 5})


def test_a_long_loop() -> None:
    kernel = Kernel("def long(A: i64[N]):\n    for i in parallel(range(N)):\n        A[i] += i\n")
    n = 3_000_017
    for threads in THREADS:
        set_num_threads(threads)
        a = np.ones(n, "i8")
        assert kernel({"A": a}, {"N": n}).code == 0
        assert np.array_equal(a, np.arange(n) + 1)


@pytest.mark.parametrize("bounds", ("3, N, 2", "N - 1, -1, -1", "N - 1, 2, -3", "lo, hi, step", "lo, hi"))
def test_bounds_and_steps(bounds: str) -> None:
    kernel = Kernel(f"""
        def steps(A: i64[N], lo: i64, hi: i64, step: i64):
            for i in parallel(range({bounds})):
                A[check(i)] += i * i
    """)
    for lo, hi, step in ((0, 40, 7), (39, -1, -1), (39, 3, -6), (5, 5, 1), (7, 3, 1), (2, 40, 100)):
        scalars = {"lo": lo, "hi": hi, "step": step}
        if bounds == "lo, hi" and lo > hi:
            scalars["lo"] = 0
        kernel.agrees({"A": numbers(40), **scalars}, {"N": 40})


def test_a_step_of_0_is_a_fault() -> None:
    kernel = Kernel(
        "def zero(A: i64[N], s: i64):\n    for i in parallel(range(0, N, s)):\n        A[check(i)] = i\n"
    )
    assert kernel({"A": np.zeros(4, "i8"), "s": 0}, {"N": 4}).site.kind == "zero_step"


def test_captured_values() -> None:
    """Loop variables, scalars of each kind, locals made outside: read, written, and not yet written."""
    Kernel("""
        def captured(A: f64[N, M], B: f64[N, M], flag: bool_, half: f16, small: i8):
            T: f64[M]
            U: f64[N, M]
            for j in range(M):
                T[j] = f64(j)
            for k in range(3):
                scale: f64
                scale = f64(k) + 1.0
                on: bool_
                on = flag
                h: f16
                h = half
                for i in parallel(range(k, N)):
                    for j in range(M):
                        U[i, j] = T[j] * scale + f64(h)
                        if on:
                            B[i, j] += U[i, j] * A[i, j] + f64(k) + f64(small)
                for i2 in range(k, N):
                    B[i2, 0] += U[i2, 0]
    """).agrees(
        {
            "A": numbers(11, 4) / 8,
            "B": np.zeros((11, 4)),
            "flag": True,
            "half": np.float16(0.5),
            "small": -3,
        },
        {"N": 11, "M": 4},
    )


def test_strided_arrays() -> None:
    func = parse_func(
        'def strided(A: f64[N, M] @ "strided", B: f64[N]):\n'
        "    for i in parallel(range(N)):\n        for j in range(M):\n            B[i] += A[i, j]\n"
    )
    executable = build(func)
    base, b = numbers(40, 12) / 4, np.zeros(20)
    a = base[::2, ::3]
    table = Table(executable, pool=pool_address())
    frame = fill(func, table, {"A": a, "B": b}, {"N": 20, "M": 4})
    assert executable.run(ctypes.addressof(frame)) == 0
    assert np.array_equal(b, a.sum(1))


LOCALS = """
def locals_(A: i64[N, M], out: i64[N]):
    shared: i64[M]
    for j in range(M):
        shared[j] = j
    for i in parallel(range(N)):
        fixed: i64[8]
        own: i64[M]
        big: i64[9000]
        for j in range(M):
            own[j] = A[i, j] + shared[j]
        for j in range(8):
            fixed[j] = i * j
        big[8999] = i
        s: i64
        s = big[8999] + fixed[7]
        for j in range(M):
            s += own[M - 1 - j] * (j + 1)
        out[i] = s
    for i in parallel(range(N)):
        again: i64[M, 2]
        for j in range(M):
            again[j, 1] = out[i]
        for j in range(M):
            out[i] += again[j, 1]
"""


@pytest.mark.parametrize("m", (0, 1, 300))
def test_local_arrays(m: int) -> None:
    Kernel(LOCALS).agrees({"A": numbers(70, m), "out": np.zeros(70, "i8")}, {"N": 70, "M": m})


def test_without_memory_for_locals() -> None:
    kernel = Kernel("""
        def huge(out: f64[N], m: i64):
            for i in parallel(range(N)):
                T: f64[N * 1099511627776]
                T[0] = 1.0
                out[i] = T[0]
    """)
    for n in (1 << 22, 1 << 30):  # one cannot be allocated, the other overflows
        outcome = kernel({"out": np.zeros(8), "m": 0}, {"N": n})
        assert outcome.site.kind == "memory" and outcome.site.text == "T"


def test_more_threads_than_parts_of_scratch() -> None:
    """The number of threads may grow while a loop runs with memory for fewer."""
    kernel = Kernel(LOCALS)
    n, m = 400, 200
    a, stop = numbers(n, m), threading.Event()

    def change() -> None:
        while not stop.is_set():
            for threads in THREADS:
                set_num_threads(threads)

    changer = threading.Thread(target=change)
    changer.start()
    wanted: np.ndarray[Any, Any] | None = None
    for _ in range(60):
        out = np.zeros(n, "i8")
        assert kernel({"A": a, "out": out}, {"N": n, "M": m}).code == 0
        wanted = out if wanted is None else wanted
        assert np.array_equal(out, wanted)
    stop.set()
    changer.join()


def test_nested_parallel_loops() -> None:
    Kernel("""
        def nested(A: i64[N, M]):
            for i in parallel(range(N)):
                row: i64[M]
                for j in parallel(range(M)):
                    row[j] = A[i, j]
                for j in parallel(range(M)):
                    A[i, j] += row[M - 1 - j]
    """).agrees({"A": numbers(17, 33)}, {"N": 17, "M": 33})


def test_a_parallel_loop_in_a_loop_and_in_branches() -> None:
    Kernel("""
        def inner(A: i64[N, M], c: i64):
            for i in range(N):
                if c + i > 4:
                    for j in parallel(range(i, M)):
                        A[i, j] += i
                else:
                    for k in parallel(range(M)):
                        if A[i, k] > 0:
                            continue
                        A[i, k] += 0 - c
    """).agrees({"A": numbers(12, 50), "c": 2}, {"N": 12, "M": 50})


def test_atomics_on_arrays_and_on_a_local_of_the_kernel() -> None:
    kernel = Kernel("""
        def count(A: i64[N], H: i64[8], out: i64[1]):
            total: i64
            total = 0
            for i in parallel(range(N)):
                atomic_add(H, check(A[i]), 1)
                atomic_add(total, (), A[i])
            out[0] = total
    """)
    a = np.abs(numbers(5000)) % 8
    kernel.agrees({"A": a, "H": np.zeros(8, "i8"), "out": np.zeros(1, "i8")}, {"N": 5000})


def test_loops_that_print_run_in_order() -> None:
    func = parse_func('def p(A: i64[N]):\n    for i in parallel(range(N)):\n        print("at", A[i])\n')
    executable = build(func)
    assert not executable.parallel
    outcome = run(func, {"A": np.arange(5)}, {"N": 5}, executable=executable)
    values = [int.from_bytes(raw, "little") for _, raw in outcome.table.printed]
    assert values == [0, 1, 2, 3, 4]


# -- faults

GATHER = """
def gather(X: f64[M], I: i64[N], out: f64[N]):
    for i in parallel(range(N)):
        for j in range(1):
            out[i] = X[check(I[i])]
"""


@pytest.mark.parametrize("threads", THREADS)
def test_a_fault_of_one_iteration(threads: int) -> None:
    set_num_threads(threads)
    kernel, x = Kernel(GATHER), np.arange(10.0)
    for bad in (0, 57, 999):
        index = np.zeros(1000, "i8")
        index[bad] = -77
        outcome = kernel({"X": x, "I": index, "out": np.zeros(1000)}, {"N": 1000, "M": 10})
        assert outcome.site.kind == "index" and outcome.site.text == "X"
        assert (outcome.index, outcome.extent) == (-77, 10)
        out = np.zeros(1000)
        assert kernel({"X": x, "I": np.full(1000, 9), "out": out}, {"N": 1000, "M": 10}).code == 0
        assert (out == 9).all()


def test_one_fault_of_many_is_reported_whole() -> None:
    set_num_threads(4)
    kernel = Kernel(GATHER)
    for _ in range(200):
        index = np.arange(64) + 1000
        outcome = kernel({"X": np.zeros(10), "I": index, "out": np.zeros(64)}, {"N": 64, "M": 10})
        assert outcome.site.kind == "index" and outcome.extent == 10 and 1000 <= outcome.index < 1064


@pytest.mark.parametrize("failing", (0, 1))
def test_a_fault_stops_the_others(failing: int) -> None:
    """The other iteration, in the caller or in a worker, is endless: it ends because one fails."""
    set_num_threads(2)
    kernel = Kernel("""
        def endless(A: i64[N], failing: i64):
            for i in parallel(range(N)):
                while A[i] >= 0:
                    A[i] = (A[i] + 1) % 1000
                    assert i != failing, "stop it"
    """)
    for _ in range(20):
        outcome = kernel({"A": np.zeros(2, "i8"), "failing": failing}, {"N": 2})
        assert outcome.site.text == "stop it"
        kernel.table.word.value = 0


def test_other_kinds_of_fault() -> None:
    set_num_threads(3)
    kernel = Kernel("""
        def faults(A: i64[N], out: i64[N]):
            for i in parallel(range(N)):
                assert A[i] != 5, "five"
                out[i] = 100 // A[i]
    """)
    for value, kind in ((5, "assertion"), (0, "zero_division")):
        a = np.full(100, 7)
        a[63] = value
        assert kernel({"A": a, "out": np.zeros(100, "i8")}, {"N": 100}).site.kind == kind


# -- stopping

ENDLESS = """
def endless(A: i64[N]):
    for i in parallel(range(N)):
        while A[i] >= 0:
            A[i] = (A[i] + 1) % 1000
"""


@pytest.mark.parametrize("threads", (1, 2, 4))
def test_the_stop_word_ends_a_loop(threads: int) -> None:
    set_num_threads(threads)
    kernel = Kernel(ENDLESS)
    poll = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(lambda table: 1)
    kernel.table.slots[1] = ctypes.cast(poll, ctypes.c_void_p).value or 0
    threading.Timer(0.1, lambda: setattr(kernel.table.word, "value", 1)).start()
    run_released = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(
        kernel.executable.code.address(kernel.executable.artifact.symbol)
    )
    frame = fill(kernel.func, kernel.table, {"A": np.zeros(9, "i8")}, {"N": 9})
    assert run_released(ctypes.addressof(frame)) == -1
    assert busy() == 0


def busy() -> int:
    return ctypes.c_int32.from_address(pool_address() + pool.FIELDS["busy"]).value


# -- who calls, and from where


def test_calls_from_four_threads() -> None:
    set_num_threads(3)
    kernels = [Kernel(ROWS), Kernel(LOCALS)]
    n, m = 120, 60
    a = numbers(n, m)
    wanted = []
    for kernel in kernels:
        out = np.zeros(n, "i8")
        kernel({"A": a, "out": out}, {"N": n, "M": m})
        wanted.append(out)
    wrong: list[int] = []

    def call(number: int) -> None:
        for round_ in range(150):
            which = (number + round_) % 2
            out = np.zeros(n, "i8")
            code = kernels[which]({"A": a, "out": out}, {"N": n, "M": m}).code
            if code or not np.array_equal(out, wanted[which]):
                wrong.append(number)

    callers = [threading.Thread(target=call, args=(k,)) for k in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong and busy() == 0


def test_many_short_loops() -> None:
    kernel = Kernel(
        "def ticks(A: i64[N]):\n    for t in range(2000):\n        for i in parallel(range(N)):\n"
        "            A[i] += t % 3 + i\n"
    )
    for threads in THREADS:
        set_num_threads(threads)
        a = np.zeros(5, "i8")
        assert kernel({"A": a}, {"N": 5}).code == 0
        assert np.array_equal(a, 1999 + 2000 * np.arange(5) + 0 * a)


def in_child(action: Any) -> int:
    """The exit status of a forked child that does `action`; killed after 20 s."""
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return -9


@pytest.mark.filterwarnings("ignore:This process")
def test_fork() -> None:
    set_num_threads(3)
    kernel, a = Kernel(ROWS), numbers(200, 30)

    def work() -> None:
        out = np.zeros(200, "i8")
        assert kernel({"A": a, "out": out}, {"N": 200, "M": 30}).code == 0
        assert np.array_equal(out, a.sum(1) * np.arange(1, 201))

    work()
    assert in_child(work) == 0
    assert in_child(lambda: in_child(work) == 0 or os._exit(3)) == 0
    work()


@pytest.mark.filterwarnings("ignore:This process")
def test_fork_in_the_middle_of_a_loop() -> None:
    set_num_threads(3)
    kernel, a = Kernel(ROWS), numbers(200, 30)
    stop = threading.Event()

    def work() -> None:
        out = np.zeros(200, "i8")
        assert kernel({"A": a, "out": out}, {"N": 200, "M": 30}).code == 0
        assert np.array_equal(out, a.sum(1) * np.arange(1, 201))

    def keep_working() -> None:
        while not stop.is_set():
            work()

    other = threading.Thread(target=keep_working)
    other.start()
    statuses = [in_child(work) for _ in range(10)]
    stop.set()
    other.join()
    assert statuses == [0] * 10


PROGRAM = """
import ctypes, sys, threading
import numpy as np
sys.path.insert(0, {root!r})
from kdsl.backends.llvm import parallel
parallel.PARALLEL_ABOVE = -1.0
from kdsl.runtime.threads import set_num_threads
from tests.backends.test_parallel import ENDLESS, ROWS, Kernel
set_num_threads(4)

def work(n=100):
    out, a = np.zeros(n, "i8"), np.ones((n, 8), "i8")
    assert Kernel(ROWS)({{"A": a, "out": out}}, {{"N": n, "M": 8}}).code == 0
    assert (out == 8 * np.arange(1, n + 1)).all()
    return n

work()
"""


def program(text: str, **environment: str) -> subprocess.CompletedProcess[str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(root=root) + textwrap.dedent(text)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "text",
    (
        "",
        "import atexit; atexit.register(work)",  # runs before the pool is closed
        "kernel = Kernel(ENDLESS)\n"
        "threading.Thread(target=lambda: kernel({'A': np.zeros(9, 'i8')}, {'N': 9}), daemon=True).start()\n"
        "import time; time.sleep(0.1)",
        "threading.Thread(target=lambda: [work() for _ in range(20)]).start()",
    ),
    ids=("parked", "atexit", "busy", "other thread"),
)
def test_exit(text: str) -> None:
    ended = program(text)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_multiprocessing() -> None:
    for method in ("fork", "spawn"):
        ended = program(f"""
            import multiprocessing
            if __name__ == "__main__":
                with multiprocessing.get_context({method!r}).Pool(2) as p:
                    assert p.map(abs, [1, -2]) == [1, 2]
                    if {method!r} == "fork":
                        assert p.map(work, [50, 60, 70, 80]) == [50, 60, 70, 80]
        """)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_interrupt() -> None:
    """Ctrl-C ends a loop though the caller only waits, and the pool can be used again."""
    ended = program("""
        import os, signal
        from kdsl.runtime.table import RunTable
        kernel = Kernel(ENDLESS)
        from kdsl.runtime.pool import pool_address
        kernel.table = RunTable((), kernel.executable.poll_address, pool_address())
        for first in (-1, 0):  # the caller's own item ends at once, or does not
            threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            a = np.zeros(9, "i8")
            a[0] = first
            try:
                kernel({"A": a}, {"N": 9})
            except KeyboardInterrupt:
                print("stopped")
            work()
    """)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "stopped\nstopped\n")


def test_entries_release_the_gil() -> None:
    """A C-level entry: other Python threads go on while the loop runs, and its faults are raised."""
    set_num_threads(2)
    kernel = Kernel(GATHER)

    def slow(*arguments: Any) -> None:
        raise AssertionError("the entry takes this call")

    def on_fault(code: int, index: int, extent: int) -> None:
        raise IndexError(index, extent)

    entry = kernel.executable.make_entry(slow, on_fault, kernel.table.address)
    n = 3_000_000
    x, index, out = np.arange(10.0), np.full(n, 9), np.zeros(n)
    entry(x, index, out)
    assert (out == 9).all()
    index[n // 2] = 10
    with pytest.raises(IndexError, match=r"10, 10"):
        entry(x, index, out)
    long = Kernel("""
        def long(A: i64[N], M: i64):
            for i in parallel(range(N)):
                s: i64
                s = i
                for j in range(M):
                    s = s * 3 + j
                A[i] = s
    """)
    run_long = long.executable.make_entry(slow, on_fault, long.table.address)
    caller = threading.Thread(target=run_long, args=(np.zeros(4, "i8"), 10**8))
    caller.start()
    time.sleep(0.03)
    assert caller.is_alive()  # so this thread has the GIL
    caller.join()


# -- the number of threads


def test_number_of_threads() -> None:
    kernel = Kernel(ROWS)
    arguments = {"A": numbers(50, 5), "out": np.zeros(50, "i8")}
    for threads in (5, 2, 1, 3):
        set_num_threads(threads)
        assert get_num_threads() == threads
        kernel(arguments, {"N": 50, "M": 5})
        names = {t.name for t in threading.enumerate() if t.name.startswith("kdsl-")}
        assert names == {f"kdsl-{n}" for n in range(1, threads)}
    for wrong in (0, -1, 2.0, True, "4", 10**6):
        with pytest.raises(kdsl.ArgumentError, match="number of threads"):
            set_num_threads(wrong)  # type: ignore[arg-type]
    assert get_num_threads() == 3


def test_threads_from_the_environment() -> None:
    code = "from kdsl.runtime.threads import get_num_threads as g; print(g())"
    available = str(len(os.sched_getaffinity(0)))
    for value, wanted in (("3", "3"), ("", available), ("many", available), ("0", available)):
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "KDSL_NUM_THREADS": value},
            capture_output=True,
            text=True,
            check=True,
        )
        assert ended.stdout.strip() == wanted
        assert ("KDSL_NUM_THREADS" in ended.stderr) == (value in ("many", "0"))


# -- the code


def test_the_pools_code_is_cached(tmp_path: Path) -> None:
    code = (
        "import sys; from kdsl.runtime.pool import pool_address as p; p(); print('llvmlite' in sys.modules)"
    )
    shown = []
    for _ in range(2):
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "KDSL_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        shown.append(ended.stdout.strip())
    assert shown == ["True", "False"]


def test_the_pool_elsewhere() -> None:
    """It assembles for ARM, loads by LLVM's engine, and there is none where there are no futexes."""
    host = host_target()
    arm = replace(host, cpu="generic", features="", triple="aarch64-unknown-linux-gnu")
    assert compile_pool(arm)
    code = EngineCode(compile_pool(host))
    assert all(code.address(name) for name in (pool.STATE, pool.RUN, pool.PARK, pool.WAKE))
    assert not pool_threads.supported(replace(host, triple="arm64-apple-darwin"))
    kernel = Kernel(ROWS)
    assert Executable(kernel.executable.artifact, EngineCode(kernel.executable.artifact.code)).parallel
    out = np.zeros(9, "i8")
    assert run(kernel.func, {"A": np.ones((9, 3), "i8"), "out": out}, {"N": 9, "M": 3}).code == 0
    assert np.array_equal(out, 3 * np.arange(1, 10))


def test_small_loops_stay_in_the_calling_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    set_num_threads(2)
    kernel = Kernel(ROWS)

    def jobs(n: int, m: int) -> int:
        generation = ctypes.c_uint64.from_address(pool_address() + pool.FIELDS["generation"])
        before = generation.value
        kernel({"A": np.zeros((n, m), "i8"), "out": np.zeros(n, "i8")}, {"N": n, "M": m})
        return generation.value - before

    assert jobs(10, 100) == 0
    assert jobs(1000, 1000) == 1


def test_threads_begin_with_their_own_shares() -> None:
    """Loop after loop a thread gets the same iterations, as long as it keeps up."""
    set_num_threads(3)
    table = (ctypes.c_int64 * 8)()
    word = ctypes.c_int32(0)
    table[0] = ctypes.addressof(word)
    context = (ctypes.c_int64 * 2)()
    claimed: list[tuple[int, int]] = []
    together = threading.Barrier(3)

    def body(_: int, first: int, last: int, thread: int) -> int:
        if thread not in [t for t, _ in claimed]:
            claimed.append((thread, first))
            together.wait(10)
        return 0

    number = ctypes.c_int64
    kind = ctypes.CFUNCTYPE(number, ctypes.c_void_p, number, number, number)
    called = kind(body)
    address = ctypes.c_void_p.from_address(pool_address() + pool.FIELDS["run"]).value
    signature = ctypes.CFUNCTYPE(number, *[ctypes.c_void_p] * 4, number, number)
    code = signature(address or 0)(
        pool_address(),
        ctypes.addressof(table),
        ctypes.cast(called, ctypes.c_void_p),
        ctypes.addressof(context),
        96,
        8,
    )
    assert code == 0
    assert sorted(claimed) == [(0, 0), (1, 32), (2, 64)]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU: workers have nowhere else to be")
def test_workers_keep_off_the_callers_cpu() -> None:
    """Whoever wakes them, and wherever that is; a caller with one CPU leaves them where they were."""
    kernel = Kernel(ROWS)
    arguments, sizes = {"A": numbers(50, 5), "out": np.zeros(50, "i8")}, {"N": 50, "M": 5}
    sleepers = ctypes.c_int32.from_address(pool_address() + pool.FIELDS["sleepers"])
    cpus = os.sched_getaffinity(0)

    def woken(mine: set[int]) -> list[set[int]]:
        deadline = time.monotonic() + 10
        while sleepers.value < 2 and time.monotonic() < deadline:
            time.sleep(0.001)
        os.sched_setaffinity(0, mine)
        assert kernel(arguments, sizes).code == 0
        workers = [t.native_id for t in threading.enumerate() if t.name.startswith("kdsl-")]
        return [os.sched_getaffinity(w) for w in workers if w is not None]

    set_num_threads(1)  # ends workers that another test has left
    set_num_threads(3)
    assert kernel(arguments, sizes).code == 0
    try:
        first, second = sorted(cpus)[:2]
        for some in (cpus, {first, second}):
            masks = woken(some)
            assert len(masks) == 2
            assert all(m < some and len(m) == len(some) - 1 for m in masks)
        masks = woken({first})
        woken({second})
        assert woken({first}) == masks
    finally:
        os.sched_setaffinity(0, cpus)


def test_rows_still_vectorise() -> None:
    func = parse_func(
        "def scale(A: f32[N, M], x: f32):\n    for i in parallel(range(N)):\n"
        "        for j in range(M):\n            A[i, j] = A[i, j] * x\n"
    )
    assert "fmul contract <" in llvm_text(func, host_target())


@pytest.mark.parametrize("kernel_end", ("return", "break"))
def test_ways_out_are_refused_before(kernel_end: str) -> None:
    text = f"def out(A: i64[N]):\n    for i in parallel(range(N)):\n        {kernel_end}\n"
    with pytest.raises(AssertionError, match="one way out"):
        build(parse_func(text))


def test_races_are_refused_before() -> None:
    text = "def race(A: i64[N]):\n    s: i64\n    s = 0\n    for i in parallel(range(N)):\n        s = A[i]\n"
    with pytest.raises(AssertionError, match="race"):
        build(parse_func(text))
