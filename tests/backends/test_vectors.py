"""Loops in lockstep: compiled = interpreted for every operator on lanes, and every way to reach memory."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kdsl import mathlib
from kdsl.backends.llvm import asm_text, host_target, llvm_text, parallel, pool_threads
from kdsl.dtypes import ALL, DType, bf16, bool_, f16, f32, f64, i8, i32, i64, u8, u16
from kdsl.errors import ScheduleError
from kdsl.ir import interpreter
from kdsl.ir.nodes import (
    Binary,
    Call,
    Cast,
    Compare,
    Expr,
    Func,
    If,
    Loop,
    Mark,
    Options,
    Select,
    Stmt,
    Unary,
)
from kdsl.ir.parser import parse_func
from kdsl.ir.walk import map_stmt, substitute
from kdsl.passes.expand_math import expand_math
from kdsl.target import Target
from tests.backends.harness import (
    FLOATS,
    INTS,
    add,
    agree,
    at,
    build,
    const,
    edge_values,
    elementwise,
    mul,
    pairs,
    run,
    var,
)
from tests.backends.test_operators import BASELINE
from tests.backends.test_parallel import Kernel

LANES = (1, 3, 4, 8, 16, 32)
VECTORIZE = Mark("vectorize")
A, B = (lambda t: at("a", t, var("i"))), (lambda t: at("b", t, var("i")))


def in_lanes(func: Func, lanes: int, guard: bool) -> Func:
    """`for i in range(N): ...` as blocks of `lanes` in lockstep; with a guard N need not be a multiple."""
    (loop,) = func.body
    assert isinstance(loop, Loop)
    at_ = add(mul(var("i_o"), const(lanes)), var("i_v"))
    body: tuple[Stmt, ...] = tuple(
        map_stmt(s, lambda e: substitute(e, {"i": at_}), lambda b: b) for s in loop.body
    )
    if guard:
        body = (If(Compare("<", at_, var("N")), body),)
    count = Binary("//", add(var("N"), const(lanes - 1)), const(lanes))
    inner = Loop("i_v", const(0), const(lanes), const(1), body, VECTORIZE)
    return replace(func, body=(Loop("i_o", const(0), count, const(1), (inner,)),))


def check(
    func: Func, inputs: dict[str, np.ndarray[Any, Any]], lanes: int, target: Target | None = None
) -> None:
    """With a ragged size under a guard, and with a whole number of blocks without one."""
    size = len(inputs["a"])
    for n, guard in ((size, True), (size // lanes * lanes, False)):
        some = {k: v[:n].copy() for k, v in inputs.items()}
        arguments = {p.name: some.get(p.name, np.zeros(n, p.dtype.np)) for p in func.arrays}
        agree(in_lanes(func, lanes, guard), arguments, {"N": n}, target)


def some_lanes(t: DType) -> tuple[int, ...]:
    return LANES if t in (f32, i32, f16, u8) else (3, 16)


CASES = [(t, lanes) for t in ALL for lanes in some_lanes(t)]


@pytest.mark.parametrize(("t", "lanes"), [c for c in CASES if c[0].is_int])
def test_integers(t: DType, lanes: int) -> None:
    ops = ("+", "-", "*", "min", "max", "&", "|", "^", "<<", ">>")
    outputs: dict[str, Expr] = {f"o{n}": Binary(op, A(t), B(t)) for n, op in enumerate(ops)}  # type: ignore[arg-type]
    outputs |= {f"c{n}": Compare(op, A(t), B(t)) for n, op in enumerate(("==", "!=", "<", "<=", ">", ">="))}  # type: ignore[arg-type]
    outputs |= {
        "neg": Unary("-", A(t)),
        "inv": Unary("~", A(t)),
        "abs": Call("abs", (A(t),), t),
        "minimum": Call("minimum", (A(t), B(t)), t),
        "maximum": Call("maximum", (A(t), B(t)), t),
        "chosen": Select(Compare("<", A(t), B(t)), A(t), const(3, t)),
        "cube": Call("ipow", (A(t), const(3, t)), t),
    }
    a, b = pairs(edge_values(t), edge_values(t))
    check(elementwise("ints", {"a": t, "b": t}, outputs), {"a": a, "b": b}, lanes)


@pytest.mark.parametrize(("t", "lanes"), [(t, n) for t in INTS for n in (4, 16)])
def test_integer_division(t: DType, lanes: int) -> None:
    outputs: dict[str, Expr] = {"q": Binary("//", A(t), B(t)), "r": Binary("%", A(t), B(t))}
    for n, d in enumerate((1, 3, 16, t.max)):
        outputs |= {f"q{n}": Binary("//", A(t), const(d, t)), f"r{n}": Binary("%", A(t), const(d, t))}
    a, b = pairs(edge_values(t), edge_values(t))
    check(elementwise("division", {"a": t, "b": t}, outputs), {"a": a[b != 0], "b": b[b != 0]}, lanes)


@pytest.mark.parametrize("t", (i8, i32, u16), ids=repr)
def test_integer_power(t: DType) -> None:
    outputs: dict[str, Expr] = {
        "p": Call("ipow", (A(t), B(t)), t),
        "one": Call("ipow", (A(t), const(0, t)), t),
    }
    a, b = pairs(edge_values(t), edge_values(t))
    keep = b.astype(object) >= 0
    check(elementwise("power", {"a": t, "b": t}, outputs), {"a": a[keep], "b": b[keep]}, 8)


@pytest.mark.parametrize("lanes", LANES)
def test_bools(lanes: int) -> None:
    outputs: dict[str, Expr] = {
        f"o{n}": Binary(op, A(bool_), B(bool_))
        for n, op in enumerate(("&", "|", "^", "+", "*"))  # type: ignore[arg-type]
    }
    outputs["not"] = Unary("not", A(bool_))
    a, b = pairs(edge_values(bool_), edge_values(bool_))
    check(
        elementwise("bools", {"a": bool_, "b": bool_}, outputs),
        {"a": np.tile(a, 9), "b": np.tile(b, 9)},
        lanes,
    )


FLOAT_CASES = [(t, n, None) for t, n in CASES if t.is_float] + [(t, 8, BASELINE) for t in FLOATS]


@pytest.mark.parametrize(("t", "lanes", "target"), FLOAT_CASES)
def test_floats(t: DType, lanes: int, target: Target | None) -> None:
    ops = ("+", "-", "*", "min", "max", "/")
    outputs: dict[str, Expr] = {f"o{n}": Binary(op, A(t), B(t)) for n, op in enumerate(ops)}  # type: ignore[arg-type]
    outputs |= {f"c{n}": Compare(op, A(t), B(t)) for n, op in enumerate(("==", "!=", "<", "<=", ">", ">="))}  # type: ignore[arg-type]
    outputs |= {fn: Call(fn, (A(t), B(t)), t) for fn in ("copysign", "minimum", "maximum")}
    outputs |= {fn: Call(fn, (A(t),), t) for fn in ("abs", "sqrt", "floor", "ceil", "trunc", "round")}
    outputs |= {fn: Call(fn, (A(t),), bool_) for fn in ("isnan", "isinf", "isfinite")}
    outputs["neg"] = Unary("-", A(t))
    a, b = pairs(edge_values(t), edge_values(t))
    check(elementwise("floats", {"a": t, "b": t}, outputs), {"a": a, "b": b}, lanes, target)


@pytest.mark.parametrize("t", FLOATS, ids=repr)
def test_float_remainders_and_fma(t: DType) -> None:
    outputs: dict[str, Expr] = {"q": Binary("//", A(t), B(t)), "r": Binary("%", A(t), B(t))}
    outputs |= {"fmod": Call("fmod", (A(t), B(t)), t), "fma": Call("fma", (A(t), B(t), A(t)), t)}
    a, b = pairs(edge_values(t), edge_values(t))
    check(elementwise("rest", {"a": t, "b": t}, outputs), {"a": a, "b": b}, 4)


@pytest.mark.parametrize("target", (None, BASELINE), ids=("host", "sse2"))
@pytest.mark.parametrize("source", ALL, ids=repr)
def test_casts(source: DType, target: Target | None) -> None:
    outputs: dict[str, Expr] = {f"to_{t.name}": Cast(A(source), t) for t in ALL}
    values = np.tile(edge_values(source), 2)
    check(elementwise("casts", {"a": source}, outputs), {"a": values}, 8, target)


# ---------------------------------------------------------------------- memory


def text(body: str, params: str, lanes: int = 16) -> Func:
    """A function whose body is given as printed, strict, with L for the number of lanes."""
    lines = "\n".join("    " + line.replace("L", str(lanes)) for line in body.strip("\n").split("\n"))
    return parse_func(f"@options(strict=True)\ndef f({params}):\n{lines}\n", "<vectors>")


def numbers(func: Func, seed: int = 0, **sizes: int) -> dict[str, np.ndarray[Any, Any]]:
    """Random arguments: small integers, or floats in [-1, 1)."""
    rng = np.random.default_rng(seed)
    out = {}
    for p in func.arrays:
        shape = tuple(s.evaluate(sizes) for s in p.shape)
        values = rng.random(shape) * 2 - 1 if p.dtype.is_float else rng.integers(0, 5, shape)
        out[p.name] = values.astype(p.dtype.np)
    return out


ROWS = """
for i in range(M):
    for j_o in range((N + L - 1) // L):
        for j in vectorize(range(L)):
            if j_o * L + j < N:
                C[i, j_o * L + j] = A[i, j_o * L + j] + B[j_o * L + j, i] - A[i, N - 1 - (j_o * L + j)]
                D[N - 1 - (j_o * L + j), i] = A[0, j_o * L + j] * A[i, 0]
                E[i, N - 1 - (j_o * L + j)] = A[i, j_o * L + j]
"""


@pytest.mark.parametrize("strided", ("", ' @ "strided"'), ids=("contiguous", "strided"))
@pytest.mark.parametrize("t", (f32, f16, bool_, i64), ids=repr)
@pytest.mark.parametrize("lanes", (1, 3, 8, 16))
def test_rows_columns_and_backwards_with_every_remainder(t: DType, lanes: int, strided: str) -> None:
    minus = "|" if t == bool_ else "-"
    body = ROWS.replace("-1", "- 1").replace(" - A", f" {minus} A")
    args = ", ".join(
        f"{n}: {t}[{s}]{strided}" for n, s in zip("ABCDE", ("M, N", "N, M", "M, N", "N, M", "M, N"))
    )
    if t == bool_:
        body = (
            body.replace("] + B", "] | B")
            .replace("] | A[i, N", "] | A[i, N")
            .replace("* A[i, 0]", "& A[i, 0]")
        )
    func = text(body, args, lanes)
    executable = build(func)
    for n in range(0, 2 * lanes + 2):
        arguments = numbers(func, M=2, N=n)
        if strided:
            arguments = {k: np.repeat(v, 2, axis=1)[:, ::2] for k, v in arguments.items()}
        agree(func, arguments, {"M": 2, "N": n}, executable=executable)


@pytest.mark.parametrize("step", (2, 3, 4, 5, -2, 0))
@pytest.mark.parametrize("lanes", (1, 3, 4, 16))
@pytest.mark.parametrize("t", (f32, u8, bf16, bool_), ids=repr)
def test_strides(t: DType, lanes: int, step: int) -> None:
    first = (lanes - 1) * abs(step) if step < 0 else 0
    body = f"""
for j in vectorize(range(L)):
    C[{first} + j * {step}] = A[{first} + {step} * j]
for j in vectorize(range(L)):
    if D[j] > {3 if not t.is_float else 0.0}:
        C[{first} + j * {step} + 1] = A[j * {step} + {first}]
"""
    if t == bool_:
        body = body.replace(" > 3", "")
    func = text(body, f"A: {t}[N], C: {t}[N], D: {t}[N]", lanes)
    n = lanes * max(1, abs(step)) + 1
    agree(func, numbers(func, N=n), {"N": n})


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("t", [u8, bf16, i64])
@pytest.mark.parametrize("order", ["01", "10", "012", "201", "0123", "3021"])
def test_stores_that_fill_a_row_are_woven(order: str, t: DType, lanes: int) -> None:
    """In any order, from an array that starts anywhere; one store of the whole row."""
    width = len(order)
    stores = "".join(f"            B[k, j, {n}] = A[{n}, j]\n" for n in order)
    func = parse_func(
        f"def f(A: {t}[4, {lanes}], B: {t}[K, {lanes}, {width}]):\n    for k in range(K):\n"
        f"        for j in vectorize(range({lanes})):\n{stores}"
    )
    A_ = np.arange(4 * lanes).reshape(4, lanes).astype(t.np)
    agree(func, {"A": A_, "B": np.zeros((3, lanes, width), t.np)}, {"K": 3})
    if lanes > 1:
        assert "scatter" not in llvm_text(func, host_target(), False)


@pytest.mark.parametrize("lanes", [8, 16, 48, 64, 40])
@pytest.mark.parametrize("t", [f32, u8, i64])
def test_wide_vectors_are_written_line_after_line(t: DType, lanes: int) -> None:
    func = parse_func(
        f"def f(A: {t}[{lanes}], B: {t}[{lanes}]):\n    for j in vectorize(range({lanes})):\n"
        "        B[j] = A[j]\n"
    )
    agree(func, numbers(func), {})
    stored = re.findall(r"store <(\d+) x [^,]*, ptr (%[\w.]+)", llvm_text(func, host_target(), False))
    line = 64 // t.bytes
    whole = lanes % line == 0 and lanes > line
    assert [int(n) for n, _ in stored] == ([line] * (lanes // line) if whole else [lanes])


@pytest.mark.parametrize(
    "body",
    [
        "B[j, 0] = A[j]\nB[j, 1] = B[j, 0]",
        "B[j, 0] = A[j]\nB[j, 0] = A[j] + i64(1)",
        "B[j, 1] = A[j]\nB[j, 2] = A[j]",
        "if A[j] > 3:\n    B[j, 0] = A[j]\n    B[j, 1] = A[j]",
        "B[j, 0] = A[j]\nC[j, 1] = A[j]",
        "B[j, 0] = A[j]\nC[j, 1] = B[j, 0]\nB[j, 1] = C[j, 1]",
        "B[j, 0] = 7\nB[j, 1] = A[0]",
    ],
)
def test_stores_that_fill_no_row_or_depend_on_each_other(body: str) -> None:
    lines = "".join(f"        {line}\n" for line in body.splitlines())
    for width in (3, 2):
        func = parse_func(
            f"def f(A: i64[8], B: i64[8, {width}], C: i64[8, 2]):\n    for j in vectorize(range(8)):\n"
            + (lines if width == 3 else lines.replace("B[j, 2]", "B[j, 0]"))
        )
        agree(func, {"A": np.arange(8), "B": np.full((8, width), -1), "C": np.full((8, 2), -2)}, {})


def test_gathers_and_scatters() -> None:
    func = text(
        """
for j in vectorize(range(L)):
    C[p[j], 1] = A[p[j], p[p[j]]] + A[j, p[j]]
for j in vectorize(range(L)):
    if p[j] % 3 == 0:
        C[p[j], p[j] % 2] = A[p[j], j]
""",
        "A: f32[L, L], C: f32[L, 2], p: i64[L]".replace("L", "16"),
    )
    arguments = numbers(func)
    arguments["p"] = np.random.default_rng(1).permutation(16)
    agree(func, arguments, {})


def test_several_rows_and_wide_vectors() -> None:
    func = text(
        """
for j in vectorize(range(64)):
    C[j] = A[j] * A[63 - j]
for j in vectorize(range(100)):
    D[j] += f64(j) * f64(A[j % 64])
""",
        "A: f32[64], C: f32[64], D: f64[100]",
    )
    agree(func, numbers(func), {})


@pytest.mark.parametrize("bounds", ("lo, lo + 5", "2 * lo + 1, lo + 8 + lo", "9, -1, -2", "3, 10, 3"))
def test_bounds_of_constant_difference(bounds: str) -> None:
    func = text(f"for j in vectorize(range({bounds})):\n    C[j] = i32(j) * 3", "lo: i64, C: i32[30]")
    agree(func, {"C": np.zeros(30, "i4"), "lo": 4}, {})


# -------------------------------------------------------------- locals and control


@pytest.mark.parametrize("lanes", (1, 3, 8, 16))
def test_locals(lanes: int) -> None:
    func = text(
        """
for i in range(2):
    for j in vectorize(range(L)):
        x: f32
        s: f32
        n: i64
        T: f32[3]
        U: f32[2, 2]
        b: bool_
        s = A[0, 0]
        x = A[i, j]
        n = 2
        T[0] = x
        T[n] = x * s
        T[1] = s
        b = x > T[n]
        for k in range(3):
            x += T[k]
        U[j % 2, i] = x
        U[1 - j % 2, i] = s
        U[0, 1 - i] = s
        U[1, 1 - i] = x
        C[i, j] = x + U[0, i] * U[1, 0]
        D[i, j] = b
""",
        "A: f32[2, L], C: f32[2, L], D: bool_[2, L]".replace("L", str(lanes)),
        lanes,
    )
    agree(func, numbers(func), {})


CONTROL = {
    "if_else": """
if A[j] > 0.0:
    C[j] = A[j]
    if B[j] > A[j]:
        C[j] += 1.0
    else:
        C[j] += 2.0
else:
    x = A[j] * 2.0
    C[j] = x + s
C[j] += x
""",
    "select": """
C[j] = A[p[j]] if p[j] < 20 and A[p[j]] < 0.5 else (B[j] if s > 0.0 else A[7 - j % 8])
D[j] = 100 // p[j] if p[j] != 0 else -1
""",
    "uniform_under_a_mask": """
if A[j] > 5.0:
    C[j] = A[1000000 + M]
    D[j] = 5 // (M - M)
elif A[j] > -5.0:
    C[j] = A[M] + B[M]
""",
    "inner_loop": """
for k in range(M):
    x += A[k] * B[j]
    if k == 3:
        break
C[j] = x
""",
    "breaks": """
for k in range(10):
    if p[j] == k:
        break
    if (p[j] + k) % 3 == 0:
        D[j] += 100
        continue
    if k == 8:
        break
    D[j] += k
    x += 1.0
C[j] = x
""",
    "varying_bounds": """
for k in range(p[j], 9 - p[j]):
    x += A[k]
    D[j] += k
for k in range(p[j], j, 3):
    D[j] += k * k
for k in range(j, -1, -2):
    D[j] += -k
    if k == p[j]:
        break
for k in range(j, 7, p[j] - 7):
    D[j] += 1
C[j] = x
""",
    "while": """
n = p[j]
while n < 20 and s > -100.0:
    n = n * 2 + 1
    if n % 5 == 0:
        continue
    if n == 7:
        break
    D[j] += n
k = 0
while k < 3:
    k += 1
    x += A[k]
C[j] = x
D[j] += n
""",
    "nested_loops": """
for k in range(3):
    for m in range(k, 3):
        if p[j] == m:
            break
        D[j] += m
    if p[j] == 4:
        continue
    for m in range(p[j]):
        if m == k:
            continue
        D[j] += 10
    D[j] += 1000
C[j] = x
""",
    "continue": """
if A[j] < 0.0:
    continue
C[j] = A[j]
if B[j] < 0.0:
    D[j] = 7
    continue
D[j] = 8
""",
    "uniform_if": """
if s > 0.0:
    x = A[j]
else:
    x = B[0]
if M > 3:
    C[j] = x
else:
    D[j] = M
""",
    "lets": """
C[j] = let(y, A[j] * B[j], z, y + s, z * z - y if z > 0.0 else y)
D[j] = let(w, M * 2, w + p[j])
""",
}


@pytest.mark.parametrize("lanes", (1, 3, 8, 16))
@pytest.mark.parametrize("name", CONTROL)
def test_control(name: str, lanes: int) -> None:
    body = ["x: f32", "n: i64", "k: i64", "x = 0.0", *CONTROL[name].strip("\n").split("\n")]
    if "for k" in CONTROL[name] or "k = 0" not in CONTROL[name]:
        body.remove("k: i64")
    loop = "for j in vectorize(range(L)):\n" + "\n".join("    " + line for line in body)
    func = text(loop, "A: f32[32], B: f32[32], C: f32[32], D: i64[32], p: i64[32], s: f32, M: i64", lanes)
    executable = build(func)
    for seed, m in ((0, 5), (1, 1), (2, 0)):
        arguments = {**numbers(func, seed), "s": np.float32(0.25 - seed), "M": m}
        agree(func, arguments, {}, executable=executable)


def test_masks_where_no_lane_is_on() -> None:
    body = (
        CONTROL["uniform_under_a_mask"]
        + "if A[j] > 9.0:\n    for k in range(M):\n        C[k + j] += A[99]\n"
    )
    loop = "for j in vectorize(range(L)):\n" + "\n".join(
        "    " + line for line in body.strip("\n").split("\n")
    )
    func = text(loop, "A: f32[32], B: f32[32], C: f32[32], D: i64[32], M: i64")
    agree(func, {**numbers(func), "M": 5}, {})


# ----------------------------------------------------------------- reductions


@pytest.mark.parametrize("lanes", LANES)
@pytest.mark.parametrize("t", (i32, u8, f16, bf16, f32, f64, bool_), ids=repr)
def test_reductions(t: DType, lanes: int) -> None:
    """Small whole numbers, so that every order of additions gives the same."""
    one = "True" if t == bool_ else "1.0" if t.is_float else "1"
    other = "acc += A[i]" if t == bool_ else "m = min(m, A[i * L + j])\nlow[1] = max(low[1], A[i * L + j])"
    body = f"""
acc: {t}
m: {t}
acc = {one.replace("True", "False")}
m = {one}
for i in range(N // L):
    for j in vectorize(range(L)):
        acc += A[i * L + j]
        if A[i * L + j] != B[i * L + j]:
            low[0] += B[i * L + j]
        low[2] += {one}
        {other.replace(chr(10), chr(10) + "        ")}
C[0] = acc
C[1] = m
"""
    func = text(body, f"A: {t}[N], B: {t}[N], C: {t}[2], low: {t}[3]", lanes)
    executable = build(func)
    for n in (0, lanes, 2 * lanes):
        arguments = numbers(func, N=n)
        rng = np.random.default_rng(2)
        for name in "AB":
            arguments[name] = rng.integers(0, 3, n).astype(t.np)
        arguments["low"] = np.zeros(3, t.np)
        agree(func, arguments, {"N": n}, executable=executable)


def test_a_reduction_in_an_inner_loop() -> None:
    func = text(
        """
for i in range(3):
    for j in vectorize(range(L)):
        for k in range(i, p[j]):
            S[i] += A[k] * A[j]
            T += A[k]
            if k == 2:
                break
""".replace("T += A[k]", "Z[0, i] += 1.0"),
        "A: f64[32], S: f64[3], Z: f64[1, 3], p: i64[16]",
    )
    arguments = numbers(func)
    arguments["A"] = np.arange(32.0)
    arguments |= {"S": np.zeros(3), "Z": np.zeros((1, 3))}
    agree(func, arguments, {})


def test_an_untouched_cell_may_lie_outside() -> None:
    """The reduction runs zero times, so C[5] of an empty array is not touched."""
    func = text(
        """
for i in range(N // L):
    for j in vectorize(range(L)):
        C[N + 5] += A[i * L + j]
""",
        "A: f32[N], C: f32[N]",
    )
    agree(func, {"A": np.ones(0, "f4"), "C": np.ones(0, "f4")}, {"N": 0})


# ----------------------------------------------------------------- faults


@pytest.mark.parametrize("lanes", (1, 3, 16, 64, 70))
def test_the_first_lane_that_fails_is_reported(lanes: int) -> None:
    func = text(
        "for j in vectorize(range(L)):\n    C[check(p[j])] = 1.0",
        "p: i64[L], C: f32[N]".replace("L", str(lanes)),
        lanes,
    )
    p = np.arange(lanes)
    assert run(func, {"p": p, "C": np.zeros(lanes, "f4")}, {"N": lanes}).code == 0
    p[lanes // 2] = -7
    p[lanes - 1] = -9
    outcome = run(func, {"p": p, "C": np.zeros(lanes, "f4")}, {"N": lanes})
    first = -7 if lanes > 1 else -9
    assert (outcome.site.kind, outcome.index, outcome.extent) == ("index", first, lanes)


FAULTS = {
    "index": ("C[j] = A[check(p[j])]", 20),
    "uniform": ("C[j] = A[check(n)]", 20),
    "zero_division": ("D[j] = 7 // p[j]", 0),
    "assertion": ('assert p[j] != 13, "thirteen"', 13),
    "negative_power": ("D[j] = ipow(2, p[j])", -3),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_under_masks(kind: str) -> None:
    line, bad = FAULTS[kind]
    body = f"for j in vectorize(range(L)):\n    if on[j]:\n        {line}"
    func = text(body, "A: f32[16], C: f32[16], D: i64[16], p: i64[16], n: i64, on: bool_[16]")
    arguments = {**numbers(func), "n": bad, "p": np.ones(16, "i8"), "on": np.ones(16, bool)}
    arguments["p"] = np.full(16, 2)
    arguments["p"][9] = bad
    arguments["on"][9] = False
    if kind == "uniform":
        arguments["on"][:] = False
    assert run(func, arguments).code == 0
    arguments["on"][9] = True
    outcome = run(func, arguments)
    assert outcome.code > 0 and outcome.site.kind == ("index" if kind == "uniform" else kind)
    if kind in ("index", "uniform", "negative_power"):
        assert outcome.index == bad


@pytest.mark.parametrize(
    ("index", "bad"), [("within(p[j], 4, 1)", 4), ("within(n, 4, 1)", 4), ("within(p[j], 20 - q[j], 1)", 4)]
)
def test_indices_into_a_part_under_a_mask(index: str, bad: int) -> None:
    body = f"for j in vectorize(range(L)):\n    if on[j]:\n        C[j] = A[2 + {index}]"
    func = text(body, "A: f32[16], C: f32[16], p: i64[16], q: i64[16], n: i64, on: bool_[16]")
    arguments = {**numbers(func), "n": bad, "q": np.full(16, 16), "on": np.ones(16, bool)}
    arguments["p"] = np.arange(16) % 4
    arguments["p"][9] = bad
    arguments["on"][9] = False
    if "p[j]" not in index:
        arguments["on"][:] = False
    agree(func, arguments, {})
    arguments["on"][9] = True
    outcome = run(func, arguments)
    assert (outcome.site.kind, outcome.site.dim) == ("index", 1)
    assert (outcome.index, outcome.extent) == (bad, 4)


# ------------------------------------------------- one lane after the other


def test_atomics_and_print() -> None:
    func = text(
        """
for j in vectorize(range(L)):
    old: i64
    old = 0
    if on[j]:
        old = atomic_add(C, p[j], j)
        print(j, A[j])
    D[j] = old
    atomic_max(E, 0, A[j])
    atomic_add(G, 0, 1)
""",
        "A: f32[16], C: i64[5], D: i64[16], E: f32[1], G: i64[1], p: i64[16], on: bool_[16]",
    )
    arguments = numbers(func)
    arguments["on"] = np.arange(16) % 3 == 0
    agree(func, arguments, {})
    outcome = run(func, arguments)
    printed = [np.frombuffer(values, "i8")[0] for _, values in outcome.table.printed]
    assert printed == [0, 3, 6, 9, 12, 15]


# ----------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("code", "body", "says"),
    (
        (
            "K0380",
            "for j in vectorize(range(N)):\n    C[j] = 1.0",
            "its number of iterations is not a constant",
        ),
        ("K0381", "for j in vectorize(range(4)):\n    if C[j] > 1.0:\n        break", "`break` leaves it"),
        ("K0381", "for j in vectorize(range(4)):\n    return", "`return` leaves it"),
        (
            "K0381",
            "for j in vectorize(range(4)):\n    for i in vectorize(range(4)):\n        C[j] = C[i]",
            "loop `i` inside is marked `vectorize`",
        ),
        (
            "K0382",
            "for j in vectorize(range(4)):\n    T: f32[N]\n    T[0] = C[j]\n    C[j] = T[1]",
            "its local array `T` is too big",
        ),
    ),
)
def test_refused(code: str, body: str, says: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        llvm_text(text(body, "C: f32[N]"), host_target())
    assert caught.value.code == code
    assert caught.value.title == f"cannot vectorize loop `j`: {says}"
    assert caught.value.lineno is not None and caught.value.help


# -------------------------------------------------------- the machine code

AVX512 = Target(
    "cpu", 0, "x86-64-v4", "+avx512f,+avx512bw,+avx512vl,+avx512dq,+fma,+f16c", host_target().triple
)


def code(func: Func) -> list[str]:
    """The instructions of the kernel, for a CPU with AVX-512."""
    asm = asm_text(func, AVX512)
    return [line.strip() for line in asm.split("kernel.f:")[1].split(".Lfunc_end")[0].split("\n")]


def count(lines: list[str], name: str) -> int:
    return sum(line.split("\t")[0].startswith(name) for line in lines)


def test_one_instruction_a_vector() -> None:
    func = text(
        """
for i in range(N // L):
    for j in vectorize(range(L)):
        C[i * L + j] = A[i * L + j] * s + C[i * L + j]
""",
        "A: f32[N], C: f32[N], s: f32",
    )
    lines = code(replace(func, options=Options()))
    assert count(lines, "vmovups") == 2 and count(lines, "vfmadd") == 1  # which takes one operand from memory
    assert all("zmm" in line for line in lines if line.startswith("vfmadd"))


def test_a_guarded_tail_uses_mask_registers() -> None:
    func = text(
        """
for i in range((N + L - 1) // L):
    for j in vectorize(range(L)):
        if i * L + j < N:
            C[i * L + j] = A[i * L + j]
""",
        "A: f32[N], C: f32[N]",
    )
    lines = code(func)
    moves = [line for line in lines if line.startswith("vmovups")]
    assert len(moves) == 2 and all("{%k" in line for line in moves)
    assert sum(line.startswith("j") for line in lines) == 2


def test_a_sum_adds_vectors() -> None:
    func = text(
        """
acc: f32
acc = 0.0
for i in range(N // 64):
    for j in vectorize(range(64)):
        acc += A[i * 64 + j]
C[0] = acc
""",
        "A: f32[N], C: f32[1]",
    )
    lines = code(func)
    start = next(n for n, line in enumerate(lines) if line.startswith("vaddps") and "(" in line)
    loop = lines[start : start + 8]
    assert count(loop, "vaddps") == 4 and all("zmm" in line for line in loop if line.startswith("vaddps"))


def microkernel(rows: int, columns: int) -> Func:
    """A tile of a matrix product, its accumulators in a local array; copies of the inner loops by hand."""

    def tile(line: str) -> list[str]:
        copies = [line.format(i=i, j=f"{16 * c} + j") for i in range(rows) for c in range(columns)]
        return [part for copy in copies for part in ("for j in vectorize(range(16)):", "    " + copy)]

    body = [
        f"acc: f32[{rows}, {16 * columns}]",
        *tile("acc[{i}, {j}] = 0.0"),
        "for k in range(K):",
        *["    " + line for line in tile("acc[{i}, {j}] += A[k, {i}] * B[k, {j}]")],
        *tile("C[{i}, {j}] += acc[{i}, {j}]"),
    ]
    width = 16 * columns
    params = f"A: f32[K, {rows}], B: f32[K, {width}], C: f32[{rows}, {width}]"
    return parse_func(f"def f({params}):\n" + "\n".join("    " + line for line in body))


def test_a_microkernel_keeps_its_accumulators_in_registers() -> None:
    func = microkernel(6, 4)
    lines = code(func)
    assert count(lines, "vfmadd") == 24 and count(lines, "vbroadcastss") == 6
    assert not any("rsp" in line for line in lines)
    rng = np.random.default_rng(0)
    a, b, c = rng.random((7, 6), "f4"), rng.random((7, 64), "f4"), np.ones((6, 64), "f4")
    assert run(func, {"A": a, "B": b, "C": c}, {"K": 7}).code == 0
    np.testing.assert_allclose(c, 1 + a.T @ b, rtol=1e-5)


def test_polls_stand_outside_of_vector_loops() -> None:
    func = text(
        """
for i in range(N // L):
    for j in vectorize(range(L)):
        C[i * L + j] = 1.0
""",
        "C: f32[N]",
    )
    assert "load volatile" not in llvm_text(func, host_target(), optimised=False)


def test_overlapping_arrays_read_before_they_write() -> None:
    """In lockstep: all lanes load before the first one stores."""
    func = text("for j in vectorize(range(L)):\n    A[j] = A[j + 1] + 1.0", "A: f32[17]")
    agree(func, numbers(func), {})


SOFTMAX = """
for i in range(M):
    m: f32
    total: f32
    m = -f32.inf
    total = 0.0
    for j_o in range((N + L - 1) // L):
        for j in vectorize(range(L)):
            if j_o * L + j < N:
                m = max(m, X[i, j_o * L + j])
    for j_o in range((N + L - 1) // L):
        for j in vectorize(range(L)):
            if j_o * L + j < N:
                Y[i, j_o * L + j] = exp(X[i, j_o * L + j] - m)
                total += Y[i, j_o * L + j]
    for j_o in range((N + L - 1) // L):
        for j in vectorize(range(L)):
            if j_o * L + j < N:
                Y[i, j_o * L + j] = Y[i, j_o * L + j] / total
"""
GELU = """
for j_o in range((N + L - 1) // L):
    for j in vectorize(range(L)):
        if j_o * L + j < N:
            Y[0, j_o * L + j] = X[0, j_o * L + j] * (1.0 + erf(X[0, j_o * L + j] / sqrt(f32(2.0)))) / 2.0
            Y[1, j_o * L + j] = tanh(X[1, j_o * L + j]) + log(abs(X[0, j_o * L + j])) * sin(X[2, j_o * L + j])
            Y[2, j_o * L + j] = pow(abs(X[1, j_o * L + j]), X[2, j_o * L + j])
"""


@pytest.mark.parametrize("n", (1, 15, 16, 37))
@pytest.mark.parametrize("body", (SOFTMAX, GELU), ids=("softmax", "gelu"))
def test_math_functions(body: str, n: int) -> None:
    func = expand_math(text(body, "X: f32[M, N], Y: f32[M, N]"), mathlib.definition)
    x = np.random.default_rng(0).standard_normal((3, n)).astype("f4")
    y, expected = np.zeros_like(x), np.zeros_like(x)
    interpreter.run(func, {"X": x, "Y": expected}, {}, {"M": 3, "N": n}, races=False)
    assert run(func, {"X": x, "Y": y}, {"M": 3, "N": n}).code == 0
    np.testing.assert_allclose(y, expected, rtol=1e-5)


# ----------------------------------------------------- inside parallel loops


@pytest.mark.skipif(not pool_threads.supported(host_target()), reason="no pool here: loops run serially")
@pytest.mark.parametrize("bad", (False, True))
def test_vector_loops_in_a_parallel_loop(bad: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "PARALLEL_ABOVE", -1.0)
    kernel = Kernel(
        """
        @options(strict=True)
        def f(A: f32[M, N], C: f32[M, N], S: f32[M], p: i64[N]):
            for i in parallel(range(M)):
                acc: f32
                row: f32[2, 16]
                acc = 0.0
                for o in range((N + 15) // 16):
                    for j in vectorize(range(16)):
                        t: f32
                        if o * 16 + j < N:
                            t = A[i, check(p[o * 16 + j])]
                            for k in range(p[j] & 3):
                                t += 1.0
                            acc += t
                            row[0, j] = t * 2.0
                            C[i, o * 16 + j] = row[0, j] + A[i, o * 16 + j]
                S[i] = acc
        """
    )
    rng = np.random.default_rng(0)
    arguments = {
        "A": rng.integers(0, 9, (9, 37)).astype("f4"),
        "C": np.zeros((9, 37), "f4"),
        "S": np.zeros(9, "f4"),
        "p": rng.integers(0, 37, 37),
    }
    if not bad:
        kernel.agrees(arguments, {"M": 9, "N": 37})
        return
    arguments["p"][20] = 99
    outcome = kernel(arguments, {"M": 9, "N": 37})
    assert (outcome.site.kind, outcome.index, outcome.extent) == ("index", 99, 37)


def test_accumulators_under_a_mask_stay_in_registers() -> None:
    func = text(
        """
acc: f32[2, 16]
for j in vectorize(range(16)):
    acc[0, j] = 0.0
    acc[1, j] = 0.0
for k in range(K):
    for j in vectorize(range(16)):
        if j < N:
            acc[0, j] += A[k, 0] * B[k, j]
            acc[1, j] += A[k, 1] * B[k, j]
for j in vectorize(range(16)):
    if j < N:
        C[0, j] = acc[0, j]
        C[1, j] = acc[1, j]
""",
        "A: f32[K, 2], B: f32[K, N], C: f32[2, N]",
    )
    lines = code(replace(func, options=Options()))
    sums = [line for line in lines if line.startswith("vfmadd")]
    assert len(sums) == 2 and all("{%k" in line for line in sums)
    assert not any("rsp" in line for line in lines)
    for n in (0, 1, 9, 16):
        arguments = numbers(func, K=3, N=n)
        agree(func, arguments, {"K": 3, "N": n})


def test_masked_lanes_beyond_a_local_array() -> None:
    """Each array keeps to itself, though ten elements do not fill the vector."""
    func = text(
        """
T: f32[10]
U: f32[10]
for j in vectorize(range(16)):
    if j < 10:
        U[j] = A[j]
        T[9 - j] = A[j] + 1.0
        U[9 - j] += T[j]
for j in vectorize(range(16)):
    if j < 10:
        C[j] = T[j] * U[j]
""",
        "A: f32[16], C: f32[16]",
    )
    # In lockstep, as the statements say: not what the iterations give one after the other.
    arguments = numbers(func)
    a, c = arguments["A"], arguments["C"]
    expected = c.copy()
    t = (a[:10] + 1)[::-1]
    u = a[:10] + t[::-1]
    expected[:10] = t * u
    assert run(func, arguments).code == 0
    np.testing.assert_array_equal(c, expected)
