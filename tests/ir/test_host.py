"""What a host can compute before it launches device code."""

from __future__ import annotations

import ast

import pytest

from kdsl.dtypes import DType, f32, i32, i64
from kdsl.ir.host import is_host
from kdsl.ir.parser_exprs import Buffer, ExprParser

SCOPE: dict[str, DType | Buffer] = {"N": i64, "k": i32, "x": f32, "t": i64, "A": Buffer(i64)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(N + 63) // 64", True),
        ("max(N - i64(k), 0)", True),
        ("N // max(N, 1)", True),
        ("N % 3 if x > 0.5 and k != 2 else 7", True),
        ("N // i64(k)", False),
        ("N // -2", False),
        ("A[N]", False),
        ("N + t", False),
        ("abs(N)", False),
    ],
)
def test_is_host(text: str, expected: bool) -> None:
    parser = ExprParser(text, "", scope=dict(SCOPE))
    e = parser.expr(ast.parse(text, mode="eval").body, i64)
    assert is_host(e, frozenset(("N", "k", "x"))) is expected
