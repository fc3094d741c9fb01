"""A kernel compiled for one signature and target: checks a call's values, runs, gives the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from kdsl.errors import ArgumentError, KernelMemoryError
from kdsl.ir.binding import BindingPlan, binding_plan
from kdsl.ir.params import ArrayParam
from kdsl.runtime.interface import Interface
from kdsl.runtime.outputs import check_outputs
from kdsl.runtime.results import with_results
from kdsl.runtime.sizes import bind_sizes

if TYPE_CHECKING:
    from kdsl.runtime.seen import Seen

Array = np.ndarray[Any, Any]
EntryMaker = Callable[[Callable[..., Any]], Any]
"""Gives a C function that passes on to the one given what it does not take; None where none can be made."""
New = Callable[[tuple[int, ...], Any], Any]
"""Makes an array without values, of a shape and dtype."""
Allocator = Callable[[Sequence[Any]], New]
"""How the results of a call with these values are made."""


class Executor(Protocol):
    """A program's code on its target."""

    def run(self, values: Sequence[Any], sizes: Mapping[str, int]) -> None:
        """Checks the call conditions and runs; raises what fails.

        `values` has an entry for each parameter, results included.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """The outside of a kernel and its code."""

    interface: Interface
    plan: BindingPlan
    executor: Executor
    make_entry: EntryMaker | None = None
    allocator: Allocator = lambda values: np.empty
    again: Callable[[Program, Sequence[int], Sequence[Any]], Seen | None] | None = None
    """Makes a `Seen` of a call that went well: of this program, which argument each value is, the values."""

    @staticmethod
    def of(
        interface: Interface,
        executor: Executor,
        make_entry: EntryMaker | None = None,
        allocator: Allocator = lambda values: np.empty,
        again: Callable[[Program, Sequence[int], Sequence[Any]], Seen | None] | None = None,
    ) -> Program:
        """`make_entry` makes the code's C-level entry; `allocator` says how a call's results are made."""
        plan = binding_plan(interface.params, interface.sizes)
        assert not plan.unsolved, f"{interface.name}: no argument determines {plan.unsolved}"
        if make_entry is not None and interface.results:
            make_entry = with_results(interface, plan, make_entry)
        return Program(interface, plan, executor, make_entry, allocator, again)

    def __call__(self, values: Sequence[Any]) -> Any:
        """Runs on converted values, one for each parameter that is neither constexpr nor a result."""
        params = self.interface.params
        arrays = {p.name: v for p, v in zip(params, values) if isinstance(p, ArrayParam)}
        sizes = self.sizes(values)
        check_outputs(self.interface, arrays)
        new = self.allocator(values)
        results = [_new(p, sizes, new) for p in self.interface.results]
        self.executor.run([*values, *results], sizes)
        return self.finish(results)

    def sizes(self, values: Sequence[Any]) -> dict[str, int]:
        """The sizes of a call; ArgumentError where shapes and annotations contradict each other."""
        params = self.interface.params
        shapes = {n: v.shape for n, (p, v) in enumerate(zip(params, values)) if isinstance(p, ArrayParam)}
        return bind_sizes(self.interface.name, params, self.plan, shapes)

    def finish(self, results: Sequence[Any]) -> Any:
        """The call's value, from the arrays of its results."""
        out = tuple([r[()] if isinstance(r, np.ndarray) and not r.ndim else r for r in results])
        return out if self.interface.tuple_result else out[0] if out else None


def _new(p: ArrayParam, sizes: Mapping[str, int], new: New) -> Any:
    shape = tuple([extent.evaluate(sizes) for extent in p.shape])
    for dim, extent in enumerate(shape):
        if extent < 0:
            raise ArgumentError(
                "K0406",
                f"dimension {dim} of the result would have {p.shape[dim]} = {extent} elements",
                loc=p.loc,
                help="pass larger arrays",
            )
    try:
        return new(shape, p.dtype.np)
    except (MemoryError, ValueError):  # NumPy's ValueError: more bytes than an address can count
        raise KernelMemoryError(
            "K0606",
            f"no memory for a result of shape {shape} and type {p.dtype}",
            loc=p.loc,
            help="pass smaller arrays",
        ) from None
