"""Arrays on a device: there and back, views, memory that is used again, wrong places."""

from __future__ import annotations

import copy
import gc
import pickle

import numpy as np
import pytest

import kdsl
from kdsl.backends import vulkan
from kdsl.runtime.device_array import DeviceArray
from tests.backends.vulkan_kernels import needs_vulkan

pytestmark = needs_vulkan


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "uint16", "bool", "float16"])
@pytest.mark.parametrize("shape", [(), (0,), (7,), (3, 5), (2, 0, 3), (1000, 301)])
def test_there_and_back(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    y = kdsl.to_device(x, "vulkan")
    assert (y.shape, y.dtype, y.ndim, y.size, y.nbytes) == (x.shape, x.dtype, x.ndim, x.size, x.nbytes)
    for back in (
        y.numpy(),
        np.asarray(y),
        np.array(y),
        copy.deepcopy(y).numpy(),
        pickle.loads(pickle.dumps(y)).numpy(),
    ):
        assert back.dtype == x.dtype
        assert back.shape == x.shape
        assert (back == x).all()
        assert back.flags.writeable


def test_strided_arrays_are_packed() -> None:
    x = np.arange(60.0).reshape(5, 12)
    for part in (x.T, x[::-2, 1::3], np.broadcast_to(x[:, :1], (5, 7)), x[2]):
        assert (kdsl.to_device(part, "vulkan").numpy() == part).all()


def test_bf16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.arange(5).astype(ml_dtypes.bfloat16)
    assert kdsl.to_device(x, "vulkan").numpy().tobytes() == x.tobytes()


def test_as_a_number_and_as_text() -> None:
    x = kdsl.to_device(np.float32(2.5), "vulkan")
    assert (float(x), int(x), bool(x), x.item()) == (2.5, 2, True, 2.5)
    with pytest.raises(TypeError):
        len(x)
    y = kdsl.to_device(np.zeros((3, 2), np.float32), "vulkan")
    assert len(y) == 3
    assert repr(y) == "<kdsl.DeviceArray of float32, shape (3, 2), on vulkan>"
    assert isinstance(y, kdsl.DeviceArray)
    assert np.asarray(y, np.float64).dtype == np.float64


def test_what_is_there_stays() -> None:
    x = kdsl.to_device(np.arange(3), "vulkan")
    assert kdsl.to_device(x, "vulkan") is x
    assert kdsl.to_device(x, "vulkan:0") is x
    assert kdsl.to_device(x) is x


def _unified() -> bool:
    return vulkan.open_device(0).memory.unified


def test_a_view_keeps_the_memory() -> None:
    if not _unified():
        pytest.skip("the host does not see this device's memory")
    x = np.arange(1 << 19, dtype=np.float32)
    part = kdsl.to_device(x, "vulkan").numpy(copy=False)[1000:2000]
    gc.collect()
    for _ in range(20):  # would take the memory if it were free
        kdsl.to_device(np.zeros(1 << 19, np.float32), "vulkan")
    assert (part == x[1000:2000]).all()
    assert not part.flags.writeable
    assert vulkan.open_device(0).memory.view_count() == 1
    del part
    assert vulkan.open_device(0).memory.view_count() == 0


def test_a_view_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    x = kdsl.to_device(np.arange(3), "vulkan")
    monkeypatch.setattr("kdsl.backends.vulkan.transfers.view", lambda *_: None)
    with pytest.raises(ValueError, match="takes a copy"):
        x.numpy(copy=False)
    assert x.numpy(copy=None).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="takes a copy"):
        np.asarray(x, np.float32, copy=False)


@pytest.mark.parametrize("nbytes", [4, 5000, 3 << 20])
def test_memory_is_used_again(nbytes: int) -> None:
    memory = vulkan.open_device(0).memory
    kdsl.synchronize()
    x = np.zeros(nbytes, np.int8)
    kdsl.to_device(x, "vulkan")
    before = memory.held_bytes
    for _ in range(100):
        kdsl.to_device(x, "vulkan")
    assert memory.held_bytes <= before + 4 * max(nbytes, 4 << 20)


def test_idle_memory_is_freed() -> None:
    memory = vulkan.open_device(0).memory
    memory.trim()
    before = memory.held_bytes
    kept = [kdsl.to_device(np.zeros(100 << 20, np.int8), "vulkan") for _ in range(5)]
    assert memory.held_bytes >= before + (500 << 20)
    kept.clear()
    kdsl.to_device(np.zeros(1), "vulkan")
    assert memory.held_bytes <= before + (256 << 20)
    memory.trim()
    assert memory.held_bytes <= before


def test_what_cannot_be_there() -> None:
    with pytest.raises(kdsl.ArgumentError, match=r"K0530.*complex128"):
        kdsl.to_device(np.zeros(2, complex), "vulkan")
    with pytest.raises(kdsl.ArgumentError, match=r"K0530.*NumPy arrays"):
        kdsl.to_device(np.zeros(2), "cpu")
    with pytest.raises(kdsl.TargetError, match=r"K0520.*no Vulkan device 99"):
        kdsl.to_device(np.zeros(2), "vulkan:99")
    with pytest.raises(kdsl.TargetError, match="K0501"):
        kdsl.to_device(np.zeros(2), "vulkan:x")
    with pytest.raises(kdsl.TargetError, match=r"K0525.*too large"):
        kdsl.to_device(np.broadcast_to(np.zeros(1), 1 << 34), "vulkan")


def test_device_arrays_stay_away_from_other_targets() -> None:
    N = kdsl.sizes("N")

    @kdsl.kernel
    def double(A: kdsl.f32[N]):
        for i in range(N):
            A[i] *= 2

    x = kdsl.to_device(np.zeros(3, np.float32), "vulkan")
    for call in (double.on("cpu"), double.on("interpreter"), double.py):
        with pytest.raises(kdsl.ArgumentError, match=r"K0528.*`A` of double lies on vulkan"):
            call(x)


def test_devices_are_listed() -> None:
    names = [d.name for d in kdsl.devices() if d.available]
    assert names[:2] == ["cpu", "vulkan"]
    assert isinstance(kdsl.to_device(np.zeros(2), "vulkan"), DeviceArray)
