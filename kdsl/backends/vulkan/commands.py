"""Recording: transfers and dispatches into a command buffer, with barriers where data passes on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from kdsl.backends.vulkan.api import check, ffi, lib
from kdsl.backends.vulkan.host import Command
from kdsl.backends.vulkan.memory import Region
from kdsl.backends.vulkan.pipelines import Pipelines

_WORK = lib.VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | lib.VK_PIPELINE_STAGE_TRANSFER_BIT
_WRITES = lib.VK_ACCESS_SHADER_WRITE_BIT | lib.VK_ACCESS_TRANSFER_WRITE_BIT
_READS = lib.VK_ACCESS_SHADER_READ_BIT | lib.VK_ACCESS_TRANSFER_READ_BIT
_BEGIN = ffi.new(
    "VkCommandBufferBeginInfo *",
    {
        "sType": lib.VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        "flags": lib.VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT,
    },
)
_PASS_ON = ffi.new(
    "VkMemoryBarrier *",
    {
        "sType": lib.VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        "srcAccessMask": _WRITES,
        "dstAccessMask": _READS | _WRITES,
    },
)
_LAST = ffi.new(
    "VkMemoryBarrier *",
    {
        "sType": lib.VK_STRUCTURE_TYPE_MEMORY_BARRIER,
        "srcAccessMask": _WRITES,
        "dstAccessMask": _READS | _WRITES | lib.VK_ACCESS_HOST_READ_BIT,
    },
)


class Copy(NamedTuple):
    """`size` bytes from one region's start to another's."""

    source: Region
    target: Region
    size: int


class Recorder:
    """Records the launches of one kernel."""

    def __init__(
        self, pipelines: Pipelines, accesses: Sequence[tuple[frozenset[int], frozenset[int]]]
    ) -> None:
        """`accesses`: for each entry the bindings that it reads and those that it writes."""
        self.pipelines = pipelines
        self._accesses = accesses

    def record(
        self,
        buffer: Any,
        descriptor_set: Any,
        commands: Iterable[Command],
        *,
        before: Sequence[Copy] = (),
        after: Sequence[Copy] = (),
        cleared: Region | None = None,
        parameters: Region | None = None,
    ) -> None:
        """Records the copies `before`, the dispatches, the copies `after`.

        `cleared` is set to zeros first. `parameters`: where parameters go that are not pushed.
        Work that is submitted later comes after all of it, and the host sees what it wrote once it is done.
        """
        check(lib.vkBeginCommandBuffer(buffer, _BEGIN), "record commands")
        for copy in before:
            _copy(buffer, copy)
        if cleared is not None:
            lib.vkCmdFillBuffer(buffer, cleared.block.buffer, cleared.offset, 256, 0)
        dirty = bool(before) or cleared is not None
        self._dispatches(buffer, descriptor_set, commands, parameters, dirty)
        if after:
            barrier(buffer)
            for copy in after:
                _copy(buffer, copy)
        _end(buffer)

    def _dispatches(
        self,
        buffer: Any,
        descriptor_set: Any,
        commands: Iterable[Command],
        parameters: Region | None,
        dirty: bool,
    ) -> None:
        """`dirty`: the first one needs what was copied before it."""
        pipelines, layout = self.pipelines.entries, self.pipelines.layout
        compute = lib.VK_PIPELINE_BIND_POINT_COMPUTE
        sets = ffi.new("VkDescriptorSet *", descriptor_set)
        lib.vkCmdBindDescriptorSets(buffer, compute, layout, 0, 1, sets, 0, ffi.NULL)
        bound, known = -1, b""
        reads: frozenset[int] = frozenset()  # since the last barrier
        writes: frozenset[int] = frozenset()
        for entry, (x, y, z), values in commands:
            r, w = self._accesses[entry]
            new = values != known
            if dirty or writes & (r | w) or reads & w or (new and parameters is not None):
                barrier(buffer)
                dirty, reads, writes = False, frozenset(), frozenset()
            if new and parameters is not None:
                lib.vkCmdUpdateBuffer(buffer, parameters.block.buffer, parameters.offset, len(values), values)
                barrier(buffer)
            elif new:
                lib.vkCmdPushConstants(
                    buffer, layout, lib.VK_SHADER_STAGE_COMPUTE_BIT, 0, len(values), values
                )
            if entry != bound:
                lib.vkCmdBindPipeline(buffer, compute, pipelines[entry])
            lib.vkCmdDispatch(buffer, x, y, z)
            bound, known, reads, writes = entry, values, reads | r, writes | w


def record_copies(buffer: Any, copies: Sequence[Copy]) -> None:
    """Records copies alone; what is submitted later, and the host, see them as with `Recorder.record`."""
    check(lib.vkBeginCommandBuffer(buffer, _BEGIN), "record commands")
    for copy in copies:
        _copy(buffer, copy)
    _end(buffer)


def record_timestamp(buffer: Any, pool: Any, number: int) -> None:
    """Records a look at the device's clock, once all that was submitted before is done."""
    check(lib.vkBeginCommandBuffer(buffer, _BEGIN), "record commands")
    lib.vkCmdResetQueryPool(buffer, pool, number, 1)
    lib.vkCmdWriteTimestamp(buffer, lib.VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, pool, number)
    check(lib.vkEndCommandBuffer(buffer), "record commands")


def barrier(buffer: Any) -> None:
    """What was written before is seen after."""
    lib.vkCmdPipelineBarrier(buffer, _WORK, _WORK, 0, 1, _PASS_ON, 0, ffi.NULL, 0, ffi.NULL)


def _end(buffer: Any) -> None:
    host = _WORK | lib.VK_PIPELINE_STAGE_HOST_BIT
    lib.vkCmdPipelineBarrier(buffer, _WORK, host, 0, 1, _LAST, 0, ffi.NULL, 0, ffi.NULL)
    check(lib.vkEndCommandBuffer(buffer), "record commands")


def _copy(buffer: Any, copy: Copy) -> None:
    row = ffi.new(
        "VkBufferCopy *",
        {"srcOffset": copy.source.offset, "dstOffset": copy.target.offset, "size": copy.size},
    )
    lib.vkCmdCopyBuffer(buffer, copy.source.block.buffer, copy.target.block.buffer, 1, row)
