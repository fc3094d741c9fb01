"""Vector loops on a GPU: what becomes a vector of 4, and that any of them computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import bf16, f16, f32, f64, i8, i32, i64, u16
from kdsl.backends import spirv
from kdsl.sched.schedule import Schedule
from tests.backends.spirv_harness import EVERYTHING, agree, compiled, needs_validator, needs_vulkan, valid
from tests.sched.check import Steps, arguments, schedule_of, sizes_to_try

M, N = kdsl.sizes("M N")


@kdsl.kernel
def saxpy(a: f32, X: f32[N], Y: f32[N]):
    for i in range(N):
        Y[i] += a * X[i]


@kdsl.kernel
def shifted(X: f32[N + 1], Y: f32[N]):
    for i in range(N):
        Y[i] = X[i + 1] - X[i] if i > 2 else X[i]


@kdsl.kernel
def rows(X: f32[M, 8], Y: f32[M, 8], Z: f32[M, N]):
    for i in range(M):
        for j in range(8):
            Y[i, j] = kdsl.sqrt(X[i, j]) * 0 + X[i, 7 - j] + Z[i, 0] if N > 0 else X[i, j]


@kdsl.kernel
def sums(X: f32[N], Y: f32[M, N]):
    for i in range(M):
        for j in range(N):
            t = X[j] * 2
            u = t + i
            Y[i, j] = max(u, t) if t < 3 else -u


@kdsl.kernel
def total(X: f32[M, N], Y: f32[M]):
    for i in range(M):
        Y[i] = 0.0
        for j in range(N):
            Y[i] += X[i, j]


@kdsl.kernel
def wide(C: i64[N], X: f32[N]):
    for i in range(N):
        C[i] = C[i] + i
        X[i] = X[i] + 1


@kdsl.kernel
def types(A: f64[N], B: i32[N], D: f16[N], E: bf16[N], F: i8[N], G: u16[N]):
    for i in range(N):
        A[i] = A[i] * 2 + B[i]
        B[i] = B[i] * 3 - i32(F[i])
        D[i] = D[i] + 1
        E[i] = E[i] * 2
        F[i] = F[i] - 1
        G[i] = G[i] + u16(B[i] & 3)


@kdsl.kernel
def gathered(at: i32[N], X: f32[N], Y: f32[N]):
    for i in range(N):
        Y[i] = X[at[i] % N] / 2


@kdsl.kernel
def ahead(X: f32[N + 1]):
    for i in range(N):
        X[i] = X[i + 1] + 1


@kdsl.kernel
def masked(X: i32[N], Y: i32[N]):
    for i in range(N):
        if X[i] > 1:
            Y[i] = X[i] // 2


def by_four(loop: str, lanes: int = 4) -> Steps:
    return lambda s: s.vectorize(loop, lanes)


CASES: dict[str, tuple[Any, Steps, bool]] = {
    "saxpy": (saxpy, by_four("i"), True),
    "eight lanes": (saxpy, by_four("i", 8), True),
    "two lanes": (saxpy, by_four("i", 2), False),
    "three lanes": (saxpy, by_four("i", 3), False),
    "whole vectors": (saxpy, lambda s: s.split("i", 4, tail="cut").vectorize("i_i"), True),
    "not from a multiple of four": (shifted, by_four("i"), True),
    "rows of eight": (rows, by_four("j"), True),
    "local scalars, choices": (sums, by_four("j"), True),
    "one cell for all lanes": (total, by_four("j"), True),
    "types": (types, by_four("i"), True),
    "integers of 64 bits": (wide, by_four("i"), True),
    "gather": (gathered, by_four("i"), True),
    "lockstep": (ahead, by_four("i"), True),
    "conditions on data": (masked, by_four("i"), False),
}


@needs_vulkan
@pytest.mark.parametrize("name", CASES)
def test_results(name: str) -> None:
    kernel, steps, _ = CASES[name]
    func = steps(schedule_of(kernel)).func
    artifact = compiled(func)
    for seed, sizes in enumerate([*sizes_to_try(func), dict.fromkeys(func.sizes, 64)]):
        agree(func, arguments(func, sizes, seed), sizes, artifact)


@needs_validator
@pytest.mark.parametrize("name", CASES)
def test_vectors_are_in_the_module(name: str) -> None:
    kernel, steps, expected = CASES[name]
    artifact = compiled(steps(schedule_of(kernel)).func, EVERYTHING)
    valid(artifact)
    assert ('x4"' in spirv.text(artifact)) == expected


def test_whole_vectors_have_no_guard() -> None:
    s: Schedule = schedule_of(saxpy).vectorize("i", 4)
    text = spirv.text(compiled(s.func, EVERYTHING))
    # Four lanes of whole vectors, and a loop over those of the last one.
    assert text.count("OpFMul %") == 5 and text.count('x4"') == 2


@kdsl.kernel
def curve(X: f32[N], Y: f32[N]):
    for i in range(N):
        Y[i] = kdsl.exp(X[i]) * kdsl.sin(X[i] + 1) / (1 + kdsl.log(1 + X[i] * X[i]))


@needs_vulkan
def test_math_functions_have_the_same_bits() -> None:
    X = np.random.default_rng(0).standard_normal(1003, np.float32)
    plain, fast = np.empty_like(X), np.empty_like(X)
    kernel = curve.on("vulkan")
    kernel(X, plain)
    kernel.with_schedule(kernel.schedule().vectorize("i", 4))(X, fast)
    assert plain.tobytes() == fast.tobytes()
