"""Processes, threads, forks, the disk cache, environment variables and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32, f64, i64
from tests.runtime.process import copy_of_kdsl, environment, run_python

N, M = kdsl.sizes("N M")


@kdsl.kernel
def running_sum(a: f64[N], out: f64[N]):
    s = 0.0
    for i in range(N):
        s += a[i]
        out[i] = s


@kdsl.kernel
def spin(a: f64[N], rounds: i64):
    for _ in range(rounds):
        for i in range(N):
            a[i] = a[i] * 1.0000001 + 1e-9


@kdsl.kernel
def any_type(x, y):
    for i in range(len(x)):
        y[i] = x[i] + 1


# ------------------------------------------------------------------ threads and forks


def in_threads(count: int, work: Any) -> None:
    """Runs `work(n)` in `count` threads; what one raises is raised here."""
    errors: list[BaseException] = []

    def guarded(n: int) -> None:
        try:
            work(n)
        except BaseException as e:  # shown by the assertion below
            errors.append(e)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors


def test_calls_from_many_threads() -> None:
    def work(n: int) -> None:
        a = np.arange(50.0) + n
        out = np.zeros(50)
        for _ in range(200):
            out[:] = 0
            running_sum(a, out)
            assert (out == np.cumsum(a)).all()

    in_threads(8, work)


def test_threads_that_compile_different_signatures_at_once() -> None:
    types = [np.int8, np.int16, np.int32, np.int64, np.uint8, np.float16, np.float32, np.float64]

    def work(n: int) -> None:
        x = np.arange(5).astype(types[n])
        y = np.zeros((5,), types[-1 - n])
        any_type(x, y)
        assert y.tolist() == [1, 2, 3, 4, 5]

    in_threads(8, work)


def test_errors_in_threads_stay_with_their_call() -> None:
    @kdsl.kernel
    def at(a: i64[N], i: i64) -> i64:
        b = a[0]
        return a[a[i] + b]

    def work(n: int) -> None:
        a = np.array([0, 100 + n, 2])
        for _ in range(100):
            assert at(a, 2) == 2
            with pytest.raises(IndexError, match=rf"\b{100 + n}\b"):
                at(a, 1)

    in_threads(6, work)


def test_the_gil_is_released_while_a_kernel_runs() -> None:
    a = np.ones(1000)
    spin(a, 1)
    ticks = 0
    done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0.001)

    thread = threading.Thread(target=tick)
    thread.start()
    start = time.perf_counter()
    while time.perf_counter() - start < 0.1:
        spin(a, 20_000)
    done.set()
    thread.join()
    assert ticks > 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_calls_and_compiles() -> None:
    a = np.arange(4.0)
    out = np.zeros(4)
    running_sum(a, out)
    program = f"""
import os, sys
import numpy as np
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.contract.test_environment import any_type, running_sum
a, out = np.arange(4.0), np.zeros(4)
running_sum(a, out)
child = os.fork()
if child == 0:
    running_sum(a + 1, out)
    ok = out.tolist() == [1, 3, 6, 10]
    y = np.zeros(3, np.int16)
    any_type(np.arange(3, dtype=np.uint32), y)
    os._exit(0 if ok and y.tolist() == [1, 2, 3] else 1)
_, status = os.waitpid(child, 0)
running_sum(a, out)
print(os.waitstatus_to_exitcode(status), out[-1])
"""
    assert run_python("-c", program).stdout.split() == ["0", "6.0"]


# ------------------------------------------------------------------------- the cache

PROGRAM = """
import sys
import numpy as np
import kdsl
from kdsl import f32, i64

N = kdsl.sizes("N")
FACTOR = 2

@kdsl.func
def callee(x: f32):
    return x + 1

@kdsl.kernel
def scale(a: f32[N], at: i64[N]):
    for i in range(N):
        a[at[i]] = FACTOR * callee(a[i])

a = np.ones(3, np.float32)
scale(a, np.arange(3))
print(a.tolist(), "llvmlite" in sys.modules, "islpy" in sys.modules)
"""
FRESH = "[4.0, 4.0, 4.0] True"
FOUND = "[4.0, 4.0, 4.0] False False"


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of kdsl that nobody edits: its text is part of the keys."""
    return copy_of_kdsl(tmp_path_factory.mktemp("copy") / "lib")


@pytest.fixture
def program(tmp_path: Path, still: Path) -> Any:
    """Runs PROGRAM, changed as asked, in a process with a cache in `tmp_path / "cache"`."""
    path = tmp_path / "program.py"

    def run(*replacements: tuple[str, str], **variables: str) -> subprocess.CompletedProcess[str]:
        text = PROGRAM
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path.write_text(text)
        return run_python(str(path), kdsl=still, **{"KDSL_CACHE_DIR": str(tmp_path / "cache")} | variables)

    return run


DAMAGES = {
    "cut": lambda data: data[: len(data) // 2],
    "code": lambda data: data[:-20] + bytes(20),
}


def test_code_is_kept_across_processes_and_rebuilt_when_damaged(program: Any, tmp_path: Path) -> None:
    assert program().stdout.startswith(FRESH)
    assert program().stdout.strip() == FOUND
    for damage in DAMAGES.values():
        for path in (tmp_path / "cache").glob("*.kdsl"):
            path.write_bytes(damage(path.read_bytes()))
        assert program().stdout.startswith(FRESH)
    assert program().stdout.strip() == FOUND


def test_changed_constants_and_callees_are_seen(program: Any) -> None:
    program()
    assert program(("FACTOR = 2", "FACTOR = 3")).stdout.startswith("[6.0")
    assert program(("return x + 1", "return x + 4")).stdout.startswith("[10.0")
    assert program(("x: f32", "x")).stdout.startswith("[4.0")
    assert program(("@kdsl.kernel", "@kdsl.kernel(strict=True)")).stdout.startswith("[4.0")
    assert program().stdout.strip() == FOUND


def test_concurrent_processes_share_a_cache(tmp_path: Path, still: Path) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    env = environment(still, KDSL_CACHE_DIR=str(tmp_path / "cache"))
    started = [
        subprocess.Popen([sys.executable, str(path)], env=env, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in started:
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0
        assert out.startswith("[4.0, 4.0, 4.0]")
    assert not list((tmp_path / "cache").glob("*.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows folders have no mode bits")
def test_a_folder_that_others_can_write_is_not_used(program: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    done = program()
    assert done.stdout.startswith(FRESH)
    assert "RuntimeWarning" in done.stderr
    assert not list(cache.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows folders have no mode bits")
def test_the_cache_is_private(program: Any, tmp_path: Path) -> None:
    program()
    cache = tmp_path / "cache"
    assert cache.stat().st_mode & 0o077 == 0
    assert list(cache.iterdir())
    assert all(file.stat().st_mode & 0o077 == 0 for file in cache.iterdir())


# ------------------------------------------------------------- environment variables


def test_an_empty_cache_folder_means_no_disk_cache(program: Any, tmp_path: Path) -> None:
    done = program(KDSL_CACHE_DIR="", HOME=str(tmp_path / "home"), XDG_CACHE_HOME="")
    assert done.stdout.startswith(FRESH)
    assert not (tmp_path / "home").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the place differs by system")
def test_the_default_folder_is_in_the_users_cache(
    still: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    monkeypatch.delenv("KDSL_CACHE_DIR")
    run_python(str(path), kdsl=still, XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert list((tmp_path / "xdg" / "kdsl").rglob("*.kdsl"))


def test_kdsl_target_sets_the_default(program: Any) -> None:
    done = program(KDSL_TARGET="interpreter")
    assert done.stdout.startswith("[4.0, 4.0, 4.0] False")
    with pytest.raises(AssertionError, match="TargetError"):
        program(KDSL_TARGET="abacus")


def test_kdsl_debug_writes_each_stage(program: Any, tmp_path: Path) -> None:
    program(KDSL_DEBUG=str(tmp_path / "debug"))
    written = [p for p in (tmp_path / "debug").rglob("*") if p.is_file()]
    texts = {p.name: p.read_text() for p in written}
    assert any("for i in range(N)" in text for text in texts.values())
    assert any("define" in text for text in texts.values())


def test_targets_by_option_and_by_on(monkeypatch: pytest.MonkeyPatch) -> None:
    @kdsl.kernel(target="interpreter")
    def unset(out: f32[N]):
        t = kdsl.empty(N, f32)
        for i in range(N):
            out[i] = t[i]

    out = np.zeros(2, np.float32)
    with pytest.raises(kdsl.KdslError):
        unset(out)
    unset.on("cpu")(out)
    with pytest.raises(kdsl.TargetError):
        unset.on("abacus")


def test_devices_are_listed() -> None:
    names = [str(d) for d in kdsl.devices()]
    assert any("cpu" in name for name in names)
    assert any("interpreter" in name for name in names)


def test_importing_kdsl_loads_no_compiler() -> None:
    heavy = ("llvmlite", "islpy", "ml_dtypes", "vulkan")
    code = f"import sys, kdsl; print([m for m in {heavy} if m in sys.modules])"
    assert run_python("-c", code).stdout.strip() == "[]"


# -------------------------------------------------------------------- command line


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("show") / "kernels.py"
    path.write_text(PROGRAM)
    return path


def command(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Exit code, output and errors of `kdsl ARGS`, run in this process."""
    from kdsl.cli import main

    try:
        code = main(args)
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(("stage", "text"), [("ir", "for i in range(N)"), ("llvm", "define"), ("asm", "ret")])
def test_show_prints_a_stage(capsys: Any, file: Path, stage: str, text: str) -> None:
    code, out, _ = command(capsys, "show", f"{file}:scale", "--stage", stage)
    assert code == 0
    assert text in out


def test_show_prints_the_ir_by_default(capsys: Any, file: Path) -> None:
    assert "for i in range(N)" in command(capsys, "show", f"{file}:scale")[1]


@pytest.mark.parametrize(
    "what",
    ["{}:scal", "{}:a", "{}", "{}x:scale", "nowhere.py:scale", "{}:"],
    ids=["misspelt", "no kernel", "no name", "no file", "no path", "empty name"],
)
def test_show_explains_what_it_cannot_find(capsys: Any, file: Path, what: str) -> None:
    code, _, err = command(capsys, "show", what.format(file))
    assert code == 2
    assert "Traceback" not in err
    assert "error" in err


@pytest.mark.parametrize(
    "args", [(), ("shwo",), ("show",), ("cache",), ("cache", "burn"), ("show", "x", "--stage", "q")]
)
def test_wrong_commands_exit_with_usage(capsys: Any, args: tuple[str, ...]) -> None:
    code, _, err = command(capsys, *args)
    assert code == 2
    assert "usage" in err


def test_devices_command(capsys: Any) -> None:
    code, out, _ = command(capsys, "devices")
    assert code == 0
    assert "cpu" in out


def test_cache_commands(capsys: Any, program: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program()
    monkeypatch.setenv("KDSL_CACHE_DIR", str(tmp_path / "cache"))
    code, out, _ = command(capsys, "cache", "info")
    assert code == 0
    assert str(tmp_path / "cache") in out
    assert "scale" in out
    assert command(capsys, "cache", "clear")[0] == 0
    assert not list((tmp_path / "cache").glob("*.kdsl"))
    assert command(capsys, "cache", "info")[0] == 0
    monkeypatch.setenv("KDSL_CACHE_DIR", "")
    code, out, _ = command(capsys, "cache", "info")
    assert code == 0
    assert "no cache" in out


def test_the_command_is_also_a_module() -> None:
    assert "cpu" in run_python("-m", "kdsl", "devices").stdout
