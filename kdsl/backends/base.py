"""What a back end is: it compiles a lowered `Func` to bytes, and loads bytes into this process.

`compile` is pure (no device, cacheable, cross-compiles); `load` touches the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from kdsl.dtypes import DType
from kdsl.ir.params import ArrayParam, Param
from kdsl.source import Loc
from kdsl.target import Target

if TYPE_CHECKING:
    from kdsl.ir.nodes import Func

FaultKind = Literal[
    "index", "zero_division", "assertion", "zero_step", "negative_power", "memory", "loops", "print"
]


@dataclass(frozen=True, slots=True)
class Site:
    """A place in the kernel that can fault or print. Compiled code reports its number (1-based) alone.

    `text` is the array's name (index), or the message (assertion). `dim` is the array's dimension.
    `items`, `sep` and `end` belong to print: strings, or the dtype of the next value.
    """

    kind: FaultKind
    text: str = ""
    dim: int = 0
    loc: Loc | None = None
    items: tuple[str | DType, ...] = ()
    sep: str = " "
    end: str = "\n"


@dataclass(frozen=True, slots=True)
class Artifact:
    """Compiled code and the tables that explain it. `code` is the back end's own format.

    `conditions` gives title and place of each call condition, in the order in which compiled code
    numbers them (1-based).
    """

    target: Target
    symbol: str
    code: bytes
    sites: tuple[Site, ...]
    conditions: tuple[tuple[str, Loc | None], ...]


class Backend(Protocol):
    """One way to run kernels."""

    name: str

    def available(self) -> str | None:
        """None when this back end can run here, else what is missing and how to install it."""

    def compile(self, func: Func, target: Target) -> Artifact:
        """`func` must be lowered (`passes.lower`) and verified."""

    def load(self, artifact: Artifact) -> Any:
        """Brings an artifact into this process; the executable's type is the back end's."""


@dataclass(frozen=True, slots=True)
class FrameLayout:
    """The one argument of a compiled CPU kernel: an array of 8-byte slots.

    ```
    0  out: the index (or value) that faulted      3.. for each parameter, in order:
    1  out: the extent it was tested against            array:  data pointer, then, unless contiguous,
    2  in: address of the run-time table                        one byte stride a dimension
                                                        scalar: the value in the slot's low bytes
                                                   then the sizes, in `func.sizes` order
    ```
    The run-time table is seven addresses: the stop word (u32, nonzero: call `poll`), `poll` (`i64 (ptr
    table)`, returns nonzero to stop), a Python function that prints, `aligned_alloc`, `free`, a Python object
    (see below), and the pool of parallel loops (`backends.llvm.pool`; 0: they run serially). The printing
    function gets (site, count, address of the values: 8-byte slots, floats as f64, integers as i64 or u64).

    A kernel is `i64 symbol(ptr frame)`: 0 when done, a site's number when it faulted, -1 when stopped; then a
    Python exception is set in this thread.
    Its companion `i64 symbol.check(ptr frame)` gives the number of the first call condition that fails, or 0.
    `i64 symbol.run(ptr frame)` is the kernel for callers that hold the GIL: it is released meanwhile.
    `symbol.poll` is a `poll` that clears the stop word, calls the Python object of the table (which is to set
    the word again later) and lets Python handle its signals: nonzero when a handler has raised.
    """

    params: tuple[int, ...]
    sizes: tuple[int, ...]
    slots: int

    @staticmethod
    def of(func: Func) -> FrameLayout:
        """The layout for `func`: slot numbers of parameters and sizes, and the number of slots."""
        return FrameLayout.for_call(func.params, func.sizes)

    @staticmethod
    def for_call(params: Sequence[Param], sizes: Sequence[str]) -> FrameLayout:
        """As `of`, for the parameters and sizes of a function."""
        at = 3
        slots = []
        for p in params:
            slots.append(at)
            at += 1 + (len(p.shape) if isinstance(p, ArrayParam) and not p.contiguous else 0)
        return FrameLayout(tuple(slots), tuple(range(at, at + len(sizes))), at + len(sizes))
