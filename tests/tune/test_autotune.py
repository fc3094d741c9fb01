"""`kdsl.autotune` from end to end, with spaces of a few candidates."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl.runtime import tuning
from kdsl.tune.database import Database
from kdsl.tune.measuring.measure import Limits
from kdsl.tune.session import fewest_steps
from tests.runtime.process import ROOT, environment
from tests.tune import kernels as k

pytestmark = pytest.mark.usefixtures("one_thread")


def statuses(result: Any) -> dict[Any, str]:
    return {next(iter(t.values.values()), None): t.status for t in result.trials}


def elsewhere(code: str) -> str:
    """What a program prints in another process, on one thread."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=environment(KDSL_NUM_THREADS="1"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_finds_a_schedule_and_leaves_the_arguments_alone() -> None:
    A, B, C = k.product(64, 48, 40)
    before = [x.copy() for x in (A, B, C)]
    result = kdsl.autotune(k.matmul, (A, B, C), space=k.tiles, seconds=None, trials=8)
    assert all(np.array_equal(x, y) for x, y in zip((A, B, C), before))
    assert len(result.trials) == 8
    assert {t.status for t in result.trials} == {"ok"}
    assert result.speedup > 1.5
    assert result.verified and not result.interrupted
    result.schedule(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-4, atol=1e-4)
    # The trace is a function that makes the same schedule.
    space: dict[str, Any] = {}
    exec(result.schedule.trace(), space)
    assert space["schedule"](k.matmul.schedule()).func == result.schedule.func
    assert result.schedule.trace().rstrip() in str(result)
    assert "8 candidates (8 ok)" in str(result)


def test_automatic_schedules_pick_it_up(own_database: Path) -> None:
    A, B, C = k.product(64, 48, 40)
    auto = k.matmul.with_schedule("auto")
    kdsl.autotune(k.matmul, (A, B, C), space=k.tiles, trials=3)
    assert "vectorize" in auto.ir(A, B, C)
    auto(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-4, atol=1e-4)
    # Another process finds it too.
    code = (
        "from tests.tune import kernels as k\n"
        "A, B, C = k.product(64, 48, 40)\n"
        "print(k.matmul.with_schedule('auto').schedule(A, B, C).trace())"
    )
    printed = elsewhere(code)
    assert "vectorize" in printed


def test_a_kernel_that_has_run_changes_over() -> None:
    args = k.product(32, 32, 32)
    kernel = k.matmul.with_schedule("auto")
    kernel(*args)
    kdsl.autotune(kernel, args, space=k.tiles, trials=2)
    assert "[2, 16]" in kernel.schedule(*args).trace() or "[4, 16]" in kernel.schedule(*args).trace()
    kernel(*args)
    np.testing.assert_allclose(args[2], args[0] @ args[1], rtol=1e-4, atol=1e-4)


def test_in_place_kernels_start_from_the_same_values() -> None:
    X = np.linspace(-1, 1, 5000, dtype=np.float32)
    result = kdsl.autotune(k.grow, (X,), space=lambda s, n=kdsl.choice(8, 16): s.vectorize("i", n), trials=2)
    assert statuses(result) == {8: "ok", 16: "ok"}
    assert X[0] == -1


def test_results_and_strided_arguments() -> None:
    X = np.ones((40, 60), np.float32)[::2, ::3]
    space = lambda s, n=kdsl.choice(4, 8): s.vectorize("j", n)  # noqa: E731
    result = kdsl.autotune(k.double, (X,), space=space, trials=2)
    assert statuses(result) == {4: "ok", 8: "ok"}
    assert result.schedule(X)[3, 4] == 2


def test_arguments_by_name_and_a_prefix() -> None:
    X, Y, _ = k.vector(3000)

    def inner(s: Any, lanes: Any = kdsl.choice(8, 16)) -> Any:
        return s.vectorize("i_i", lanes)

    result = kdsl.autotune(
        k.scale, {"X": X, "Y": Y, "a": 3}, space=inner, prefix=lambda s: s.split("i", 128), trials=2
    )
    assert statuses(result) == {8: "ok", 16: "ok"}
    if result.schedule.steps:
        assert str(result.schedule.steps[0]) == 's.split("i", 128)'


def test_pins_hold_knobs() -> None:
    args = k.product(16, 16, 16)
    result = kdsl.autotune(k.matmul, args, space=k.tiles, trials=9, pins={"rows": 4, "parallel": [False]})
    assert {(t.values["rows"], t.values["parallel"]) for t in result.trials} == {(4, "False")}
    assert len(result.trials) == 2
    with pytest.raises(kdsl.KdslError, match="there is no knob `row`") as caught:
        kdsl.autotune(k.matmul, args, space=k.tiles, pins={"row": 4})
    assert "the knobs are `lanes`, `parallel`, `rows`" in str(caught.value)


def test_refused_steps_are_trials() -> None:
    def space(s: Any, step: Any = kdsl.choice("i", "nothing")) -> Any:
        return s.vectorize(step, 8)

    result = kdsl.autotune(k.scale, k.vector(1000), space=space, trials=2)
    assert statuses(result) == {"i": "ok", "nothing": "refused"}
    assert "no loop" in next(t.message for t in result.trials if t.status == "refused")


def test_whatever_happens_in_a_worker_is_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Candidates that crash, hang, eat memory, compute something else: one each, and one that is right."""
    monkeypatch.setattr(tuning, "WORKER", "tests.tune.faulty_worker")

    def space(s: Any, lanes: Any = kdsl.choice(2, 4, 8, 16, 32, 64)) -> Any:
        return s.vectorize("i", lanes)

    limits = Limits(check_s=0.3, run_s=1.0)
    result = kdsl.autotune(k.scale, k.vector(4096), space=space, trials=6, limits=limits)
    assert statuses(result) == {2: "crashed", 4: "crashed", 8: "hung", 16: "wrong", 32: "ok", 64: "crashed"}
    messages = {t.values["lanes"]: t.message for t in result.trials}
    assert "SIGSEGV" in messages[4]
    assert "memory" in messages[2].lower()
    assert "1 of 37 elements" in messages[16]
    assert "device was lost" in messages[64]
    assert result.replaced >= 3
    assert [str(s) for s in result.schedule.steps] in ([], ['s.vectorize("i", lanes=32)'])


def test_a_worker_killed_from_outside_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def kill(trial: Any, best: Any) -> None:
        if len(seen) < 2:
            for pid in seen_workers[-1].pids():
                seen.append(pid)
                os.kill(pid, signal.SIGKILL)

    from kdsl.tune.measuring import measure
    from kdsl.tune.showing import progress

    seen_workers: list[Any] = []
    made = measure.Workers.__init__

    def remember(self: Any, *args: Any) -> None:
        made(self, *args)
        seen_workers.append(self)

    monkeypatch.setattr(measure.Workers, "__init__", remember)
    monkeypatch.setattr(progress.Progress, "told", lambda self, trial, best: kill(trial, best))
    result = kdsl.autotune(k.matmul, k.product(32, 32, 32), space=k.tiles, trials=8)
    assert len(seen) >= 2
    assert result.replaced >= 1
    assert result.counts["ok"] >= 4


def test_later_runs_go_on(own_database: Path) -> None:
    args = k.product(32, 32, 32)
    first = kdsl.autotune(k.matmul, args, space=k.tiles, trials=3, strategy="random")
    again = kdsl.autotune(k.matmul, args, space=k.tiles, trials=6, strategy="random")
    stored = [t for t in again.trials if t.stored]
    assert {t.key for t in stored} == {t.key for t in first.trials if t.values}
    new = [t for t in again.trials if not t.stored and t.values]
    assert not {t.key for t in new} & {t.key for t in stored}
    fresh = kdsl.autotune(k.matmul, args, space=k.tiles, trials=2, resume=False)
    assert not any(t.stored for t in fresh.trials)


RUN = """
import sys
import kdsl
from tests.tune import kernels as k
kdsl.set_num_threads(1)
def space(s, n=kdsl.choice(*range(1, 60))):
    return s.split("i", n)
kdsl.autotune(k.scale, k.vector(100000), space=space, seconds=100, trials=59)
"""


def test_killed_it_loses_one_trial_and_leaves_no_process(own_database: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", RUN], env=environment(), cwd=ROOT)
    database = Database(own_database)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until and count(database) < 3:
            time.sleep(0.1)
        children = offspring(process.pid)
        process.kill()
        process.wait()
    finally:
        process.kill()
    stored = count(database)
    assert stored >= 3 and children
    until = time.monotonic() + 20
    while time.monotonic() < until and any(map(alive, children)):
        time.sleep(0.1)
    assert not any(map(alive, children))
    space: dict[str, Any] = {"__name__": "again"}
    exec(RUN.rpartition("kdsl.autotune")[0], space)
    result = kdsl.autotune(k.scale, k.vector(100000), space=space["space"], trials=stored + 2)
    assert sum(t.stored for t in result.trials) == stored


def count(database: Database) -> int:
    return sum('"table": "trials"' in line for line in database.lines())


def offspring(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(p) for p in found.stdout.split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_ctrl_c_keeps_what_was_found(own_database: Path) -> None:
    run = [sys.executable, "-c", RUN.replace("kdsl.autotune(", "result = kdsl.autotune(") + "print(result)"]
    process = subprocess.Popen(run, env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    database = Database(own_database)
    try:
        until = time.monotonic() + 100
        while time.monotonic() < until and count(database) < 3:
            time.sleep(0.1)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert time.monotonic() - start < 40
    assert process.returncode == 0
    assert "interrupted" in out and "def schedule(s):" in out


def test_dead_steps_are_dropped() -> None:
    start = k.scale.schedule()
    s = start.assume("N >= 16").vectorize("i", 16).assume("N >= 16")
    assert [step.name for step in s.steps] == ["assume", "vectorize", "assume"]
    short = fewest_steps(s, start.replay)
    assert [step.name for step in short.steps] == ["assume", "vectorize"]
    assert short.func == s.func


def test_results_pickle_by_their_schedule() -> None:
    result = kdsl.autotune(k.scale, k.vector(1000), space=k.vectors, trials=1)
    again = pickle.loads(pickle.dumps(result.schedule))
    assert again == result.schedule


def test_what_cannot_be_asked() -> None:
    args = k.vector(10)
    with pytest.raises(kdsl.ArgumentError, match="would never end"):
        kdsl.autotune(k.scale, args, space=k.vectors, seconds=None, trials=None)
    with pytest.raises(kdsl.ArgumentError, match="`seconds` cannot be -1"):
        kdsl.autotune(k.scale, args, space=k.vectors, seconds=-1)
    with pytest.raises(kdsl.ArgumentError, match="there is no strategy 'best'"):
        kdsl.autotune(k.scale, args, space=k.vectors, strategy="best")  # type: ignore[arg-type]
    with pytest.raises(kdsl.TargetError, match="the interpreter"):
        kdsl.autotune(k.scale, args, target="interpreter", space=k.vectors)
    with pytest.raises(kdsl.KdslError, match="leaves nothing to choose"):
        kdsl.choice()
    with pytest.raises(kdsl.KdslError, match="gives a NoneType, not a Schedule"):
        kdsl.autotune(k.scale, args, space=lambda s: None, trials=1)
    with pytest.raises(kdsl.KdslError, match="cannot be tuned: index 7"):
        bad = np.array([7, 7], np.int64)
        kdsl.autotune(
            k.gather, (np.ones(3, np.float32), bad, np.ones(2, np.float32)), space=lambda s: s, trials=1
        )


@pytest.mark.parametrize("strategy", ["guided", "evolution", "random"])
def test_the_space_comes_from_the_kernel(strategy: Any) -> None:
    A, B, C = k.product(64, 64, 64)
    result = kdsl.autotune(k.matmul, (A, B, C), trials=6, strategy=strategy)
    assert len(result.trials) >= 6
    assert result.counts["ok"] >= 3 and not result.counts["wrong"]
    assert result.speedup > 1.5 and result.schedule.steps
    result.schedule(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-4, atol=1e-4)


def test_on_a_vulkan_device() -> None:
    from kdsl.backends import vulkan

    missing = vulkan.available()
    if missing is not None:
        pytest.skip(missing)

    def space(s: Any, lanes: Any = kdsl.choice(1, 4)) -> Any:
        return kdsl.recipes.gpu_elementwise(s, "i", lanes)

    X, Y, a = k.vector(20_000)
    result = kdsl.autotune(k.scale, (X, Y, a), target="vulkan", space=space, trials=2)
    assert statuses(result) == {1: "ok", 4: "ok"}
    kernel = k.scale.on("vulkan").with_schedule("auto")
    kernel(X, Y, a)
    np.testing.assert_array_equal(Y, 2 * X)


@pytest.fixture
def on_vulkan() -> None:
    from kdsl.backends import vulkan

    missing = vulkan.available()
    if missing is not None:
        pytest.skip(missing)


@pytest.mark.usefixtures("on_vulkan")
def test_a_space_of_a_gpu_from_end_to_end(tmp_path: Path) -> None:
    """Shared memory of the user's own; the result is stored for the device, pastes, runs, and is shown."""
    A, B, C = k.product(48, 40, 24)

    def space(s: Any, shared: Any = kdsl.choice(False, True), tall: Any = kdsl.choice(2, 4)) -> Any:
        s = s.tile(["i", "j"], [16, 16]).tile(["i_i", "j_i"], [tall, 4]).split("k", 8)
        s = s.reorder("i_o", "j_o", "i_i_o", "j_i_o", "k_o", "k_i", "i_i_i", "j_i_i")
        s = s.bind("i_o", "grid.y").bind("j_o", "grid.x").bind("i_i_o", "block.y").bind("j_i_o", "block.x")
        if shared:
            s = s.stage("A", at="k_o", memory="shared").stage("B", at="k_o", memory="shared")
        return s.unroll("i_i_i").vectorize("j_i_i")

    result = kdsl.autotune(
        k.matmul, (A, B, C), target="vulkan", space=space, trials=2, seconds=8, pins={"tall": 4}
    )
    assert {(t.values["shared"], t.values["tall"], t.status) for t in result.trials if t.values} == {
        ("False", 4, "ok"),
        ("True", 4, "ok"),
    }
    result.schedule(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-4, atol=1e-4)
    pasted: dict[str, Any] = {}
    exec(result.schedule.trace(), pasted)
    C[...] = 0
    k.matmul.on("vulkan").with_schedule(pasted["schedule"])(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-4, atol=1e-4)
    result.report(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "work-groups" in page and "flops" in page
    code = (
        "from tests.tune import kernels as k\n"
        "A, B, C = k.product(48, 40, 24)\n"
        "print(k.matmul.on('vulkan').with_schedule('auto').schedule(A, B, C).to_json())\n"
        "print(len(k.matmul.on('cpu').with_schedule('auto').schedule(A, B, C).steps))"
    )
    printed = elsewhere(code)
    found = printed.splitlines()[0]
    assert not result.schedule.steps or found == result.schedule.to_json()


@pytest.mark.usefixtures("on_vulkan")
def test_the_space_of_a_gpu_comes_from_the_kernel() -> None:
    """Behind a prefix too; a sum that a driver does not do in program order is no error."""
    N = kdsl.sizes("N")

    @kdsl.kernel
    def total(X: kdsl.f32[N]) -> kdsl.f32:  # type: ignore[no-untyped-def, valid-type]
        s = 0.0
        for i in range(N):
            s += X[i]
        return s

    X = np.ones(70_000, np.float32)
    result = kdsl.autotune(total, (X,), target="vulkan", trials=3, seconds=8)
    assert result.counts["ok"] >= 1 and not result.counts["wrong"]
    assert any(step.name == "rfactor" for step in result.schedule.steps)
    assert float(result.schedule(X)) == 70_000
    args = k.product(40, 24, 16)
    behind = kdsl.autotune(
        k.matmul,
        args,
        target="vulkan",
        prefix=lambda s: s.split("k", 4),
        pins={"sketch": "tile i x j", "tall": 2, "wide": 2},
        trials=1,
        seconds=8,
    )
    assert behind.counts["ok"] >= 1 and str(behind.schedule.steps[:1] or "s.split").find("s.split") >= 0


@pytest.mark.usefixtures("on_vulkan")
def test_a_device_that_is_still_busy_gets_another_worker() -> None:
    """A candidate that is stopped leaves its work on the device: nobody waits for that."""
    args = k.product(320, 320, 320)

    def space(s: Any, how: Any = kdsl.choice("tile", "rows")) -> Any:
        tile = how == "tile"
        return kdsl.recipes.gpu_register_tile(s, "i", "j", ["k"]) if tile else s.bind("i", "grid.x")

    limits = Limits(run_s=0.05)
    result = kdsl.autotune(
        k.matmul, args, target="vulkan", space=space, trials=2, seconds=6, limits=limits, strategy="random"
    )
    slow = [t for t in result.trials if t.status == "slow"]
    assert all(t.status in ("ok", "slow") for t in result.trials) and result.replaced >= len(slow)


def test_instructions_of_the_users_own_reach_the_workers() -> None:
    N = kdsl.sizes("N")

    @kdsl.kernel
    def eight(x: kdsl.f32[8], y: kdsl.f32[8]):  # type: ignore[no-untyped-def]
        for i in range(8):
            y[i] += 2 * x[i]

    @kdsl.kernel
    def add(X: kdsl.f32[N], Y: kdsl.f32[N]):  # type: ignore[no-untyped-def, valid-type]
        for i in range(N):
            Y[i] += 2 * X[i]

    def space(s: Any, whole: Any = kdsl.choice("yes")) -> Any:
        return s.assume("N % 8 == 0").split("i", 8, tail="perfect").tensorize("i_i", eight)

    X, Y = np.ones(64, np.float32), np.zeros(64, np.float32)
    result = kdsl.autotune(add, (X, Y), space=space, trials=1)
    assert statuses(result) == {"yes": "ok"}
