"""Bounds that guards narrow, and guards that bounds imply."""

from __future__ import annotations

import pytest

from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from kdsl.ir.verify import verify
from kdsl.passes.trim import trim
from tests.sched.check import arguments, interpreted, same, schedule_of
from tests.sched.kernels import add


def trimmed(body: str) -> str:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    func = parse_func(f"def f(A: i64[M, K], C: i64[M, N], n: i64):\n{lines}\n")
    new = trim(func)
    verify(new)
    for sizes in ({"M": 0, "N": 0, "K": 0}, {"M": 7, "N": 9, "K": 5}, {"M": 8, "N": 8, "K": 16}):
        given = arguments(func, sizes)
        same(interpreted(func, given, sizes), interpreted(new, given, sizes), str(sizes), schedule_of(add))
    return "\n".join(line[4:] for line in print_func(new).splitlines()[1:])


@pytest.mark.parametrize(
    ("before", "after"),
    (
        (  # a split loop: the guard is exactly what the bounds say
            "for k_o in range((K + 3) // 4):\n    for k_i in range(4):\n"
            "        if k_o * 4 + k_i < K:\n            C[0, 0] = A[0, k_o * 4 + k_i]",
            "for k_o in range((K + 3) // 4):\n    for k_i in range(min(4, K - k_o * 4)):\n"
            "        C[0, 0] = A[0, k_o * 4 + k_i]",
        ),
        (  # a guard that names an inner loop bounds the outer one, and stays
            "for i_o in range(4):\n    for i_i in unroll(range(2)):\n"
            "        if i_o * 2 + i_i < M:\n            C[i_o * 2 + i_i, 0] = 1",
            "for i_o in range(min(4, (M + 1) // 2)):\n    for i_i in unroll(range(2)):\n"
            "        if i_o * 2 + i_i < M:\n            C[i_o * 2 + i_i, 0] = 1",
        ),
        (  # from below, as in skewed loops
            "for i_o in range(4):\n    for i in range(4):\n"
            "        if 3 <= i_o * 4 + i and i_o * 4 + i < M:\n            C[i_o * 4 + i, 0] = 1",
            "for i_o in range(min(4, (M + 3) // 4)):\n"
            "    for i in range(max(0, 3 - i_o * 4), min(4, M - i_o * 4)):\n"
            "        C[i_o * 4 + i, 0] = 1",
        ),
        (  # twice the same quotient, written in two ways
            "for a in range(4):\n    for b in range(2):\n        if a * 2 + b < (M + 2) // 3:\n"
            "            C[0, 0] = 1\n        for c in unroll(range(3)):\n"
            "            if a * 6 + b * 3 + c < M:\n                C[a * 6 + b * 3 + c, 0] = 2",
            "for a in range(min(4, (M + 5) // 6)):\n    for b in range(min(2, (M + 2) // 3 - a * 2)):\n"
            "        C[0, 0] = 1\n        for c in unroll(range(3)):\n"
            "            if a * 6 + b * 3 + c < M:\n                C[a * 6 + b * 3 + c, 0] = 2",
        ),
    ),
)
def test_bounds(before: str, after: str) -> None:
    if "C[0, 0]" in before:
        before, after = (f"if 0 < M and 0 < N:\n{_indented(text)}" for text in (before, after))
    assert trimmed(before) == after


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())


@pytest.mark.parametrize(
    "body",
    (
        # what runs in any case
        "for i in range(4):\n    if i < M:\n        C[i, 0] = 1\n    C[0, 0] = 2",
        # a test that may fault before the one of the size
        "for i in range(4):\n    if 8 // n < 9 and i < M:\n        C[i, 0] = 1",
        # two branches of which one has no bound
        "for i in range(4):\n    if i < M:\n        C[i, 0] = 1\n    else:\n        C[0, 0] = 2",
        # vectors and loops that are written out keep their length
        "for i in unroll(range(4)):\n    if i < M:\n        C[i, 0] = 1",
        # data
        "for i in range(4):\n    if i < C[0, 0]:\n        C[0, 0] = 2",
    ),
)
def test_what_stays(body: str) -> None:
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    func = parse_func(f"def f(A: i64[M, K], C: i64[M, N], n: i64):\n{lines}\n")
    assert trim(func) is func
