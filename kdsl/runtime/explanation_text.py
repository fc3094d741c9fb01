"""An `Explanation` as text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from kdsl.runtime.explanation import DispatchFacts, Explanation, LoopFacts, Quantity, number_text
from kdsl.sched.text import bytes_text

COLUMN, MOST, WIDTH = 34, 60, 118
"""What is said of a loop stands behind the longest header, at a column between these two."""


def text(e: Explanation) -> str:
    """All of it, in the order: loops, costs, time."""
    parts = ["\n".join([headline(e), "", *_loops(e.loops)])]
    blocks = (_dispatches(e), _safety(e), _costs(e), _machine(e))
    parts += ["\n".join(block) for block in blocks if block]
    return "\n\n".join(parts)


def headline(e: Explanation) -> str:
    """What was compiled for what."""
    sizes = "".join([f", {name}={value}" for name, value in (e.sizes or {}).items()])
    if e.target.kind == "vulkan":
        return f"{e.kernel} on {e.target.name}: {e.target.cpu or 'a GPU'}{sizes}"
    threads = "1 thread" if e.threads == 1 else f"{e.threads} threads"
    registers = f"{e.target.vector_registers} registers of {8 * e.target.vector_bytes} bits"
    return f"{e.kernel} on {e.target.name}: {registers}, {threads}{sizes}"


def _loops(loops: Sequence[LoopFacts]) -> Iterable[str]:
    heads = ["  " * loop.depth + loop.header for loop in loops]
    column = min(MOST, max([COLUMN, *[len(h) + 2 for h in heads]]))
    for head, loop in zip(heads, loops):
        said = "; ".join([part for part in (loop.how, touches(loop), loop.why) if part])
        lines = textwrap.wrap(said, max(30, WIDTH - column), break_long_words=False) or [""]
        if len(head) + 2 > column:
            yield head
            head = ""
        for line in lines:
            yield f"{head:{column}}{line}".rstrip()
            head = ""
        for access in loop.accesses:
            yield f"{'':{column}}  {access.array}: {access.how}"


def touches(loop: LoopFacts) -> str:
    """How much memory one execution of a loop needs, where that is a number and of interest."""
    if loop.touched.value is None or loop.role not in ("in order", "parallel") or not loop.touched.value:
        return ""
    return f"touches {loop.touched}"


def _dispatches(e: Explanation) -> list[str]:
    """What a GPU is given to do, one line for each launch."""
    return [dispatch_text(d) for d in e.dispatches]


def dispatch_text(d: DispatchFacts) -> str:
    """Work-groups, invocations, memory."""
    if d.alone:
        said = ["one invocation"]
    else:
        block = " x ".join(map(str, d.block[: max(n + 1 for n in range(3) if d.block[n] > 1 or n == 0)]))
        said = [f"{' x '.join([f'({g})' for g in d.groups])} work-groups of {block} invocations"]
    if d.shared_bytes:
        said.append(f"{bytes_text(d.shared_bytes)} shared")
    if d.barriers:
        said.append("1 barrier" if d.barriers == 1 else f"{d.barriers} barriers")
    if d.private_bytes:
        said.append(f"{bytes_text(d.private_bytes)} in each invocation")
    if d.loops:
        said.append(f"in each {', '.join(d.loops)}")
    return f"launch {d.name}: {'; '.join(said)}"


def _safety(e: Explanation) -> list[str]:
    lines = [f"checked at the call: {c}" for c in e.conditions]
    return lines + [f"checked in place: {c}" for c in e.checks]


def _costs(e: Explanation) -> list[str]:
    out = [f"flops   {both(e.flops)}"] if e.operators else []
    if len(e.operators) > 1:
        out[-1] += "   (" + ", ".join([f"{op}: {q}" for op, q in e.operators.items()]) + ")"
    if e.calls:
        out.append("calls   " + ", ".join([f"{name}: {q}" for name, q in e.calls.items()]))
        out[-1] += "   (no flops)"
    out.append(f"bytes   {both(e.compulsory)}   (each one read or written counts once)")
    if e.intensity is not None and e.operators:
        out.append(f"flops per byte   {e.intensity:.3g}")
    if e.where:
        out.append(f"counted for sizes with {' and '.join(e.where)}")
    if e.arrays:
        rows: list[Sequence[str]] = [("array", "", "touched", "loaded", "stored")]
        for a in e.arrays:
            numbers = ["" if q is None else str(q) for q in (a.touched, a.loaded, a.stored)]
            rows.append((a.name, f"{a.dtype} {a.memory}", *numbers))
        if e.sizes is None:
            rows[0] = ("array", "", "bytes touched", "bytes loaded", "bytes stored")
        out += ["", *table(rows)]
    return out


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side."""
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  ".join([f"{cell:{w}}" for cell, w in zip(row, widths)]).rstrip() for row in rows]


def both(q: Quantity) -> str:
    """A formula and its value."""
    bound = "" if q.bound == "exact" else f"{q.bound} "
    value = bytes_text(q.value or 0) if q.unit else number_text(q.value or 0)
    return bound + q.formula + ("" if q.value is None or value == q.formula else f" = {value}")


def _machine(e: Explanation) -> list[str]:
    roof = e.roofline
    if roof is None:
        return []
    moved = e.compulsory.value or 0
    limit, bandwidth = roof.bandwidth_for(moved)
    out = [
        f"this machine: {number_text(e.peak)}flop/s {e.dtype or 'f32'}, {number_text(bandwidth)}B/s for "
        f"{bytes_text(limit)} of data"
    ]
    if e.attainable is not None:
        out.append(f"at best: {seconds_text(e.attainable)}, bound by {e.bound_by}")
    if e.seconds is not None:
        out.append(measured(e))
    return out


def measured(e: Explanation) -> str:
    """Time, rates, and the share of the roofline."""
    assert e.seconds is not None
    said = [f"measured: {seconds_text(e.seconds)}"]
    if e.flops_per_second:
        said.append(f"{number_text(e.flops_per_second)}flop/s")
    if e.bytes_per_second:
        said.append(f"{number_text(e.bytes_per_second)}B/s")
    if e.share is not None:
        said.append(f"{100 * e.share:.0f} % of the roofline")
    return ", ".join(said)


def seconds_text(seconds: float) -> str:
    """A time with a unit."""
    for scale, unit in ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms")):
        if seconds < 1000 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds:.3g} s"
