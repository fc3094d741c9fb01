"""What a kernel takes as arguments, and that nothing is written when it refuses.

The wording of refusals is compared in tests/messages.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided

import kdsl
from kdsl import bf16, bool_, f32, f64, i8, i32, i64, u64

M, N, K = kdsl.sizes("M N K")
T = kdsl.typevar("T", f32, f64)
TARGETS = ("cpu", "interpreter", "py")


def calls(kernel: Any, target: str) -> Callable[..., Any]:
    return kernel.py if target == "py" else kernel.on(target)


@kdsl.kernel
def scale(A: f32[M, N], s: f32, B: f32[M, N]):
    for i, j in kdsl.grid(M, N):
        B[i, j] = s * A[i, j]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "make",
    [
        lambda a: a,
        lambda a: np.asfortranarray(a),
        lambda a: a[::-1],
        lambda a: a[:, ::-2],
        lambda a: a[1:, 2:],
        lambda a: a.T,
        lambda a: a[:0],
        lambda a: a[:1, :1],
        lambda a: np.broadcast_to(a[0], (5, a.shape[1])),
    ],
    ids=["c", "fortran", "reversed", "steps", "part", "transposed", "empty", "one", "broadcast"],
)
def test_any_strides(target: str, make: Callable[[Any], Any]) -> None:
    a = make(np.arange(42, dtype=np.float32).reshape(6, 7))
    for b in (np.zeros(a.shape, np.float32), np.zeros((2 * a.shape[0], a.shape[1]), np.float32)[::-2]):
        calls(scale, target)(a, 2, b)
        assert (b == 2 * a).all()


@pytest.mark.parametrize("target", TARGETS)
def test_keywords_and_defaults(target: str) -> None:
    @kdsl.kernel
    def fill(A: f32[N], x: f32 = 3, *, y: f32 = 0.5, scale: kdsl.constexpr = 1):
        for i in range(N):
            A[i] = (x + y) * scale

    call, a = calls(fill, target), np.zeros(2, np.float32)
    for arguments, expected in (
        ({}, 3.5),
        ({"x": 1}, 1.5),
        ({"y": 1}, 4),
        ({"scale": 2}, 7),
        ({"scale": 2, "y": 0, "x": 1}, 2),
        ({}, 3.5),
    ):
        call(a, **arguments)
        assert a.tolist() == [expected] * 2, arguments
    call(y=2, A=a)
    assert a[0] == 5
    with pytest.raises(TypeError, match="takes 2 positional arguments, 3 given"):
        call(a, 1, 2)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", [d for d in kdsl.dtypes.ALL if d is not bool_], ids=str)
def test_every_element_type(target: str, dtype: kdsl.DType) -> None:
    @kdsl.kernel
    def double(A: dtype[N], B: dtype[N], x: dtype):
        for i in range(N):
            B[i] = A[i] + x

    a = np.array([1, 2, 3], dtype.np)
    b = np.zeros_like(a)
    calls(double, target)(a, b, 2)
    assert b.dtype == a.dtype and b.astype(np.float64).tolist() == [3, 4, 5]
    calls(double, target)(a, b, dtype.np.type(1))
    assert b.astype(np.float64).tolist() == [2, 3, 4]


def test_bf16_is_that_of_ml_dtypes() -> None:
    assert bf16.np == np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize("target", TARGETS)
def test_scalars_are_cast_to_their_annotation(target: str) -> None:
    @kdsl.kernel
    def keep(x: f32, n: i32, flag: bool_, out: f64[3]):
        out[0] = x
        out[1] = n
        out[2] = 1.0 if flag else 0.0

    call, out = calls(keep, target), np.zeros(3)
    tenth = float(np.float32(0.1))
    for x, n, flag in (
        (0.1, 7, True),
        (np.float64(0.1), np.int64(7), np.bool_(True)),
        (np.array(0.1), np.uint8(7), 1),
        (np.float16(0.5), True, 0.5),
    ):
        call(x, n, flag, out)
        assert out[0] == (tenth if x != np.float16(0.5) else 0.5)
        assert out[1] == int(n) and out[2] == 1
    call(1e300, 0, False, out)
    assert out[0] == np.inf
    for bad in (2.0, np.float32(2), 1j, "7", None, 2**31, -(2**31) - 1, np.int64(2**40), [1], np.zeros(1)):
        with pytest.raises(kdsl.ArgumentError):
            call(0, bad, True, out)


@pytest.mark.parametrize("target", TARGETS)
def test_wide_integers(target: str) -> None:
    @kdsl.kernel
    def both(a: u64, b: i64, A: u64[1], B: i64[1]):
        A[0] = a
        B[0] = b

    A, B = np.zeros(1, np.uint64), np.zeros(1, np.int64)
    calls(both, target)(2**64 - 1, -(2**63), A, B)
    assert A[0] == 2**64 - 1 and B[0] == -(2**63)
    for a, b in ((-1, 0), (2**64, 0), (0, 2**63), (0, -(2**63) - 1)):
        with pytest.raises(kdsl.ArgumentError, match="does not fit"):
            calls(both, target)(a, b, A, B)


@pytest.mark.parametrize("target", TARGETS)
def test_unannotated_arguments_take_the_types_of_the_call(target: str) -> None:
    @kdsl.kernel
    def axpy(a, X, Y):
        for i in range(len(X)):
            Y[i] += a * X[i]

    for dtype in (np.float32, np.float64, np.int32, np.uint8):
        for a in (2, dtype(2), True):
            y = np.ones(3, dtype)
            calls(axpy, target)(a, np.arange(3, dtype=dtype), y)
            assert y.tolist() == [1, 1 + int(a), 1 + 2 * int(a)], (dtype, a)
    # A weak float keeps f32 narrow, a strong f64 does not: the difference shows in the last bit.
    x, y32, y64 = np.full(1, 3, np.float32), np.zeros(1), np.zeros(1)
    calls(axpy, target)(0.1, x, y32)
    calls(axpy, target)(np.float64(0.1), x, y64)
    assert y32[0] == np.float32(0.1) * np.float32(3) and y64[0] == 0.1 * 3


@pytest.mark.parametrize("target", TARGETS)
def test_type_variables(target: str) -> None:
    @kdsl.kernel
    def add(s: T, A: T[N], B: T[N]):
        for i in range(N):
            B[i] = A[i] + s

    call = calls(add, target)
    for dtype in (np.float32, np.float64):
        b = np.zeros(2, dtype)
        for s in (1, 1.0, np.float64(1), np.int8(1)):
            call(s, np.ones(2, dtype), b)
            assert b.tolist() == [2, 2]
    with pytest.raises(kdsl.ArgumentError, match="T is f32 from A but f64 from B"):
        call(1, np.ones(2, np.float32), np.ones(2))
    with pytest.raises(kdsl.ArgumentError, match="which T does not allow"):
        call(1, np.ones(2, np.int32), np.ones(2, np.int32))


@pytest.mark.parametrize("target", TARGETS)
def test_sizes_are_solved_from_affine_shapes(target: str) -> None:
    @kdsl.kernel
    def pad(A: f32[N], B: f32[N + 2], C: f32[2 * M - 1], n: i64[2]):
        n[0] = N
        n[1] = M

    n = np.zeros(2, np.int64)
    call = calls(pad, target)
    call(np.zeros(3, np.float32), np.zeros(5, np.float32), np.zeros(7, np.float32), n)
    assert n.tolist() == [3, 4]
    for a, b, c in ((3, 4, 7), (3, 5, 6), (3, 3, 7)):
        with pytest.raises(kdsl.ArgumentError):
            call(*(np.zeros(k, np.float32) for k in (a, b, c)), n)


class Interface:
    """An array that is no ndarray."""

    def __init__(self, a: Any) -> None:
        self.a = a

    @property
    def __array_interface__(self) -> Any:
        return self.a.__array_interface__


class DLPack:
    def __init__(self, a: Any) -> None:
        self.a = a

    def __dlpack__(self, **options: Any) -> Any:
        return self.a.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.a.__dlpack_device__()


class OnADevice(DLPack):
    def __dlpack_device__(self) -> Any:
        return 2, 0

    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("the memory is on a GPU")


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "wrap", [Interface, DLPack, lambda a: a.view(Subclass)], ids=["interface", "dlpack", "subclass"]
)
def test_foreign_arrays_are_used_in_place(target: str, wrap: Callable[[Any], Any]) -> None:
    a, b = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    calls(scale, target)(wrap(a), 3, wrap(b))
    assert (b == 3).all()


def test_a_memmap_is_an_array(tmp_path: Any) -> None:
    b = np.memmap(tmp_path / "b", np.float32, "w+", shape=(2, 3))
    scale(np.ones((2, 3), np.float32), 3, b)
    assert (b == 3).all()


READ_ONLY = np.zeros((2, 3), np.float32)
READ_ONLY.flags.writeable = False
PACKED = np.zeros(6, [("tag", "u1"), ("x", "f4")])["x"].reshape(2, 3)
GOOD = np.ones((2, 3), np.float32)


@pytest.mark.parametrize("target", ["cpu", "interpreter"])
@pytest.mark.parametrize(
    ("a", "s", "b"),
    [
        (GOOD, 1, READ_ONLY),
        (GOOD, 1, np.broadcast_to(np.zeros(3, np.float32), (2, 3))),
        (GOOD, 1, as_strided(np.zeros(3, np.float32), (2, 3), (0, 4))),
        (GOOD, 1, as_strided(np.zeros(8, np.float32), (2, 3), (4, 4))),
        (GOOD, 1, np.zeros((3, 2), np.float32)),
        (GOOD, 1, np.zeros((2, 3, 1), np.float32)),
        (GOOD, 1, np.zeros((2, 3))),
        (GOOD, 1, np.zeros((2, 3), ">f4")),
        (GOOD, 1, PACKED),
        (GOOD, 1, np.zeros((2, 3), [("x", "f4")])),
        (GOOD, 1, np.ma.zeros((2, 3), np.float32)),
        (GOOD, 1, [[0.0] * 3] * 2),
        (GOOD, 1, None),
        (GOOD, 1, np.float32(1)),
        (GOOD, 1, OnADevice(np.zeros((2, 3), np.float32))),
        (GOOD, "1", np.zeros((2, 3), np.float32)),
        (GOOD, GOOD, np.zeros((2, 3), np.float32)),
        (GOOD.astype(object), 1, np.zeros((2, 3), np.float32)),
    ],
)
def test_what_is_refused(target: str, a: Any, s: Any, b: Any) -> None:
    before = np.array(b, copy=True) if isinstance(b, np.ndarray) else None
    with pytest.raises(kdsl.ArgumentError) as caught:
        scale.on(target)(a, s, b)
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, ValueError)
    assert caught.value.loc is not None and caught.value.filename == __file__
    assert (
        "`B`" in str(caught.value)
        or "`s`" in str(caught.value)
        or "`A`" in str(caught.value)
        or "M is" in str(caught.value)
    )
    assert before is None or np.array_equal(before, b)


@pytest.mark.parametrize("target", ["cpu", "interpreter"])
def test_a_size_condition_is_checked_before_anything_is_written(target: str) -> None:
    @kdsl.kernel
    def third(A: f32[N], out: f32[N]):
        for i in range(N):
            out[i] = A[i]
        out[0] = A[2]

    out = np.zeros(2, np.float32)
    with pytest.raises(kdsl.ArgumentError):
        third.on(target)(np.ones(2, np.float32), out)
    assert out.tolist() == [0, 0]
    out = np.zeros(3, np.float32)
    third.on(target)(np.ones(3, np.float32), out)
    assert out.tolist() == [1, 1, 1]


@pytest.mark.parametrize("target", TARGETS)
def test_results(target: str) -> None:
    @kdsl.kernel
    def stats(A: f32[M, N]) -> (f32[N], f64, i64):
        out = kdsl.zeros(N, f32)
        total = 0.0
        for i, j in kdsl.grid(M, N):
            out[j] += A[i, j]
            total += A[i, j]
        return out, total, M

    @kdsl.kernel
    def one(A: i8[N]) -> i8:
        s = 0
        for i in range(N):
            s += A[i]
        return s

    columns, total, rows = calls(stats, target)(np.ones((3, 2), np.float32))
    assert type(columns) is np.ndarray and columns.dtype == np.float32 and columns.tolist() == [3, 3]
    assert type(total) is np.float64 and total == 6 and type(rows) is np.int64 and rows == 3
    again, _, _ = calls(stats, target)(np.ones((3, 2), np.float32))
    assert again is not columns and not np.shares_memory(again, columns)
    result = calls(one, target)(np.full(3, 100, np.int8))
    assert type(result) is np.int8 and result == 300 - 256


@pytest.mark.parametrize("target", TARGETS)
def test_constexpr_values_that_python_calls_equal(target: str) -> None:
    @kdsl.kernel
    def divide(A: f64[2], x: kdsl.constexpr, pair: kdsl.constexpr = (1, 2)):
        A[0] = kdsl.copysign(1.0, x)
        A[1] = pair[0] / 2 if pair[1] == 2 else 0

    a = np.zeros(2)
    for x, pair, expected in ((0.0, (1, 2), [1, 0.5]), (-0.0, (1.0, 2), [-1, 0.5]), (0.0, (3, 2), [1, 1.5])):
        calls(divide, target)(a, x, pair)
        assert a.tolist() == expected
    for _ in range(2):
        calls(divide, target)(a, np.nan)


@pytest.mark.parametrize("target", TARGETS)
def test_constexpr_values_of_equal_numbers_differ(target: str) -> None:
    @kdsl.kernel
    def fill(A: f64[1], x: kdsl.constexpr):
        A[0] = 7 // 2 * x if x == 1 else 0

    a = np.zeros(1)
    for x in (1, 1.0, True, 2):
        calls(fill, target)(a, x)
        assert a[0] == (3 if x == 1 else 0)
