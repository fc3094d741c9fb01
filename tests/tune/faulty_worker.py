"""A worker whose candidates misbehave: which one and how is told by the lanes of its vector loops.

4 lanes    the process dies of a segmentation fault
8 lanes    it never comes back, in Python code that no deadline reaches
2 lanes    it asks for more memory than it may have
16 lanes   its results are wrong
64 lanes   its device is lost
"""

from __future__ import annotations

import ctypes
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kdsl.errors import TargetError
from kdsl.ir.printer import print_func
from kdsl.runtime.tuning_worker import Runner
from kdsl.tune.measuring import worker


@dataclass
class Faulty:
    """A bound program and what goes wrong when it runs."""

    inner: Any
    fault: Callable[[Any], None]

    def run(self) -> None:
        self.inner.run()
        self.fault(self.inner)

    def write(self, name: str, array: Any) -> None:
        self.inner.write(name, array)

    def read(self, name: str) -> Any:
        return self.inner.read(name)


class FaultyRunner(Runner):
    def load(self, func: Any, path: Any) -> Any:
        program = super().load(func, path)
        faults[id(program)] = next((f for text, f in FAULTS.items() if text in print_func(func)), None)
        return program

    def bind(self, program: Any, values: Sequence[Any], sizes: Mapping[str, int]) -> Any:
        bound = super().bind(program, values, sizes)
        fault = faults[id(program)]
        return bound if fault is None else Faulty(bound, fault)


def crash(_: Any) -> None:
    ctypes.string_at(0)


def hang(_: Any) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.setitimer(signal.ITIMER_PROF, 0)
    while True:
        pass


def allocate(_: Any) -> None:
    np.ones(1 << 38, np.uint8)


def spoil(bound: Any) -> None:
    for value in bound.values.values():
        if isinstance(value, np.ndarray) and value.size:
            value.reshape(-1)[-1] += 1


def lose(_: Any) -> None:
    raise TargetError("K0522", "the Vulkan device was lost")


faults: dict[int, Any] = {}
FAULTS = {"range(64)": lose, "range(4)": crash, "range(8)": hang, "range(2)": allocate, "range(16)": spoil}

if __name__ == "__main__":
    requests, answers = worker.pipes()
    worker.serve(FaultyRunner(), requests, answers)
