"""What a GPU cannot do, told while the kernel is scheduled for it: rules of axes, limits of the device."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from kdsl.analysis.axes import is_grid, misbound
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Alloc, Const, Func, Loop
from kdsl.ir.walk import stmts
from kdsl.sched.rewriting.tree import places
from kdsl.target import Target

if TYPE_CHECKING:
    from kdsl.sched.edit import Edit

CODES = {"nesting": "K0366", "extent": "K0367", "limit": "K0368", "exit": "K0308"}


def target_refusal(edit: Edit, after: Func, target: Target) -> ScheduleError | None:
    """None when `after` is within what the GPU `target` can do."""
    device = target.cpu or target.name
    found = misbound(after.body, target.limits, device)
    if found is not None:
        return edit.refused(
            CODES[found.rule], found.title, found.loop, label=found.label, notes=found.notes, help=found.help
        )
    return _memory_refusal(edit, after, target, device)


def _memory_refusal(edit: Edit, after: Func, target: Target, device: str) -> ScheduleError | None:
    """None when the shared arrays of each work-group fit into its memory."""
    most = target.limits.shared_bytes
    for place in places(after):
        if not is_grid(place.loop) or any(map(is_grid, place.outer)):
            continue
        arrays = shared_arrays(place.loop)
        total = sum(arrays.values())
        if total > most:
            names = ", ".join([f"`{name}` {size}" for name, size in arrays.items()])
            return edit.refused(
                "K0369",
                f"a work-group would have {total} bytes of shared memory, but has at most {most} on {device}",
                place.loop,
                label=f"bytes: {names}",
                help="stage smaller tiles, or fewer arrays",
            )
    return None


def shared_arrays(loop: Loop) -> dict[str, int]:
    """The arrays in shared memory that `loop` makes, with their bytes; those of unknown shape not."""
    out: dict[str, int] = {}
    for s in stmts((loop,)):
        if isinstance(s, Alloc) and s.memory == "shared":
            extents = [int(e.value) for e in s.shape if isinstance(e, Const)]
            if len(extents) == len(s.shape):
                out[s.name] = out.get(s.name, 0) + prod(extents) * s.dtype.bytes
    return out
