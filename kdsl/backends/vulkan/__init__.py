"""The Vulkan run time: devices, their memory, and kernels on them. Needs the package `vulkan`, a loader and a
driver, and loads them on first use; `available` says what is missing.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from kdsl.errors import TargetError

if TYPE_CHECKING:
    from kdsl.backends.base import Artifact
    from kdsl.backends.vulkan.device import Device
    from kdsl.backends.vulkan.executable import Executable
    from kdsl.backends.vulkan.physical import Physical
    from kdsl.backends.vulkan.pipelines import Blobs
    from kdsl.dtypes import DType

NO_PACKAGE = "the package `vulkan` is not installed (pip install 'kdsl[vulkan]')"
NO_LOADER = "there is no Vulkan loader (Debian: apt-get install mesa-vulkan-drivers; else your GPU's driver)"
NO_DEVICE = "no driver offers a device (Debian: apt-get install mesa-vulkan-drivers; else your GPU's driver)"


def available() -> str | None:
    """None when there is a device, else what is missing and how to install it."""
    if importlib.util.find_spec("vulkan") is None:
        return NO_PACKAGE
    try:
        import kdsl.backends.vulkan.api  # noqa: F401
    except (ImportError, OSError):
        return NO_LOADER
    try:
        found = devices()
    except TargetError as error:
        return error.title
    return None if found else NO_DEVICE


def check_process() -> None:
    """TargetError in a process that was forked off from one in which Vulkan had started."""
    started = sys.modules.get("kdsl.backends.vulkan.instance")
    if started is not None:
        started.check_process()


def devices() -> list[Physical]:
    """The devices of this machine, the fastest kind first."""
    from kdsl.backends.vulkan.instance import instance

    return instance().physical


def open_device(index: int) -> Device:
    """The open device number `index`."""
    from kdsl.backends.vulkan.instance import instance

    return instance().device(index)


def load(
    artifact: Artifact, sizes: Sequence[str], scalars: Mapping[str, DType], blobs: Blobs | None = None
) -> Executable:
    """A compiled kernel on its target's device. `sizes` and `scalars` are those of the kernel, in order."""
    from kdsl.backends.spirv.manifest import unpack
    from kdsl.backends.vulkan.executable import Executable

    manifest, spirv = unpack(artifact.code)
    return Executable(open_device(artifact.target.index), manifest, spirv, sizes, scalars, blobs)
