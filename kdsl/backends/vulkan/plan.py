"""What a call needs for its sizes and scalars, checked against the device's limits before it is sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kdsl.backends.vulkan.host import Command, HostProgram
from kdsl.errors import TargetError
from kdsl.ir.interpreter_exprs import Frame
from kdsl.target import Limits

EXTENT_LIMIT = 1 << 30
"""Sizes, extents and numbers of elements are below: indices are computed in 32 bits where that suffices."""
KEPT_COMMANDS = 4096
"""Longer programs are not kept, but recorded anew in each call."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """`shapes` and `nbytes` have an entry for each buffer of the manifest.

    `kept`: the dispatches, None when there are too many to keep. `failing`: as `HostProgram.failing`; where
    it is not 0, nothing else has been looked at.
    """

    failing: int
    shapes: tuple[tuple[int, ...], ...] = ()
    nbytes: tuple[int, ...] = ()
    kept: tuple[Command, ...] | None = ()
    program: HostProgram | None = None
    frame: Frame | None = None

    def commands(self) -> Iterator[Command]:
        """All dispatches."""
        if self.kept is not None:
            return iter(self.kept)
        assert self.program is not None and self.frame is not None
        return self.program.commands(list(self.frame))


@dataclass(frozen=True, slots=True, eq=False)
class Planner:
    """Makes plans for one kernel on one device. `itemsizes`: of each buffer of the manifest."""

    kernel: str
    program: HostProgram
    buffers: Sequence[Any]
    itemsizes: Sequence[int]
    sizes: Sequence[str]
    limits: Limits
    device: str

    def plan(self, values: Sequence[Any]) -> Plan:
        """The plan for the values of the sizes and then the scalars; TargetError where a limit forbids it."""
        frame = self.program.frame(values)
        for name, value in zip(self.sizes, values):
            if value >= EXTENT_LIMIT:
                raise self._too_large(f"{name} is {value}", "sizes must be below 2**30 on Vulkan devices")
        failing = self.program.failing(frame)
        if failing:
            return Plan(failing)
        shapes = tuple([self.program.shape(b["name"], frame) for b in self.buffers])
        nbytes = []
        for buffer, shape, itemsize in zip(self.buffers, shapes, self.itemsizes):
            size = itemsize
            for dim, extent in enumerate(shape):
                size *= extent
                if extent >= EXTENT_LIMIT:
                    raise self._too_large(
                        f"dimension {dim} of `{buffer['name']}` has {extent} elements",
                        "extents must be below 2**30 on Vulkan devices",
                    )
            if size // itemsize >= EXTENT_LIMIT:
                raise self._too_large(
                    f"`{buffer['name']}` has {size // itemsize} elements",
                    "arrays have fewer than 2**30 elements on Vulkan devices",
                )
            if size > self.limits.storage_bytes:
                raise self._too_large(
                    f"`{buffer['name']}` has {size} bytes",
                    f"the largest buffer that a kernel can use there has {self.limits.storage_bytes} bytes",
                )
            nbytes.append(size)
        commands = self.program.commands(frame)
        kept = tuple(itertools.islice(commands, KEPT_COMMANDS + 1))
        for command in kept:
            self._check_groups(command)
        if len(kept) <= KEPT_COMMANDS:
            return Plan(0, shapes, tuple(nbytes), kept)
        for command in commands:
            self._check_groups(command)
        return Plan(0, shapes, tuple(nbytes), None, self.program, frame)

    def _check_groups(self, command: Command) -> None:
        for axis, count, limit in zip("xyz", command.groups, self.limits.groups):
            if count > limit:
                raise TargetError(
                    "K0526",
                    f"{self.kernel} needs {count} work-groups along {axis}, {self.device} can do {limit}",
                    help="let each work-group or invocation do more: split the loop before it is bound",
                )

    def _too_large(self, what: str, why: str) -> TargetError:
        return TargetError(
            "K0525",
            f"{what}: too large for {self.kernel} on {self.device}",
            notes=[why],
            help="work on parts",
        )
