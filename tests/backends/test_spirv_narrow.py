"""Interval analysis: what is known to fit in 32 bits, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdsl.backends.spirv.narrow import LARGEST, WHOLE, Interval, Ranges, _binary
from kdsl.dtypes import Size, i64
from kdsl.ir.nodes import Alloc, Const, Expr, Loop, Var
from kdsl.ir.parser import parse_func
from kdsl.ir.scalar_ops import binary
from kdsl.ir.walk import stmts


def size(**terms: int) -> Size:
    return Size(terms)


def ranges(*shapes: tuple[Size, ...]) -> Ranges:
    return Ranges.of_call(("M", "N", "K"), shapes)


def of(text: str, r: Ranges | None = None) -> Interval:
    func = parse_func(f"def f(M: i64, N: i64, K: i64, o: i64[1]):\n    o[0] = {text}\n")
    (store,) = func.body
    return (r or ranges()).of(store.value)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "lo", "hi"),
    [
        ("N", 0, LARGEST - 1),
        ("N - M", 1 - LARGEST, LARGEST - 1),
        ("(N + 63) // 64", 0, (LARGEST + 62) // 64),
        ("(N + 63) // 64 * 64 + 63", 63, (LARGEST + 62) // 64 * 64 + 63),
        ("N % 8", 0, 7),
        ("(N - 5) % 8", 0, 7),
        ("N // -2", -(LARGEST // 2), 0),
        ("min(N, 100)", 0, 100),
        ("max(N - M, 0)", 0, LARGEST - 1),
        ("N & 15", 0, 15),
        ("N >> 4", 0, (LARGEST - 1) >> 4),
        ("-N", 1 - LARGEST, 0),
    ],
)
def test_intervals(text: str, lo: int, hi: int) -> None:
    assert of(text) == Interval(lo, hi)


@pytest.mark.parametrize("text", ("M * N", "M * N + K", "M * N - 7", "M * N * K"))
def test_products_of_sizes_fit_when_an_array_has_as_many_elements(text: str) -> None:
    assert not of(text).fits
    shape = (size(M=1), size(N=1))
    assert of(text, ranges(shape)).fits == (text != "M * N * K")


def test_extents_of_arrays_are_bounded() -> None:
    assert not of("8 * N").fits
    assert of("8 * N", ranges((size(N=8),))).fits
    assert of("8 * N + 5", ranges((Size({"N": 8}, 1),))) == Interval(5, LARGEST + 3)


def test_what_may_wrap_is_unbounded() -> None:
    assert of("M * N * K") == WHOLE


def test_loops_of_either_direction() -> None:
    def loop(lo: int, hi: int, step: int) -> Interval:
        return Ranges().of_loop(Loop("i", Const(lo, i64), Const(hi, i64), Const(step, i64), ()))

    assert loop(0, 10, 1) == Interval(0, 9)
    assert loop(3, 10, 4) == Interval(3, 9)
    assert loop(10, -1, -1) == Interval(0, 10)


LOCALS = """
def f(idx: i32[N], o: i64[N]):
    for i in range(N):
        a: i64
        b: i64
        c: i64
        a = i * 4
        b = i64(idx[i]) + a
        for k in range(N):
            c += 1
            a = max(a, k)
        o[i] = a + b + c
"""


def test_locals_have_what_is_stored_to_them() -> None:
    func = parse_func(LOCALS)
    r = Ranges.of_call(func.sizes, [p.shape for p in func.arrays])
    r.learn(func.body)
    assert {s.name for s in stmts(func.body) if isinstance(s, Alloc)} == {"a", "b", "c"}
    assert r.locals["a"] == Interval(0, 4 * (LARGEST - 2))
    assert r.locals["b"].hi == 2**31 - 1 + 4 * (LARGEST - 2)
    assert r.locals["c"] == WHOLE


@given(
    st.sampled_from(("+", "-", "*", "//", "%", "min", "max", "&", "|", "^", "<<", ">>")),
    *[st.tuples(st.integers(-40, 40), st.integers(0, 30)) for _ in range(2)],
)
def test_operators_stay_in_their_intervals(op: str, a: tuple[int, int], b: tuple[int, int]) -> None:
    x, y = Interval(a[0], a[0] + a[1]), Interval(b[0], b[0] + b[1])
    found = _binary(op, x, y)
    for m in range(x.lo, x.hi + 1):
        for n in range(y.lo, y.hi + 1):
            if op not in ("//", "%") or n:
                value = binary(op, i64)(m, n)
                wraps = not (WHOLE.lo <= found.lo and found.hi <= WHOLE.hi)
                assert wraps or found.lo <= value <= found.hi, (op, m, n, found)


def test_multiples() -> None:
    r = Ranges(steps={"N": 4, "i": 8})

    def multiple(text: str) -> int:
        func = parse_func(f"def f(N: i64, i: i64, M: i64, o: i64[1]):\n    o[0] = {text}\n")
        (found,) = [s.value for s in func.body]  # type: ignore[attr-defined]
        return r.multiple(found)

    assert [multiple(t) for t in ("N", "M", "i * N", "i + N", "i + 2", "N * M", "0", "M * 6")] == [
        4, 1, 32, 4, 2, 4, 0, 6,
    ]  # fmt: skip


def test_conditions_tell_multiples() -> None:
    r = Ranges()
    n: Expr = Var("N", i64)
    func = parse_func('def f(A: f32[N]):\n    require(N % 4 == 0 and N % 6 == 0, "whole")\n    A[0] = 1.0\n')
    r.assume(func.conditions[0].expr)
    assert r.multiple(n) == 12
