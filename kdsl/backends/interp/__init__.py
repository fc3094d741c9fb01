"""The interpreter of the IR as a target: slow, and checks everything."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from kdsl.ir.interpreter import Interpreter
from kdsl.ir.nodes import ArrayParam, Func


class InterpreterExecutor:
    """Runs a lowered `Func` step by step."""

    def __init__(self, func: Func) -> None:
        self._func = func
        self._interpreter = Interpreter(func)

    def run(self, values: Sequence[Any], sizes: Mapping[str, int]) -> None:
        """Checks the call conditions and runs; raises the errors of `ir.faults`.

        `values` has one entry for each parameter, in order: arrays and scalars, results included.
        """
        arrays: dict[str, Any] = {}
        scalars: dict[str, Any] = {}
        for p, value in zip(self._func.params, values):
            (arrays if isinstance(p, ArrayParam) else scalars)[p.name] = value
        self._interpreter.run(arrays, scalars, sizes, on_print=lambda text: sys.stdout.write(text))


__all__ = ["InterpreterExecutor"]
