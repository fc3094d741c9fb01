"""The buffers of a launch: arguments where they are or copied, scratch, status, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kdsl.backends.vulkan.commands import Copy
from kdsl.backends.vulkan.device import Device
from kdsl.backends.vulkan.faults import STATUS_BYTES, Status
from kdsl.backends.vulkan.launch import Buffers, Transfer, window
from kdsl.backends.vulkan.memory import Memory, Place, Region
from kdsl.backends.vulkan.plan import Plan

Array = np.ndarray[Any, Any]
Argument = Array | Memory
"""An array of the host, of any strides, or memory of the device, which holds its elements in C order."""


def buffers_for(
    device: Device,
    rows: Sequence[Mapping[str, Any]],
    dtypes: Sequence[Any],
    plan: Plan,
    arguments: Sequence[Argument],
    uploaded: Sequence[bool],
    same: Sequence[int] | None,
) -> Buffers:
    """Buffers for the rows of a manifest; the arguments are those of `Executable.run`."""
    out = Buffers()
    places: list[Region] = []
    written = [bool(row["written"]) for row in rows if row["kind"] == "argument"]
    first = list(range(len(written))) if same is None else same
    for row, dtype, shape, nbytes in zip(rows, dtypes, plan.shapes, plan.nbytes):
        match row["kind"]:
            case "argument":
                number = len(places)
                argument = arguments[number]
                if first[number] != number:  # its copies are those of the first one
                    places.append(places[first[number]])
                elif isinstance(argument, Memory):
                    places.append(argument.region)
                else:
                    places.append(_take(device, out, nbytes).region)
                    group = [m for m, at in enumerate(first) if at == number]
                    read, back = any(uploaded[m] for m in group), any(written[m] for m in group)
                    _transfer(device, out, places[-1], number, nbytes, (shape, dtype), read, back)
                out.bound.append((places[-1], nbytes))
            case "status":
                region = _take(device, out, STATUS_BYTES).region
                _status(device, out, region)
                out.bound.append((region, nbytes))
            case "parameters":
                out.parameters = _take(device, out, nbytes).region
                out.bound.append((out.parameters, nbytes))
            case _:
                out.bound.append((_take(device, out, nbytes).region, nbytes))
    return out


def _take(device: Device, out: Buffers, nbytes: int, place: Place = "device") -> Memory:
    memory = device.memory.take(nbytes, place)
    out.owned.append(memory)
    return memory


def _transfer(
    device: Device,
    out: Buffers,
    region: Region,
    number: int,
    nbytes: int,
    shown: tuple[tuple[int, ...], Any],
    read: bool,
    written: bool,
) -> None:
    """Lets the host see a region: directly, or through staging memory and copies."""
    seen = region
    if not region.address and nbytes:
        seen = _take(device, out, nbytes, "host").region
        if read:
            out.before.append(Copy(seen, region, nbytes))
        if written:
            out.after.append(Copy(region, seen, nbytes))
    out.transfers.append(Transfer(number, window(seen, *shown), read, written))


def _status(device: Device, out: Buffers, region: Region) -> None:
    seen = region
    if not region.address:
        seen = _take(device, out, STATUS_BYTES, "host").region
        out.cleared = region
        out.after.append(Copy(region, seen, STATUS_BYTES))
    out.status = Status(seen.address)
