"""What the arrays that a kernel writes must be like: writable, and apart from all other arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from kdsl.errors import ArgumentError
from kdsl.ir.params import ArrayParam
from kdsl.runtime.aliasing import Overlap, overlap, self_overlap
from kdsl.runtime.device_array import DeviceArray
from kdsl.runtime.interface import Interface

Array = np.ndarray[Any, Any]


def check_outputs(kernel: Interface, arrays: Mapping[str, Array | DeviceArray]) -> None:
    """Raises ArgumentError unless `kernel` may write to these arguments (results are not among them)."""
    params = kernel.arrays
    written = [p for p in params if p.written]
    for p in written:
        _writable(kernel, p, arrays[p.name])
    for n, p in enumerate(params):
        for q in params[n + 1 :]:
            if (p.written or q.written) and not {p.name, q.name} <= kernel.may_alias:
                _apart(kernel, p, q, arrays[p.name], arrays[q.name])


def _writable(kernel: Interface, p: ArrayParam, a: Array | DeviceArray) -> None:
    if isinstance(a, DeviceArray):
        return
    if not a.flags.writeable:
        raise ArgumentError(
            "K0417",
            f"argument `{p.name}` of {kernel.name} is read-only, and the kernel writes to it",
            loc=p.loc,
            help=f"pass a copy: `{p.name}.copy()`",
        )
    for dim, (extent, stride) in enumerate(zip(a.shape, a.strides)):
        if extent > 1 and stride == 0 and a.size:
            raise ArgumentError(
                "K0418",
                f"argument `{p.name}` of {kernel.name} is broadcast in dimension {dim}, and is written",
                loc=p.loc,
                label=f"its {extent} elements there are one and the same",
                help=f"pass a copy: `{p.name}.copy()`",
            )
    match self_overlap(a):
        case "none":
            return
        case "some":
            how, label = "overlaps itself", "different indices reach one element"
        case "undecided":
            how, label = (
                "may overlap itself",
                "no proof in time that different indices reach different elements",
            )
    raise ArgumentError(
        "K0418",
        f"argument `{p.name}` of {kernel.name} {how}, and the kernel writes to it",
        loc=p.loc,
        label=f"shape {a.shape}, strides {a.strides}: {label}",
        help=f"pass a copy: `{p.name}.copy()`",
    )


def _overlap(a: Array | DeviceArray, b: Array | DeviceArray) -> Overlap:
    if isinstance(a, DeviceArray) or isinstance(b, DeviceArray):
        both = isinstance(a, DeviceArray) and isinstance(b, DeviceArray) and a.memory is b.memory and a.size
        return "some" if both else "none"
    return overlap(a, b)


def _apart(
    kernel: Interface, p: ArrayParam, q: ArrayParam, a: Array | DeviceArray, b: Array | DeviceArray
) -> None:
    match _overlap(a, b):
        case "none":
            return
        case "some":
            title = f"arguments `{p.name}` and `{q.name}` of {kernel.name} share memory"
        case "undecided":
            title = f"arguments `{p.name}` and `{q.name}` of {kernel.name} may share memory: no proof in time"
    both = " and ".join(f"`{x.name}`" for x in (p, q) if x.written)
    writer = q if q.written else p
    raise ArgumentError(
        "K0419",
        title,
        loc=writer.loc,
        label=f"the kernel writes to {both}",
        help=f"pass a copy of one, or declare it: @kdsl.kernel(may_alias=({p.name!r}, {q.name!r}))",
    )
