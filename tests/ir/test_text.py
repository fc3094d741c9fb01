"""The text of the IR: what it looks like, and that it reads back."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdsl.dtypes import ALL
from kdsl.errors import CompileError
from kdsl.ir.nodes import Body, Const, Expr, Func, Let, Load, Store
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_expr, print_func, print_stmt
from kdsl.ir.verify import verify
from kdsl.ir.walk import map_expr_children, map_stmt, stmts
from tests.ir.strategies import constants, funcs

RANDOM = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


@RANDOM
@given(funcs())
def test_printed_text_reads_back(func: Func) -> None:
    verify(func)
    text = print_func(func)
    again = parse_func(text)
    assert again == func, text
    assert print_func(again) == text


@RANDOM
@given(st.sampled_from(ALL).flatmap(constants))
def test_constants_read_back(c: Const) -> None:
    text = f"def f(A: {c.type}[1]):\n    A[0] = {print_expr(c, known=True)}\n    A[0] = {print_expr(c)}\n"
    assert [s.value for s in stmts(parse_func(text).body) if isinstance(s, Store)] == [c, c]


@settings(RANDOM, max_examples=60)
@given(funcs())
def test_identity_rewrites_return_the_same_object(func: Func) -> None:
    def on_expr(e: Expr) -> Expr:
        return map_expr_children(e, on_expr)

    def on_body(body: Body) -> Body:
        new = tuple(map_stmt(s, on_expr, on_body) for s in body)
        return body if all(a is b for a, b in zip(body, new)) else new

    assert on_body(func.body) is func.body


PIECES = (
    *("(", ")", "[", "]", ":", ",", "\n", "    ", "-", "=", "*", "'", '"', "@", "\0", "\t", "\ud800", "..."),
    *("0.5", "7", "1e999", "1j", "9" * 5000, "True", "None", "b''", "x", "é", "A", "M", "f32", ".inf"),
    *(
        "i64(",
        "check(",
        "let(",
        "range(",
        "store(",
        "min(",
        "if",
        "else",
        "not ",
        "lambda: ",
        "yield ",
        "await ",
    ),
)


def damaged(text: str, rng: random.Random) -> str:
    """`text` with a few characters or words removed, doubled, moved or replaced."""
    for _ in range(rng.randint(1, 3)):
        a = rng.randrange(len(text) + 1)
        b = min(len(text), a + rng.choice([0, 1, 1, 2, 5, 20]))
        match rng.randrange(4):
            case 0:
                text = text[:a] + text[b:]
            case 1:
                text = text[:b] + text[a:]
            case 2:
                text = text[:a] + rng.choice(PIECES) + text[b:]
            case _:
                c = rng.randrange(len(text) + 1)
                text = text[:c] + text[a:b] + text[c:]
    return text


@pytest.mark.filterwarnings("ignore")
@settings(RANDOM, max_examples=100)
@given(funcs(), st.integers(0, 2**32))
def test_damaged_text_is_a_compile_error(func: Func, seed: int) -> None:
    rng, whole = random.Random(seed), print_func(func)
    for _ in range(5):
        text = damaged(whole, rng)
        try:
            read = parse_func(text)
        except CompileError as e:
            assert e.code == "K0190" and e.lineno is not None
        else:
            assert parse_func(print_func(read)) == read, text


@pytest.mark.parametrize(
    "value",
    [
        "-" * 3000 + "x",
        "(" * 300 + "x" + ")" * 300,
        "not " * 3000 + "x",
        "x" + " + x" * 5000,
        "f32(" * 150 + "x" + ")" * 150,
        "A[" * 120 + "0" + "]" * 120,
        "9" * 10000,
        "0x" + "f" * 10000,
    ],
    ids=["minus", "parentheses", "not", "sum", "casts", "loads", "digits", "hex"],
)
def test_absurd_texts_are_explained(value: str) -> None:
    with pytest.raises(CompileError) as e:
        parse_func(f"def f(A: f32[1], x: f32):\n    A[0] = {value}\n")
    assert e.value.code == "K0190"


def test_deeply_nested_statements_are_explained() -> None:
    text = (
        "def f(c: bool_):\n" + "".join(f"{' ' * (i + 1)}if c:\n" for i in range(95)) + " " * 96 + "return\n"
    )
    with pytest.raises(CompileError, match="nested"):
        parse_func(text)


def test_a_parse_error_shows_the_line() -> None:
    with pytest.raises(CompileError) as e:
        parse_func("def f(A: f32[N]):\n    for i in range(N):\n        A[j] = 0.0\n")
    assert str(e.value) == (
        "error[K0190]: `j` is not bound here\n"
        " --> <ir>:3:11\n"
        "3 |         A[j] = 0.0\n"
        "  |           ^\n"
        "  = help: the text must be as kdsl prints it: see `print_func`"
    )


def test_nodes_carry_places_when_a_file_is_named() -> None:
    func = parse_func("def f(A: f32[N]):\n    for i in range(N):\n        A[i] = 0.0\n", "kernel.txt")
    (store,) = [s for s in stmts(func.body) if isinstance(s, Store)]
    assert store.loc is not None and (store.loc.filename, store.loc.line, store.loc.col) == (
        "kernel.txt",
        3,
        8,
    )


CANONICAL = """\
@options(strict=True, may_alias=("A", "B"))
@sizes(N, M, P)
def kernel(A: f32[M, N + 2], B: f32[2 * M, 4] @ "strided", I: i64[N], s: f64, C: u8[()] @ "written", R: f16[N] @ "result"):
    require(N >= 4 and M < P, "N is too small")
    T: f32[64, 2 * N] @ "register"
    acc: f32
    acc = 0.0
    for i in parallel(range(M)):
        for j in vectorize(range(0, N, 2), unsafe=True):
            acc += A[i, check(I[j])] * 2.0
            acc = max(acc, -0.0)
            acc = store(min(acc, 1e-05))
            T[0, j] = f32(s) if i % 2 == 0 and not j < 3 else A[i, j] if s > 0.5 else -f32(1.0)
            T[1, j] = acc - (A[i, j] - 1.0) - f32.inf
    for g in bind(range(1, N), "grid.x"):
        acc = atomic_add(A, (0, g), 1.0)
        atomic_max(I, check(g), -1)
        while acc < 3.0:
            acc *= let(x, f64(acc), y, x * x, f32(x + y))
            if acc != f32.nan:
                break
            elif isnan(acc) or M == 0:
                continue
            else:
                acc = acc
    assert f32(f64(1.0)) == acc, 'it\\'s "odd"'
    print("sum", acc, i64(3), sep=", ", end="")
    R[0] = f16(bitcast(f32, u32(0)))
    return
"""  # noqa: E501


def test_canonical_text() -> None:
    func = parse_func(CANONICAL)
    assert print_func(func) == CANONICAL


EXPRESSIONS = """\
(x + x) * x
x + x * x
x - (x - x)
x - x - x
-(x + x)
--x
-1.0 * x
x / (x / x)
x // x % x
1.0 + x
x if x < 1.0 else -x
(x if b else x) + x
x if b else x if b else x
(x if b else x) if b else x
f32(i << 2 | i & 3 ^ i)
f32((i | i) << 2)
f32(~-i)
f32(b == (i < 2))
f32((b or b) and b)
f32(b or b and b)
f32(not b and b)
f32((not b) == b)
f32(not (b and b))
f32(b and (b and b))
min(x, max(1.0, x))
fma(x, 2.0, x)
-f32(1.0)
-f32("inf")
-f32.inf
--f32.inf
-f32.nan
f32(True)
f32(1 // i)
f32(u64(18446744073709551615))
let(t, x, t * t)
f32(2.0 < x)
uniform(1, 2)
f32(random_bits(1, 2))
f32(i64(2) + 3)
f32(f16(0.1))
0.1
16777216.0
"""


@pytest.mark.parametrize("text", EXPRESSIONS.splitlines())
def test_each_text_is_canonical(text: str) -> None:
    source = f"def f(A: f32[1], x: f32, i: i64, b: bool_):\n    A[0] = {text}\n"
    assert print_func(parse_func(source)) == source


def test_long_lets_take_several_lines() -> None:
    x = Load("x", (), ALL[2])
    e: Expr = x
    for n in reversed(range(8)):
        e = Let(f"quite_long_{n}", x, e)
    text = print_stmt(Store("y", (), e))
    assert text.split("\n")[:2] == ["y = let(", "    quite_long_0, x,"]
    func = parse_func("def f(x: f32[()], y: f32[()]):\n    pass\n")
    func = replace(
        func, params=(func.arrays[0], replace(func.arrays[1], written=True)), body=(Store("y", (), e),)
    )
    verify(func)
    assert parse_func(print_func(func)) == func
