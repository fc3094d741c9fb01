"""Faults on the device: the same error as elsewhere, the first in program order, and memory stays safe."""

from __future__ import annotations

import numpy as np
import pytest

import kdsl
from kdsl import f32, i32, i64
from tests.backends.spirv_harness import needs_vulkan

pytestmark = needs_vulkan
M, N = kdsl.sizes("M N")


@kdsl.kernel
def gather(X: f32[N], index: i32[M], Y: f32[M]):
    for i in range(M):
        Y[i] = X[index[i]]


@kdsl.kernel
def scatter(X: f32[N], index: i64[M]):
    for i in range(M):
        X[index[i]] = 1.0


@kdsl.kernel
def divide(a: i32[N], b: i32[N], q: i32[N]):
    for i in range(N):
        q[i] = a[i] // b[i] + a[i] % b[i]


@kdsl.kernel
def powers(a: i32[N], b: i32[N]):
    for i in range(N):
        a[i] = a[i] ** b[i]


@kdsl.kernel
def positive(X: f32[N]):
    for i in range(N):
        assert X[i] > 0, "X is positive"
        X[i] = -X[i]


@kdsl.kernel
def strides(step: i64[N], Y: i64[N]):
    for i in range(N):
        for k in range(0, 10, step[i]):
            Y[i] += k


@kdsl.kernel
def two_steps(X: f32[N], index: i32[N], Y: f32[N], Z: f32[N]):
    for i in range(N):
        Y[i] = X[index[i]]
    for i in range(N):
        Z[i] = Y[index[N - 1 - i]]


@kdsl.kernel
def until(X: i32[N], Y: i32[N]):
    for i in range(N):
        k = i
        while X[k] > 0:
            k = X[k]
        Y[i] = k


def _raises(kernel, error, *arrays):
    """The same error, word for word, as on the CPU."""
    with pytest.raises(error) as expected:
        kernel.on("cpu")(*[a.copy() for a in arrays])
    with pytest.raises(error) as found:
        kernel.on("vulkan")(*[a.copy() for a in arrays])
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize(
    "wrong", ({}, {500: 77}, {500: -1, 999: 77}, {3: 2**31 - 1, 700: 100}, {0: -(2**31)})
)
def test_gather(wrong):
    index = (np.arange(1000) % 77).astype(np.int32)
    X, Y = np.arange(77, dtype=np.float32), np.zeros(1000, np.float32)
    for at, value in wrong.items():
        index[at] = value
    if wrong:
        _raises(gather, IndexError, X, index, Y)
    else:
        gather.on("vulkan")(X, index, Y)
        assert (X[index] == Y).all()


def test_gather_from_nothing():
    _raises(gather, IndexError, np.zeros(0, np.float32), np.zeros(3, np.int32), np.zeros(3, np.float32))


@pytest.mark.parametrize("value", (10, -1, 2**32, -(2**32), 2**32 + 1, 2**62, -(2**63)))
def test_scatter_by_wide_indices(value):
    index = np.arange(10, dtype=np.int64)
    index[7] = value
    _raises(scatter, IndexError, np.zeros(10, np.float32), index)


def test_division_by_zero():
    a, b = np.arange(100, dtype=np.int32), np.arange(100, dtype=np.int32)[::-1].copy()
    _raises(divide, ZeroDivisionError, a, b, a)


def test_negative_power():
    _raises(powers, ValueError, np.full(100, 3, np.int32), np.arange(50, -50, -1).astype(np.int32))


def test_assertion():
    _raises(positive, AssertionError, np.arange(100, 0, -1).astype(np.float32) - 40)


def test_a_step_of_zero():
    _raises(strides, ValueError, np.arange(9, dtype=np.int64) - 4, np.zeros(9, np.int64))


def test_steps_of_either_sign():
    step = np.array([1, 2, 3, 10, 11, -1, -2, 7, 2**62, -(2**63)], np.int64)
    got, want = np.zeros(10, np.int64), np.zeros(10, np.int64)
    strides.on("vulkan")(step, got)
    strides.on("interpreter")(step, want)
    assert (got == want).all()


def test_the_dispatch_that_fails_first_is_told():
    X = np.zeros(200, np.float32)
    index = np.arange(200, dtype=np.int32)
    index[150] = 900
    _raises(two_steps, IndexError, X, index, X, X)


def test_a_fault_ends_a_while_loop():
    X = np.full(100, 1, np.int32)
    X[1] = 100
    _raises(until, IndexError, X, np.zeros(100, np.int32))
