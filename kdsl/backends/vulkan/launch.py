"""One prepared launch: buffers, the descriptor set that names them, and command buffers, sent at will."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from kdsl.backends.vulkan.api import ffi, lib
from kdsl.backends.vulkan.commands import Copy, Recorder
from kdsl.backends.vulkan.faults import Fault, Status
from kdsl.backends.vulkan.host import Command
from kdsl.backends.vulkan.memory import Memory, Region

Array = np.ndarray[Any, Any]


class Transfer(NamedTuple):
    """An argument in the host's memory, and the window through which its copy is written and read."""

    argument: int
    window: Array
    read: bool
    written: bool


@dataclass(slots=True, eq=False)
class Buffers:
    """What a launch works on: `bound` has the region and the bytes of each binding, `owned` lives with it.

    `before` and `after` are copies from and to the host's staging memory, `cleared` is zeroed before, in
    `parameters` lie those that are not pushed. `status` is where the host sees the kernel's status.
    """

    bound: list[tuple[Region, int]] = field(default_factory=list)
    owned: list[Memory] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    before: list[Copy] = field(default_factory=list)
    after: list[Copy] = field(default_factory=list)
    cleared: Region | None = None
    parameters: Region | None = None
    status: Status | None = None


class Launch:
    """Commands over `buffers`. One with transfers serves one call at a time (`busy`).

    `serial` is its last submission. Methods are called under the device's lock.
    """

    __slots__ = (
        "_commands",
        "_handles",
        "_info",
        "_recorder",
        "_regions",
        "_set",
        "buffers",
        "busy",
        "owned_bytes",
        "serial",
        "transfers",
    )

    def __init__(self, recorder: Recorder, bindings: Sequence[int], buffers: Buffers) -> None:
        self._recorder = recorder
        self._set = recorder.pipelines.take_set()
        _write_set(recorder.pipelines.device.handle, self._set, bindings, buffers.bound)
        self._commands: list[Any] = []
        self._handles: Any = None
        self._info: Any = None
        self._regions = [*(region for region, _ in buffers.bound), *(m.region for m in buffers.owned)]
        self.buffers = buffers
        self.transfers = buffers.transfers
        self.owned_bytes = sum(memory.region.size for memory in buffers.owned)
        self.busy = False
        self.serial = 0

    def record(
        self, commands: Sequence[Command], first: bool = True, last: bool = True, again: Any = None
    ) -> Any:
        """Records one command buffer, a new one unless `again` is given. The first one and the last one of a
        program have the copies before and after it."""
        buffer = again
        if buffer is None:
            buffer = self._recorder.pipelines.device.take_commands()
            self._commands.append(buffer)
        b = self.buffers
        self._recorder.record(
            buffer,
            self._set,
            commands,
            before=b.before if first else (),
            after=b.after if last else (),
            cleared=b.cleared if first else None,
            parameters=b.parameters,
        )
        return buffer

    def send(self, on_done: Callable[[], None] | None = None) -> int:
        """Submits all command buffers; gives the submission's number."""
        if self._info is None:
            self._handles, self._info = _submit_info(self._commands)
        return self._sent(self._info, on_done)

    def send_one(self, buffer: Any) -> int:
        """Submits one of the command buffers."""
        _, info = kept = _submit_info([buffer])
        serial = self._sent(info, None)
        del kept
        return serial

    def _sent(self, info: Any, on_done: Callable[[], None] | None) -> int:
        self.serial = serial = self._recorder.pipelines.device.submit(info, self, on_done)
        for region in self._regions:
            region.serial = serial
        return serial

    def fault(self) -> Fault | None:
        """What the kernel says of a fault, once it is done; it is asked once."""
        return None if self.buffers.status is None else self.buffers.status.take()

    def discard(self) -> None:
        """Gives back what is its own; nothing under way may use it, and it is not used again."""
        pipelines = self._recorder.pipelines
        pipelines.give_set(self._set)
        for buffer in self._commands:
            pipelines.device.give_commands(buffer)
        self._commands, self.buffers, self.transfers = [], Buffers(), []


def window(region: Region, shape: tuple[int, ...], dtype: Any) -> Array:
    """A region that the host sees as an array. It must not outlive the region's owner."""
    count = 1
    for extent in shape:
        count *= extent
    memory = ffi.buffer(ffi.cast("char *", region.address), count * dtype.itemsize)
    return np.frombuffer(memory, dtype, count).reshape(shape) if count else np.empty(shape, dtype)


def _submit_info(commands: Sequence[Any]) -> tuple[Any, Any]:
    """A VkSubmitInfo, after what it points to."""
    handles = ffi.new("VkCommandBuffer[]", commands)
    info = ffi.new(
        "VkSubmitInfo *",
        {
            "sType": lib.VK_STRUCTURE_TYPE_SUBMIT_INFO,
            "commandBufferCount": len(commands),
            "pCommandBuffers": handles,
        },
    )
    return handles, info


def _write_set(
    device: Any, target: Any, bindings: Sequence[int], bound: Sequence[tuple[Region, int]]
) -> None:
    infos = ffi.new("VkDescriptorBufferInfo[]", len(bound))
    writes = ffi.new("VkWriteDescriptorSet[]", len(bound))
    for n, (number, (region, nbytes)) in enumerate(zip(bindings, bound)):
        infos[n].buffer = region.block.buffer
        infos[n].offset = region.offset
        infos[n].range = max(-(-nbytes // 16) * 16, 16)  # arrays without elements are bound too
        writes[n].sType = lib.VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET
        writes[n].dstSet = target
        writes[n].dstBinding = number
        writes[n].descriptorCount = 1
        writes[n].descriptorType = lib.VK_DESCRIPTOR_TYPE_STORAGE_BUFFER
        writes[n].pBufferInfo = infos + n
    lib.vkUpdateDescriptorSets(device, len(bound), writes, 0, ffi.NULL)
