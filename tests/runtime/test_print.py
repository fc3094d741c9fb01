"""`print` in kernels writes what Python writes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import bool_, f16, f32, f64, i8, u64

N = kdsl.sizes("N")


@kdsl.kernel
def show(a: f32, b: f64, c: i8, d: u64, e: bool_, f: f16, A: f32[N]):
    print("values", a, b, c, d, e, f, sep=", ")
    print()
    for i in range(N):
        print(i, A[i] + 1, end=";")
    print("done")


@pytest.mark.parametrize("target", ["cpu", "interpreter"])
def test_print(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (0.1, 1e300, -5, 2**64 - 1, True, 0.1, np.array([0.1, np.nan, -np.inf], np.float32))
    show.py(*arguments)
    expected = capsys.readouterr().out
    assert expected.startswith("values, 0.1, 1e+300, -5, 18446744073709551615, True, 0.1\n\n0 1.1;")
    for _ in range(2):
        show.on(target)(*arguments)
        assert capsys.readouterr().out == expected


def test_what_stdout_raises_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed:
        def write(self, text: str) -> Any:
            raise ValueError("I/O operation on closed file")

    a = np.zeros(3, np.float32)
    show(1, 1, 1, 1, True, 1, a)
    monkeypatch.setattr("sys.stdout", Closed())
    with pytest.raises(ValueError, match="closed file"):
        show(1, 1, 1, 1, True, 1, a)
