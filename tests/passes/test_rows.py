"""Loops that divide their counter by a row's length run row by row."""

from __future__ import annotations

import kdsl
from kdsl import f32
from kdsl.backends import llvm
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from kdsl.ir.verify import verify
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.passes.rows import rows
from tests.sched.check import check_schedule

M, N = kdsl.sizes("M N")


@kdsl.kernel
def bias(A: f32[M, N], y: f32[N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] = A[i, j] + y[j]


def by_rows(body: str) -> str:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    func = parse_func(f"def f(A: i64[M, N], y: i64[N], x: i64[M]):\n{lines}\n")
    new = rows(func)
    verify(new)
    return "\n".join(line[4:] for line in print_func(new).splitlines()[1:])


def test_rows_of_a_counted_loop() -> None:
    assert by_rows("""
for t in range(M * N):
    A[t // max(N, 1), t % max(N, 1)] += y[t % max(N, 1)]
""") == (
        "if 0 < M * N:\n"
        "    for t_row in range(0 // max(N, 1), (M * N - 1) // max(N, 1) + 1):\n"
        "        for t_column in range(max(0 - t_row * max(N, 1), 0), "
        "min(M * N - t_row * max(N, 1), max(N, 1))):\n"
        "            A[t_row, t_column] += y[t_column]"
    )


def test_a_guard_becomes_the_end() -> None:
    text = by_rows("""
for b in range(x[0]):
    for t in range(64):
        if b * 64 + t < M * N:
            x[(b * 64 + t) // max(N, 1)] += t
""")
    assert "min(b * 64 + 64, M * N)" in text
    assert "if" not in text
    assert "+= t_row * max(N, 1) + t_column - b * 64" in text


def test_vectors_in_one_row() -> None:
    assert by_rows("""
for b in range(M):
    for v in vectorize(range(8)):
        x[(b * 8 + v) // max(N, 1)] = y[(b * 8 + v) % max(N, 1)]
""") == (
        "for b in range(M):\n"
        "    if b * 8 % max(N, 1) + 7 < max(N, 1):\n"
        "        for v in vectorize(range(8)):\n"
        "            x[b * 8 // max(N, 1)] = y[b * 8 % max(N, 1) + v]\n"
        "    else:\n"
        "        for v in vectorize(range(8)):\n"
        "            x[(b * 8 + v) // max(N, 1)] = y[(b * 8 + v) % max(N, 1)]"
    )


def test_what_stays() -> None:
    """Elements of one contiguous array, other divisors, loops that end early, divisors that change inside."""
    for body in (
        "for t in range(M * N):\n    A[t // max(N, 1), t % max(N, 1)] += 1",
        "for t in range(M * N):\n    x[t // N] += 1",
        "for t in range(M * N):\n    x[t // 3] += 1",
        "for t in range(M * N):\n    x[2 * t // max(N, 1)] += 1",
        "for t in range(M * N):\n    if x[0] < 1:\n        break\n    x[t // max(N, 1)] += 1",
        "for t in range(M * N):\n    for n in range(M):\n        x[t // max(n, 1)] += 1",
        "for t in parallel(range(M * N)):\n    x[t // max(N, 1)] = 1",
    ):
        assert by_rows(body) == body


def test_divisors_of_the_kernel_are_not_taken_for_proved() -> None:
    @kdsl.kernel
    def divided(n: kdsl.i64, s: kdsl.i64[N]):
        for i in range(N):
            s[i] = (n * n + i) // max(n, 1) + i // max(N, 1)

    func = check_schedule(divided, lambda s: s).func
    text = print_func(lower(func, llvm.host_target(), definition))
    assert "// max(1, n) + i_row" in text


def test_meaning() -> None:
    for steps in (
        lambda s: s.collapse("i", "j"),
        lambda s: s.collapse("i", "j").split("i_j", 4).parallel("i_j_o"),
        lambda s: s.collapse("i", "j").vectorize("i_j", 4),
        lambda s: s.collapse("i", "j").split("i_j", 8, tail="cut").vectorize("i_j_i", 4),
    ):
        check_schedule(bias, steps)
