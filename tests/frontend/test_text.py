"""The IR that programs become, as text: names, storage, accumulations, inlining."""

from __future__ import annotations

from textwrap import dedent

import numpy as np

import kdsl
from kdsl.dtypes import f32, f64, i8, i32, sizes, u8
from kdsl.ir.nodes import Accumulate, Condition, Options, Store
from kdsl.ir.printer import print_func
from kdsl.ir.walk import stmts
from tests.frontend.harness import func, func_of, kernel, text

M, N, K = sizes("M N K")
F = np.zeros(8, np.float32)


def is_text(fn, args, want):
    assert text(fn, *args) == dedent(want).lstrip("\n")


def test_webs_are_numbered_and_placed_innermost():
    def k(A: f32[N], B: f32[N]):
        x = 1
        for i in range(N):
            x = A[i]
            y = x * 2
            B[i] = y
        for i in range(N):
            y = 3
            B[i] += y * x

    want = """
        x: f32
        x = 1.0
        for i in range(N):
            x = A[i]
            y: f32
            y = x * 2.0
            B[i] = y
        for i_1 in range(N):
            y_1: i64
            y_1 = 3
            B[i_1] += f32(y_1) * x
    """
    is_text(k, (F, F), want)


def test_weak_values_take_the_type_of_the_join():
    def k(A: u8[N], B: f32[N], out: f64[3]):
        count = 0
        total = 0.0
        n = 0
        for i in range(N):
            count += A[i]
            total += B[i]
            n += 1
        out[0] = count
        out[1] = total
        out[2] = n

    f = func_of(k, np.zeros(3, np.uint8), np.zeros(3, np.float32), np.zeros(3))
    assert "count: u8\n" in print_func(f)
    assert "total: f32\n" in print_func(f)
    assert "n: i64\n" in print_func(f)


def test_a_rebound_scalar_argument_gets_storage_where_it_is_rebound():
    def k(n: i32, A: i32[N]):
        A[0] = n
        n += 1
        A[1] = n

    want = """
        A[0] = n
        n_1: i32
        n_1 = n + 1
        A[1] = n_1
    """
    is_text(k, (1, np.zeros(2, np.int32)), want)


def kinds(fn, *args):
    return [
        f"{s.op}=" if isinstance(s, Accumulate) else "="
        for s in stmts(func_of(fn, *args).body)
        if isinstance(s, (Store, Accumulate))
    ]


def test_accumulations():
    def k(A: f32[N], B: f32[N], c: f32):
        A[0] += B[0]
        A[0] = A[0] + B[0]
        A[0] = B[0] + A[0]
        A[0] -= B[0]
        A[0] *= 2
        A[0] = max(A[0], B[0])
        A[0] = min(A[0], 1)
        A[0] = A[0] + B[0] + c

    assert kinds(k, F, F, 1.0) == ["+=", "+=", "+=", "+=", "*=", "max=", "min=", "+=", "+="]


def test_what_is_no_accumulation():
    def k(A: f32[N], B: f32[N], D: f64[N], i: i32):
        A[0] = A[0] * 2 + B[0]
        A[0] = B[0] - A[0]
        A[0] = A[1] + B[0]
        A[0] += A[0]
        A[0] = max(B[0], A[0])
        A[0] += D[0]
        A[0] = kdsl.maximum(A[0], B[0])
        A[0] /= 2

    assert kinds(k, F, F, np.zeros(3), 1) == ["="] * 8


def test_integers_accumulate_when_they_wrap():
    def k(A: i8[N], B: i32[N]):
        A[0] += B[0]
        A[0] = max(B[0], A[0])
        A[0] = A[0] * 3

    assert kinds(k, np.zeros(3, np.int8), np.zeros(3, np.int32)) == ["+=", "=", "*="]


@func
def axpy(a: f32, x: f32, y: f32) -> f32:
    return a * x + y


@kernel
def scale(x: f32[N], by):
    for i in range(N):
        x[i] *= by


def test_calls_are_inlined_under_their_own_names():
    def k(A: f32[M, N], i: i32):
        scale(A[0, :], 2)
        A[0, 0] = axpy(A[0, 1], 2, 3)

    want = """
        for i_1 in range(N):
            A[0, i_1] *= 2.0
        a: f32
        a = A[0, 1]
        A[0, 0] = a * 2.0 + 3.0
    """
    is_text(k, (np.zeros((2, 2), np.float32), 1), want)


def test_a_returned_local_is_the_result():
    def k(A: f32[M, N]) -> f32[N, M]:
        T = kdsl.empty((N, M), f32)
        T[...] = A.T
        return T

    def other(A: f32[M, N], T: f32[N, M]):
        T[...] = A.T

    f = func_of(k, np.zeros((2, 3), np.float32))
    assert f.body == func_of(other, np.zeros((2, 3), np.float32), np.zeros((3, 2), np.float32)).body
    assert [p.name for p in f.results] == ["T"]


def test_size_conditions_go_to_the_call_when_they_certainly_run():
    @kernel
    def add(x: f32[N], y: f32[N]):
        for i in range(N):
            x[i] += y[i]

    def sure(A: f32[M], B: f32[K]):
        add(A, B)

    def maybe(A: f32[M], B: f32[K]):
        if A[0] > 0:
            add(A, B)

    (condition,) = func_of(sure, F, F).conditions
    assert isinstance(condition, Condition)
    assert condition.title == "dimension 0 of `y` is not the N of `add`'s other arguments"
    assert func_of(maybe, F, F).conditions == ()
    assert "assert M == K, " in text(maybe, F, F)


def test_unannotated_arrays_get_fresh_sizes():
    def k(A, B):
        for i in range(len(A)):
            B[i] = A[i]

    f = func_of(k, F, np.zeros(3, np.float64))
    assert f.sizes == ("A_0", "B_0")


def test_options_pass_through():
    def k(A: f32[N]):
        A[0] = 1

    assert func_of(k, F, options=Options(strict=True)).options.strict


def test_locations_are_those_of_the_file():
    def k(A: f32[N]):
        "Ä documented kernel."
        é = A[0]
        A[1] = é

    (store,) = [s for s in stmts(func_of(k, F).body) if isinstance(s, Store) and s.buffer == "A"]
    assert store.loc is not None
    assert store.loc.text()[store.loc.col : store.loc.end_col] == "A[1] = é"
