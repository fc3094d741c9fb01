"""`kernel.py`: the body as Python, with the meaning of the compiled kernel."""

from __future__ import annotations

import bdb
import importlib.util
import math
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32, f64, i8, i32, i64, u8, u32

M, N = kdsl.sizes("M N")
T = kdsl.typevar("T", f32, f64)
H = N + 2
LAST = -1
WAYS = ("py", "interpreter", "cpu")


def ways(kernel: Any) -> list[Any]:
    return [kernel.py if way == "py" else kernel.on(way) for way in WAYS]


def test_sizes_types_and_constants_are_bound() -> None:
    @kdsl.kernel
    def describe(A: T[M, N], out: f64[5]):
        x: T = 0.1
        out[0] = M
        out[1] = H
        out[2] = x
        out[3] = A.shape[0] + len(A)
        out[4] = A[LAST, -1]

    for call in ways(describe):
        for dtype in (np.float32, np.float64):
            out = np.zeros(5)
            call(np.arange(6, dtype=dtype).reshape(2, 3), out)
            assert out.tolist() == [2, 5, float(dtype(0.1)), 4, 5]


def test_only_constant_negative_indices_count_from_the_end() -> None:
    @kdsl.kernel
    def constant(A: f32[N], B: kdsl.constexpr = 2):
        A[-1] = 1
        A[LAST] += 1
        A[-B] = 2
        A[LAST - 2] = 3
        for k in kdsl.static_range(4, 5):
            A[-k] = k
        A[-2:] += 10

    for call in ways(constant):
        a = np.zeros(5, np.float32)
        call(a)
        assert a.tolist() == [0, 4, 3, 12, 12]

    @kdsl.kernel
    def computed(A: f32[N], at: i64[1]):
        A[at[0]] = 1

    @kdsl.kernel
    def through_a_name(A: f32[N]):
        last = -1
        A[last] = 1

    @kdsl.kernel
    def sized(A: f32[N], B: f32[M]):
        for i in range(N):
            B[M - 1 - i] = A[i]

    for call in ways(computed):
        with pytest.raises(IndexError):
            call(np.zeros(3, np.float32), np.array([-1]))
    for call in ways(through_a_name):
        with pytest.raises((IndexError, kdsl.ArgumentError)):
            call(np.zeros(3, np.float32))
    for call in ways(sized):
        with pytest.raises((IndexError, kdsl.ArgumentError)):
            call(np.zeros(3, np.float32), np.zeros(2, np.float32))


def test_division_by_zero_and_wrapping_are_those_of_the_compiled_kernel() -> None:
    @kdsl.kernel
    def divide(A: i32[N], B: i32[N], out: i32[N]):
        for i in range(N):
            out[i] = A[i] // B[i]
            out[i] %= 7

    @kdsl.kernel
    def floats(A: f32[N], out: f32[N]):
        for i in range(N):
            out[i] = A[i] / 0 + A[i] // 2

    @kdsl.kernel
    def narrow(A: u8[N]) -> u8:
        s = 0
        for i in range(N):
            s += A[i]
            A[i] = i * 100
        return s

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in ways(divide):
            out = np.zeros(3, np.int32)
            call(np.array([7, -7, -(2**31)], np.int32), np.array([2, 2, -1], np.int32), out)
            assert out.tolist() == [3, 3, -(2**31) % 7]
            with pytest.raises(ZeroDivisionError):
                call(np.ones(3, np.int32), np.zeros(3, np.int32), out)
        for call in ways(floats):
            out = np.zeros(2, np.float32)
            call(np.array([1, -3], np.float32), out)
            assert out.tolist() == [math.inf, -math.inf]
        for call in ways(narrow):
            a = np.full(3, 100, np.uint8)
            assert call(a) == 300 - 256
            assert a.tolist() == [0, 100, 200]


def test_declared_names_keep_their_type() -> None:
    @kdsl.kernel
    def declared(A: f32[N], out: f64[3]):
        total: f64 = 0
        small: i8 = 100
        for i in range(N):
            total += A[i]
            small += 1
        small = small + 100
        out[0] = total
        out[1] = small
        total, x = 1 / 3, 2
        out[2] = total * x

    a = np.full(1000, 0.1, np.float32)
    outs = [np.zeros(3) for _ in WAYS]
    for call, out in zip(ways(declared), outs):
        call(a, out)
    assert outs[0][0] == np.cumsum(a.astype(np.float64))[-1]
    assert all((out == outs[0]).all() for out in outs)


def test_kernels_and_functions_reached_through_modules() -> None:
    module = types.ModuleType("helpers")
    module.K = N  # type: ignore[attr-defined]
    module.factor = 3  # type: ignore[attr-defined]
    module.sum3 = kdsl.kernel(sum3)  # type: ignore[attr-defined]
    sys.modules["helpers"] = module

    @kdsl.kernel
    def use(A: f32[N, 3], out: f32[N]):
        for i in range(module.K):
            out[i] = module.factor * module.sum3(A[i]) + math.exp(A[i, 0] * 0)

    for call in ways(use):
        out = np.zeros(2, np.float32)
        call(np.ones((2, 3), np.float32), out)
        assert out.tolist() == [10, 10]


def sum3(A: f32[3]) -> f32:
    return A[0] + A[1] + A[2]


def test_math_functions_keep_f32() -> None:
    @kdsl.kernel(strict=True)
    def widths(A: f32[1], out: f64[4]):
        out[0] = math.exp(A[0])
        out[1] = np.exp(A[0])
        out[2] = kdsl.exp(A[0])
        out[3] = math.sqrt(A[0])

    a = np.full(1, 0.7, np.float32)
    for call in ways(widths):
        out = np.zeros(4)
        call(a, out)
        assert (out == out.astype(np.float32)).all()
        np.testing.assert_allclose(out, [*[np.exp(np.float32(0.7))] * 3, np.sqrt(np.float32(0.7))], 2e-7)


def test_local_arrays_and_results() -> None:
    @kdsl.kernel
    def locals_(n: i64[1]) -> (f32[4], i32):
        a = kdsl.zeros((2, 2), f32)
        b = kdsl.full(4, 2, f32)
        a[1, 1] = 5
        for i in range(4):
            b[i] += a[i // 2, i % 2]
        b[n[0]] = 0.5
        return b, 2.9

    for call in ways(locals_):
        array, number = call(np.zeros(1, np.int64))
        assert type(array) is np.ndarray and array.tolist() == [0.5, 2, 2, 7]
        assert type(number) is np.int32 and number == 2
        with pytest.raises(IndexError):
            call(np.full(1, -1))


def test_arguments_are_left_alone() -> None:
    @kdsl.kernel
    def touch(A: f32[N]):
        A[0] = 1

    a = np.zeros(2, np.float32)
    touch.py(a)
    assert type(a) is np.ndarray and a.tolist() == [1, 0]


@kdsl.func
def clamp(x: f32, low: f32 = 0, high: f32 = 1):
    return min(max(x, low), high)


def test_device_functions_run_as_python() -> None:
    assert clamp(2.5) == 1 and clamp(0.1) == np.float32(0.1) and clamp(5, high=9) == 5


FILE = """\
import kdsl
from kdsl import i32

N = kdsl.sizes("N")


@kdsl.kernel
def f(A: i32[N]):
    for i in range(N):
        A[i] = 7 // A[-1]
"""


def test_debuggers_and_tracebacks_see_the_users_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines.py"
    path.write_text(FILE)
    spec = importlib.util.spec_from_file_location("lines", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    a = np.array([3, 2], np.int32)
    seen = []

    class Watch(bdb.Bdb):
        def user_line(self, frame: types.FrameType) -> None:
            if frame.f_code.co_filename == str(path):
                seen.append((frame.f_lineno, frame.f_locals.get("i")))

    Watch().runcall(module.f.py, a)
    lines = [line for line, _ in seen]
    first = FILE.splitlines().index("    for i in range(N):") + 1
    assert lines == [first, first + 1] * 2 + [first]
    assert a.tolist() == [3, 2] or a[0] == 7 // 2
    with pytest.raises(ZeroDivisionError) as caught:
        module.f.py(np.zeros(2, np.int32))
    assert any(entry.path == path and entry.lineno == first for entry in caught.traceback)


def test_random_numbers_need_no_compiled_kernel() -> None:
    @kdsl.kernel
    def draw(out: f32[N], bits: u32[N], seed: i64):
        for i in range(N):
            out[i] = kdsl.uniform(seed, i)
            bits[i] = kdsl.random_bits(seed, i)

    made = []
    for call in ways(draw):
        out, bits = np.zeros(9, np.float32), np.zeros(9, np.uint32)
        call(out, bits, -3)
        made.append((out.tolist(), bits.tolist()))
    assert made[0] == made[1] == made[2] and len(set(made[0][0])) == 9
