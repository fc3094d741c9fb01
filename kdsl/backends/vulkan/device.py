"""An open device: its queue, what was submitted to it, and the faults of kernels that nobody waited for.

Submissions are numbered; the device does them in order. Whoever needs the results of one waits for its
number. All waits are finite and come back to Python ten times a second, so that Ctrl-C works.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kdsl.backends.vulkan.api import check, failure, ffi, lib
from kdsl.backends.vulkan.instance import check_process
from kdsl.backends.vulkan.memory import MemoryPool
from kdsl.backends.vulkan.physical import wanted_extensions
from kdsl.errors import KdslError, TargetError

if TYPE_CHECKING:
    from kdsl.backends.vulkan.instance import Instance

SPIN_NS = 50_000
"""How long a wait asks again and again before it sleeps."""
SLICE_NS = 100_000_000
TIMEOUT_S = 600.0
BACKLOG = 256
"""How many submissions may be under way; the next one waits for the oldest."""


class Submission:
    """Work that was sent. `on_done` is called once it is done; `keep` lives until then."""

    __slots__ = ("fence", "keep", "on_done", "retired", "serial", "waiters")

    def __init__(self, serial: int, fence: Any, keep: object, on_done: Callable[[], None] | None) -> None:
        self.serial = serial
        self.fence = fence
        self.keep = keep
        self.on_done = on_done
        self.waiters = 0
        self.retired = False


class Device:
    """A logical device with one queue for compute and transfers."""

    def __init__(self, instance: Instance, index: int) -> None:
        self.physical = instance.physical[index]
        self.index = index
        self.staged = os.environ.get("KDSL_VULKAN_STAGING", "") not in ("", "0")
        self.lock = threading.RLock()
        """Of the queue, the command pool, the memory pool and the list of submissions."""
        self.timeout_s = _timeout_s()
        self.handle, self.queue = _opened(self.physical)
        self.done = 0
        self.faults: list[Callable[[], KdslError]] = []
        """Errors of kernels that ran while nobody waited, in order."""
        self.owners: set[Any] = set()
        """What has handles of this device; each has `close()`."""
        self.garbage: deque[Any] = deque()
        """Owners whose handles nobody uses any more."""
        self.old: list[Any] = []
        """Launches that are not used again; they give back what they have once they are done."""
        self._serial = 0
        self._pending: deque[Submission] = deque()
        self._fences: list[Any] = []
        self._command_buffers: list[Any] = []
        self._lost: KdslError | None = None
        self.command_pool: Any = self._command_pool()
        self.memory = MemoryPool(self)

    @property
    def name(self) -> str:
        """As the user types it: `vulkan:1`."""
        return "vulkan" if self.index == 0 else f"vulkan:{self.index}"

    @property
    def submitted(self) -> int:
        """The number of the last submission."""
        return self._serial

    def check_usable(self) -> None:
        """TargetError in a forked process, and once the device is lost."""
        check_process()
        if self._lost is not None:
            raise self._lost

    def check(self, result: int, what: str) -> None:
        """As `api.check`; remembers that the device is lost."""
        if result < 0:
            error = failure(result, what)
            if error.code == "K0522":
                self._lost = error
            raise error

    # -- submitting and waiting

    def submit(
        self, info: Any, keep: object = None, on_done: Callable[[], None] | None = None, count: int = 1
    ) -> int:
        """Sends the work of a VkSubmitInfo (or `count` of them); gives its number."""
        with self.lock:
            while self.garbage:
                self._destroy(self.garbage.popleft())
            if self._pending or self.old:
                self.retire()
                if len(self._pending) >= BACKLOG:
                    self.wait(self._pending[0].serial)
            fence = self._fences.pop() if self._fences else self._fence()
            self.check(lib.vkQueueSubmit(self.queue, count, info, fence[0]), "send work")
            self._serial += 1
            self._pending.append(Submission(self._serial, fence, keep, on_done))
            return self._serial

    def submit_commands(self, buffer: Any) -> int:
        """Sends a command buffer of `take_commands`, which is free again once it is done. Under the lock."""
        handles = ffi.new("VkCommandBuffer[]", [buffer])
        info = ffi.new(
            "VkSubmitInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_SUBMIT_INFO,
                "commandBufferCount": 1,
                "pCommandBuffers": handles,
            },
        )
        return self.submit(info, None, lambda: self.give_commands(buffer))

    def _destroy(self, owner: Any) -> None:
        if owner in self.owners:
            self.owners.discard(owner)
            owner.close()

    def retire(self) -> None:
        """Takes note of what is done by now."""
        pending = self._pending
        with self.lock:
            while pending:
                result = lib.vkGetFenceStatus(self.handle, pending[0].fence[0])
                if result == lib.VK_NOT_READY:
                    break
                self.check(result, "ask what is done")
                self._retired(pending.popleft())
            if self.old:
                self._sweep()

    def _sweep(self) -> None:
        done = [launch for launch in self.old if launch.serial <= self.done and not launch.busy]
        self.old = [launch for launch in self.old if launch not in done]
        for launch in done:
            launch.discard()

    def _retired(self, submission: Submission) -> None:
        self.done = submission.serial
        submission.retired = True
        if not submission.waiters:
            self._recycle(submission)
        if submission.on_done is not None:
            submission.on_done()
        submission.keep = None

    def _recycle(self, submission: Submission) -> None:
        self.check(lib.vkResetFences(self.handle, 1, submission.fence), "reset a fence")
        self._fences.append(submission.fence)

    def wait(self, serial: int) -> None:
        """Returns when submission number `serial` is done; TargetError after `timeout_s` seconds."""
        deadline = 0.0
        while self.done < serial:
            with self.lock:
                if self.done >= serial or not self._pending:
                    return
                submission = self._pending[serial - self._pending[0].serial]
                submission.waiters += 1
            try:
                result = self._fence_signal(submission.fence)
            finally:
                with self.lock:
                    submission.waiters -= 1
                    if submission.retired and not submission.waiters:
                        self._recycle(submission)
            self.check(result, "wait for the device")
            if result == lib.VK_SUCCESS:
                with self.lock:
                    while self._pending and self._pending[0].serial <= serial:
                        self._retired(self._pending.popleft())
                return
            now = time.monotonic()
            deadline = deadline or now + self.timeout_s - SLICE_NS / 1e9
            if now >= deadline:
                raise TargetError(
                    "K0523",
                    f"the Vulkan device has not finished within {self.timeout_s:g} seconds",
                    notes=[f"device {self.name} ({self.physical.name})"],
                    help="set KDSL_VULKAN_TIMEOUT to more seconds, or give the kernel less work",
                )

    def _fence_signal(self, fence: Any) -> int:
        """Waits a slice of time for a fence, at first awake: a small kernel takes less than to wake up."""
        until = time.perf_counter_ns() + SPIN_NS
        while time.perf_counter_ns() < until:
            result: int = lib.vkGetFenceStatus(self.handle, fence[0])
            if result != lib.VK_NOT_READY:
                return result
        waited: int = lib.vkWaitForFences(self.handle, 1, fence, 1, SLICE_NS)
        return waited

    def wait_all(self) -> None:
        """Waits for all that was sent."""
        with self.lock:
            last = self._pending[-1].serial if self._pending else 0
        self.wait(last)

    def synchronize(self) -> None:
        """Waits for all that was sent; raises the first fault of a kernel that nobody waited for."""
        self.check_usable()
        self.wait_all()
        self.raise_faults()

    def raise_faults(self) -> None:
        """Raises the first fault of a finished kernel that nobody waited for; the others are forgotten."""
        if self.faults:
            with self.lock:
                first = self.faults[0]
                self.faults.clear()
            raise first()

    # -- handles

    def take_commands(self) -> Any:
        """A command buffer that nobody uses. Under the lock."""
        return self._command_buffers.pop() if self._command_buffers else self.new_commands()

    def give_commands(self, buffer: Any) -> None:
        """Takes back a command buffer that is not under way. Under the lock."""
        self._command_buffers.append(buffer)

    def new_commands(self) -> Any:
        """A new command buffer; it is freed with the device, if not before. Under the lock."""
        info = ffi.new(
            "VkCommandBufferAllocateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                "commandPool": self.command_pool,
                "level": lib.VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                "commandBufferCount": 1,
            },
        )
        out = ffi.new("VkCommandBuffer *")
        check(lib.vkAllocateCommandBuffers(self.handle, info, out), "make a command buffer")
        return out[0]

    def _fence(self) -> Any:
        info = ffi.new("VkFenceCreateInfo *", {"sType": lib.VK_STRUCTURE_TYPE_FENCE_CREATE_INFO})
        fence = ffi.new("VkFence *")
        self.check(lib.vkCreateFence(self.handle, info, ffi.NULL, fence), "make a fence")
        return fence

    def _command_pool(self) -> Any:
        info = ffi.new(
            "VkCommandPoolCreateInfo *",
            {
                "sType": lib.VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                "flags": lib.VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                "queueFamilyIndex": self.physical.family,
            },
        )
        pool = ffi.new("VkCommandPool *")
        self.check(lib.vkCreateCommandPool(self.handle, info, ffi.NULL, pool), "make a command pool")
        return pool[0]

    def close(self) -> bool:
        """Waits, then destroys all but memory that somebody has a view of; whether that was everything."""
        with self.lock:
            if self._lost is None:
                lib.vkDeviceWaitIdle(self.handle)
            for submission in self._pending:
                self._fences.append(submission.fence)
            self._pending.clear()
            self.old.clear()
            for owner in list(self.owners):
                self._destroy(owner)
            for fence in self._fences:
                lib.vkDestroyFence(self.handle, fence[0], ffi.NULL)
            self._fences.clear()
            lib.vkDestroyCommandPool(self.handle, self.command_pool, ffi.NULL)
            self._lost = self._lost or TargetError(
                "K0522", "Vulkan was closed in this process", help="start Python again"
            )
            whole = self.memory.close()
            if whole:
                lib.vkDestroyDevice(self.handle, ffi.NULL)
            return whole


def _timeout_s() -> float:
    """How long a wait may take."""
    text = os.environ.get("KDSL_VULKAN_TIMEOUT") or str(TIMEOUT_S)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise TargetError(
            "K0523",
            f"KDSL_VULKAN_TIMEOUT is {text!r}, which is no number of seconds",
            help="set it to a number above 0, or unset it",
        )
    return seconds


def _opened(physical: Any) -> tuple[Any, Any]:
    """The logical device with all features that kernels can use, and its queue."""
    features, kept = physical.feature_chain()
    names = [ffi.new("char[]", name.encode()) for name in wanted_extensions(physical)]
    extensions = ffi.new("char *[]", names)
    priority = ffi.new("float *", 1.0)
    queue_info = ffi.new(
        "VkDeviceQueueCreateInfo *",
        {
            "sType": lib.VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
            "queueFamilyIndex": physical.family,
            "queueCount": 1,
            "pQueuePriorities": priority,
        },
    )
    info = ffi.new(
        "VkDeviceCreateInfo *",
        {
            "sType": lib.VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
            "pNext": features,
            "queueCreateInfoCount": 1,
            "pQueueCreateInfos": queue_info,
            "enabledExtensionCount": len(names),
            "ppEnabledExtensionNames": extensions,
        },
    )
    handle, queue = ffi.new("VkDevice *"), ffi.new("VkQueue *")
    check(lib.vkCreateDevice(physical.handle, info, ffi.NULL, handle), f"open {physical.name}")
    lib.vkGetDeviceQueue(handle[0], physical.family, 0, queue)
    del kept
    return handle[0], queue[0]
