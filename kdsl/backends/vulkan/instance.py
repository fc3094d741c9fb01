"""The Vulkan instance of this process: made on first use, destroyed at exit, of no use after a fork."""

from __future__ import annotations

import atexit
import os
import threading
from typing import TYPE_CHECKING, Any

from kdsl.backends.vulkan import validation
from kdsl.backends.vulkan.api import check, ffi, lib
from kdsl.backends.vulkan.physical import Physical, physical_devices
from kdsl.errors import TargetError

if TYPE_CHECKING:
    from kdsl.backends.vulkan.device import Device

NO_DRIVER = (
    "no Vulkan driver is installed (Debian: apt-get install mesa-vulkan-drivers; else your GPU's driver)"
)


class Instance:
    """An instance, its devices as the driver describes them, and those that have been opened, by index."""

    def __init__(self) -> None:
        self._validation = validation.wanted()
        layers = [] if self._validation is None else [validation.LAYER]
        extensions = [] if self._validation is None else ["VK_EXT_debug_utils"]
        names = [ffi.new("char[]", name.encode()) for name in (*layers, *extensions)]
        layer_names = ffi.new("char *[]", names[: len(layers)])
        extension_names = ffi.new("char *[]", names[len(layers) :])
        name = ffi.new("char[]", b"kdsl")
        application = ffi.new(
            "VkApplicationInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_APPLICATION_INFO,
                "pApplicationName": name,
                "pEngineName": name,
                "apiVersion": 1 << 22 | 2 << 12,
            },
        )
        info = ffi.new(
            "VkInstanceCreateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                "pNext": ffi.NULL if self._validation is None else self._validation.settings,
                "pApplicationInfo": application,
                "enabledLayerCount": len(layers),
                "ppEnabledLayerNames": layer_names,
                "enabledExtensionCount": len(extensions),
                "ppEnabledExtensionNames": extension_names,
            },
        )
        handle = ffi.new("VkInstance *")
        result = lib.vkCreateInstance(info, ffi.NULL, handle)
        if result == lib.VK_ERROR_INCOMPATIBLE_DRIVER:
            raise TargetError("K0520", NO_DRIVER)
        check(result, "start")
        self.handle: Any = handle[0]
        if self._validation is not None:
            self._validation.listen(self.handle)
        self.physical: list[Physical] = physical_devices(self.handle)
        self.opened: dict[int, Device] = {}
        self._lock = threading.Lock()

    def device(self, index: int) -> Device:
        """The device number `index`, opened; TargetError in a forked child."""
        found = self.opened.get(index)
        if found is None:
            from kdsl.backends.vulkan.device import Device

            with self._lock:
                found = self.opened.get(index)
                if found is None:
                    found = self.opened[index] = Device(self, index)
        return found

    def close(self) -> None:
        """Destroys the devices, then the instance; what views of device memory still need is left alone."""
        devices, self.opened = self.opened, {}
        closed = [device.close() for device in devices.values()]
        if all(closed):
            if self._validation is not None:
                self._validation.close(self.handle)
            lib.vkDestroyInstance(self.handle, ffi.NULL)


_instance: Instance | None = None
_forked = False
"""Whether this process was forked off from one that had an instance."""
_lock = threading.Lock()


def instance() -> Instance:
    """The instance of this process, made if there is none.

    TargetError without a driver, and in a process that was forked off from one that had an instance: the
    driver's threads are not in it.
    """
    global _instance
    if _instance is None:
        with _lock:
            if _instance is None:
                made = Instance()
                atexit.register(close)
                if hasattr(os, "register_at_fork"):
                    os.register_at_fork(after_in_child=_note_fork)
                _instance = made
    check_process()
    return _instance


def check_process() -> None:
    """TargetError in a process that was forked off from one that had an instance."""
    if _forked:
        raise TargetError(
            "K0524",
            "this process was forked after Vulkan had started, and cannot use it",
            help='start processes with multiprocessing.get_context("spawn"), or use Vulkan in them alone',
        )


def _note_fork() -> None:
    global _forked
    _forked = True


def close() -> None:
    """Ends Vulkan in this process; the next use starts it again."""
    global _instance
    found, _instance = _instance, None
    if found is not None and not _forked:
        found.close()


def opened_devices() -> list[tuple[int, Device]]:
    """The devices that are open in this process, with their numbers."""
    return [] if _instance is None else sorted(_instance.opened.items())
