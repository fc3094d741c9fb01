"""Device memory: regions of storage buffers, pooled by size.

A region is a piece of a block, which is one VkBuffer with memory of its own. Small regions share blocks, a
large one has its own. `Memory` is a region in use: when it is collected, the region goes back to the pool,
where the next owner takes it once the device has done all that was submitted for the one before.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kdsl.backends.vulkan.api import check, ffi, lib
from kdsl.errors import KernelMemoryError

if TYPE_CHECKING:
    from kdsl.backends.vulkan.device import Device

Place = Literal["device", "host"]
"""`device`: where kernels work. `host`: where data waits on its way to a device with memory of its own."""

SMALL_BYTES = 1 << 20
CHUNK_BYTES = 4 << 20
AHEAD = 2
"""How many large regions of one size the device may still be busy with before the host waits for it."""
IDLE_BYTES = 256 << 20
"""How much memory of large regions waits for a next owner."""

_numbers = itertools.count()


@dataclass(slots=True, eq=False)
class Block:
    """A VkBuffer and its memory. `address`: where the host sees it, 0 where it does not."""

    buffer: Any
    memory: Any
    address: int
    size: int
    views: int = 0


@dataclass(slots=True, eq=False)
class Region:
    """`size` bytes of a block from `offset` on. `number` is no other region's, ever.

    `serial`: the last submission that uses it.
    """

    block: Block
    offset: int
    size: int
    place: Place
    serial: int = 0
    number: int = field(default_factory=lambda: next(_numbers))

    @property
    def address(self) -> int:
        """Where the host sees it; 0 where it does not."""
        return self.block.address + self.offset if self.block.address else 0


class Memory:
    """A region in use."""

    __slots__ = ("__weakref__", "device", "region")

    def __init__(self, device: Device, region: Region) -> None:
        self.device = device
        self.region = region

    def __del__(self) -> None:
        self.device.memory.returned.append(self.region)

    def view(self, nbytes: int) -> np.ndarray[Any, Any]:
        """The first bytes as an array over mapped memory, which keeps this alive."""
        block = self.region.block
        assert block.address, "not seen by the host"
        block.views += 1

        def end(_: Any, memory: Memory = self) -> None:
            memory.region.block.views -= 1

        owner = ffi.gc(ffi.cast("unsigned char *", self.region.address), end)
        return np.frombuffer(ffi.buffer(owner, nbytes), np.uint8)


class MemoryPool:
    """All memory of a device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self.returned: deque[Region] = deque()
        """Regions whose owners are gone; whoever is collected may not take locks."""
        self._free: dict[tuple[Place, int], deque[Region]] = {}
        """Regions that had owners, by size, the longest unused one first."""
        self._unused: dict[tuple[Place, int], list[Region]] = {}
        """Regions that never had one."""
        self._blocks: dict[int, Block] = {}
        self._idle_bytes = 0
        self._types = {"device": _memory_type(device, "device"), "host": _memory_type(device, "host")}
        self.unified: bool = not device.staged and _maps(device, self._types["device"])
        """Whether the host sees what kernels work on, at full speed."""

    @property
    def held_bytes(self) -> int:
        """Bytes of all blocks, in use or not."""
        return sum(block.size for block in self._blocks.values())

    def view_count(self) -> int:
        """How many views of mapped memory there are."""
        return sum(block.views for block in self._blocks.values())

    def take(self, nbytes: int, place: Place = "device") -> Memory:
        """A region of at least `nbytes` bytes that nothing submitted uses any more.

        KernelMemoryError when the device has none.
        """
        device = self._device
        with device.lock:
            self._drain()
            size = size_class(nbytes)
            free = self._free.get((place, size))
            if free:
                if free[0].serial > device.done:
                    device.retire()
                if size > SMALL_BYTES and len(free) >= AHEAD:
                    device.wait(free[0].serial)
                if free[0].serial <= device.done:
                    region = free.popleft()
                    if size > SMALL_BYTES:
                        self._idle_bytes -= size
                    return Memory(device, region)
            unused = self._unused.setdefault((place, size), [])
            if not unused:
                unused += self._made(size, place)
            return Memory(device, unused.pop())

    def _drain(self) -> None:
        while self.returned:
            region = self.returned.popleft()
            self._free.setdefault((region.place, region.size), deque()).append(region)
            if region.size > SMALL_BYTES:
                self._idle_bytes += region.size
        if self._idle_bytes > IDLE_BYTES:
            self.trim(IDLE_BYTES // 2)

    def trim(self, keep_bytes: int = 0) -> None:
        """Frees idle large regions until `keep_bytes` are left, once the device is done with them."""
        with self._device.lock:
            for (_, size), free in self._free.items():
                while size > SMALL_BYTES and free and self._idle_bytes > keep_bytes:
                    region = free.popleft()
                    self._idle_bytes -= size
                    self._device.wait(region.serial)
                    self._destroy(region.block)

    def _made(self, size: int, place: Place) -> list[Region]:
        if size > SMALL_BYTES:
            return [Region(self._block(size, place), 0, size, place)]
        block = self._block(CHUNK_BYTES, place)
        return [Region(block, at, size, place) for at in range(0, CHUNK_BYTES, size)]

    def _block(self, size: int, place: Place) -> Block:
        try:
            return self._allocated(size, place)
        except KernelMemoryError:
            self._device.wait_all()
            self._drain()
            self.trim()
            return self._allocated(size, place)

    def _allocated(self, size: int, place: Place) -> Block:
        handle = self._device.handle
        what = f"make a buffer of {size} bytes"
        info = ffi.new(
            "VkBufferCreateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                "size": size,
                "usage": lib.VK_BUFFER_USAGE_STORAGE_BUFFER_BIT
                | lib.VK_BUFFER_USAGE_TRANSFER_SRC_BIT
                | lib.VK_BUFFER_USAGE_TRANSFER_DST_BIT,
            },
        )
        buffer, memory, address = ffi.new("VkBuffer *"), ffi.new("VkDeviceMemory *"), ffi.new("void **")
        check(lib.vkCreateBuffer(handle, info, ffi.NULL, buffer), what)
        needs = ffi.new("VkMemoryRequirements *")
        lib.vkGetBufferMemoryRequirements(handle, buffer[0], needs)
        number = self._types[place]
        assert needs.memoryTypeBits >> number & 1, "storage buffers go to every type of memory that we choose"
        wanted = ffi.new(
            "VkMemoryAllocateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                "allocationSize": needs.size,
                "memoryTypeIndex": number,
            },
        )
        result = lib.vkAllocateMemory(handle, wanted, ffi.NULL, memory)
        if result >= 0:
            result = lib.vkBindBufferMemory(handle, buffer[0], memory[0], 0)
            if result >= 0 and (place == "host" or self.unified):
                result = lib.vkMapMemory(handle, memory[0], 0, needs.size, 0, address)
        if result < 0:
            lib.vkDestroyBuffer(handle, buffer[0], ffi.NULL)
            lib.vkFreeMemory(handle, memory[0], ffi.NULL)
            check(result, what)
        block = Block(buffer[0], memory[0], int(ffi.cast("uintptr_t", address[0])), size)
        self._blocks[id(block)] = block
        return block

    def _destroy(self, block: Block) -> None:
        del self._blocks[id(block)]
        handle = self._device.handle
        lib.vkDestroyBuffer(handle, block.buffer, ffi.NULL)
        lib.vkFreeMemory(handle, block.memory, ffi.NULL)

    def close(self) -> bool:
        """Frees all blocks but those of which somebody has a view; whether that was all of them."""
        for block in list(self._blocks.values()):
            if not block.views:
                self._destroy(block)
        return not self._blocks


def size_class(nbytes: int) -> int:
    """The size of the region for `nbytes` bytes: a power of two, for large ones an eighth of one."""
    if nbytes <= SMALL_BYTES:
        return max(256, 1 << (max(nbytes, 1) - 1).bit_length())
    step = 1 << ((nbytes - 1).bit_length() - 4)
    return -(-nbytes // step) * step


def _memory_type(device: Device, place: Place) -> int:
    """The memory type for a place: the first one that has all that is wished for, else all that is needed."""
    visible = lib.VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | lib.VK_MEMORY_PROPERTY_HOST_COHERENT_BIT
    cached, local = lib.VK_MEMORY_PROPERTY_HOST_CACHED_BIT, lib.VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
    wishes = (visible | cached, visible) if place == "host" else (local | visible | cached, local, 0)
    properties = _memory_properties(device)
    for wish in wishes:
        for number in range(properties.memoryTypeCount):
            flags = properties.memoryTypes[number].propertyFlags
            special = flags & ~(visible | cached | local)  # protected, lazily allocated, ...
            if flags & wish == wish and not special:
                return number
    raise AssertionError("Vulkan promises memory that the host sees")


def _maps(device: Device, number: int) -> bool:
    """Whether the host sees memory of this type, and reads it at full speed."""
    need = lib.VK_MEMORY_PROPERTY_HOST_COHERENT_BIT | lib.VK_MEMORY_PROPERTY_HOST_CACHED_BIT
    flags = int(_memory_properties(device).memoryTypes[number].propertyFlags)
    return bool(flags & need == need)


def _memory_properties(device: Device) -> Any:
    properties = ffi.new("VkPhysicalDeviceMemoryProperties *")
    lib.vkGetPhysicalDeviceMemoryProperties(device.physical.handle, properties)
    return properties
