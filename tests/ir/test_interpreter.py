"""The interpreter: statements, faults and their messages, uninitialised reads."""

from __future__ import annotations

import linecache
import threading
from typing import Any

import numpy as np
import pytest

from kdsl.dtypes import ALL, DType
from kdsl.errors import (
    ArgumentError,
    KdslError,
    KernelAssertionError,
    KernelIndexError,
    KernelValueError,
    KernelZeroDivisionError,
)
from kdsl.ir.interpreter import Interpreter, run
from kdsl.ir.parser import parse_func

I64, F32 = np.int64, np.float32


def execute(text: str, arrays: dict[str, Any] | None = None, on_print: Any = None, **values: Any) -> None:
    """Runs IR text; `values` are scalars and sizes. Errors show the text's lines."""
    linecache.cache["ir.txt"] = len(text), None, [line + "\n" for line in text.splitlines()], "ir.txt"
    run(parse_func(text, "ir.txt"), arrays or {}, values, values, on_print=on_print)


def outcome(body: str, dtype: DType, **scalars: Any) -> Any:
    """What `body` leaves in `R[0]`, as a Python number."""
    types = ", ".join(f"{name}: {'f64' if isinstance(v, float) else 'i64'}" for name, v in scalars.items())
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    out = np.zeros(1, dtype.np)
    execute(f"def f(R: {dtype}[1]{', ' * bool(types)}{types}):\n{lines}", {"R": out}, **scalars)
    return out.item()


def by_name(name: str) -> DType:
    return {t.name: t for t in ALL}[name]


# ------------------------------------------------------------- statements


def test_matmul_in_program_order() -> None:
    text = """\
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc: f32
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc
"""
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(size=(4, 3)).astype(F32), rng.normal(size=(3, 5)).astype(F32), np.zeros((4, 5), F32)
    execute(text, {"A": a, "B": b, "C": c}, M=4, N=5, K=3)
    want = np.zeros((4, 5), F32)
    for k in range(3):
        want += a[:, k, None] * b[None, k, :]
    np.testing.assert_array_equal(c, want)


@pytest.mark.parametrize(
    ("bounds", "want"),
    [("3", 12), ("1, 3", 12), ("5, 0, -2", 531), ("3, 3", 0), ("4, 3", 0), ("0, 7, 3", 36), ("-2, 1", -210),
     ("0, 5, -1", 0)],
)  # fmt: skip
def test_ranges(bounds: str, want: int) -> None:
    assert outcome(f"R[0] = 0\nfor i in range({bounds}):\n    R[0] = R[0] * 10 + i", by_name("i64")) == want


def test_bounds_of_a_loop_are_evaluated_once() -> None:
    body = "n: i64\nn = 3\nR[0] = 0\nfor i in range(n):\n    n = 100\n    R[0] += 1"
    assert outcome(body, by_name("i64")) == 3


def test_control_flow() -> None:
    body = """\
R[0] = 0
n: i64
n = 0
while n < 100:
    n += 1
    if n % 2 == 0:
        continue
    elif n > 9:
        break
    for i in range(10):
        if i == 2:
            break
        R[0] += i + n
if n == 11:
    return
R[0] = -1"""
    assert outcome(body, by_name("i64")) == sum(i + n for n in (1, 3, 5, 7, 9) for i in (0, 1))


def test_return_leaves_all_loops() -> None:
    body = "for i in range(9):\n    while True:\n        R[0] = i + 5\n        return\nR[0] = 1"
    assert outcome(body, by_name("i64")) == 5


def test_only_the_chosen_operand_is_evaluated() -> None:
    assert outcome("R[0] = 1 if z == 0 else 7 // z", by_name("i64"), z=0) == 1
    assert outcome("R[0] = i64(z != 0 and 7 // z > 0)", by_name("i64"), z=0) == 0
    assert outcome("R[0] = i64(z == 0 or 7 // z > 0)", by_name("i64"), z=0) == 1


def test_accumulates() -> None:
    for op, want in (("R[0] += 3.0", 5.0), ("R[0] *= 3.0", 6.0), ("R[0] = min(R[0], 1.0)", 1.0),
                     ("R[0] = max(R[0], 1.0)", 2.0), ("R[0] = min(R[0], f32.nan)", 2.0)):  # fmt: skip
        assert outcome(f"R[0] = 2.0\n{op}", by_name("f32")) == want
    assert outcome("R[0] = 250\nR[0] += 10", by_name("u8")) == 4
    assert outcome("R[0] = False\nR[0] += True\nR[0] += True", by_name("bool_")) is True


def test_atomics_give_the_old_value() -> None:
    text = """\
def f(A: i32[3], R: i32[3]):
    old: i32
    for k in range(3):
        old = atomic_add(A, 1, 10)
        R[k] = old
    atomic_max(A, 0, 99)
    atomic_min(A, 2, -5)
"""
    a, r = np.array([1, 2, 3], np.int32), np.zeros(3, np.int32)
    execute(text, {"A": a, "R": r})
    assert a.tolist() == [99, 32, -5] and r.tolist() == [2, 12, 22]


def test_locals_are_new_in_each_iteration() -> None:
    text = """\
def f(R: i64[N]):
    for i in range(N):
        T: i64[N, 2]
        if i == 0:
            T[0, 1] = 5
        R[i] = T[0, 1]
"""
    with pytest.raises(KdslError, match="`T` is used before it is set"):
        execute(text, {"R": np.zeros(2, I64)}, N=2)


def test_extents_of_locals() -> None:
    text = """\
@sizes(N)
def f(R: i64[1]):
    T: i64[N - 3, 2]
    for i in range(N - 3):
        T[i, 1] = i
    R[0] = 1
"""
    for n in (0, 3, 5):
        out = np.zeros(1, I64)
        execute(text, {"R": out}, N=n)
        assert out[0] == 1


def test_lets_are_evaluated_once_in_order() -> None:
    assert outcome("R[0] = let(a, z * z, b, a + a, a - b)", by_name("i64"), z=3) == -9


def test_results_are_copied_out_with_what_was_set() -> None:
    text = 'def f(R: f32[N] @ "result", s: i64[()] @ "result"):\n    R[1] = 2.0\n    s = 7\n'
    r, s = np.full(3, -1, F32), np.zeros((), I64)
    execute(text, {"R": r, "s": s}, N=3)
    assert r.tolist() == [-1, 2, -1] and s[()] == 7


@pytest.mark.parametrize("name", [t.name for t in ALL])
def test_every_dtype_is_stored_and_loaded(name: str) -> None:
    t = by_name(name)
    a = np.array([0, 1, 1]).astype(t.np)
    out = np.zeros(3, t.np)
    text = f"""\
def f(A: {name}[3], R: {name}[3], s: {name}):
    T: {name}[3]
    x: {name}
    x = s
    for i in range(3):
        T[i] = A[i]
    R[0] = T[2]
    R[1] = x
    R[2] = T[0]
"""
    execute(text, {"A": a, "R": out}, s=1)
    assert out.astype(int).tolist() == [1, 1, 0] and out.dtype == t.np


def test_strided_and_overlapping_arrays() -> None:
    whole = np.arange(24, dtype=F32).reshape(4, 6)
    text = """\
def f(A: f32[N, M] @ "strided", B: f32[N, M] @ "strided"):
    B[1, 0] = A[0, 1] * 2.0
    B[1, 1] = A[1, 0]
"""
    view = whole[::2, ::-3]
    execute(text, {"A": view, "B": view}, N=2, M=2)
    assert view[1, 0] == 4.0 and view[1, 1] == 4.0  # the second read sees the first write


def test_scalars_are_cast_to_their_type() -> None:
    text = """\
def f(R: f64[4], a: f32, b: i8, c: bool_, d: u8):
    R[0] = f64(a)
    R[1] = f64(b)
    R[2] = f64(c)
    R[3] = f64(d)
"""
    out = np.zeros(4)
    execute(text, {"R": out}, a=0.1, b=200, c=2, d=np.float64(300.5))
    assert out.tolist() == [float(np.float32(0.1)), -56.0, 1.0, 255.0]


def test_print() -> None:
    texts: list[str] = []
    text = """\
def f(s: f32):
    print("s is", s, s > 1.0, i64(3))
    print(f16(s), f64(0.1), sep="|", end="")
    print()
"""
    execute(text, {}, texts.append, s=0.1)
    assert texts == ["s is 0.1 False 3\n", "0.1|0.1", "\n"]


def test_print_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    execute('def f():\n    print("a", end="")\n    print("b")\n')
    assert capsys.readouterr().out == "ab\n"


def test_an_interpreter_runs_in_many_threads() -> None:
    text = """\
def f(R: i64[1], n: i64):
    acc: i64
    acc = 0
    for i in range(n):
        acc += n
    R[0] = acc
"""
    interpreter, outs = Interpreter(parse_func(text)), [np.zeros(1, I64) for _ in range(4)]
    threads = [
        threading.Thread(target=interpreter.run, args=({"R": out}, {"n": 3000 + n}, {}))
        for n, out in enumerate(outs)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [int(o[0]) for o in outs] == [(3000 + n) ** 2 for n in range(4)]


# ------------------------------------------------------------------ faults


def message(text: str, arrays: dict[str, Any], kind: type[KdslError], **values: Any) -> str:
    with pytest.raises(kind) as e:
        execute(text, arrays, **values)
    return str(e.value)


GATHER = "def f(A: f32[N, M], I: i64[1], R: f32[1]):\n    R[0] = A[0, I[0]]\n"


def test_index_error_names_array_index_extent_and_line() -> None:
    arrays = {"A": np.zeros((2, 3), F32), "I": np.array([3]), "R": np.zeros(1, F32)}
    assert message(GATHER, arrays, KernelIndexError, N=2, M=3) == (
        "error[K0601]: index 3 is out of bounds for dimension 1 of `A`, which has 3 elements\n"
        " --> ir.txt:2:12\n"
        "2 |     R[0] = A[0, I[0]]\n"
        "  |            ^^^^^^^^^^\n"
        "  = help: guard the access with `if`, or clamp the index with `min`"
    )
    arrays["I"][0] = -1
    text = message(GATHER, arrays, KernelIndexError, N=2, M=3)
    assert text.splitlines()[0].endswith(
        "index -1 is out of bounds for dimension 1 of `A`, which has 3 elements"
    )
    assert "only a constant negative index counts from the end" in text


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("A[N] = 0.0", "index 2 is out of bounds for dimension 0 of `A`, which has 2 elements"),
        ("A[-1] += 1.0", "index -1 is out of bounds for dimension 0 of `A`, which has 2 elements"),
        ("atomic_add(A, 5, 1.0)", "index 5 is out of bounds for dimension 0 of `A`, which has 2 elements"),
        ("B[0, N] = 0.0", "index 2 is out of bounds for dimension 1 of `B`, which has 1 element"),
        ("B[A0[0], 0] = 0.0", "index 0 is out of bounds for dimension 0 of `A0`, which has no elements"),
    ],
)
def test_index_errors_of_writes_and_locals(line: str, title: str) -> None:
    text = f"def f(A: f32[N], A0: i64[M]):\n    B: f32[4, 1]\n    {line}\n"
    arrays = {"A": np.zeros(2, F32), "A0": np.zeros(0, I64)}
    assert message(text, arrays, KernelIndexError, N=2, M=0).startswith(
        f"error[K0601]: {title}\n --> ir.txt:3:"
    )


def test_the_value_is_evaluated_before_the_index_is_tested() -> None:
    with pytest.raises(KernelZeroDivisionError):
        outcome("R[9] = 1 // z", by_name("i64"), z=0)


def test_what_ran_before_a_fault_stays_written() -> None:
    out = np.zeros(2, I64)
    with pytest.raises(KernelIndexError):
        execute("def f(R: i64[2]):\n    for i in range(3):\n        R[i] = i + 1\n", {"R": out})
    assert out.tolist() == [1, 2]


def test_integer_division_by_zero() -> None:
    for op in ("//", "%"):
        text = f"def f(R: i32[1], z: i32):\n    R[0] = 7 {op} z\n"
        shown = message(text, {"R": np.zeros(1, np.int32)}, KernelZeroDivisionError, z=0)
        assert shown.startswith("error[K0602]: integer division by zero\n --> ir.txt:2:12\n")
    assert outcome("R[0] = f32(1 // z)", by_name("f32"), z=-1) == -1.0
    assert outcome("R[0] = x // 0.0", by_name("f64"), x=1.0) == np.inf


def test_assertion_carries_its_text() -> None:
    text = 'def f(n: i64):\n    assert n > 0, "n must be positive"\n'
    execute(text, n=1)
    shown = message(text, {}, KernelAssertionError, n=0)
    assert shown.startswith("error[K0603]: n must be positive\n --> ir.txt:2:5\n")


def test_step_zero() -> None:
    shown = message(
        "def f(n: i64):\n    for i in range(0, 5, n):\n        return\n", {}, KernelValueError, n=0
    )
    assert shown.startswith("error[K0604]: the step of `range` is 0\n --> ir.txt:2:")


def test_negative_power() -> None:
    text = "def f(R: i64[1], n: i64):\n    R[0] = ipow(2, n)\n"
    shown = message(text, {"R": np.zeros(1, I64)}, KernelValueError, n=-1)
    assert shown.startswith("error[K0605]: an integer to the negative power -1 is no integer\n --> ir.txt:2:")


def test_an_index_into_a_part() -> None:
    text = "def f(R: i64[9], n: i64, m: i64):\n    R[2 + within(n, m, 1)] = 1\n"
    shown = message(text, {"R": np.zeros(9, I64)}, KernelIndexError, n=3, m=3)
    assert shown.startswith(
        "error[K0601]: index 3 is out of bounds for dimension 1 of `within(n, m, 1)`, which has 3 elements"
    )
    shown = message(text, {"R": np.zeros(9, I64)}, KernelIndexError, n=0, m=-2)
    assert "which has no elements" in shown


def test_conditions_are_checked_before_anything_is_written() -> None:
    text = 'def f(A: f32[N], k: i64):\n    require(N >= 4 and k < N, "k must be below N")\n    A[0] = 1.0\n'
    a = np.zeros(4, F32)
    execute(text, {"A": a}, N=4, k=3)
    a[0] = 0
    shown = message(text, {"A": a}, ArgumentError, N=4, k=4)
    assert shown.startswith("error[K0420]: k must be below N\n") and a[0] == 0


def test_math_functions_are_expanded_before() -> None:
    with pytest.raises(AssertionError, match="exp is expanded before"):
        outcome("R[0] = exp(1.0)", by_name("f32"))


# ------------------------------------------------------------ uninitialised


def test_uninitialised_reads_name_the_local_and_both_lines() -> None:
    text = "def f(R: f32[1]):\n    acc: f32\n    R[0] = acc + 1.0\n"
    assert message(text, {"R": np.zeros(1, F32)}, KdslError) == (
        "error[K0610]: `acc` is used before it is set\n"
        " --> ir.txt:3:5\n"
        "3 |     R[0] = acc + 1.0\n"
        "  |     ^^^^^^^^^^^^^^^^\n"
        "2 |     acc: f32\n"
        "  |     ^^^^^^^^ `acc` is made here, without values\n"
        "  = help: set it first, or make it with `kdsl.zeros`"
    )


USES = """\
x = T[0] + 1.0
x = 1.0 - T[0]
x = 0.1 / T[0]
x = T[0] // 2.0
x = -T[0]
x = min(T[0], 1.0)
x = min(1.0, T[0])
x = sqrt(T[0])
x = abs(T[0])
x = floor(T[0])
x = fma(1.0, 1.0, T[0])
x = copysign(1.0, T[0])
x = minimum(T[0], 1.0)
x = f32(f16(T[0]))
x = f32(i64(T[0]))
x = f32(bitcast(i32, T[0]))
x = f32(bitcast(f32, I[0]))
x = f32(I[0])
x = f32(~I[0])
x = f32(I[0] // 2)
x = f32(I[0] % I[1])
x = f32(ipow(2, I[0]))
x = f32(I[0] << 1)
x = 1.0 if T[0] < 1.0 else 2.0
x = 1.0 if B[0] else 2.0
x = 1.0 if not B[0] else 2.0
x = f32(isnan(T[0]))
x = f32(B[0])
x = R[i64(I[0])]
T[0] += 1.0
T[0] *= 2.0
T[0] = max(T[0], 1.0)
atomic_add(T, 0, 1.0)
R[0] = T[0]
H[0] = H0[0]
O[0] = B[0]
print(T[0])
print(B[0])
assert B[0], "no"
R[0] = let(t, T[0], 1.0 + t)"""


@pytest.mark.parametrize("line", USES.splitlines())
def test_every_use_of_an_uninitialised_value_is_found(line: str) -> None:
    text = f"""\
def f(R: f32[1], H: bf16[1], O: bool_[1]):
    T: f32[2]
    I: i32[2]
    B: bool_[1]
    H0: bf16[1]
    x: f32
    {line}
"""
    arrays = {"R": np.zeros(1, F32), "H": np.zeros(1, by_name("bf16").np), "O": np.zeros(1, bool)}
    with pytest.raises(KdslError) as e:
        execute(text, arrays)
    assert e.value.code == "K0610" and e.value.lineno == 7


def test_conditions_and_bounds_are_uses() -> None:
    for head in ("if b:", "while b:", "for i in range(n):", "for i in range(0, 3, n):"):
        text = f"def f():\n    b: bool_\n    n: i64\n    {head}\n        return\n"
        with pytest.raises(KdslError) as e:
            execute(text)
        assert e.value.code == "K0610" and e.value.lineno == 4


def test_copies_of_uninitialised_values_are_allowed() -> None:
    body = """\
T: f32[4]
S: f32[4]
x: f32
T[1] = 5.0
for i in range(4):
    x = T[i]
    S[i] = let(t, x, t if i < 9 else 0.0)
R[0] = S[1]"""
    assert outcome(body, by_name("f32")) == 5.0
    with pytest.raises(KdslError, match="`T` is used before it is set"):
        outcome(body.replace("S[1]", "S[2]"), by_name("f32"))


def test_results_start_uninitialised() -> None:
    with pytest.raises(KdslError, match="`R` is used before it is set"):
        execute('def f(R: f32[2] @ "result"):\n    R[0] += 1.0\n', {"R": np.zeros(2, F32)})
