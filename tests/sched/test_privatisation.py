"""`privatize` and `expand`: a copy of a local for each iteration. Refusals are compared as whole messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import kdsl
from kdsl import i64
from kdsl.errors import ScheduleError
from tests.sched import kernels
from tests.sched.check import Steps, check_schedule, schedule_of

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def reversed_rows(A: i64[M, N], B: i64[M, N]):
    t = kdsl.empty(N, i64)
    for i in range(M):
        for j in range(N):
            t[j] = A[i, j] * 2
        for j in range(N):
            B[i, j] = t[N - 1 - j]


@kdsl.kernel
def used_twice(X: i64[N], Y: i64[N], Z: i64[N]):
    t = kdsl.empty(2, i64)
    for i in range(N):
        t[0] = X[i]
        t[1] = X[i] + 1
        Y[i] = t[0] * t[1]
    for k in range(N):
        t[1] = X[k]
        t[0] = 3
        Z[k] = t[0] + t[1]


@kdsl.kernel
def sums(A: i64[M, N], B: i64[M]):
    acc = kdsl.zeros(1, i64)
    for i in range(M):
        acc[0] = 0
        for j in range(N):
            acc[0] += A[i, j]
        B[i] = acc[0]


@kdsl.kernel
def triangle(A: i64[N, N], B: i64[N, N]):
    t = kdsl.empty(N, i64)
    for i in range(N):
        for j in range(i, N):
            t[j] = A[i, j] + 1
        for j in range(i, N):
            B[j, i] = t[j] * t[N - 1]


@kdsl.kernel
def sometimes(A: i64[M, N], n: i64[M], B: i64[M, N]):
    t = kdsl.empty(N, i64)
    for i in range(M):
        if n[i] > 1:
            for j in range(N):
                t[j] = A[i, j]
            for j in range(N):
                B[i, j] = t[N - 1 - j]


@kdsl.kernel
def up_to_data(A: i64[M, N], n: i64[M], B: i64[M, N]):
    t = kdsl.empty(N, i64)
    for i in range(M):
        for j in range(min(n[i], N)):
            t[j] = A[i, j]
        for j in range(min(n[i], N)):
            B[i, j] = t[j] + 1


@kdsl.kernel
def steps(A: i64[N], B: i64[N]):
    for i in range(5, N, 2):
        t = A[i] * 2
        B[i] = t * t


@kdsl.kernel
def backwards(A: i64[N], B: i64[N]):
    for i in range(N - 1, 1, -3):
        t = A[i] * 2
        B[i] = t * t


@kdsl.kernel
def from_five(A: i64[N], B: i64[N]):
    for i in range(5, N):
        t = A[i] * 2
        B[i] = t * t


@kdsl.kernel
def wedge(A: i64[N, N], B: i64[N, N]):
    for i in range(N):
        for j in range(i):
            t = A[i, j]
            B[j, i] = t + A[j, i]


@kdsl.kernel
def two_branches(A: i64[N], B: i64[N]):
    for i in range(N):
        if A[i] > 1:
            t = A[i]
            B[i] = t + 1
        else:
            u = A[i] * 2
            B[i] = u * u


@kdsl.kernel
def smoothing(A: i64[M, N], B: i64[M, N]):
    t = kdsl.empty(N, i64)
    for i in range(1, M):
        for j in range(N):
            t[j] = A[i, j] + A[i - 1, j]
        for j in range(1, N - 1):
            B[i, j] = t[j - 1] + t[j] + t[j + 1]


@kdsl.kernel
def overwritten_after(A: i64[N], B: i64[N], out: i64[1]):
    t = kdsl.empty(1, i64)
    for i in range(N):
        t[0] = A[i]
        B[i] = t[0]
    t[0] = 7
    out[0] = t[0]


MEANING: list[tuple[str, Any, Steps]] = [
    ("privatize", reversed_rows, lambda s: s.privatize("t", "i").parallel("i")),
    ("privatize in blocks", reversed_rows, lambda s: s.split("i", 2).privatize("t", "i_o").parallel("i_o")),
    (
        "privatize deeper",
        reversed_rows,
        lambda s: s.split("i", 2).privatize("t", "i_o").privatize("t", "i_i"),
    ),
    (
        "privatize copies",
        reversed_rows,
        lambda s: s.split("i", 3, tail="cut").privatize("t", "i_i").privatize("t", "i_t"),
    ),
    ("privatize one of two", used_twice, lambda s: s.privatize("t", "i").parallel("i")),
    (
        "privatize both",
        used_twice,
        lambda s: s.privatize("t", "i").privatize("t", "k").parallel("k").parallel("i"),
    ),
    ("privatize a sum", sums, lambda s: s.privatize("acc", "i").parallel("i")),
    (
        "privatize a sum and factor",
        sums,
        lambda s: s.privatize("acc", "i").split("j", 4).rfactor("j_i").vectorize("j_i"),
    ),
    ("privatize in a triangle", triangle, lambda s: s.privatize("t", "i").parallel("i")),
    ("privatize under an if", sometimes, lambda s: s.privatize("t", "i").parallel("i")),
    ("privatize up to data", up_to_data, lambda s: s.privatize("t", "i").parallel("i")),
    ("privatize what is set again", overwritten_after, lambda s: s.privatize("t", "i").parallel("i")),
    ("privatize, vectors", used_twice, lambda s: s.privatize("t", "i").vectorize("i", 4)),
    ("expand", kernels.both, lambda s: s.expand("t", "i").fission("i", after=1)),
    ("expand parallel", reversed_rows, lambda s: s.expand("t", "i").parallel("i")),
    (
        "expand and reorder",
        reversed_rows,
        lambda s: s.expand("t", "i").fission("i", after=0).reorder("j_1", "i@1"),
    ),
    ("expand a block", kernels.both, lambda s: s.split("i", 4).expand("t", "i_i").vectorize("i_i")),
    ("expand from five", from_five, lambda s: s.expand("t", "i").parallel("i")),
    ("expand every other", steps, lambda s: s.expand("t", "i").parallel("i")),
    ("expand backwards", backwards, lambda s: s.expand("t", "i").parallel("i")),
    ("expand a wedge", wedge, lambda s: s.expand("t", "j").expand("t", "i").parallel("i")),
    ("expand in an if", two_branches, lambda s: s.expand("t", "i").expand("u", "i").parallel("i")),
    ("expand one of two", used_twice, lambda s: s.expand("t", "i").parallel("i")),
    ("expand both", used_twice, lambda s: s.expand("t", "i").expand("t", "k").parallel("i").parallel("k")),
    (
        "expand copies",
        kernels.both,
        lambda s: s.split("i", 3, tail="cut").expand("t", "i_i").expand("t", "i_t"),
    ),
    (
        "expand copies of one name",
        kernels.both,
        lambda s: s.specialize("N > 3").expand("t", "i").parallel("i"),
    ),
    ("expand a stage", smoothing, lambda s: s.expand("t", "i").fission("i", after=0).parallel("i")),
    ("expand and stage", smoothing, lambda s: s.expand("t", "i").split("j", 4).stage("t", "i")),
]


@pytest.mark.parametrize(("kernel", "take"), [c[1:] for c in MEANING], ids=[c[0] for c in MEANING])
def test_meaning(kernel: Any, take: Steps) -> None:
    check_schedule(kernel, take)


def test_text_of_privatize() -> None:
    s = schedule_of(used_twice).privatize("t", "i")
    assert str(s) == (
        "def used_twice(X: i64[N], Y: i64[N], Z: i64[N]):\n"
        "    t: i64[2]\n"
        "    for i in range(N):\n"
        "        t_1: i64[2]\n"
        "        t_1[0] = X[i]\n"
        "        t_1[1] = X[i] + 1\n"
        "        Y[i] = t_1[0] * t_1[1]\n"
        "    for k in range(N):\n"
        "        t[1] = X[k]\n"
        "        t[0] = 3\n"
        "        Z[k] = t[0] + t[1]"
    )


def test_text_of_expand() -> None:
    s = schedule_of(from_five).expand("t", "i")
    assert str(s) == (
        "def from_five(A: i64[N], B: i64[N]):\n"
        "    t: i64[N - 5]\n"
        "    for i in range(5, N):\n"
        "        t[i - 5] = A[i] * 2\n"
        "        B[i] = t[i - 5] * t[i - 5]"
    )


def test_a_triangle_gets_its_longest_row() -> None:
    assert "t: i64[N - 1]" in str(schedule_of(wedge).expand("t", "j"))


# ------------------------------------------------------------------------ refusals


@kdsl.kernel
def carried(X: i64[N], Y: i64[N]):
    t = 0
    for i in range(N):
        Y[i] = t
        t = X[i]


@kdsl.kernel
def running(X: i64[N], Y: i64[N]):
    t = 0
    for i in range(N):
        t += X[i]
        Y[i] = t


@kdsl.kernel
def before(X: i64[N], Y: i64[N]):
    t = kdsl.empty(N, i64)
    for j in range(N):
        t[j] = X[j]
    for i in range(N):
        t[0] = 3
        Y[i] = t[i]


@kdsl.kernel
def after(X: i64[N], Y: i64[N], out: i64[1]):
    t = 0
    for i in range(N):
        t = X[i] * 2
        Y[i] = t
    out[0] = t


@kdsl.kernel
def previous_row(A: i64[M, N], B: i64[M, N]):
    t = kdsl.zeros(N, i64)
    for i in range(M):
        for j in range(1, N):
            t[j] = A[i, j]
        for j in range(N):
            B[i, j] = t[j]


@kdsl.kernel
def perhaps(X: i64[N], Y: i64[N]):
    t = 0
    for i in range(N):
        if X[i] > 1:
            t = X[i]
        Y[i] = t


@kdsl.kernel
def deciding(X: i64[N], Y: i64[N]):
    t = 5
    for i in range(N):
        if t > 3:
            Y[i] = X[i]
    for i in range(N):
        t = 2
        Y[i] += t


@kdsl.kernel
def bounded(X: i64[N], Y: i64[N], n: i64[N]):
    for i in range(N):
        for j in range(n[i]):
            t = X[i] * j
            Y[i] += t


@kdsl.kernel
def nested(X: i64[N], Y: i64[N, N]):
    for i in range(N):
        for j in range(N):
            t = X[i] * j
            Y[i, j] = t


@kdsl.kernel
def counted(X: i64[N], Y: i64[N]):
    for i in range(N):
        old = kdsl.atomic_add(X, 0, i)
        Y[i] = old


@kdsl.kernel
def overwritten_elsewhere(X: i64[N], Y: i64[N]):
    t = kdsl.zeros(1, i64)
    for i in range(N):
        t[0] = X[i]
    for k in range(N):
        Y[k] = X[k]


GOLDEN = Path(__file__).with_name("privatisation_refusals.txt")

REFUSED: list[tuple[str, Any, Steps]] = [
    ("carried", carried, lambda s: s.privatize("t", "i")),
    ("running sum", running, lambda s: s.expand("t", "i")),
    ("written before the loop", before, lambda s: s.privatize("t", "i")),
    ("read after the loop", after, lambda s: s.privatize("t", "i")),
    ("an element of the row before", previous_row, lambda s: s.privatize("t", "i")),
    ("perhaps written", perhaps, lambda s: s.privatize("t", "i")),
    ("a condition reads it", deciding, lambda s: s.privatize("t", "i")),
    ("argument", carried, lambda s: s.privatize("X", "i")),
    ("no such local", carried, lambda s: s.privatize("u", "i")),
    ("not used", overwritten_elsewhere, lambda s: s.privatize("t", "k")),
    ("made inside", from_five, lambda s: s.privatize("t", "i")),
    ("unknown length", bounded, lambda s: s.expand("t", "j")),
    ("made further in", nested, lambda s: s.expand("t", "i")),
    ("old value of an update", counted, lambda s: s.expand("old", "i")),
]


def message(kernel: Any, take: Steps) -> str:
    start = schedule_of(kernel)
    text = str(start)
    with pytest.raises(ScheduleError) as caught:
        take(start)
    assert str(start) == text
    shown = re.sub(r"\([^ ()]*\.py:\d+\)", "(FILE)", re.sub(r"line \d+", "line ...", str(caught.value)))
    shown = re.sub(
        r"(?m)^ *--> (?:\S*/)?(\w+\.py):\d+:\d+", r" --> \1", re.sub(r"(?m)^ *\d+ \|", " |", shown)
    )
    return re.sub(r"(?m)^ +(?=[|=])", " ", shown)


@pytest.mark.parametrize(("name", "kernel", "take"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(name: str, kernel: Any, take: Steps) -> None:
    golden = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", GOLDEN.read_text(), re.M))
    assert message(kernel, take) == golden[name].rstrip("\n")


def test_golden_texts(update_messages: bool) -> None:
    if update_messages:
        GOLDEN.write_text("\n\n".join(f"## {name}\n{message(k, s)}" for name, k, s in REFUSED) + "\n")
