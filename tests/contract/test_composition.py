"""Kernels that call kernels and device functions; atomics; generic arguments; kernels as objects."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import bool_, f32, f64, i32, i64, u8
from tests.contract.harness import FORMS, INTEGERS, agree, dtype_of, outcome

N, M, K = kdsl.sizes("N M K")

# ---------------------------------------------------------------- device functions


@kdsl.func
def square(x):
    return x * x


@kdsl.func
def clamp(x: f32, low: f32 = 0, high: f32 = 1) -> f32:
    if x < low:
        return low
    if x > high:
        return high
    return x


@kdsl.func
def both(x, y):
    return square(x) + square(y)


@kdsl.kernel
def uses_functions(a: f32[N], b: i32[N], out: f64[N, 4]):
    for i in range(N):
        out[i, 0] = square(a[i])
        out[i, 1] = square(b[i])
        out[i, 2] = clamp(a[i]) + clamp(a[i] * 2, -1.0) + clamp(a[i], high=0.25)
        out[i, 3] = both(a[i], i)


def test_device_functions_take_the_types_of_their_arguments() -> None:
    a = np.array([-2, 0.3, 5], np.float32)
    b = np.array([2**20, -3, 7], np.int32)
    with np.errstate(all="ignore"):
        left = agree(uses_functions, a, b, np.zeros((3, 4)))
        np.testing.assert_array_equal(left.args[2][:, 1], (b * b).astype(np.float64))


def test_a_device_function_can_be_called_from_python() -> None:
    assert square(3) == 9
    assert clamp(np.float32(7)) == 1


# ------------------------------------------------------------- kernels that call kernels


@kdsl.kernel
def scale(x: f32[N], s: f32):
    for i in range(N):
        x[i] *= s


@kdsl.kernel
def dot(x: f32[N], y: f32[N]) -> f32:
    s = 0.0
    for i in range(N):
        s += x[i] * y[i]
    return s


@kdsl.kernel
def swap(x: f32[N], y: f32[N]):
    for i in range(N):
        x[i], y[i] = y[i], x[i]


@kdsl.kernel
def argument_kinds(a: f32[M, N], n: i64, flag: bool_, out: f32[M]):
    scale(a[0], 2)
    scale(a[1, :], s=out[0] + 1)
    scale(a[:, 0], n)
    scale(a.T[1, :], flag)
    scale(a[0, 1:], 0.5)
    t = kdsl.full(N, 3, f32)
    scale(t, 2.5)
    for i in range(M):
        out[i] = dot(a[i, :], t)
    swap(a[0, :], a[M - 1, :])


def test_every_kind_of_argument() -> None:
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    agree(argument_kinds, a, 3, True, np.zeros(3, np.float32))


@kdsl.kernel
def shift_right(x: f32[N], y: f32[N]):
    for i in range(N):
        y[i] = x[i]


@kdsl.kernel
def overlapping_inside(a: f32[K]):
    shift_right(a[:-1], a[1:])


def test_an_inlined_call_follows_program_order_without_an_overlap_check() -> None:
    left = agree(overlapping_inside, np.array([7, 1, 2, 3], np.float32))
    assert left.args[0].tolist() == [7, 7, 7, 7]


@kdsl.kernel
def add_to_all(x: f32[N], s: f32):
    for i in range(N):
        x[i] += s


@kdsl.kernel
def rebinds(x: f32[N], s: f32):
    s += 1
    for i in range(N):
        s = s * 2
        x[i] = s


@kdsl.func
def counted(x: f32, n: i64):
    n = n + 1
    return x * n


@kdsl.kernel
def passes_by_value(a: f32[N], out: f64[4]):
    add_to_all(a, a[0])
    out[0] = a[0]
    s = f32(3)
    rebinds(a[1:], s)
    out[1] = s
    n = 2
    out[2] = counted(a[0], n)
    out[3] = n
    swap(a, a)


def test_scalars_are_passed_by_value_and_evaluated_once() -> None:
    left = agree(passes_by_value, np.array([1, 2, 3], np.float32), np.zeros(4))
    assert left.args[1].tolist() == [2, 3, 6, 2]


FACTOR = 10


def captures(factor: float) -> Any:
    @kdsl.func
    def times(i):
        k = i * factor
        return k

    return times


times_two, times_three = captures(2), captures(3)


@kdsl.kernel
def names_apart(out: f64[3]):
    k = 1
    i = 5
    out[0] = times_two(k) + times_three(i)
    out[1] = k
    factor = 7
    out[2] = times_two(factor) + FACTOR


def test_names_of_a_callee_are_its_own() -> None:
    assert agree(names_apart, np.zeros(3)).args[0].tolist() == [17, 1, 24]


@kdsl.kernel
def views_keep_their_bounds(a: i64[N], out: i64[3]):
    n = 1
    v = a[n:]
    w = v[n:]
    n = 2
    out[0] = v[0]
    out[1] = w[0]
    a[2] = 50
    out[2] = w[0] + len(v)


def test_a_view_keeps_the_bounds_it_was_made_with_and_sees_new_values() -> None:
    left = agree(views_keep_their_bounds, np.array([10, 20, 30, 40]), np.zeros(3, np.int64))
    assert left.args[1].tolist() == [20, 30, 53]


@kdsl.kernel
def product(a: f32[M, K], b: f32[K, N]) -> f32[M, N]:
    c = kdsl.zeros((M, N), f32)
    for i, j, k in kdsl.grid(M, N, K):
        c[i, j] += a[i, k] * b[k, j]
    return c


@kdsl.kernel
def cube(a: f32[N, N]) -> f32[N, N]:
    return product(product(a, a), a)


def test_results_of_kernels_are_values_inside_kernels() -> None:
    a = np.arange(9, dtype=np.float32).reshape(3, 3)
    np.testing.assert_array_equal(agree(cube, a).result, a @ a @ a)


@kdsl.kernel
def element_of_a_product(a: f32[N, N], i: i64) -> f32:
    c = product(a, a)
    return c[i, 0]


@pytest.mark.parametrize("form", FORMS)
def test_an_index_into_the_result_of_a_callee_is_tested(form: str) -> None:
    a = np.eye(2, dtype=np.float32)
    assert outcome(element_of_a_product, form, a, 1).result == 0
    for bad in (-1, 2):
        with pytest.raises((IndexError, kdsl.ArgumentError)):
            outcome(element_of_a_product, form, a, bad)


@kdsl.kernel
def extremes(a: f32[N]) -> (f32, f32):
    low, high = a[0], a[0]
    for i in range(1, N):
        low = min(low, a[i])
        high = max(high, a[i])
    return low, high


@kdsl.kernel
def ranges_of_rows(a: f32[M, N], out: f32[M]):
    for i in range(M):
        low, high = extremes(a[i])
        out[i] = high - low


def test_a_call_with_several_results() -> None:
    a = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
    np.testing.assert_array_equal(
        agree(ranges_of_rows, a, np.zeros(4, np.float32)).args[1], np.ptp(a, axis=1)
    )


@kdsl.kernel
def find(a: i64[N], x: i64) -> i64:
    for i in range(N):
        if a[i] == x:
            return i
    return -1


@kdsl.kernel
def find_all(a: i64[N], x: i64[M], out: i64[M]):
    for i in range(M):
        out[i] = find(a, x[i])


def test_a_callee_that_returns_early() -> None:
    left = agree(find_all, np.array([4, 5, 6]), np.array([6, 9, 4]), np.zeros(3, np.int64))
    assert left.args[2].tolist() == [2, -1, 0]


@kdsl.kernel
def needs_two(x: f32[2]):
    x[1] = x[0]


@kdsl.kernel
def passes_a_row(a: f32[M, N]):
    for i in range(M):
        needs_two(a[i, :])


@pytest.mark.parametrize("form", FORMS)
def test_sizes_of_a_callee_are_checked(form: str) -> None:
    with pytest.raises(kdsl.KdslError):
        outcome(passes_a_row, form, np.zeros((2, 3), np.float32))


@kdsl.kernel
def by_mode(x: f32[N], mode: kdsl.constexpr, amount: kdsl.constexpr = 2):
    for i in range(N):
        if mode == "add":
            x[i] += amount
        elif mode == "set":
            x[i] = amount
        else:
            x[i] = -x[i]


@kdsl.kernel
def in_all_modes(x: f32[N]):
    by_mode(x, "add")
    by_mode(x, mode="negate")
    by_mode(x[1:], "set", amount=9)


def test_constexpr_arguments_of_a_callee() -> None:
    assert agree(in_all_modes, np.zeros(3, np.float32)).args[0].tolist() == [-2, 9, 9]


# ------------------------------------------------------------------------ constexpr


@kdsl.kernel
def constexpr_kinds(out: f64[3], C: kdsl.constexpr):
    x = kdsl.zeros(1, f32)
    out[0] = x[0] + C
    out[1] = 7 / 2 * C


@pytest.mark.parametrize("value", [3, 2.5, True, -1])
def test_numbers_as_constexpr(value: Any) -> None:
    left = agree(constexpr_kinds, np.zeros(3), value)
    assert left.args[0][1] == 3.5 * value


@kdsl.kernel
def typed_by_constexpr(out: f64[2], KIND: kdsl.constexpr):
    t = kdsl.zeros(1, KIND)
    t[0] = 300.7
    out[0] = t[0]
    out[1] = KIND(0.1)


@pytest.mark.parametrize("kind", [f32, f64, i32], ids=str)
def test_a_dtype_as_constexpr(kind: kdsl.DType) -> None:
    left = agree(typed_by_constexpr, np.zeros(2), kind)
    assert left.args[0][1] == kind(0.1)


@kdsl.kernel
def chooses(out: i64[1], mode: kdsl.constexpr, deep: kdsl.constexpr = False):
    if mode == "a" and not deep:
        out[0] = 1
    elif mode != "b":
        out[0] = 2
    else:
        out[0] = 3


@pytest.mark.parametrize(
    ("mode", "deep", "want"), [("a", False, 1), ("a", True, 2), ("b", False, 3), ("c", False, 2)]
)
def test_strings_and_bools_as_constexpr(mode: str, deep: bool, want: int) -> None:
    assert agree(chooses, np.zeros(1, np.int64), mode, deep).args[0][0] == want


# -------------------------------------------------------------------------- generic

T = kdsl.typevar("T", f32, f64, i64)


@kdsl.kernel
def generic(a: T[N], s: T, out: T[N]):
    for i in range(N):
        out[i] = a[i] * s + T(1) / 2


@pytest.mark.parametrize("name", ["float32", "float64", "int64"])
def test_a_type_variable_binds_to_one_type(name: str) -> None:
    a = np.array([1, 2, 3], name)
    left = agree(generic, a, 3, np.zeros(3, name))
    np.testing.assert_array_equal(left.args[2], (a * 3 + 0.5).astype(name))


def test_a_type_variable_refuses_other_types_and_mixtures() -> None:
    out = np.zeros(3, np.float32)
    with pytest.raises(kdsl.ArgumentError, match="T"):
        generic(np.zeros(3, np.int8), 1, out)
    with pytest.raises(kdsl.ArgumentError, match="T"):
        generic(np.zeros(3), 1, out)
    assert not out.any()


@kdsl.kernel
def unannotated(x, y, s):
    for i in range(x.shape[0]):
        y[i] = x[i] * s


@pytest.mark.parametrize("name", ["float32", "int8", "uint64"])
def test_unannotated_arguments_take_dtype_and_rank_from_the_call(name: str) -> None:
    x = np.array([1, 2, 3], name)
    np.testing.assert_array_equal(agree(unannotated, x, np.zeros_like(x), 3).args[1], x * 3)


def test_unannotated_arrays_of_different_sizes() -> None:
    x, y = np.ones(3), np.zeros(2)
    for form in FORMS:
        with pytest.raises((kdsl.ArgumentError, IndexError)):
            outcome(unannotated, form, x, y, 1)
    unannotated(y, x, 2.0)
    assert x.tolist() == [0, 0, 1]


@kdsl.kernel
def generic_rank(x, out: i64[1]):
    out[0] = len(x.shape)
    if x.ndim == 2:
        out[0] += 10


@pytest.mark.parametrize(("shape", "want"), [((3,), 1), ((2, 3), 12), ((1, 1, 1), 3)])
def test_each_rank_has_code_of_its_own(shape: tuple[int, ...], want: int) -> None:
    assert agree(generic_rank, np.zeros(shape), np.zeros(1, np.int64)).args[1][0] == want


# -------------------------------------------------------------------------- atomics


@kdsl.kernel
def atomics(index: i64[N], a: T[M], low: T[M], high: T[M], old: T[N, 3]):
    for i in range(N):
        old[i, 0] = kdsl.atomic_add(a, index[i], i + 1)
        old[i, 1] = kdsl.atomic_min(low, index[i], -i)
        old[i, 2] = kdsl.atomic_max(high, index[i], 2 * i)
        kdsl.atomic_add(a, index[i], 1)


@pytest.mark.parametrize("name", ["float32", "float64", "int64"])
def test_atomics_give_the_old_value(name: str) -> None:
    index = np.array([0, 2, 0, 2, 2])
    zeros = np.zeros(3, name)
    left = agree(atomics, index, zeros, zeros, zeros, np.zeros((5, 3), name))
    assert left.args[1].tolist() == [6, 0, 14]
    assert left.args[4][:, 0].tolist() == [0, 0, 2, 3, 8]


@kdsl.kernel
def histogram(x: u8[N], counts: i32[16, 16]):
    for i in range(N):
        kdsl.atomic_add(counts, (x[i] // 16, x[i] % 16), 1)


def test_an_atomic_at_several_indices() -> None:
    x = np.random.default_rng(0).integers(0, 256, 500).astype(np.uint8)
    left = agree(histogram, x, np.zeros((16, 16), np.int32))
    np.testing.assert_array_equal(left.args[1].ravel(), np.bincount(x, minlength=256))


@kdsl.kernel
def narrow_atomic(a, index: i64):
    kdsl.atomic_add(a, index, 100)
    kdsl.atomic_add(a, index, 100)


@pytest.mark.parametrize("name", [*INTEGERS, "float16", "bfloat16"])
def test_atomics_on_narrow_types(name: str) -> None:
    with np.errstate(all="ignore"):
        agree(narrow_atomic, np.zeros(2, dtype_of(name)), 1)


@pytest.mark.parametrize("form", FORMS)
def test_an_atomic_outside_the_array(form: str) -> None:
    with pytest.raises((IndexError, kdsl.ArgumentError)):
        outcome(narrow_atomic, form, np.zeros(2), 2)


# -------------------------------------------------------------------- as an object


class Model:
    @kdsl.kernel
    def step(a: f32[N]):
        for i in range(N):
            a[i] += 1

    @staticmethod
    @kdsl.kernel
    def static_step(a: f32[N]):
        for i in range(N):
            a[i] += 2


def test_kernels_in_classes() -> None:
    a = np.zeros(2, np.float32)
    Model.step(a)
    Model.static_step(a)
    Model().static_step(a)
    assert a.tolist() == [5, 5]


def test_metadata_of_the_function() -> None:
    assert scale.__name__ == "scale"
    assert scale.__module__ == __name__
    assert scale.__wrapped__.__name__ == "scale"


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_kernels_pickle(protocol: int) -> None:
    copy = pickle.loads(pickle.dumps(cube, protocol))
    a = np.eye(3, dtype=np.float32) * 2
    assert copy(a)[1, 1] == 8
    assert copy.py(a)[1, 1] == 8


def make_with(c: float) -> Any:
    @kdsl.kernel
    def local(a: f32[N]):
        for i in range(N):
            a[i] += c

    return local


def test_a_kernel_with_captured_values_pickles() -> None:
    copy = pickle.loads(pickle.dumps(make_with(2.5)))
    assert agree(copy, np.zeros(1, np.float32)).args[0][0] == 2.5


def test_ir_llvm_and_asm_are_text() -> None:
    assert "for i in range(M)" in str(product.ir())
    assert "define" in product.llvm()
    assert "ret" in product.asm()


@pytest.mark.parametrize("error", ["argument", "index", "division", "assertion", "compile", "target"])
def test_errors_pickle_and_keep_their_text(error: str) -> None:
    @kdsl.kernel
    def fails(a: i64[N], b: i64):
        assert b < 100, "too large"
        a[b] = 1 // b

    @kdsl.kernel
    def wrong(a: i64[N]):
        a[0] = nothing  # noqa: F821

    zeros = np.zeros(3, np.int64)
    calls = {
        "argument": lambda: fails(zeros, "x"),
        "index": lambda: fails(zeros, 50),
        "division": lambda: fails(zeros, 0),
        "assertion": lambda: fails(zeros, 100),
        "compile": lambda: wrong(zeros),
        "target": lambda: fails.on("nowhere"),
    }
    with pytest.raises(kdsl.KdslError) as caught:
        calls[error]()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert type(copy) is type(caught.value)
    assert str(copy) == str(caught.value)
