"""Arrays that stay on a Vulkan device between calls."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from kdsl.dtypes import from_numpy
from kdsl.errors import ArgumentError, TargetError
from kdsl.runtime.targets import default_name, index_of, resolve

Array = np.ndarray[Any, Any]


class DeviceArray:
    """An array in the memory of a Vulkan device, its elements in C order; `kdsl.to_device` makes one.

    Kernels called with it leave their results there and are not waited for; whoever reads it (`numpy`,
    `item`, `float`) waits. Its memory is freed, for the next array, when nobody has it any more.
    """

    __slots__ = ("__weakref__", "dtype", "kind", "memory", "nbytes", "ndim", "shape", "size")

    def __init__(self, memory: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self.memory = memory
        self.shape = shape
        self.dtype = dtype
        self.ndim = len(shape)
        self.size = 1
        for extent in shape:
            self.size *= extent
        self.nbytes = self.size * dtype.itemsize
        self.kind = (memory.device.index, dtype, shape)
        """What calls must know of it but for its elements (see `runtime.seen`)."""

    @property
    def device(self) -> str:
        """The device's name: `vulkan`, `vulkan:1`."""
        name: str = self.memory.device.name
        return name

    def numpy(self, copy: bool | None = True) -> Array:
        """The elements as a NumPy array, once the kernels that were called before are done with them.

        Raises what those kernels raise. `copy=False`: a read-only view of the device's memory, ValueError
        where the host does not see it; `None`: a view where there is one. A view keeps the memory alive, and
        shows what later kernels write.
        """
        from kdsl.backends.vulkan.transfers import download, view

        if not copy:
            found = view(self.memory, self.shape, self.dtype)
            if found is not None:
                return found
            if copy is False:
                raise ValueError(f"the memory of {self.device} is not seen by the host: it takes a copy")
        return download(self.memory, self.shape, self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if dtype is None or np.dtype(dtype) == self.dtype:
            return self.numpy(copy=copy is not False)
        if copy is False:
            raise ValueError(f"{self.dtype} as {dtype} takes a copy")
        return self.numpy().astype(dtype)

    def item(self) -> Any:
        """The only element, as a Python number."""
        return self.numpy().item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.numpy())

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a DeviceArray without dimensions has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<kdsl.DeviceArray of {self.dtype}, shape {self.shape}, on {self.device}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return to_device, (self.numpy(), self.device)


def to_device(x: Any, device: str | None = None) -> DeviceArray:
    """A copy of `x` on a Vulkan device: "vulkan", "vulkan:1"; without a name on that of KDSL_TARGET, or the
    first one. An array that is there already comes back as it is.
    """
    name = device if device is not None else _default_device()
    target = resolve(name)
    if target.kind != "vulkan":
        raise ArgumentError(
            "K0530",
            f"arrays of target {name!r} are NumPy arrays",
            help='name a Vulkan device: kdsl.to_device(x, "vulkan")',
        )
    if isinstance(x, DeviceArray):
        if x.device == target.name:
            return x
        x = x.numpy()
    array = np.asarray(x)
    if from_numpy(array.dtype) is None:
        raise ArgumentError(
            "K0530",
            f"kdsl has no type for elements of dtype {array.dtype}",
            help="convert it with `astype`",
        )
    from kdsl.backends import vulkan
    from kdsl.backends.vulkan.transfers import upload

    _check_bytes(array.nbytes, target)
    return DeviceArray(upload(vulkan.open_device(target.index), array), array.shape, array.dtype)


def empty(device: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> DeviceArray:
    """An array without values on an open device."""
    nbytes = dtype.itemsize
    for extent in shape:
        nbytes *= extent
    return DeviceArray(device.memory.take(nbytes), shape, dtype)


def synchronize(device: str | None = None) -> None:
    """Waits until a device, or all of them, has done all that was asked of it.

    Raises the first error of the kernels that ran meanwhile.
    """
    index = None if device is None else index_of(device)
    started = sys.modules.get("kdsl.backends.vulkan.instance")
    if started is not None:
        for n, opened in started.opened_devices():
            if index is None or n == index:
                opened.synchronize()


def _default_device() -> str:
    name = default_name()
    return name if name.partition(":")[0] == "vulkan" else "vulkan"


def _check_bytes(nbytes: int, target: Any) -> None:
    if nbytes > target.limits.storage_bytes:
        raise TargetError(
            "K0525",
            f"an array of {nbytes} bytes is too large for {target.name} ({target.cpu})",
            notes=[f"the largest array that a kernel can use there has {target.limits.storage_bytes} bytes"],
            help="work on parts",
        )
