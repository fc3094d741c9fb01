"""Calls of kernels on a Vulkan device: where arguments lie, results, faults, limits, calls again, cache."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32, f64, i32, i64
from kdsl.backends import vulkan
from kdsl.backends.vulkan import executable as executable_module
from kdsl.runtime.device_timer import DeviceTimer
from tests.backends.vulkan_kernels import needs_vulkan
from tests.runtime.process import run_python

pytestmark = needs_vulkan
M, N = kdsl.sizes("M N")


@kdsl.kernel(target="vulkan")
def saxpy(a: f32, X: f32[N], Y: f32[N]):
    for i in range(N):
        Y[i] += a * X[i]


@kdsl.kernel(target="vulkan")
def plus(X: f32[N], Y: f32[N]) -> f32[N]:
    Z = kdsl.empty(N, f32)
    for i in range(N):
        Z[i] = X[i] + Y[i]
    return Z


@kdsl.kernel(target="vulkan")
def total(X: f64[N]) -> f64:
    s = 0.0
    for i in range(N):
        s += X[i]
    return s


@kdsl.kernel(target="vulkan")
def gather(X: f32[N], at: i64[M], Y: f32[M]):
    for i in range(M):
        Y[i] = X[at[i]]


@kdsl.kernel(target="vulkan")
def steps(A: f32[N], T: i32):
    for t in range(T):
        for i in range(N):
            A[i] = A[i] * 0.5 + t


def there(x: Any) -> kdsl.DeviceArray:
    return kdsl.to_device(x, "vulkan")


def floats(n: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).random(n, np.float32)


# ------------------------------------------------------------------- arguments


@pytest.mark.parametrize("n", [0, 1, 64, 1000])
def test_host_device_and_both(n: int) -> None:
    x, y = floats(n, 1), floats(n, 2)
    want = y + 2 * x
    for first in (x, there(x)):
        for second in (y.copy(), there(y)):
            for _ in range(2):
                again = second.copy() if isinstance(second, np.ndarray) else there(y)
                saxpy(2, first, again)
                assert np.allclose(np.asarray(again), want)


def test_strided_and_read_only_arguments() -> None:
    x, y = floats(60)[::-3], np.zeros((20, 2), np.float32)
    x.flags.writeable = False
    for k in range(3):
        saxpy(1, x, y[:, 1])
        assert np.allclose(y[:, 1], (k + 1) * x)
    assert not y[:, 0].any()
    with pytest.raises(kdsl.ArgumentError, match="read-only"):
        saxpy(1, y[:, 1], x)


def test_scalars_by_value() -> None:
    x, y = np.ones(3, np.float32), np.zeros(3, np.float32)
    for a in (1, 2.5, np.float32(4), True, -0.0, 0.0, 1e30):
        y[:] = 0
        saxpy(a, x, y)
        assert (y == np.float32(a)).all()

    @kdsl.kernel(target="vulkan")
    def sign(a: f32, Y: f32[N]):
        for i in range(N):
            Y[i] = 1 / a

    for _ in range(2):
        for zero, inf in ((0.0, np.inf), (-0.0, -np.inf)):
            sign(zero, y)
            assert (y == inf).all()


def test_dependent_calls_are_not_waited_for() -> None:
    a = there(np.zeros(100, np.float32))
    one = there(np.ones(100, np.float32))
    for _ in range(500):
        saxpy(1, one, a)
    assert (a.numpy() == 500).all()


def test_results_that_are_under_way_take_little_memory() -> None:
    @kdsl.kernel(target="vulkan")
    def slow(X: f32[N]) -> f32[N]:
        Y = kdsl.empty(N, f32)
        for i in range(N):
            s = X[i]
            for _ in range(2000):
                s = s * 0.5 + 1.0
            Y[i] = s
        return Y

    memory = vulkan.open_device(0).memory
    x = there(floats(5000))
    slow(x)
    kdsl.synchronize()
    before = memory.held_bytes
    for _ in range(200):
        y = slow(x)
    assert np.allclose(y.numpy(), 2)
    assert memory.held_bytes <= before + (16 << 20)


def test_results_are_where_the_arguments_are() -> None:
    x = floats(50)
    assert isinstance(plus(x, x), np.ndarray)
    made = plus(there(x), x)
    assert isinstance(made, kdsl.DeviceArray) and (made.numpy() == x + x).all()
    again = made
    for _ in range(20):
        again = plus(again, made)
    assert np.allclose(again.numpy(), 21 * made.numpy())
    sums = total(there(np.arange(10.0)))
    assert isinstance(sums, kdsl.DeviceArray) and float(sums) == 45
    assert type(total(np.arange(10.0))) is np.float64


def test_overlap_is_refused() -> None:
    x, a = floats(10), there(floats(10))
    for _ in range(2):  # as a new call, and like one before
        saxpy(1, floats(8), x[2:])
        with pytest.raises(kdsl.ArgumentError, match="share memory"):
            saxpy(1, x[:8], x[2:])
        with pytest.raises(kdsl.ArgumentError, match="share memory"):
            saxpy(1, a, a)
        saxpy(1, there(floats(10)), a)


def test_arrays_that_may_share_memory() -> None:
    @kdsl.kernel(target="vulkan", may_alias=("X", "Y"))
    def shift(X: f32[N], Y: f32[N]):
        for i in range(N):
            Y[i] = X[i] + 1

    x = np.zeros(10, np.float32)
    shift(x, x)
    assert (x == 1).all()
    shift(x[:5], x[5:])
    assert (x[5:] == 2).all()
    a = there(x)
    shift(a, a)
    assert (a.numpy() == x + 1).all()
    with pytest.raises(kdsl.TargetError, match=r"K0529.*`X` and `Y` of shift overlap in part"):
        shift(x[:8], x[2:])


def test_what_a_kernel_does_not_write_stays() -> None:
    @kdsl.kernel(target="vulkan")
    def first(X: f32[N]):
        for i in range(N // 2):
            X[i] = 7

    x = floats(11)
    want = x.copy()
    want[:5] = 7
    first(x)
    assert (x == want).all()


# --------------------------------------------------------------------- programs


@pytest.mark.parametrize("count", [0, 1, 10, 3000, 9000])
def test_loops_of_the_host(count: int) -> None:
    a = floats(70)
    want = a.copy()
    for t in range(count):
        want = want * np.float32(0.5) + np.float32(t)
    steps(a, count)
    assert np.allclose(a, want)


def test_threads() -> None:
    wrong = []

    def work(seed: int) -> None:
        for n in range(1, 60):
            x = floats(n * 7, seed)
            if not (plus(x, x) == x + x).all() or not (plus(there(x), x).numpy() == x + x).all():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_launches_are_kept_and_given_up() -> None:
    x = floats(100)
    for n in range(1, 2 * executable_module.KEPT_LAUNCHES + 5):
        plus(x[: n % 100 + 1], x[: n % 100 + 1])
    big = np.zeros(executable_module.KEPT_BYTES // 4, np.float32)
    saxpy(1, big, big.copy())
    device = vulkan.open_device(0)
    gc.collect()
    saxpy(1, x, x.copy())
    kdsl.synchronize()
    assert len(device.old) <= 1


# --------------------------------------------------------------- errors and limits


def test_faults_are_those_of_the_cpu() -> None:
    x, y, at = floats(10), np.zeros(5, np.float32), np.array([1, 2, 12, 3, -1])
    said = []
    for target in ("cpu", "vulkan"):
        with pytest.raises(IndexError) as caught:
            gather.on(target)(x, at, y)
        said.append(str(caught.value))
    assert said[0] == said[1] and "index 12 is out of bounds" in said[0]


def test_faults_of_calls_that_nobody_waits_for() -> None:
    x, y, at = there(floats(10)), there(np.zeros(5, np.float32)), there(np.array([1, 2, 12, 3, -1]))
    gather(x, at, y)
    with pytest.raises(IndexError, match="index 12"):
        y.numpy()
    y.numpy()
    gather(x, at, y)
    with pytest.raises(IndexError, match="index 12"):
        kdsl.synchronize()
    gather(x, at, y)
    with pytest.raises(IndexError, match="index 12"):
        saxpy(1, floats(4), floats(4))  # waits, since it writes to the host
    gather(x, there(np.zeros(5, np.int64)), y)
    assert (y.numpy() == x.numpy()[0]).all()


def test_conditions_are_those_of_the_cpu() -> None:
    @kdsl.kernel
    def shifted(X: f32[N], Y: f32[M]):
        for i in range(M):
            Y[i] = X[i + 3]

    said = []
    for target in ("cpu", "vulkan"):
        with pytest.raises(kdsl.ArgumentError) as caught:
            shifted.on(target)(floats(5), floats(4))
        said.append((caught.value.code, caught.value.lineno, caught.value.notes))
    assert said[0] == said[1]
    shifted.on("vulkan")(floats(7), floats(4))
    with pytest.raises(kdsl.ArgumentError):
        shifted.on("vulkan")(there(floats(5)), there(floats(4)))


def test_limits_of_the_device() -> None:
    one = np.broadcast_to(np.float32(1), 1 << 30)
    with pytest.raises(kdsl.TargetError, match=r"K0525.*N is 1073741824"):
        plus(one, one)
    with pytest.raises(kdsl.TargetError, match=r"K0525.*`X` has .* bytes|K0527"):
        plus(one[: 1 << 29], one[: 1 << 29])


@kdsl.kernel(target="vulkan")
def chain(X: f32[N]):
    for i in range(1, N):
        X[i] = X[i - 1] + 1


@kdsl.kernel(target="vulkan")
def chain_while(X: f32[N]):
    i = 1
    while i < N:
        X[i] = X[i - 1] + 1
        i += 1


@kdsl.kernel(target="vulkan")
def chain_until(X: f32[N], n: i64):
    for i in range(1, N):
        if i == n:
            break
        X[i] = X[i - 1] + 1


@kdsl.kernel(target="vulkan")
def rows_of_sums(X: f32[M, N], Y: f32[M]):
    for i in range(M):
        s = 0.0
        for j in range(N):
            s += X[i, j]
        Y[i] = s


def test_loops_are_done_or_there_is_an_error() -> None:
    """llvmpipe ends loops after 65535 iterations of an invocation, and says nothing."""

    def tried(kernel: Any, *args: Any) -> bool:
        try:
            kernel(*args)
        except kdsl.TargetError as error:
            assert error.code == "K0607"
            return False
        return True

    for n in (40_000, 65_530, 65_537, 200_000):
        done = []
        for kernel, args in ((chain, ()), (chain_while, ()), (chain_until, (1 << 40,))):
            X = np.zeros(n, np.float32)
            done.append(tried(kernel, X, *args))
            assert not done[-1] or (np.arange(n) == X).all()
        Y = np.zeros(3, np.float32)
        done.append(tried(rows_of_sums, np.ones((3, n), np.float32), Y))
        assert not done[-1] or (n == Y).all()
        if n < 65_535:
            assert all(done)
        elif "llvmpipe" in vulkan.devices()[0].name:
            assert not any(done)
        X = np.zeros(n, np.float32)
        assert tried(chain_until, X, 100) and X.max() == 99


def test_the_error_of_a_loop_that_was_ended() -> None:
    if "llvmpipe" not in vulkan.devices()[0].name:
        pytest.skip("not llvmpipe")
    with pytest.raises(kdsl.TargetError) as caught:
        chain(np.zeros(100_000, np.float32))
    error = caught.value
    assert error.code == "K0607" and error.title == "the device ended this loop too early"
    assert "65,535 iterations" in str(error) and "for i in range(1, N):" in str(error)


def test_other_forms_are_refused() -> None:
    for form in (saxpy.llvm, saxpy.asm, saxpy.schedule().llvm):
        with pytest.raises(kdsl.TargetError, match="K0531"):
            form()
    assert "OpEntryPoint GLCompute" in saxpy.spirv()
    assert "OpEntryPoint GLCompute" in saxpy.on("cpu").spirv()
    assert "OpEntryPoint GLCompute" in saxpy.schedule().spirv()
    assert "define" in saxpy.on("cpu").llvm()


def test_explained_for_arrays_on_the_device() -> None:
    a, b = there(floats(100)), there(floats(100))
    before = b.numpy()
    assert "on vulkan" in str(saxpy.explain(2, a, b))
    assert (b.numpy() == before).all()


def test_names_of_devices() -> None:
    assert saxpy.on("vulkan:0") is saxpy
    assert saxpy.on("vulkan") is saxpy
    assert "on vulkan" in repr(saxpy)
    with pytest.raises(kdsl.TargetError, match="K0520"):
        saxpy.on("vulkan:99")(1, floats(3), floats(3))
    with pytest.raises(kdsl.TargetError, match="K0501"):
        saxpy.on("vulkan:-1")


def test_the_device_has_a_clock() -> None:
    a, b = there(floats(100_000)), there(floats(100_000))
    saxpy(1, a, b)
    with DeviceTimer("vulkan") as timer:
        for _ in range(20):
            saxpy(1, a, b)
    assert 0 < timer.elapsed_ms < 10_000
    assert timer.elapsed_ms == timer.elapsed_ms
    with pytest.raises(kdsl.ArgumentError):
        DeviceTimer("cpu")


# ------------------------------------------------------------------------ cache


def test_the_second_process_compiles_nothing(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        """
import sys
import numpy as np
import kdsl
from kdsl import f32

N, M = kdsl.sizes("N M")

@kdsl.kernel(target="vulkan")
def shifted(X: f32[N], Y: f32[M]):
    for i in range(M):
        Y[i] = X[i + 3]

x, y = np.arange(7, dtype=np.float32), np.zeros(4, np.float32)
shifted(x, y)
print(y.tolist(), sorted(m for m in ("islpy", "llvmlite", "kdsl.backends.spirv.emit") if m in sys.modules))
try:
    shifted(x[1:], y)
except kdsl.ArgumentError as error:
    print(error.code, error.lineno)
"""
    )
    cache = str(tmp_path / "cache")
    first, second = (run_python(str(script), KDSL_CACHE_DIR=cache).stdout.splitlines() for _ in range(2))
    assert first[0].startswith("[3.0, 4.0, 5.0, 6.0] ['islpy'")
    assert second[0] == "[3.0, 4.0, 5.0, 6.0] []"
    assert first[1] == second[1] == "K0420 12"
    assert "shifted" in run_python("-m", "kdsl", "cache", "info", KDSL_CACHE_DIR=cache).stdout


def test_stages_are_written(tmp_path: Path) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.runtime.test_vulkan_calls import saxpy, floats
saxpy(1, floats(3), floats(3))
"""
    run_python("-c", code, KDSL_DEBUG=str(tmp_path))
    stages = {p.name.split("-", 1)[1] for p in tmp_path.glob("saxpy-*/*")}
    assert {"ir", "launches", "spvasm"} <= stages


@pytest.mark.parametrize("bits", [128, 256, 512])
def test_subgroups_of_each_size(bits: int) -> None:
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.runtime import test_vulkan_calls as t
t.test_host_device_and_both(1000); t.test_faults_are_those_of_the_cpu(); t.test_loops_of_the_host(10)
from kdsl.backends import vulkan
from kdsl.backends.vulkan import validation
print(vulkan.devices()[0].limits.subgroup, validation.messages)
"""
    out = run_python("-c", code, LP_NATIVE_VECTOR_WIDTH=str(bits)).stdout
    if "llvmpipe" in vulkan.devices()[0].name:
        assert out == f"{bits // 32} []\n"
