"""One execution of a loop's body, as the cost model counts it: cycles of each kind, and the loops around."""

from __future__ import annotations

from dataclasses import dataclass, fields

from kdsl.ir.nodes import Loop


@dataclass(frozen=True, slots=True)
class Work:
    """Cycles of each kind: arithmetic, loads and stores, decoding (`issued`: instructions), waiting for sums.

    `overlapped`: cycles when the kinds run at the same time, as they do; the others tell schedules apart.
    `gathered`: elements loaded one by one; `spilled`: registers that do not fit; `registers`: the most
    that one loop keeps.
    """

    arith: float = 0.0
    loads: float = 0.0
    stores: float = 0.0
    issued: float = 0.0
    latency: float = 0.0
    gathered: float = 0.0
    spilled: float = 0.0
    iterations: float = 0.0
    calls: float = 0.0
    overlapped: float = 0.0
    registers: float = 0.0

    def __add__(self, other: Work) -> Work:
        both = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        both["registers"] = max(self.registers, other.registers)
        return Work(**both)

    def __mul__(self, times: float) -> Work:
        out = {f.name: getattr(self, f.name) * times for f in fields(self)}
        out["registers"] = self.registers
        return Work(**out)

    def cycles(self) -> float:
        """All of it, that outside of loops included."""
        return self.overlapped


@dataclass(frozen=True, slots=True)
class Around:
    """A loop around a statement and how it runs."""

    loop: Loop
    kind: str
    """"loop", "unroll" or "vector"."""
    trips: float
    ragged: float = 0.0
    """Of a vector: the part of its executions in which some lanes are off, in a loop that is not a tile."""


Loops = tuple[Around, ...]


def unrolled(loops: Loops) -> Around | None:
    """The innermost loop that is written out."""
    return next((a for a in reversed(loops) if a.kind == "unroll"), None)


def overlapped(w: Work, wait: float = 0.0) -> Work:
    """One execution of what `w` counts: the busiest kind decides, the others hide behind it, mostly."""
    kinds = (w.arith, w.loads, w.stores, w.issued / 4, wait)
    longest = max(kinds)
    return w + Work(latency=wait, overlapped=longest + 0.1 * (sum(kinds) - longest))


def vector_of(loops: Loops) -> Around | None:
    """The vector loop."""
    return next((a for a in loops if a.kind == "vector"), None)


def running(loops: Loops) -> Around | None:
    """The innermost loop that runs as one."""
    return next((a for a in reversed(loops) if a.kind == "loop"), None)
