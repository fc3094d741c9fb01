"""Straight-line functions as definitions for the math library."""

from __future__ import annotations

from textwrap import dedent

import pytest

from kdsl.dtypes import f32, f64, u32
from kdsl.errors import CompileError
from kdsl.frontend_ast import build_definition
from kdsl.ir.printer import print_expr
from kdsl.lang import bitcast, fma, where

T = None
LIMIT = 4.0


def split(x):
    high = T(x)
    return high, x - high


def poly(r):
    q = 0.5 * r + LIMIT
    q = q * r + 1
    return q


def twice(x):
    high, low = split(x)
    y = where(x > LIMIT, poly(high), low)
    return fma(y, y, bitcast(bitcast(x, u32) ^ 1, f32))


def loop(x):
    for _ in range(3):
        x = x + 1
    return x


def test_lets():
    d = build_definition(twice, "twice", [f32], {"T": f32})
    assert [(p.name, p.dtype) for p in d.params] == [("x", f32)]
    assert d.body.dtype == f32
    assert print_expr(d.body) == dedent("""\
        let(
            high, x,
            low, x - high,
            q, 0.5 * high + 4.0,
            q_1, q * high + 1.0,
            y, q_1 if x > 4.0 else low,
            fma(y, y, bitcast(f32, bitcast(u32, x) ^ 1)))""")


def test_bindings_choose_the_type():
    assert build_definition(poly, "poly", [f64], {}).body.dtype == f64
    assert build_definition(poly, "poly", [f32], {}).body.dtype == f32


def test_loops_are_refused():
    with pytest.raises(CompileError, match="K0258"):
        build_definition(loop, "loop", [f32], {})
