"""Expressions beyond types: powers, rounding, chains, laziness, indices, casts by Python's names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import bool_, f32, f64, i8, i32, i64, u8, u64
from tests.contract.harness import FLOATS, FORMS, agree, assert_same, dtype_of, outcome

N, M, K = kdsl.sizes("N M K")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with np.errstate(all="ignore"):
        yield


# ------------------------------------------------------------------------ powers


@kdsl.kernel(strict=True)
def integer_powers(a, out):
    for i in range(len(a)):
        out[i, 0] = a[i] ** 0
        out[i, 1] = a[i] ** 1
        out[i, 2] = a[i] ** 2
        out[i, 3] = a[i] ** 3
        out[i, 4] = a[i] ** 5
        out[i, 5] = a[i] ** 10
        out[i, 6] = pow(a[i], 4)


@pytest.mark.parametrize("name", ["int8", "int32", "int64", "uint8", "uint64"])
def test_integer_powers_wrap(name: str) -> None:
    a = np.arange(0, 12).astype(name)
    want = np.stack([a**n for n in (0, 1, 2, 3, 5, 10, 4)], 1)
    for form in FORMS:
        assert_same(outcome(integer_powers, form, a, np.zeros(want.shape, name)).args[1], want, form)


@kdsl.kernel
def power_of_data(a: i64[N], b: i64[N], out: i64[N]):
    for i in range(N):
        out[i] = a[i] ** b[i]


def test_an_integer_power_from_data() -> None:
    a, b = np.array([2, -3, 7, 0, 10, -1]), np.array([62, 5, 0, 0, 25, 2**62 + 1])
    left = agree(power_of_data, a, b, np.zeros(6, np.int64))
    assert_same(left.args[2], a**b, "numpy")


@pytest.mark.parametrize("form", FORMS)
def test_a_negative_integer_power_is_an_error_as_in_numpy(form: str) -> None:
    with pytest.raises(ValueError, match="negative"):
        outcome(power_of_data, form, np.array([2]), np.array([-1]), np.zeros(1, np.int64))


@kdsl.kernel
def float_powers(a, out):
    for i in range(len(a)):
        out[i, 0] = a[i] ** 2
        out[i, 1] = a[i] ** -1
        out[i, 2] = a[i] ** 0.5
        out[i, 3] = a[i] ** 3
        out[i, 4] = a[i] ** -0.5
        out[i, 5] = 2 ** a[i]
        out[i, 6] = pow(a[i], 2.5)
        out[i, 7] = kdsl.pow(a[i], a[i])
        out[i, 8] = a[i] ** 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_powers(dtype: Any) -> None:
    a = np.array([0.0, -0.0, 1.0, -1.0, 2.0, 0.3, -2.5, np.inf, -np.inf, np.nan], dtype)
    got = [outcome(float_powers, form, a, np.zeros((10, 9), dtype)).args[1] for form in FORMS]
    for other in got[1:]:
        np.testing.assert_allclose(got[0], other, rtol=4 * np.finfo(dtype).eps)
        np.testing.assert_array_equal(np.signbit(got[0]) & (got[0] == 0), np.signbit(other) & (other == 0))


@kdsl.kernel
def weak_powers(out: f64[6]):
    out[0] = 2**10
    out[1] = 2**-2
    out[2] = 2**0.5
    out[3] = (-1) ** 3
    out[4] = -(2**2)
    out[5] = 10.0**3


def test_powers_of_literals() -> None:
    left = agree(weak_powers, np.zeros(6))
    assert left.args[0].tolist() == [1024, 0.25, math.sqrt(2), -1, -4, 1000]


# ---------------------------------------------------------------------- rounding


@kdsl.kernel
def roundings(a, ints: i64[N], out):
    for i in range(N):
        ints[i] = round(a[i])
        out[i, 0] = kdsl.round(a[i])
        out[i, 1] = kdsl.floor(a[i])
        out[i, 2] = kdsl.ceil(a[i])
        out[i, 3] = kdsl.trunc(a[i])
        out[i, 4] = math.floor(a[i])
        out[i, 5] = np.rint(a[i])
        out[i, 6] = int(a[i])


@pytest.mark.parametrize("name", FLOATS)
def test_rounding_half_to_even(name: str) -> None:
    a = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.0, -0.0, 0.49, 3.7, -3.7, 100.0], dtype_of(name))
    left = agree(roundings, a, np.zeros(12, np.int64), np.zeros((12, 7), a.dtype))
    ints, out = left.args[1:]
    assert ints.tolist() == [round(float(x)) for x in a]
    assert_same(out[:, 0], np.rint(a), "kdsl.round keeps floats and the sign of zero")
    assert_same(out[:, 3], np.trunc(a), "kdsl.trunc")


@kdsl.kernel
def type_of_round(a: f32[N]) -> (i64, f32):
    n = round(a[0])
    x = kdsl.round(a[0])
    return n // 2, x / 4


def test_round_gives_an_integer_and_kdsl_round_a_float() -> None:
    left = agree(type_of_round, np.array([7.4], np.float32))
    assert left.results[0] == 3
    assert left.results[1] == np.float32(1.75)


@kdsl.kernel
def python_casts(a: f64[N], ints: i64[N, 2], floats: f64[N, 2], bools: bool_[N, 3]):
    for i in range(N):
        ints[i, 0] = int(a[i])
        ints[i, 1] = int(a[i] > 1)
        floats[i, 0] = float(i)
        floats[i, 1] = float(a[i] > 1)
        bools[i, 0] = bool(a[i])
        bools[i, 1] = bool(i)
        bools[i, 2] = not a[i]


def test_int_float_and_bool() -> None:
    a = np.array([0.0, -0.0, 1.9, -1.9, np.nan, 5.0])
    a[4] = 0.5
    left = agree(python_casts, a, np.zeros((6, 2), np.int64), np.zeros((6, 2)), np.zeros((6, 3), bool))
    assert left.args[1][:, 0].tolist() == [0, 0, 1, -1, 0, 5]
    assert left.args[3][:, 0].tolist() == [False, False, True, True, True, True]


# ------------------------------------------------------- comparisons and conditions


@kdsl.kernel
def chains(a: i32[N], out: bool_[N, 5]):
    for i in range(N):
        out[i, 0] = 0 < a[i] < 5
        out[i, 1] = 0 <= a[i] <= 5 != 3
        out[i, 2] = a[i] == i == 2
        out[i, 3] = not 1 < a[i] <= 4
        out[i, 4] = -1 < a[i] > 2 < 3 >= i


def test_comparison_chains() -> None:
    a = np.array([-1, 0, 2, 3, 5, 6], np.int32)
    left = agree(chains, a, np.zeros((6, 5), bool))
    want = [
        [
            0 < x < 5,
            0 <= x <= 5 != 3,
            x == i == 2,
            not 1 < x <= 4,
            -1 < x > 2 < 3 >= i,
        ]
        for i, x in enumerate(a.tolist())
    ]
    assert left.args[1].tolist() == want


@kdsl.kernel
def chain_that_stops(a: i64[N], b: i64[N], out: bool_[N]):
    for i in range(N):
        out[i] = 0 < a[i] < 10 // a[i] < b[a[i]]


def test_a_chain_stops_at_the_first_false_link() -> None:
    a, b = np.array([0, 3, -5, 99]), np.array([9, 9, 9, 9])
    left = agree(chain_that_stops, a, b, np.zeros(4, bool))
    assert left.args[2].tolist() == [False, False, False, False]


@kdsl.kernel
def lazy(a: i64[N], b: i64[M], out: i64[N, 4]):
    for i in range(N):
        j = a[i]
        out[i, 0] = 0 <= j < M and b[j] > 1
        out[i, 1] = j == 0 or 12 // j > 1
        out[i, 2] = b[j] if 0 <= j < M else -1
        if j != 0 and 12 % j == 0:
            out[i, 3] = 1
        elif not (j < 0 or j >= M) and b[j]:
            out[i, 3] = 2


def test_the_operand_not_chosen_cannot_fault() -> None:
    a, b = np.array([0, 1, 5, -7, 2**62, 2]), np.array([1, 2, 0])
    left = agree(lazy, a, b, np.zeros((6, 4), np.int64))
    assert left.args[2][:, 0].tolist() == [0, 1, 0, 0, 0, 0]
    assert left.args[2][:, 2].tolist() == [1, 2, -1, -1, -1, 0]


@kdsl.kernel
def both_operands(a: i64[N], out: i64[N]):
    for i in range(N):
        out[i] = kdsl.where(a[i] != 0, 12 // a[i], 0)


@pytest.mark.parametrize("form", FORMS)
def test_where_evaluates_both_operands(form: str) -> None:
    with pytest.raises(ZeroDivisionError):
        outcome(both_operands, form, np.array([1, 0]), np.zeros(2, np.int64))


@kdsl.kernel
def truth(a, out):
    for i in range(len(a)):
        if a[i]:
            out[i] = 1
        if not a[i]:
            out[i] = 2
        while a[i] and out[i] < 5:
            out[i] += 2


@pytest.mark.parametrize("name", ["bool", "int8", "uint64", "float16", "bfloat16", "float32", "float64"])
def test_numbers_have_a_truth_value(name: str) -> None:
    a = np.array([0, 1, 3], dtype_of(name))
    assert agree(truth, a, np.zeros(3, np.int64)).args[1].tolist() == [2, 5, 5]


@kdsl.kernel
def truth_of_special_floats(a: f64[N], out: bool_[N]):
    for i in range(N):
        out[i] = a[i] and True


def test_nan_is_true_and_minus_zero_is_false() -> None:
    a = np.array([np.nan, -0.0, 5e-324, np.inf])
    assert agree(truth_of_special_floats, a, np.zeros(4, bool)).args[1].tolist() == [True, False, True, True]


@kdsl.kernel
def values_of_and_or(a: bool_[N], b: bool_[N], out: i64[N]):
    for i in range(N):
        both = a[i] and b[i]
        either = a[i] or b[i]
        out[i] = both + 2 * either


def test_and_or_of_bools_as_values() -> None:
    a, b = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    assert agree(values_of_and_or, a, b, np.zeros(4, np.int64)).args[2].tolist() == [0, 2, 2, 3]


# ------------------------------------------------------ comparisons between types


@kdsl.kernel
def mixed_signs(a: i64[N], b: u64[N], out: bool_[N, 4]):
    for i in range(N):
        out[i, 0] = a[i] < b[i]
        out[i, 1] = a[i] == b[i]
        out[i, 2] = a[i] >= b[i]
        out[i, 3] = b[i] > a[i]


def test_signed_and_unsigned_compare_exactly() -> None:
    a = np.array([-1, 2**62 + 1, 2**62, 0, -(2**63)])
    b = np.array([5, 2**62, 2**62, 2**63, 2**64 - 1], np.uint64)
    left = agree(mixed_signs, a, b, np.zeros((5, 4), bool))
    want = [[x < y, x == y, x >= y, y > x] for x, y in zip(a.tolist(), b.tolist())]
    assert left.args[2].tolist() == want


@kdsl.kernel
def beyond_the_type(a: u8[N], b: i8[N], out: bool_[N, 4]):
    for i in range(N):
        out[i, 0] = a[i] < 300
        out[i, 1] = a[i] > -1
        out[i, 2] = a[i] == 256
        out[i, 3] = b[i] != 1000


def test_a_literal_outside_the_type_compares_exactly() -> None:
    left = agree(
        beyond_the_type, np.array([0, 255], np.uint8), np.array([-128, 1], np.int8), np.zeros((2, 4), bool)
    )
    assert left.args[2].tolist() == [[True, True, False, True]] * 2


def test_a_literal_that_does_not_fit_is_refused_in_arithmetic() -> None:
    @kdsl.kernel
    def too_large(a: u8[N]):
        for i in range(N):
            a[i] = a[i] + 256

    with pytest.raises(kdsl.CompileError, match="256 does not fit into u8"):
        too_large(np.zeros(1, np.uint8))


# ----------------------------------------------------------------- division errors


@kdsl.kernel
def division(a: i32[N], b: i32[N], out: i32[N]):
    for i in range(N):
        out[i] = a[i] // b[i]


@kdsl.kernel
def remainder(a: i32[N], b: i32[N], out: i32[N]):
    for i in range(N):
        out[i] = a[i] % b[i]


@kdsl.kernel
def weak_division(n: i64, out: f64[1]):
    out[0] = n / (n - 3)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kernel", [division, remainder], ids=["//", "%"])
def test_integer_division_by_zero(kernel: Any, form: str) -> None:
    one, zero = np.ones(2, np.int32), np.array([1, 0], np.int32)
    with pytest.raises(ZeroDivisionError):
        outcome(kernel, form, one, zero, np.zeros(2, np.int32))


@pytest.mark.parametrize("form", ["cpu", "interpreter"])
def test_a_division_error_is_a_kdsl_error_with_the_line(form: str) -> None:
    with pytest.raises(kdsl.KdslError, match=r"out\[i\] = a\[i\] // b\[i\]"):
        outcome(division, form, np.ones(1, np.int32), np.zeros(1, np.int32), np.zeros(1, np.int32))


def test_the_most_negative_integer_by_minus_one_wraps() -> None:
    low = np.array([-(2**31)], np.int32)
    minus = np.array([-1], np.int32)
    assert agree(division, low, minus, np.zeros(1, np.int32)).args[2][0] == -(2**31)
    assert agree(remainder, low, minus, np.zeros(1, np.int32)).args[2][0] == 0


@kdsl.kernel
def true_division_of_elements(a: i32[N], b: i32[N], out: f64[N]):
    for i in range(N):
        out[i] = a[i] / b[i]


def test_true_division_of_integer_elements_by_zero_is_infinite() -> None:
    a = np.array([1, -1, 0], np.int32)
    left = agree(true_division_of_elements, a, np.zeros(3, np.int32), np.zeros(3))
    assert_same(left.args[2], np.array([np.inf, -np.inf, np.nan]), "as NumPy")


# ------------------------------------------------------------------------- shapes


@kdsl.kernel
def shapes(A: f32[M, N, 3], out: i64[9]):
    out[0] = A.shape[0]
    out[1] = A.shape[1]
    out[2] = A.shape[-1]
    out[3] = len(A)
    out[4] = A.ndim
    out[5] = A.size
    rows, columns, _ = A.shape
    out[6] = rows * 10 + columns
    out[7] = M + N
    out[8] = len(A[0])


def test_shape_len_ndim_and_size() -> None:
    left = agree(shapes, np.zeros((2, 5, 3), np.float32), np.zeros(9, np.int64))
    assert left.args[1].tolist() == [2, 5, 3, 2, 3, 30, 25, 7, 5]


@kdsl.kernel
def from_the_end(a: i64[N], b: i64[3, 4], out: i64[4]):
    out[0] = a[-1]
    out[1] = a[-2]
    out[2] = b[-1, -4]
    out[-1] = b[-3, -1]


def test_constant_negative_indices_count_from_the_end() -> None:
    b = np.arange(12).reshape(3, 4)
    left = agree(from_the_end, np.array([5, 6, 7]), b, np.zeros(4, np.int64))
    assert left.args[2].tolist() == [7, 6, 8, 3]


@pytest.mark.parametrize("form", FORMS)
def test_a_constant_negative_index_needs_the_elements(form: str) -> None:
    with pytest.raises((kdsl.ArgumentError, IndexError)):
        outcome(from_the_end, form, np.array([5]), np.zeros((3, 4), np.int64), np.zeros(4, np.int64))


@kdsl.kernel
def computed_negative(a: i64[N], s: i64, out: i64[1]):
    out[0] = a[s]


@pytest.mark.parametrize("form", FORMS)
def test_a_computed_negative_index_is_an_error(form: str) -> None:
    with pytest.raises((IndexError, kdsl.ArgumentError)):
        outcome(computed_negative, form, np.arange(3), -1, np.zeros(1, np.int64))


# ------------------------------------------------------------------ captured values

FACTOR = 3
SCALE = np.float32(0.1)
FLAG = True
TABLE = (1, 2, 4)
KIND = f32
EXTENT = 2 * N


@kdsl.kernel
def captured(a: f32[N], out: f64[N, 6]):
    t = kdsl.zeros(3, KIND)
    for i in range(N):
        out[i, 0] = a[i] * FACTOR
        out[i, 1] = a[i] * SCALE
        out[i, 2] = 1 if FLAG else 2
        out[i, 3] = TABLE[2] + len(TABLE)
        out[i, 4] = math.e + t[0] * 0
        out[i, 5] = min(math.pi, kdsl.inf)


def test_captured_constants() -> None:
    a = np.array([1.5, 0.3], np.float32)
    left = agree(captured, a, np.zeros((2, 6)))
    assert_same(left.args[1][:, 1], (a * SCALE).astype(np.float64), "a NumPy scalar is strong")
    assert left.args[1][0, 2:].tolist() == [1, 7, np.float32(math.e), math.pi]


@kdsl.kernel
def captured_size_expression(a: f32[N], b: f32[EXTENT]):
    for i in range(EXTENT):
        b[i] = a[i // 2]


def test_a_captured_expression_of_sizes() -> None:
    left = agree(captured_size_expression, np.array([1, 2], np.float32), np.zeros(4, np.float32))
    assert left.args[1].tolist() == [1, 1, 2, 2]


def adder(c: Any) -> Any:
    @kdsl.kernel
    def add(a: f32[N]):
        for i in range(N):
            a[i] += c

    return add


@pytest.mark.parametrize("c", [1, 2.5, np.float32(0.5), True], ids=repr)
def test_closures_keep_their_own_constants(c: Any) -> None:
    one, other = adder(c), adder(10)
    assert agree(one, np.zeros(2, np.float32)).args[0].tolist() == [float(c)] * 2
    assert agree(other, np.zeros(2, np.float32)).args[0].tolist() == [10, 10]


# ---------------------------------------------------------- math by its three names


@kdsl.kernel
def three_names(a: f64[N], out: f64[N, 3]):
    for i in range(N):
        out[i, 0] = kdsl.exp(a[i]) + kdsl.sqrt(a[i])
        out[i, 1] = math.exp(a[i]) + math.sqrt(a[i])
        out[i, 2] = np.exp(a[i]) + np.sqrt(a[i])


def test_kdsl_math_and_numpy_names_mean_the_same() -> None:
    out = np.zeros((4, 3))
    a = np.array([0.1, 1.0, 2.0, 30.0])
    for form in FORMS:
        got = outcome(three_names, form, a, out).args[1]
        np.testing.assert_allclose(got, np.repeat((np.exp(a) + np.sqrt(a))[:, None], 3, 1), rtol=1e-15)


@kdsl.kernel
def fused(a: f64[N], b: f64[N], c: f64[N], out: f64[N]):
    for i in range(N):
        out[i] = kdsl.fma(a[i], b[i], c[i])


def test_fma_rounds_once() -> None:
    a = np.array([1 + 2.0**-30])
    left = agree(fused, a, a, np.array([-1.0]), np.zeros(1))
    assert left.args[3][0] == 2.0**-29 + 2.0**-60


@kdsl.kernel
def classify(a, out: bool_[N, 3]):
    for i in range(N):
        out[i, 0] = kdsl.isnan(a[i])
        out[i, 1] = math.isinf(a[i])
        out[i, 2] = np.isfinite(a[i])


@pytest.mark.parametrize("name", [*FLOATS, "int32"])
def test_isnan_isinf_isfinite(name: str) -> None:
    values = [1, 0, -5] if name == "int32" else [1.0, np.nan, np.inf, -np.inf, -0.0]
    a = np.array(values, dtype_of(name))
    left = agree(classify, a, np.zeros((len(a), 3), bool))
    assert_same(left.args[1], np.stack([np.isnan(a), np.isinf(a), np.isfinite(a)], 1), "numpy")


@kdsl.kernel
def of_integers(a: i32[N], out: f64[N, 3]):
    for i in range(N):
        out[i, 0] = kdsl.exp(a[i])
        out[i, 1] = kdsl.sqrt(i)
        out[i, 2] = kdsl.hypot(a[i], 4)


def test_math_of_integers_is_in_doubles() -> None:
    a = np.array([0, 1, 3], np.int32)
    for form in FORMS:
        got = outcome(of_integers, form, a, np.zeros((3, 3))).args[1]
        np.testing.assert_allclose(
            got, np.stack([np.exp(a), np.sqrt([0, 1, 2]), np.hypot(a, 4)], 1), rtol=4e-16
        )


@kdsl.kernel
def random_numbers(seed: i64, bits: kdsl.u32[N], out: f32[N]):
    for i in range(N):
        bits[i] = kdsl.random_bits(seed, i)
        out[i] = kdsl.uniform(seed, i)


def test_random_numbers_are_the_same_everywhere() -> None:
    left = agree(random_numbers, -5, np.zeros(50, np.uint32), np.zeros(50, np.float32))
    assert len(set(left.args[1].tolist())) == 50
    assert kdsl.uniform(-5, 7) == left.args[2][7]


# --------------------------------------------------------------------- strict bits


@kdsl.kernel(strict=True)
def strict_sum(a, b, out):
    s = 0.0
    for i in range(len(a)):
        s += a[i] * b[i]
        out[i] = s / (a[i] + 3) - a[i] * 0.1 + kdsl.sqrt(abs(b[i]))


@pytest.mark.parametrize("name", FLOATS)
def test_strict_gives_the_bits_of_python(name: str) -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.standard_normal(200).astype(dtype_of(name)) for _ in range(2))
    agree(strict_sum, a, b, np.zeros(200, a.dtype))


@kdsl.kernel(fastmath=True)
def fast_sum(a: f32[N]) -> f32:
    s = 0.0
    for i in range(N):
        s += a[i] * a[i]
    return s


def test_fastmath_compiles_and_is_close() -> None:
    a = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    assert fast_sum(a) == pytest.approx(float((a * a).sum()), rel=1e-5)


def test_u64_constants_beyond_i64() -> None:
    @kdsl.kernel
    def hashing(a: u64[N]):
        for i in range(N):
            a[i] = (a[i] ^ u64(14695981039346656037)) * 1099511628211

    a = np.arange(5, dtype=np.uint64)
    want = (a ^ np.uint64(14695981039346656037)) * np.uint64(1099511628211)
    assert_same(agree(hashing, a).args[0], want, "numpy")


@kdsl.kernel
def python_numbers_grow(n: i64) -> i64:
    return n * n + i8(3) + i32(4)


def test_weak_and_typed_integers_wrap_at_64_bits() -> None:
    with np.errstate(all="ignore"):
        left = agree(python_numbers_grow, 2**40, forms=("cpu", "interpreter"))
    assert left.result == 7
