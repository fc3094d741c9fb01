"""Vulkan and the process: what is missing here, forks, threads' waits, signals, the end."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl.backends import vulkan
from tests.backends.vulkan_kernels import MANIFEST, Hand, needs_vulkan
from tests.runtime.process import run_python

USE = """
import kdsl, numpy as np
print(*kdsl.devices(), sep="\\n")
try:
    kdsl.to_device(np.zeros(3), "vulkan")
except kdsl.TargetError as error:
    print(error)
@kdsl.kernel
def double(A):
    for i in range(A.shape[0]):
        A[i] *= 2
x = np.ones(3)
double(x)
print(x.tolist())
"""


def _script(folder: Path, before: str = "") -> str:
    """A file with what uses Vulkan where it can, and the CPU."""
    path = folder / "use.py"
    path.write_text(before + USE)
    return str(path)


def _without_package(folder: Path, text: str) -> str:
    """An environment in which `import vulkan` does `text`."""
    (folder / "vulkan").mkdir()
    (folder / "vulkan" / "__init__.py").write_text(text)
    return os.pathsep.join([str(folder), str(Path(__file__).resolve().parents[2])])


@needs_vulkan
def test_no_driver(tmp_path: Path) -> None:
    for variable in ("VK_ICD_FILENAMES", "VK_DRIVER_FILES"):
        nothing = {"VK_ICD_FILENAMES": "", "VK_DRIVER_FILES": "", variable: "/nonexistent.json"}
        out = run_python(_script(tmp_path), **nothing, KDSL_VULKAN_VALIDATION="").stdout
        if "vulkan       GPUs" not in out:
            continue  # a loader that does not know this variable
        assert "mesa-vulkan-drivers" in out.splitlines()[1]
        assert "error[K0502]: target 'vulkan' cannot be used here: no Vulkan driver" in out
        assert "[2.0, 2.0, 2.0]" in out
        return
    raise AssertionError("no variable hides the driver")


def test_no_loader(tmp_path: Path) -> None:
    path = _without_package(tmp_path, "raise OSError('no SDK')")
    out = run_python(_script(tmp_path), PYTHONPATH=path).stdout
    assert "error[K0502]: target 'vulkan' cannot be used here: there is no Vulkan loader" in out
    assert "[2.0, 2.0, 2.0]" in out


def test_no_package(tmp_path: Path) -> None:
    hide = """
import importlib.util, sys
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "vulkan" else found(name, *more)
"""
    out = run_python(_script(tmp_path, hide)).stdout
    assert "the package `vulkan` is not installed (pip install 'kdsl[vulkan]')" in out
    assert "[2.0, 2.0, 2.0]" in out


@needs_vulkan
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_is_told() -> None:
    code = """
import os, kdsl, numpy as np
x = kdsl.to_device(np.arange(3), "vulkan")
pid = os.fork()
if pid == 0:
    for use in (x.numpy, kdsl.synchronize, lambda: kdsl.to_device(np.zeros(2), "vulkan")):
        try:
            use()
        except kdsl.TargetError as error:
            print(error.code, flush=True)
    del x
    raise SystemExit
os.waitpid(pid, 0)
print(x.numpy())
"""
    assert run_python("-c", code).stdout.split("\n")[:4] == ["K0524"] * 3 + ["[0 1 2]"]


@needs_vulkan
def test_a_process_forked_before_vulkan_starts_can_use_it() -> None:
    code = """
import multiprocessing, kdsl, numpy as np
def work(n):
    return int(kdsl.to_device(np.arange(n), "vulkan").numpy().sum())
if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(work, [3, 4, 5]))
"""
    assert run_python("-c", code).stdout == "[3, 6, 10]\n"


def _slow() -> tuple[Hand, list[Any]]:
    """A launch that takes a good part of a second, and its arguments."""
    steps = [{"for": "t", "lo": "0", "hi": "300", "step": "1", "do": [{"dispatch": 0}]}]
    x = np.zeros(1 << 20, np.float32)
    return Hand({**MANIFEST, "program": steps}), [kdsl.to_device(x, "vulkan").memory for _ in range(2)]


@needs_vulkan
def test_waits_end(monkeypatch: pytest.MonkeyPatch) -> None:
    device = vulkan.open_device(0)
    hand, arguments = _slow()
    monkeypatch.setattr(device, "timeout_s", 0.11)
    hand(1 << 20, 1, *arguments)
    with pytest.raises(kdsl.TargetError, match=r"K0523.*has not finished within 0\.11 seconds"):
        kdsl.synchronize()
    monkeypatch.undo()
    kdsl.synchronize()


@needs_vulkan
def test_a_time_out_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from kdsl.backends.vulkan.device import _timeout_s

    for text in ("soon", "0", "-1", "nan"):
        monkeypatch.setenv("KDSL_VULKAN_TIMEOUT", text)
        with pytest.raises(kdsl.TargetError, match="no number of seconds"):
            _timeout_s()
    monkeypatch.setenv("KDSL_VULKAN_TIMEOUT", "1.5")
    assert _timeout_s() == 1.5


@needs_vulkan
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_signals_are_handled_while_waiting() -> None:
    hand, arguments = _slow()
    hand(1 << 20, 1, *arguments)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        serial = vulkan.open_device(0).submitted
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.05)  # again, should one be lost in a callback
        with pytest.raises(KeyboardInterrupt):
            kdsl.synchronize()
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert vulkan.open_device(0).done < serial
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    kdsl.synchronize()


@needs_vulkan
@pytest.mark.parametrize("staging", ["", "1"])
def test_nothing_is_left_at_the_end(staging: str) -> None:
    code = """
import numpy as np, kdsl
from kdsl.backends.vulkan import instance, validation
from tests.backends.vulkan_kernels import Hand
hand = Hand()
for n in (10, 2000, 300_000):
    x, y = np.ones(n, np.float32), np.ones(n, np.float32)
    hand(n, 1, x, y)
    a, b = kdsl.to_device(x, "vulkan"), kdsl.to_device(y, "vulkan")
    hand(n, 1, a.memory, b.memory)  # under way at the end
instance.close()
print(validation.messages)
"""
    done = run_python("-c", code, KDSL_VULKAN_STAGING=staging)
    assert done.stdout == "[]\n"
    assert done.stderr == ""


@needs_vulkan
def test_views_outlive_the_device() -> None:
    code = """
import atexit, numpy as np, kdsl
x = kdsl.to_device(np.arange(5), "vulkan")
view = x.numpy(copy=None)
atexit.register(lambda: print(view))
kdsl.synchronize()
from kdsl.backends.vulkan import instance
instance.close()
print(view)
"""
    assert run_python("-c", code).stdout == "[0 1 2 3 4]\n[0 1 2 3 4]\n"


@needs_vulkan
def test_a_collected_kernel_leaves_nothing() -> None:
    device = vulkan.open_device(0)
    kdsl.synchronize()
    before = len(device.owners)
    for _ in range(3):
        Hand()(100, 1, np.zeros(100, np.float32), np.zeros(100, np.float32))
    Hand()(100, 1, np.zeros(100, np.float32), np.zeros(100, np.float32))
    assert len(device.owners) <= before + 1


@needs_vulkan
def test_importing_kdsl_starts_nothing() -> None:
    code = "import kdsl, sys; kdsl.synchronize(); print([m for m in sys.modules if 'vulkan' in m])"
    assert run_python("-c", code).stdout == "[]\n"
    assert sys.modules


@needs_vulkan
def test_a_lost_device(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import kdsl, numpy as np
from kdsl.backends import vulkan
device = vulkan.open_device(0)
x = kdsl.to_device(np.zeros(3), "vulkan")
try:
    device.check(-4, "send work")
except kdsl.TargetError as error:
    print(error.code)
for use in (x.numpy, kdsl.synchronize, lambda: kdsl.to_device(np.zeros(2), "vulkan")):
    try:
        use()
    except kdsl.TargetError as error:
        print(error.code)
"""
    assert run_python("-c", code).stdout.split() == ["K0522"] * 4


@needs_vulkan
@pytest.mark.skipif(not os.environ.get("KDSL_VULKAN_VALIDATION"), reason="no validation layer here")
def test_the_validation_layer_is_heard() -> None:
    """Of a barrier that is missing between two copies."""
    code = """
from kdsl.backends import vulkan
from kdsl.backends.vulkan import validation
from kdsl.backends.vulkan.commands import Copy, record_copies
device = vulkan.open_device(0)
a, b, c = [device.memory.take(2 << 20) for _ in range(3)]
with device.lock:
    buffer = device.take_commands()
    record_copies(buffer, [Copy(a.region, b.region, 1 << 20), Copy(b.region, c.region, 1 << 20)])
    device.submit_commands(buffer)
device.wait_all()
print(validation.messages)
"""
    assert "SYNC-HAZARD-READ-AFTER-WRITE" in run_python("-c", code, KDSL_VULKAN_VALIDATION="1").stdout


@needs_vulkan
def test_several_devices(tmp_path: Path) -> None:
    """One driver under two names is two devices."""
    found = sorted(Path("/usr/share/vulkan/icd.d").glob("lvp_icd*.json"))
    if not found:
        pytest.skip("the driver for the CPU is not in its usual place")
    other = tmp_path / "other.json"
    other.write_text(found[0].read_text())
    script = tmp_path / "script.py"
    script.write_text(
        """
import numpy as np
import kdsl
from kdsl.backends.vulkan import validation

N = kdsl.sizes("N")

@kdsl.kernel(target="vulkan:1")
def double(X: kdsl.f32[N], Y: kdsl.f32[N]):
    for i in range(N):
        Y[i] = 2 * X[i]

x = np.arange(3, dtype=np.float32)
a, b, c = (kdsl.to_device(x, name) for name in ("vulkan", "vulkan:1", "vulkan:1"))
print([d.name for d in kdsl.devices() if d.name.startswith("vulkan")], a.device, b.device)
double(b, c)
double(x, x2 := np.zeros(3, np.float32))
print(c.numpy(), x2)
for call in (lambda: double(a, c), lambda: double.on("vulkan")(a, c)):
    try:
        call()
    except kdsl.ArgumentError as error:
        print(error.code)
back = kdsl.to_device(c, "vulkan")
print(back.device, back.numpy())
kdsl.synchronize("vulkan:1")
kdsl.synchronize()
print(validation.messages)
"""
    )
    drivers = os.pathsep.join([str(found[0]), str(other)])
    out = run_python(str(script), VK_ICD_FILENAMES=drivers, VK_DRIVER_FILES=drivers).stdout.splitlines()
    assert out == [
        "['vulkan', 'vulkan:1'] vulkan vulkan:1",
        "[0. 2. 4.] [0. 2. 4.]",
        "K0528",
        "K0528",
        "vulkan [0. 2. 4.]",
        "[]",
    ]
