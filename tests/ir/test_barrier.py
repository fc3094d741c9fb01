"""`barrier()`: read back, and nothing to a program that runs in order."""

from __future__ import annotations

import numpy as np

from kdsl.analysis.accesses import collect
from kdsl.analysis.instances import instances
from kdsl.ir.interpreter import run
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func

TEXT = """\
def twice(X: f32[N], Y: f32[N]):
    for i in bind(range(N), "grid.x"):
        T: f32[1] @ "shared"
        T[0] = X[i]
        barrier()
        Y[i] = T[0] + T[0]
"""


def test_it_is_read_back() -> None:
    assert print_func(parse_func(TEXT)) == TEXT


def test_it_does_nothing_where_one_thing_runs_after_another() -> None:
    x = np.arange(5, dtype=np.float32)
    y = np.zeros(5, np.float32)
    run(parse_func(TEXT), {"X": x, "Y": y}, {}, {"N": 5})
    np.testing.assert_array_equal(y, x + x)


def test_it_is_no_access() -> None:
    func = parse_func(TEXT)
    without = parse_func(TEXT.replace("        barrier()\n", ""))
    assert len(collect(func).accesses) == len(collect(without).accesses)
    assert [len(leaf.uses) for leaf in instances(func).leaves] == [1 + 1, 0, 1 + 2]
