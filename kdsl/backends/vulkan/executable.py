"""A kernel on a device: finds or prepares the launch for a call's sizes and buffers, sends it, reads faults.

A call with arrays of the device alone is sent and not waited for; a fault of it is raised when somebody waits
for the device. A call that writes an array of the host waits and copies.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from kdsl.backends.vulkan.commands import Recorder
from kdsl.backends.vulkan.device import Device
from kdsl.backends.vulkan.faults import WORDS_BYTES, Fault
from kdsl.backends.vulkan.host import Command, HostProgram
from kdsl.backends.vulkan.launch import Launch
from kdsl.backends.vulkan.memory import Memory
from kdsl.backends.vulkan.pipelines import Blobs, Pipelines
from kdsl.backends.vulkan.plan import Plan, Planner
from kdsl.backends.vulkan.preparing import Argument, Array, buffers_for
from kdsl.dtypes import DType, by_name
from kdsl.errors import KdslError

Errors = Callable[[Fault], KdslError]

KEPT_PLANS = 256
KEPT_LAUNCHES = 64
KEPT_BYTES = 16 << 20
"""How much memory the launches of one kernel hold between calls."""
CHUNK = 1024
"""How many dispatches go into one command buffer."""
UNDER_WAY = 4
"""How many command buffers of a long program are sent ahead."""


class Executable:
    """A loaded kernel. `run` may be called by several threads at once.

    `sizes` and `scalars` (with their types) are those of the kernel, in order; `arrays` the names of its
    array arguments in the order of the manifest, which is that of `run`.
    """

    def __init__(
        self,
        device: Device,
        manifest: Mapping[str, Any],
        spirv: bytes,
        sizes: Sequence[str],
        scalars: Mapping[str, DType],
        blobs: Blobs | None = None,
    ) -> None:
        self.device = device
        self.arrays = tuple([b["name"] for b in manifest["buffers"] if b["kind"] == "argument"])
        self._buffers: list[Mapping[str, Any]] = manifest["buffers"]
        self._bindings = [b["binding"] for b in self._buffers]
        self._dtypes = [by_name(b.get("dtype", "u32")).np for b in self._buffers]
        self._recorder = Recorder(Pipelines(device, manifest, spirv, blobs), _accesses(manifest))
        self._planner = Planner(
            manifest["kernel"],
            HostProgram(manifest, sizes, scalars),
            self._buffers,
            [_itemsize(b, t, manifest) for b, t in zip(self._buffers, self._dtypes)],
            sizes,
            device.physical.limits,
            f"{device.name} ({device.physical.name})",
        )
        self._plans: dict[tuple[Any, ...], Plan] = {}
        self._launches: OrderedDict[tuple[Any, ...], list[Launch]] = OrderedDict()
        self._held_bytes = 0

    def plan(self, sizes: Sequence[int], scalars: Sequence[Any]) -> tuple[tuple[Any, ...], Plan]:
        """The plan for the values of sizes and (NumPy) scalars, and a key that stands for it.

        TargetError when the device's limits do not allow it.
        """
        key = (*sizes, *[s.tobytes() for s in scalars])
        found = self._plans.get(key)
        if found is None:
            values = [float(s) if s.dtype.kind == "V" else s.item() for s in scalars]
            found = self._planner.plan((*sizes, *values))
            if len(self._plans) >= KEPT_PLANS:
                self._plans.clear()
            self._plans[key] = found
        return key, found

    def run(
        self,
        key: tuple[Any, ...],
        plan: Plan,
        arguments: Sequence[Argument],
        uploaded: Sequence[bool],
        errors: Errors,
        same: Sequence[int] | None = None,
    ) -> None:
        """Runs on these arguments. `key` and `plan` are those that `plan` gave.

        `uploaded` says whether the contents of an argument matter. `errors` makes the error of a fault.
        `same`: for each argument the first one that is the same array, where some are.
        """
        device = self.device
        device.check_usable()
        whole = (key, same, *[a.region.number if type(a) is Memory else -1 for a in arguments])
        with device.lock:
            launch = self._ready(whole)
            fresh = launch is None
            if launch is None:
                launch = self._prepared(plan, arguments, uploaded, same)
            launch.busy = bool(launch.transfers)
        waits = plan.kept is None
        try:
            for number, shown, read, written in launch.transfers:
                if read:
                    np.copyto(shown, cast("Array", arguments[number]))
                waits = waits or written
            if plan.kept is None:
                self._stream(launch, plan)
            else:
                with device.lock:
                    launch.send(None if waits else partial(self._finished, launch, errors))
            if waits:
                device.wait(launch.serial)
                device.raise_faults()
                fault = launch.fault()
                if fault is not None:
                    raise errors(fault)
                for number, shown, _, written in launch.transfers:
                    if written:
                        np.copyto(cast("Array", arguments[number]), shown)
        finally:
            launch.busy = False
            if fresh:
                with device.lock:
                    self._keep(whole, launch, plan)

    # What follows is called under the device's lock.

    def _ready(self, key: tuple[Any, ...]) -> Launch | None:
        """A launch that was prepared for such a call and can be sent now."""
        found = self._launches.get(key)
        if found is None:
            return None
        self._launches.move_to_end(key)
        for launch in found:
            if not launch.transfers:
                return launch
            if not launch.busy:
                if launch.serial > self.device.done:
                    self.device.retire()
                if launch.serial <= self.device.done:
                    launch.fault()  # of a call that was interrupted
                    return launch
        return None

    def _keep(self, key: tuple[Any, ...], launch: Launch, plan: Plan) -> None:
        """Keeps a launch for the next such call; the longest unused ones go."""
        if plan.kept is None or launch.owned_bytes > KEPT_BYTES // 2:
            self.device.old.append(launch)
            return
        self._launches.setdefault(key, []).append(launch)
        self._held_bytes += launch.owned_bytes
        while len(self._launches) > KEPT_LAUNCHES or self._held_bytes > KEPT_BYTES:
            _, old = self._launches.popitem(last=False)
            self._held_bytes -= sum(launch.owned_bytes for launch in old)
            self.device.old.extend(old)

    def _finished(self, launch: Launch, errors: Errors) -> None:
        """Called when the device is done with a launch that nobody waited for."""
        fault = launch.fault()
        if fault is not None:
            self.device.faults.append(partial(errors, fault))

    def _prepared(
        self, plan: Plan, arguments: Sequence[Argument], uploaded: Sequence[bool], same: Sequence[int] | None
    ) -> Launch:
        """A launch for such a call; its commands are recorded, unless they are too many."""
        buffers = buffers_for(self.device, self._buffers, self._dtypes, plan, arguments, uploaded, same)
        launch = Launch(self._recorder, self._bindings, buffers)
        if plan.kept is not None:
            parts = list(_chunks(iter(plan.kept))) or [[]]
            for n, part in enumerate(parts):
                launch.record(part, n == 0, n == len(parts) - 1)
        return launch

    def _stream(self, launch: Launch, plan: Plan) -> None:
        """Records and sends a long program piece by piece; the last piece may be under way at the end."""
        device = self.device
        sent: deque[tuple[int, Any]] = deque()
        parts = _chunks(plan.commands())
        following: list[Command] | None = next(parts)
        first = True
        while following is not None:
            part, following = following, next(parts, None)
            again = None
            if len(sent) == UNDER_WAY:
                serial, again = sent.popleft()
                device.wait(serial)
            with device.lock:
                buffer = launch.record(part, first, following is None, again)
                sent.append((launch.send_one(buffer), buffer))
            first = False


def _itemsize(buffer: Mapping[str, Any], dtype: Any, manifest: Mapping[str, Any]) -> int:
    """The bytes of an element; those of the whole where a buffer has none."""
    fixed = {"status": WORDS_BYTES, "parameters": manifest["parameters"]["bytes"]}
    return int(fixed.get(buffer["kind"], dtype.itemsize))


def _chunks(commands: Iterator[Command]) -> Iterator[list[Command]]:
    """The commands in pieces for one command buffer each."""
    while part := list(itertools.islice(commands, CHUNK)):
        yield part


def _accesses(manifest: Mapping[str, Any]) -> list[tuple[frozenset[int], frozenset[int]]]:
    """For each entry the bindings that it reads and writes: all of the kernel's unless it says."""
    everything = {
        kind: [b["binding"] for b in manifest["buffers"] if b[key]]
        for kind, key in (("reads", "read"), ("writes", "written"))
    }
    return [
        (frozenset(e.get("reads", everything["reads"])), frozenset(e.get("writes", everything["writes"])))
        for e in manifest["entries"]
    ]
