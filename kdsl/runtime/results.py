"""Calls of kernels with results: the arrays are made in Python, the rest is the C-level entry's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kdsl.ir.binding import Bind, BindingPlan
from kdsl.runtime.interface import Interface

Call = Callable[..., Any]


def with_results(
    interface: Interface, plan: BindingPlan, make_entry: Callable[[Call], Any]
) -> Callable[[Call], Any]:
    """As `make_entry`, for an entry that takes the results after the arguments.

    The function made returns them; what does not fit goes to the following one, without results.
    """
    results = interface.results
    given = len(interface.params) - len(results)
    dtypes = [p.dtype.np for p in results]
    shapes = [p.shape for p in results]
    scalar = [not p.shape for p in results]
    used = {name for shape in shapes for extent in shape for name in extent.terms}
    # Only what the arguments' shapes say directly; an affine dimension is left to the slow path.
    places = {
        step.size: (step.param, step.dim)
        for step in plan.steps
        if isinstance(step, Bind) and step.coefficient == 1 and step.rest == 0
    }

    def make(following: Call) -> Any:
        if not used <= places.keys():
            return None
        entry = make_entry(lambda *args: following(*args[:given]))
        if entry is None:
            return None
        sizes_at = [(name, *places[name]) for name in sorted(used)]

        def call(*args: Any, **kwargs: Any) -> Any:
            if kwargs or len(args) != given:
                return following(*args, **kwargs)
            try:
                sizes = {name: args[param].shape[dim] for name, param, dim in sizes_at}
                made = [
                    np.empty([extent.evaluate(sizes) for extent in shape], dtype)
                    for shape, dtype in zip(shapes, dtypes)
                ]
            except (AttributeError, IndexError, MemoryError, TypeError, ValueError):
                return following(*args)  # which says what is wrong, or knows how to read it
            out = entry(*args, *made)
            if out is not None:
                return out
            values = [r[()] if is_scalar else r for r, is_scalar in zip(made, scalar)]
            return tuple(values) if interface.tuple_result else values[0]

        return call

    return make
