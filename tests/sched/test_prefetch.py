"""`prefetch`: hints change nothing and stay inside of arrays. Refusals as whole messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32, i64
from kdsl.errors import KernelIndexError
from kdsl.ir import interpreter
from kdsl.ir.nodes import Alloc, Prefetch
from kdsl.ir.parser import parse_func
from kdsl.ir.verify import InvalidIR, verify
from kdsl.ir.walk import stmts
from tests.sched.check import Steps, check_schedule, golden_texts, refusal, schedule_of, write_golden
from tests.sched.test_layout import PANELS, blocked, counted, product, twice

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def stepped(X: i64[N + 4], Y: i64[N]):
    for i in range(N - 1, -1, -2):
        Y[i] = X[i + 4] - X[i]


@kdsl.kernel
def triangle(L: i64[N, N], Y: i64[N]):
    for i in range(N):
        for j in range(i, N):
            Y[i] += L[j, i]


@kdsl.kernel
def narrow(X: kdsl.u8[M, 100], Y: i64[M]):
    for i in range(M):
        for j in range(100):
            Y[i] += X[i, j]


@kdsl.kernel
def gathered(X: i64[N], at: i64[M], Y: i64[M]):
    for i in range(M):
        Y[i] = X[at[i]]


@kdsl.kernel
def squares(X: i64[M, N], Y: i64[M]):
    for i in range(M):
        for j in range(i):
            if i * j < N:
                Y[i] += X[i, i * j]


@kdsl.kernel
def by(X: i64[N], Y: i64[N], n: i64):
    for i in range(0, N, n):
        Y[i] = X[i]


@kdsl.kernel
def scaled(X: i64[N], Y: i64[N]):
    for i in range(N):
        t = X[i]
        Y[i] = t * t


MEANING: list[tuple[str, Any, Steps]] = [
    ("rows", twice, lambda s: s.prefetch("X", "i", 2)),
    ("elements", twice, lambda s: s.prefetch("X", "j", 8)),
    ("a local", twice, lambda s: s.prefetch("T", "p", 1).prefetch("T", "q", 3)),
    ("what is written", twice, lambda s: s.prefetch("Y", "p", 1)),
    ("lines", narrow, lambda s: s.prefetch("X", "i", 1)),
    ("columns", triangle, lambda s: s.prefetch("L", "j", 4)),
    ("negative step", stepped, lambda s: s.prefetch("X", "i", 3)),
    ("tiles", product, lambda s: blocked(s).prefetch("B", "k", 3).prefetch("C", "j_o", 1)),
    ("ragged tiles", twice, lambda s: s.tile(["i", "j"], [3, 4], tail="cut").prefetch("X", "j_o", 1)),
    ("in a parallel loop", twice, lambda s: s.prefetch("X", "i", 2).parallel("i").prefetch("T", "p", 2)),
    ("in a vector loop", twice, lambda s: s.prefetch("X", "j", 5).vectorize("j", 4)),
    ("a scattered vector", triangle, lambda s: s.prefetch("L", "j", 2).reorder("j", "i").vectorize("i", 4)),
    ("around a vector loop", product, lambda s: blocked(s).prefetch("B", "k", 2).vectorize("j_i")),
    ("in an unrolled loop", twice, lambda s: s.prefetch("X", "j", 5).unroll("j", 4)),
    ("under a parallel loop", product, lambda s: blocked(s).parallel("i_o").prefetch("A", "k", 2)),
    ("of what is then staged", product, lambda s: blocked(s).prefetch("B", "k", 2).stage("B", "i_o")),
    ("of a staged array", product, lambda s: blocked(s).stage("A", "i_o").prefetch("A_s", "k", 4)),
    (
        "then arranged",
        product,
        lambda s: blocked(s).stage("B", "i_o").prefetch("B_s", "k", 2).set_layout("B_s", **PANELS),
    ),
    ("then doubled", product, lambda s: s.stage("A", "i").prefetch("A_s", "k", 2).double_buffer("A_s")),
    ("then cut", twice, lambda s: s.fuse("i", "p").prefetch("T", "j", 2).fission("i", after=0)),
    ("then tiled", twice, lambda s: s.prefetch("X", "j", 3).tile(["i", "j"], [3, 4])),
    ("twice", twice, lambda s: s.prefetch("X", "i", 2).prefetch("X", "i", 4)),
    ("products", squares, lambda s: s.prefetch("X", "j", 1)),
    ("copies", twice, lambda s: s.split("i", 3, tail="cut").peel("j", 1).prefetch("X", "j", 2)),
    ("one copy", twice, lambda s: s.specialize("N == 8").prefetch("T@1", "q", 2)),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "steps"), [c[1:] for c in MEANING], ids=[c[0] for c in MEANING])
def test_meaning(kernel: Any, steps: Steps) -> None:
    s = check_schedule(kernel, steps)
    assert any(isinstance(x, Prefetch) for x in stmts(s.func.body))


def test_text() -> None:
    """One hint a line, a test where the cell may not exist, loops only where there are several hints."""
    assert "            if j + 8 < N:\n                prefetch(X[i, j + 8])\n" in str(
        schedule_of(twice).prefetch("X", "j", 8)
    )
    assert (
        "        if i + 1 < M:\n"
        "            for X_p_1 in unroll(range(2)):\n"
        "                prefetch(X[i + 1, X_p_1 * 64])\n"
    ) in str(schedule_of(narrow).prefetch("X", "i", 1))


def test_what_is_proved_needs_no_test() -> None:
    s = schedule_of(stepped).prefetch("X", "i", 1)
    assert str(s).count("if ") == 1 and "if 0 <= i - 2" in str(s)
    s = schedule_of(twice).peel("i", 2, end="last").prefetch("X", "i", 2)
    assert "if i + 2" not in str(s)


def test_the_interpreter_checks_hints() -> None:
    func = parse_func("def f(A: f32[N]):\n    for i in range(N):\n        prefetch(A[i + 1])\n")
    with pytest.raises(KernelIndexError, match="index 2 is out of bounds"):
        interpreter.run(func, {"A": np.zeros(2, np.float32)}, {}, {"N": 2})


def test_strided_arrays() -> None:
    """The schedule is replayed for a signature whose rows are not dense: a hint for each element."""
    X = np.arange(60).reshape(6, 10)[:, ::2]
    Y = np.zeros((6, 5), np.int64)
    twice.schedule().prefetch("X", "i", 1)(X, Y)
    assert (Y == 2 * X + 2).all()


def test_machine_code_has_the_hint() -> None:
    s = twice.schedule().prefetch("X", "j", 8)
    X = np.arange(15).reshape(3, 5)
    Y = np.zeros_like(X)
    s(X, Y)
    assert (Y == 2 * X + 2).all()
    assert "prefetcht0" in s.asm() or "prfm" in s.asm()


def test_what_a_prefetch_may_be() -> None:
    text = "def f(A: f32[N], at: i64[N]):\n    for i in range(N):\n        prefetch({})\n"
    assert any(isinstance(s, Prefetch) for s in stmts(parse_func(text.format("A[i]")).body))
    for wrong in ("A[at[i]]", "A[i, 0]"):
        with pytest.raises(kdsl.CompileError):
            parse_func(text.format(wrong))
    func = parse_func(text.format("A[i]"))
    with pytest.raises(InvalidIR, match="scalar"):
        verify(
            type(func)(
                func.name,
                (),
                (Alloc("a", f32, ()), Prefetch("a", ())),
            )
        )


GOLDEN = Path(__file__).with_name("prefetch_refusals.txt")

REFUSED: list[tuple[str, Any, Steps]] = [
    ("no such array", twice, lambda s: s.prefetch("D", "i", 1)),
    ("no such loop", twice, lambda s: s.prefetch("X", "z", 1)),
    ("not touched", twice, lambda s: s.prefetch("Y", "i", 1)),
    ("made inside", counted, lambda s: s.prefetch("T", "i", 1)),
    ("distance of zero", twice, lambda s: s.prefetch("X", "i", 0)),
    ("gathered", gathered, lambda s: s.prefetch("X", "i", 8)),
    ("not affine", squares, lambda s: s.prefetch("X", "i", 1)),
    ("does not move", product, lambda s: s.prefetch("B", "i", 1)),
    ("atomic", counted, lambda s: s.prefetch("T", "j", 1)),
    ("scalar", scaled, lambda s: s.prefetch("t", "i", 1)),
    ("unknown step", by, lambda s: s.prefetch("X", "i", 1)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kernel", "steps"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(name: str, kernel: Any, steps: Steps) -> None:
    assert refusal(kernel, steps) == golden_texts(GOLDEN)[name]


def test_golden_texts(update_messages: bool) -> None:
    if update_messages:
        write_golden(GOLDEN, REFUSED)
    assert list(golden_texts(GOLDEN)) == [c[0] for c in REFUSED]
