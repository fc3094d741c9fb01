"""Arrays of the host to device memory and back, outside of launches."""

from __future__ import annotations

from typing import Any

import numpy as np

from kdsl.backends.vulkan.commands import Copy, record_copies
from kdsl.backends.vulkan.device import Device
from kdsl.backends.vulkan.launch import window
from kdsl.backends.vulkan.memory import Memory

Array = np.ndarray[Any, Any]


def upload(device: Device, array: Array) -> Memory:
    """New device memory with the elements of `array`, in C order; KernelMemoryError when there is none."""
    device.check_usable()
    memory = device.memory.take(array.nbytes)
    if memory.region.address:
        np.copyto(window(memory.region, array.shape, array.dtype), array)
    elif array.nbytes:
        staging = device.memory.take(array.nbytes, "host")
        np.copyto(window(staging.region, array.shape, array.dtype), array)
        _send(device, staging, memory, array.nbytes)
    return memory


def download(memory: Memory, shape: tuple[int, ...], dtype: Any) -> Array:
    """A new array with the elements in device memory, once what was sent before is done with them.

    Raises the first fault of what nobody waited for.
    """
    device = memory.device
    device.check_usable()
    out = np.empty(shape, dtype)
    staging = memory
    if not memory.region.address and out.nbytes:
        staging = device.memory.take(out.nbytes, "host")
        _send(device, memory, staging, out.nbytes)
    device.wait(memory.region.serial)
    device.raise_faults()
    if out.nbytes:
        np.copyto(out, window(staging.region, shape, dtype))
    return out


def view(memory: Memory, shape: tuple[int, ...], dtype: Any) -> Array | None:
    """A read-only array over device memory, None where the host does not see it; waits as `download`."""
    device = memory.device
    device.check_usable()
    if not memory.region.address:
        return None
    device.wait(memory.region.serial)
    device.raise_faults()
    count = int(np.prod(shape, dtype=np.int64))
    out: Array = memory.view(count * dtype.itemsize).view(dtype).reshape(shape)
    out.flags.writeable = False
    return out


def _send(device: Device, source: Memory, target: Memory, nbytes: int) -> None:
    """Copies on the device, without waiting."""
    with device.lock:
        buffer = device.take_commands()
        record_copies(buffer, [Copy(source.region, target.region, nbytes)])
        serial = device.submit_commands(buffer)
        source.region.serial = target.region.serial = serial
