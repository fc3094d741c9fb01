"""Sources that damage made: odd annotations, results that nothing writes."""

from __future__ import annotations

import numpy as np
import pytest

import kdsl
from kdsl import f64

N = kdsl.sizes("N")
TABLE: dict[int, int] = {}


def test_an_annotation_that_raises_is_a_compile_error() -> None:
    with pytest.raises(kdsl.CompileError, match="K0105"):

        @kdsl.kernel
        def looks_up(A: f64[TABLE[0]]):
            A[0] = 1

    with pytest.raises(kdsl.CompileError, match="K0105"):

        @kdsl.kernel
        def divides(A: f64[1 // 0]):
            A[0] = 1


def test_one_of_several_results_cannot_be_none() -> None:
    with pytest.raises(kdsl.CompileError, match="a result cannot be `None`"):

        @kdsl.kernel
        def pair(x: f64) -> (None, f64):  # type: ignore[syntax]
            return x, x


def test_a_result_may_stay_unwritten() -> None:
    @kdsl.kernel
    def early(x: f64[N]) -> f64[N]:
        out = kdsl.empty(N, f64)
        return out

    assert early(np.ones(3)).shape == early.py(np.ones(3)).shape == (3,)
    assert early.schedule().ir() == early.ir()
