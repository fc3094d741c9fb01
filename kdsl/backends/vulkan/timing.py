"""Time on the device's own clock, between two points of its queue."""

from __future__ import annotations

from typing import Any

from kdsl.backends.vulkan.api import ffi, lib
from kdsl.backends.vulkan.commands import record_timestamp
from kdsl.backends.vulkan.device import Device


class Stopwatch:
    """`start()` and `stop()` mark two points between submissions; `elapsed_ms()` waits for the second one."""

    def __init__(self, device: Device) -> None:
        device.check_usable()
        self._device = device
        self._serial = 0
        info = ffi.new(
            "VkQueryPoolCreateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
                "queryType": lib.VK_QUERY_TYPE_TIMESTAMP,
                "queryCount": 2,
            },
        )
        pool = ffi.new("VkQueryPool *")
        device.check(lib.vkCreateQueryPool(device.handle, info, ffi.NULL, pool), "make a query pool")
        self._pool: Any = pool[0]
        device.owners.add(self)

    def start(self) -> None:
        """Marks the first point: after all that was submitted so far."""
        self._mark(0)

    def stop(self) -> None:
        """Marks the second point."""
        self._mark(1)

    def elapsed_ms(self) -> float:
        """Milliseconds between the points; 0.0 on a device without a clock."""
        device = self._device
        device.wait(self._serial)
        ticks = ffi.new("uint64_t[2]")
        flags = lib.VK_QUERY_RESULT_64_BIT
        result = lib.vkGetQueryPoolResults(device.handle, self._pool, 0, 2, 16, ticks, 8, flags)
        device.check(result, "read the device's clock")
        bits = device.physical.timestamp_bits
        between = (ticks[1] - ticks[0]) & ((1 << bits) - 1)
        return float(between * device.physical.timestamp_ns / 1e6)

    def _mark(self, number: int) -> None:
        device = self._device
        with device.lock:
            buffer = device.take_commands()
            record_timestamp(buffer, self._pool, number)
            self._serial = device.submit_commands(buffer)

    def end(self) -> None:
        """Gives the query pool back."""
        device = self._device
        device.wait(self._serial)
        with device.lock:
            if self in device.owners:
                device.owners.discard(self)
                self.close()

    def close(self) -> None:
        """Destroys the query pool; nothing under way may use it."""
        lib.vkDestroyQueryPool(self._device.handle, self._pool, ffi.NULL)
