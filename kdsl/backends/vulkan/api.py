"""Raw access to Vulkan: cffi's `ffi`, the loader's functions `lib`, and what their result codes mean.

Importing this module loads the loader: ImportError without the package `vulkan`, OSError without a loader.
The package's own wrappers are not used: they cost time in every call and lose nested pointers to the
garbage collector. So whoever fills a struct keeps what it points to alive until the call is over.
"""

from __future__ import annotations

from typing import Any

from vulkan._vulkan import ffi as _ffi
from vulkan._vulkan import lib as _lib

from kdsl.errors import KdslError, KernelMemoryError, TargetError

ffi: Any = _ffi
lib: Any = _lib
_NAMES: dict[int, str] = dict(_ffi.typeof("VkResult").elements)
_OUT_OF_MEMORY = (
    "VK_ERROR_OUT_OF_HOST_MEMORY",
    "VK_ERROR_OUT_OF_DEVICE_MEMORY",
    "VK_ERROR_TOO_MANY_OBJECTS",
    "VK_ERROR_FRAGMENTED_POOL",
    "VK_ERROR_MEMORY_MAP_FAILED",
)


def check(result: int, what: str) -> None:
    """Raises the error of a result code below 0; `what` says what was tried: "make a buffer"."""
    if result < 0:
        raise failure(result, what)


def failure(result: int, what: str) -> KdslError:
    """The error that a result code below 0 means."""
    name = _NAMES.get(result, str(result))
    if name == "VK_ERROR_DEVICE_LOST":
        return TargetError(
            "K0522",
            f"the Vulkan device was lost while trying to {what}",
            notes=["what it held is gone"],
            help="start Python again; a kernel that runs for seconds may need a longer limit in the driver",
        )
    if name in _OUT_OF_MEMORY:
        return KernelMemoryError(
            "K0527",
            f"no memory on the Vulkan device to {what} ({name})",
            help="drop arrays that are not needed any more, or work on parts",
        )
    return TargetError(
        "K0521",
        f"Vulkan could not {what}: {name}",
        help="KDSL_VULKAN_VALIDATION=1 lets the validation layer say more",
    )


def text(chars: Any) -> str:
    """A C string, or the array of a struct that holds one."""
    return str(ffi.string(chars).decode(errors="replace"))


def version(number: int) -> tuple[int, int]:
    """Major and minor of a version number of Vulkan."""
    return (number >> 22) & 0x7F, (number >> 12) & 0x3FF
