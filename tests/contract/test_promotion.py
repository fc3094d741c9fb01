"""Types and bits of arithmetic: every pair of element types, every type with Python numbers (NEP 50)."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pytest

import kdsl
from tests.contract.harness import (
    ALL,
    FLOATS,
    FORMS,
    INTEGERS,
    NUMBERS,
    agree,
    assert_same,
    dtype_of,
    outcome,
    pairs,
    samples,
    wide,
)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield


@kdsl.kernel(strict=True)
def arithmetic(a, b, out, quotient, comparisons):
    for i in range(len(a)):
        out[i, 0] = a[i] + b[i]
        out[i, 1] = a[i] - b[i]
        out[i, 2] = a[i] * b[i]
        quotient[i] = a[i] / b[i]
        comparisons[i, 0] = a[i] < b[i]
        comparisons[i, 1] = a[i] <= b[i]
        comparisons[i, 2] = a[i] > b[i]
        comparisons[i, 3] = a[i] >= b[i]
        comparisons[i, 4] = a[i] == b[i]
        comparisons[i, 5] = a[i] != b[i]


def numpy_arithmetic(a: Any, b: Any) -> tuple[Any, Any, Any]:
    out = np.stack([a + b, a - b, a * b], 1)
    comparisons = np.stack([a < b, a <= b, a > b, a >= b, a == b, a != b], 1)
    return out, a / b, comparisons


def check_arithmetic(a: Any, b: Any, call_b: Any, forms: tuple[str, ...] = FORMS) -> None:
    """`arithmetic` against NumPy on whole arrays: the outputs are wide, so that each dtype shows."""
    sums, quotient, comparisons = numpy_arithmetic(a, b)
    for form in forms:
        args = (
            a,
            call_b,
            np.zeros(sums.shape, wide(sums.dtype)),
            np.zeros(quotient.shape, wide(quotient.dtype)),
            np.zeros(comparisons.shape, np.bool_),
        )
        left = outcome(arithmetic, form, *args).args
        assert_same(left[2], sums.astype(wide(sums.dtype)), f"{form}: + - *")
        assert_same(left[3], quotient.astype(wide(quotient.dtype)), f"{form}: /")
        assert_same(left[4], comparisons, f"{form}: comparisons")


@pytest.mark.parametrize(("left", "right"), combinations_with_replacement(NUMBERS, 2))
def test_two_element_types(left: str, right: str) -> None:
    a, b = pairs(samples(left), samples(right))
    check_arithmetic(a, b, b)


@kdsl.kernel(strict=True)
def with_integer_literals(a, out, quotient):
    for i in range(len(a)):
        out[i, 0] = a[i] + 3
        out[i, 1] = 3 - a[i]
        out[i, 2] = a[i] * 3
        out[i, 3] = 100 * a[i] - 1
        quotient[i, 0] = a[i] / 3
        quotient[i, 1] = 3 / a[i]


@pytest.mark.parametrize("name", NUMBERS)
def test_an_integer_literal_is_weak(name: str) -> None:
    a = samples(name)
    sums = np.stack([a + 3, 3 - a, a * 3, 100 * a - 1], 1)
    quotients = np.stack([a / 3, 3 / a], 1)
    for form in FORMS:
        outputs = np.zeros(sums.shape, wide(sums.dtype)), np.zeros(quotients.shape, wide(quotients.dtype))
        left = outcome(with_integer_literals, form, a, *outputs).args
        assert_same(left[1], sums.astype(left[1].dtype), f"{form}: + - *")
        assert_same(left[2], quotients.astype(left[2].dtype), f"{form}: /")


@kdsl.kernel(strict=True)
def with_float_literals(a, out):
    for i in range(len(a)):
        out[i, 0] = a[i] + 2.5
        out[i, 1] = 0.1 - a[i]
        out[i, 2] = a[i] * 1.3
        out[i, 3] = a[i] / 0.7


@pytest.mark.parametrize("name", ALL)
def test_a_float_literal_is_weak(name: str) -> None:
    a = samples(name)
    want = np.stack([a + 2.5, 0.1 - a, a * 1.3, a / 0.7], 1)
    for form in FORMS:
        left = outcome(with_float_literals, form, a, np.zeros(want.shape)).args
        assert_same(left[1], want.astype(np.float64), form)


@kdsl.kernel(strict=True)
def with_weak_variables(a, out):
    for i in range(len(a)):
        out[i, 0] = a[i] + i
        out[i, 1] = i * a[i]
        out[i, 2] = a[i] + len(a)
        out[i, 3] = a.shape[0] - a[i]


@pytest.mark.parametrize("name", NUMBERS)
def test_loop_variables_and_sizes_are_weak(name: str) -> None:
    a = samples(name)
    at, n = np.arange(len(a)), len(a)
    elements = [np.stack([a[i] + int(i), int(i) * a[i], a[i] + n, n - a[i]]) for i in at]
    want = np.stack(elements)
    for form in FORMS:
        left = outcome(with_weak_variables, form, a, np.zeros(want.shape, wide(want.dtype))).args
        assert_same(left[1], want.astype(left[1].dtype), form)


@kdsl.kernel(strict=True)
def with_python_scalar(a, s, out):
    for i in range(len(a)):
        out[i, 0] = a[i] + s
        out[i, 1] = s - a[i]
        out[i, 2] = a[i] * s


@pytest.mark.parametrize("scalar", [3, 2.5, True], ids=repr)
@pytest.mark.parametrize("name", NUMBERS)
def test_an_unannotated_python_number_is_weak(name: str, scalar: Any) -> None:
    a = samples(name)
    want = np.stack([a + scalar, scalar - a, a * scalar], 1)
    for form in FORMS:
        left = outcome(with_python_scalar, form, a, scalar, np.zeros(want.shape, wide(want.dtype))).args
        assert_same(left[2], want.astype(left[2].dtype), form)


@pytest.mark.parametrize("scalar", [np.float64(2.5), np.int8(3), np.uint64(3), np.float32(0.1)], ids=repr)
@pytest.mark.parametrize("name", ["int8", "int32", "uint8", "float16", "float32", "float64"])
def test_a_numpy_scalar_is_strong(name: str, scalar: Any) -> None:
    a = samples(name)
    want = np.stack([a + scalar, scalar - a, a * scalar], 1)
    for form in FORMS:
        left = outcome(with_python_scalar, form, a, scalar, np.zeros(want.shape, wide(want.dtype))).args
        assert_same(left[2], want.astype(left[2].dtype), form)


@kdsl.kernel(strict=True)
def floor_division(a, b, out):
    for i in range(len(a)):
        out[i, 0] = a[i] // b[i]
        out[i, 1] = a[i] % b[i]


@pytest.mark.parametrize(("left", "right"), combinations_with_replacement(NUMBERS, 2))
def test_floor_division_and_remainder(left: str, right: str) -> None:
    a, b = pairs(samples(left), samples(right))
    if left in INTEGERS and right in INTEGERS:
        a, b = a[b != 0], b[b != 0]
    want = np.stack([a // b, a % b], 1)
    for form in FORMS:
        got = outcome(floor_division, form, a, b, np.zeros(want.shape, wide(want.dtype))).args[2]
        assert_same(got, want.astype(got.dtype), form)


@kdsl.kernel
def bit_operations(a, b, out):
    for i in range(len(a)):
        out[i, 0] = a[i] & b[i]
        out[i, 1] = a[i] | b[i]
        out[i, 2] = a[i] ^ b[i]


@pytest.mark.parametrize(("left", "right"), combinations_with_replacement(("bool", *INTEGERS), 2))
def test_bit_operations(left: str, right: str) -> None:
    a, b = pairs(samples(left), samples(right))
    if np.result_type(a, b).kind == "f":
        pytest.skip("NumPy has no bit operations on a signed type and uint64")
    want = np.stack([a & b, a | b, a ^ b], 1)
    for form in FORMS:
        got = outcome(bit_operations, form, a, b, np.zeros(want.shape, wide(want.dtype))).args[2]
        assert_same(got, want.astype(got.dtype), form)


@pytest.mark.parametrize("signed", [np.int8, np.int64])
def test_bit_operations_of_a_signed_type_and_uint64_are_refused(signed: Any) -> None:
    with pytest.raises(kdsl.CompileError):
        bit_operations(np.ones(2, signed), np.ones(2, np.uint64), np.zeros((2, 3), np.int64))


@kdsl.kernel
def shifts(a, b, out):
    for i in range(len(a)):
        out[i, 0] = a[i] << b[i]
        out[i, 1] = a[i] >> b[i]


@pytest.mark.parametrize("name", INTEGERS)
def test_shifts_up_to_and_beyond_the_width(name: str) -> None:
    bits = np.dtype(name).itemsize * 8
    a, b = pairs(samples(name), np.array([0, 1, 3, bits - 1, bits, bits + 1, 100], name))
    want = np.stack([a << b, a >> b], 1)
    for form in FORMS:
        got = outcome(shifts, form, a, b, np.zeros(want.shape, wide(want.dtype))).args[2]
        assert_same(got, want.astype(got.dtype), form)


@pytest.mark.parametrize("right", ["int8", "uint16", "int64", "uint64"])
@pytest.mark.parametrize("left", ["int8", "uint8", "int32", "uint64"])
def test_shifts_of_two_types(left: str, right: str) -> None:
    a, b = pairs(samples(left), np.array([0, 1, 7, 40, 100], right))
    if np.result_type(a, b).kind == "f":
        pytest.skip("NumPy has no shifts of a signed type and uint64")
    want = np.stack([a << b, a >> b], 1)
    got = outcome(shifts, "cpu", a, b, np.zeros(want.shape, wide(want.dtype))).args[2]
    assert_same(got, want.astype(got.dtype), "cpu")


@kdsl.kernel
def unary(a, out):
    for i in range(len(a)):
        out[i, 0] = -a[i]
        out[i, 1] = +a[i]
        out[i, 2] = abs(a[i])


@pytest.mark.parametrize("name", NUMBERS)
def test_negation_and_absolute_value(name: str) -> None:
    a = samples(name)
    want = np.stack([-a, +a, abs(a)], 1)
    for form in FORMS:
        got = outcome(unary, form, a, np.zeros(want.shape, wide(want.dtype))).args[1]
        assert_same(got, want.astype(got.dtype), form)


@kdsl.kernel
def inversion(a, out):
    for i in range(len(a)):
        out[i] = ~a[i]


@pytest.mark.parametrize("name", ("bool", *INTEGERS))
def test_inversion(name: str) -> None:
    a = samples(name)
    for form in FORMS:
        assert_same(outcome(inversion, form, a, np.zeros_like(a)).args[1], ~a, form)


@kdsl.kernel
def store(a, out):
    for i in range(len(a)):
        out[i] = a[i]


def in_range(a: Any, target: str) -> Any:
    """The elements that the target type can hold after truncation: others may become any integer."""
    if target not in INTEGERS or a.dtype.name not in FLOATS:
        return a
    info = np.iinfo(target)
    exact = a.astype(np.float64)
    return a[(exact > float(info.min) - 1) & (exact < float(info.max) + 1)]


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize("source", ALL)
def test_a_store_casts_as_numpy(source: str, target: str) -> None:
    a = in_range(samples(source), target)
    want = a.astype(dtype_of(target))
    for form in FORMS:
        got = outcome(store, form, a, np.zeros(a.shape, dtype_of(target))).args[1]
        assert_same(got, want, form)


T = kdsl.typevar(
    "T",
    *(kdsl.i8, kdsl.i16, kdsl.i32, kdsl.i64, kdsl.u8, kdsl.u16, kdsl.u32, kdsl.u64),
    *(kdsl.f16, kdsl.bf16, kdsl.f32, kdsl.f64, kdsl.bool_),
)
N, M = kdsl.sizes("N M")


@kdsl.kernel
def explicit_cast(a, out: T[N, 2]):
    for i in range(N):
        out[i, 0] = T(a[i])
        out[i, 1] = T(3)


@pytest.mark.parametrize("target", ALL)
@pytest.mark.parametrize("source", ["bool", "int8", "uint64", "float32", "float64", "bfloat16"])
def test_a_cast_by_type(source: str, target: str) -> None:
    a = in_range(samples(source), target)
    want = np.stack([a.astype(dtype_of(target)), np.full(a.shape, 3).astype(dtype_of(target))], 1)
    for form in FORMS:
        got = outcome(explicit_cast, form, a, np.zeros(want.shape, want.dtype)).args[1]
        assert_same(got, want, form)


@pytest.mark.parametrize("target", INTEGERS)
@pytest.mark.parametrize("source", ["float32", "float64"])
def test_a_float_out_of_range_becomes_the_same_integer_everywhere(source: str, target: str) -> None:
    a = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 2.0**63, -(2.0**63), 300.0, -1.0], source)
    info = np.iinfo(target)
    got = [outcome(store, form, a, np.zeros(a.shape, target)).args[1] for form in ("cpu", "interpreter")]
    assert_same(got[0], got[1], "cpu against interpreter")
    assert got[0][1] == info.max, "the nearest bound"
    assert got[0][2] == info.min, "the nearest bound"


@kdsl.kernel(strict=True)
def smallest_and_largest(a, b, out):
    for i in range(len(a)):
        out[i, 0] = min(a[i], b[i])
        out[i, 1] = max(a[i], b[i])
        out[i, 2] = min(b[i], a[i], 5)
        out[i, 3] = kdsl.minimum(a[i], b[i])
        out[i, 4] = kdsl.maximum(a[i], b[i])
        out[i, 5] = np.minimum(a[i], b[i])
        out[i, 6] = np.maximum(a[i], b[i])


def python_min(*values: Any) -> Any:
    least = values[0]
    for v in values[1:]:
        least = v if v < least else least
    return least


@pytest.mark.parametrize("name", FLOATS)
def test_min_and_max_follow_python_and_minimum_and_maximum_numpy(name: str) -> None:
    special = np.array([np.nan, 0.0, -0.0, np.inf, -np.inf, 1.5, -2.0, 5.0], dtype_of(name))
    a, b = pairs(special, special)
    rows = []
    for x, y in zip(a, b):
        rows.append([min(x, y), max(x, y), min(y, x, a.dtype.type(5))])
    python = np.array(rows, a.dtype)
    both = [np.minimum(a, b), np.maximum(a, b)] * 2
    for form in FORMS:
        got = outcome(smallest_and_largest, form, a, b, np.zeros((len(a), 7), a.dtype)).args[2]
        assert_same(got[:, :3], python, f"{form}: min and max")
        for n, want in enumerate(both):
            # The sign of a zero among zeros is left open by IEEE 754's minimum and by NumPy.
            assert_same(got[:, 3 + n] + 0, want + 0, f"{form}: minimum and maximum")


@pytest.mark.parametrize("right", ["int8", "uint8", "int64", "uint64", "float32"])
@pytest.mark.parametrize("left", ["int8", "uint32", "float16", "float64"])
def test_min_and_max_of_two_types(left: str, right: str) -> None:
    a, b = pairs(samples(left), samples(right))
    common = np.result_type(a, b)
    want = np.stack([np.minimum(a, b), np.maximum(a, b)], 1)
    for form in FORMS:
        got = outcome(smallest_and_largest, form, a, b, np.zeros((len(a), 7), wide(common))).args[2]
        assert_same(got[:, 3:5] + 0, want.astype(got.dtype) + 0, form)


@kdsl.kernel(strict=True)
def sum_from_a_weak_zero(a) -> kdsl.f64:
    s = 0.0
    for i in range(len(a)):
        s += a[i]
    return s


@kdsl.kernel(strict=True)
def count_from_a_weak_zero(a) -> kdsl.i64:
    n = 0
    for i in range(len(a)):
        n += a[i]
    return n


@pytest.mark.parametrize("name", FLOATS)
def test_a_weak_zero_takes_the_type_of_what_is_added(name: str) -> None:
    """bf16 sums are f32 sums: 1000 ones would stop at 256 in bf16."""
    left = agree(sum_from_a_weak_zero, np.full(1000, 1.1, dtype_of(name)))
    if name == "bfloat16":
        assert 1090 < left.result < 1110
    assert agree(sum_from_a_weak_zero, np.ones(1000, dtype_of(name))).result == 1000


@pytest.mark.parametrize("name", INTEGERS)
def test_a_weak_integer_zero_takes_the_type_and_wraps(name: str) -> None:
    a = np.full(300, np.iinfo(name).max, name)
    assert agree(count_from_a_weak_zero, a).result == a.sum(dtype=name).astype(np.int64)
