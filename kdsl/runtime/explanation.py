"""What `explain()` gives: data, printed as text; `explanation_html` makes a page of it.

for i in parallel(range(M))                      8 tasks or so on 2 threads
  for j in range((N + 63) // 64)                 in order
    for j_v in vectorize(range(64))              64 lanes of f32: 4 registers of 512 bits
        X      contiguous load; masked
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kdsl.analysis.counting import Atoms, Bound, Count
from kdsl.analysis.polynomials import Polynomial, constant, variable
from kdsl.dtypes import DType
from kdsl.sched.text import bytes_text

if TYPE_CHECKING:
    from kdsl.runtime.roofline import Roofline
    from kdsl.target import Target

_SIGNS: dict[Bound, str] = {"exact": "", "at most": "at most ", "at least": "at least ", "about": "about "}
Unit = Literal["bytes", ""]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number of bytes or of other things: `formula` in the sizes, and its `value` where these are given."""

    formula: str
    value: float | None
    bound: Bound
    unit: Unit = ""

    def __str__(self) -> str:
        if self.value is None:
            return _SIGNS[self.bound] + self.formula
        shown = bytes_text(self.value) if self.unit else number_text(self.value)
        return ("<= " if self.bound == "at most" and self.value else "") + shown

    @staticmethod
    def of(
        count: Count, atoms: Atoms, order: Sequence[str], sizes: dict[str, int] | None, unit: Unit = ""
    ) -> Quantity:
        """A count with its numbers. Where it does not hold for these sizes, it is only about right."""
        formula = atoms.text(count.value, order)
        bound = count.bound
        value: float | None = None
        if sizes is not None and not atoms.names(count.value) & atoms.unknowns:
            value = max(0.0, float(atoms.number(count.value, sizes)))
            if bound == "exact" and any(atoms.is_negative(w, sizes) for w in count.where):
                bound = "about"
        elif count.value.is_const:
            value = float(count.value.const)
        return Quantity(formula, value, bound, unit)


def number_text(value: float) -> str:
    """A number with a letter for its thousands."""
    if value < 10_000:
        return f"{value:.10g}"
    for unit in ("k", "M", "G", "T", "P"):
        value /= 1000
        if value < 1000 or unit == "P":
            break
    return f"{value:.4g} {unit}"


@dataclass(frozen=True, slots=True)
class AccessFacts:
    """How the lanes of a vector loop meet an array: "contiguous load and store, masked"."""

    array: str
    how: str


@dataclass(frozen=True, slots=True)
class LoopFacts:
    """One loop of the nest. `name` is what steps call it, `header` its text, `depth` the loops around it.

    `role` is how it was lowered in a word ("in order", "vector", "parallel", "unrolled", ...), `how` in a
    sentence, `why` the reason where it is scalar. `iterations` and `flops` are of all entries together;
    `touched` are the bytes of one execution.
    """

    name: str
    header: str
    depth: int
    role: str
    how: str
    why: str
    accesses: tuple[AccessFacts, ...]
    iterations: Quantity
    flops: Quantity
    touched: Quantity


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """One array, in bytes: different ones that are touched, loaded and stored in all.

    `memory`: "argument", or where a local array lies. What lies in registers is not loaded and stored.
    """

    name: str
    dtype: DType
    memory: str
    touched: Quantity
    loaded: Quantity | None
    stored: Quantity | None


@dataclass(frozen=True, slots=True)
class DispatchFacts:
    """One launch on a GPU: `groups` work-groups along x, y, z of `block` invocations each.

    `shared_bytes` of a work-group, `private_bytes` of an invocation's locals; `barriers` in the code; `loops`
    of the host around it; `alone`: one invocation does all of it.
    """

    name: str
    groups: tuple[str, ...]
    block: tuple[int, int, int]
    shared_bytes: int
    private_bytes: int
    barriers: int
    loops: tuple[str, ...]
    alone: bool


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a kernel is lowered, what it costs, and how near it comes to what the machine can do.

    `sizes` are those asked for; then there are numbers, and a `roofline`. `seconds` is the least time of a
    call, where arguments were given. `dispatches` are what a GPU is given to do. `compulsory` are the bytes
    that any schedule must move: each one that is read once, each one that is written once. `conditions` are
    checked at the call, `checks` in place.
    """

    kernel: str
    target: Target
    threads: int
    sizes: dict[str, int] | None
    loops: tuple[LoopFacts, ...]
    arrays: tuple[ArrayFacts, ...]
    dtype: DType | None
    flops: Quantity
    operators: dict[str, Quantity]
    calls: dict[str, Quantity]
    compulsory: Quantity
    where: tuple[str, ...]
    conditions: tuple[str, ...]
    checks: tuple[str, ...]
    roofline: Roofline | None = None
    seconds: float | None = None
    dispatches: tuple[DispatchFacts, ...] = ()

    @property
    def intensity(self) -> float | None:
        """Flops for each compulsory byte."""
        if self.flops.value is None or not self.compulsory.value:
            return None
        return self.flops.value / self.compulsory.value

    @property
    def flops_per_second(self) -> float | None:
        return None if self.seconds is None or self.flops.value is None else self.flops.value / self.seconds

    @property
    def bytes_per_second(self) -> float | None:
        """Compulsory bytes in the time measured."""
        moved = self.compulsory.value
        return None if self.seconds is None or moved is None else moved / self.seconds

    @property
    def attainable(self) -> float | None:
        """Seconds of a call when the roofline is reached."""
        roof, flops, moved = self.roofline, self.flops.value, self.compulsory.value
        if roof is None or flops is None or moved is None or not (flops or moved):
            return None
        bandwidth = roof.bandwidth_for(moved)[1]
        return max(flops / self.peak, moved / bandwidth) if flops else moved / bandwidth

    @property
    def peak(self) -> float:
        """The machine's flops a second in this kernel's type."""
        assert self.roofline is not None
        name = self.dtype.name if self.dtype is not None else "f32"
        return self.roofline.peak.get(name, self.roofline.peak["f32"])

    @property
    def bound_by(self) -> str | None:
        """Which of the two roofs is lower: "computing" or "memory"."""
        limit, flops = self.attainable, self.flops.value
        if limit is None or flops is None:
            return None
        return "computing" if flops / self.peak >= limit else "memory"

    @property
    def share(self) -> float | None:
        """The part of the roofline that the measured time reaches: 1 is all of it."""
        limit = self.attainable
        return None if self.seconds is None or limit is None else limit / self.seconds

    def __str__(self) -> str:
        from kdsl.runtime.explanation_text import text

        return text(self)

    def __repr__(self) -> str:
        return f"<explanation of {self.kernel}: {len(self.loops)} loops>"

    def _repr_html_(self) -> str:
        from kdsl.runtime.explanation_html import page

        return page(self)


def beyond_ones(where: Sequence[Polynomial], order: Sequence[str]) -> list[Polynomial]:
    """Those of the polynomials that are not >= 0 by themselves for sizes of 1 or more."""
    out = []
    for p in where:
        moved = p
        for name in order:
            moved = moved.substitute(name, variable(name) + constant(1))
        if any(c < 0 for c in moved.terms.values()):
            out.append(p)
    return out
