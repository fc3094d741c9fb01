"""`double_buffer`: the next iteration's copy is filled early. Meaning first; refusals as whole messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import kdsl
from kdsl import i64
from kdsl.sched import Schedule
from tests.sched.check import Steps, check_schedule, golden_texts, refusal, schedule_of, write_golden
from tests.sched.test_layout import counted, product, twice

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def rows(X: i64[N, 8], Y: i64[N]):
    for i in range(N):
        T = kdsl.empty(8, i64)
        for j in range(8):
            T[j] = X[i, j] + 1
        for j in range(8):
            Y[i] += T[j] * j


@kdsl.kernel
def backwards(X: i64[N, 8], Y: i64[N]):
    for i in range(N - 1, -1, -2):
        T = kdsl.empty(8, i64)
        a = X[i, 0]
        b = X[i, 1]
        for j in range(8):
            T[j] = X[i, j] * b + a
        Y[i] = a
        for j in range(8):
            Y[i] += T[j]


@kdsl.kernel
def triangle(L: i64[N, N], Y: i64[N]):
    for i in range(N):
        for j in range(i + 1, N, 3):
            T = kdsl.empty(3, i64)
            T[0] = L[i, j]
            T[1] = L[j, i]
            if j > 2:
                T[2] = L[j - 1, j - 1]
            else:
                T[2] = 0
            Y[j] += T[0] * T[1] + T[2]


@kdsl.kernel
def behind(X: i64[N]):
    for i in range(2, N):
        T = kdsl.empty(2, i64)
        T[0] = X[i]
        T[1] = X[i - 1]
        X[i - 2] = T[0] + T[1]


@kdsl.kernel
def prefix(X: i64[N]):
    for i in range(1, N):
        T = kdsl.empty(2, i64)
        T[0] = X[i]
        T[1] = X[i - 1]
        X[i] = T[0] + T[1]


@kdsl.kernel
def where(X: i64[N], Y: i64[N]):
    for i in range(N):
        if X[i] > 1:
            T = kdsl.empty(1, i64)
            T[0] = X[i]
            Y[i] = T[0]


@kdsl.kernel(may_alias=("X", "Y"))
def overlapping(X: i64[N], Y: i64[N]):
    for i in range(N):
        T = kdsl.empty(1, i64)
        T[0] = X[i]
        Y[i] = T[0]


@kdsl.kernel
def mixed(X: i64[N, 4], Y: i64[N]):
    for i in range(N):
        T = kdsl.empty(4, i64)
        for j in range(4):
            T[j] = X[i, j]
            Y[i] += T[j]
        Y[i] -= T[0]


@kdsl.kernel
def counting(X: i64[N], Y: i64[N]):
    for i in range(N):
        T = kdsl.empty(1, i64)
        n = 0
        for j in range(i):
            n += 1
            Y[j] += n
        T[0] = X[i] + n
        Y[i] += T[0]


@kdsl.kernel
def until(X: i64[N], Y: i64[N]):
    for i in range(N):
        T = kdsl.empty(1, i64)
        T[0] = X[i]
        if T[0] == 3:
            break
        Y[i] = T[0]


@kdsl.kernel
def one_half(X: i64[N], Y: i64[N]):
    for i in range(N):
        if i > 2:
            T = kdsl.empty(1, i64)
            T[0] = X[i]
            Y[i] = T[0]
        Y[i] += 1


@kdsl.kernel
def by_columns(X: i64[M, N], Y: i64[M, N]):
    for j in range(N):
        for i in range(M):
            T = kdsl.empty(2, i64)
            T[0] = X[i, j]
            T[1] = X[i, 0]
            Y[i, j] = T[0] - T[1]


@kdsl.kernel
def by(X: i64[N], Y: i64[N], n: i64):
    for i in range(0, N, n):
        T = kdsl.empty(1, i64)
        T[0] = X[i]
        Y[i] = T[0]


@kdsl.kernel
def fixed(X: i64[5, 3], Y: i64[3]):
    for i in range(5):
        T = kdsl.empty(3, i64)
        for j in range(3):
            T[j] = X[i, j]
        for j in range(3):
            Y[j] = Y[j] * 2 + T[j]


def blocked(s: Schedule) -> Schedule:
    s = s.tile(["i", "j", "k"], [3, 4, 5]).reorder("i_o", "j_o", "k_o", "k_i", "i_i", "j_i")
    return s.stage("B", "k_o").stage("A", "k_o")


MEANING: list[tuple[str, Any, Steps]] = [
    ("rows", rows, lambda s: s.double_buffer("T")),
    ("negative step and scalars", backwards, lambda s: s.double_buffer("T")),
    ("triangle", triangle, lambda s: s.double_buffer("T")),
    ("written behind", behind, lambda s: s.double_buffer("T")),
    ("constant length", fixed, lambda s: s.double_buffer("T")),
    ("constant lengths that share a name", fixed, lambda s: s.split("i", 3, tail="cut").double_buffer("T")),
    ("one copy", fixed, lambda s: s.split("i", 3, tail="cut").double_buffer("T@1")),
    ("remainders", rows, lambda s: s.split("i", 3, tail="cut").double_buffer("T")),
    ("staged", product, lambda s: blocked(s).double_buffer("A_s")),
    ("both staged", product, lambda s: blocked(s).double_buffer("A_s").double_buffer("B_s")),
    ("accumulator", product, lambda s: s.split("i", 3).stage("C", "i_o").double_buffer("C_s")),
    ("of two loops", product, lambda s: s.stage("A", "k").stage("B", "j").double_buffer("A_s")),
    ("and arranged", product, lambda s: blocked(s).double_buffer("B_s").set_layout("B_s", order=(1, 0, 2))),
    ("arranged before", product, lambda s: blocked(s).set_layout("B_s", tile=(2, None)).double_buffer("B_s")),
    ("then split", product, lambda s: blocked(s).double_buffer("A_s").split("k_o", 2, tail="cut")),
    ("then unrolled", product, lambda s: blocked(s).double_buffer("A_s").unroll("k_o", 2)),
    ("unrolled before", fixed, lambda s: s.unroll("i").double_buffer("T")),
    ("then vectors", product, lambda s: blocked(s).double_buffer("B_s").vectorize("B_s_1").vectorize("j_i")),
    ("vectors before", product, lambda s: blocked(s).vectorize("B_s_1").double_buffer("B_s")),
    ("under parallel", product, lambda s: blocked(s).double_buffer("A_s").parallel("i_o")),
    ("parallel before", product, lambda s: blocked(s).parallel("i_o").double_buffer("A_s")),
    ("under a guard", triangle, lambda s: s.split("j", 2).double_buffer("T")),
    ("in a vector loop", by_columns, lambda s: s.double_buffer("T").vectorize("j", 4)),
    ("then peeled", rows, lambda s: s.double_buffer("T").peel("i", 1)),
    ("peeled before", rows, lambda s: s.peel("i", 2, end="last").double_buffer("T")),
    ("specialized", rows, lambda s: s.double_buffer("T").specialize("N == 8")),
    ("staged again", product, lambda s: blocked(s).double_buffer("A_s").stage("A_s", "k_i")),
    ("zeros", counted, lambda s: s.double_buffer("T")),
    ("vouched for", where, lambda s: s.double_buffer("T", unsafe=True)),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "steps"), [c[1:] for c in MEANING], ids=[c[0] for c in MEANING])
def test_meaning(kernel: Any, steps: Steps) -> None:
    check_schedule(kernel, steps)


def test_text() -> None:
    assert str(schedule_of(rows).double_buffer("T")) == (
        "def rows(X: i64[N, 8], Y: i64[N]):\n"
        "    if 0 < N:\n"
        "        T: i64[2, 8]\n"
        "        for j in range(8):\n"
        "            T[0, j] = X[0, j] + 1\n"
        "        for i in range(N):\n"
        "            if i + 1 < N:\n"
        "                for j in range(8):              # j@1\n"
        "                    T[(i + 1) % 2, j] = X[i + 1, j] + 1\n"
        "            for j_1 in range(8):\n"
        "                Y[i] += T[i % 2, j_1] * j_1"
    )


GOLDEN = Path(__file__).with_name("double_buffer_refusals.txt")

REFUSED: list[tuple[str, Any, Steps]] = [
    ("no such array", rows, lambda s: s.double_buffer("U")),
    ("argument", rows, lambda s: s.double_buffer("X")),
    ("recurrence", prefix, lambda s: s.double_buffer("T")),
    ("staged recurrence", prefix, lambda s: s.stage("X", "i").double_buffer("X_s")),
    ("under a condition on data", where, lambda s: s.double_buffer("T")),
    ("may alias", overlapping, lambda s: s.double_buffer("T")),
    ("not separable", mixed, lambda s: s.double_buffer("T")),
    ("computed with another array", counting, lambda s: s.double_buffer("T")),
    ("break", until, lambda s: s.double_buffer("T")),
    ("outside of loops", twice, lambda s: s.double_buffer("T")),
    ("part of a body", one_half, lambda s: s.double_buffer("T")),
    ("unknown step", by, lambda s: s.double_buffer("T")),
    ("parallel", rows, lambda s: s.parallel("i").double_buffer("T")),
    ("then parallel", rows, lambda s: s.double_buffer("T").parallel("i")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kernel", "steps"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(name: str, kernel: Any, steps: Steps) -> None:
    assert refusal(kernel, steps) == golden_texts(GOLDEN)[name]


def test_golden_texts(update_messages: bool) -> None:
    if update_messages:
        write_golden(GOLDEN, REFUSED)
    assert list(golden_texts(GOLDEN)) == [c[0] for c in REFUSED]
