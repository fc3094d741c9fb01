"""Whole tiles run without guards; what the guards need is tested once, before the innermost loop."""

from __future__ import annotations

import kdsl
from kdsl import i64
from kdsl.ir.nodes import Func
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from kdsl.ir.verify import verify
from kdsl.passes.full_tiles import full_tiles
from kdsl.sched import Schedule
from tests.sched.check import check_schedule

M, N, K = kdsl.sizes("M N K")


def versioned(body: str, arrays: str = "A: i64[M, K], C: i64[M, N]") -> str:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    func: Func = parse_func(f"def f({arrays}):\n{lines}\n")
    new = full_tiles(func)
    verify(new)
    return "\n".join(line[4:] for line in print_func(new).splitlines()[1:])


def test_guards_of_written_out_tiles() -> None:
    assert versioned("""
for i_o in range((M + 1) // 2):
    for k in range(K):
        for i_i in unroll(range(2)):
            if i_o * 2 + i_i < M:
                C[i_o * 2 + i_i, 0] += A[i_o * 2 + i_i, k]
""") == (
        "for i_o in range((M + 1) // 2):\n"
        "    if 2 * i_o + 2 <= M:\n"
        "        for k in range(K):\n"
        "            for i_i in unroll(range(2)):\n"
        "                C[i_o * 2 + i_i, 0] += A[i_o * 2 + i_i, k]\n"
        "    else:\n"
        "        for k in range(K):\n"
        "            for i_i in unroll(range(2)):\n"
        "                if i_o * 2 + i_i < M:\n"
        "                    C[i_o * 2 + i_i, 0] += A[i_o * 2 + i_i, k]"
    )


def test_a_guard_that_depends_on_the_loop_is_tested_once_for_all_copies() -> None:
    body = (
        "for k in range(K):\n"
        "    for i in unroll(range(2)):\n"
        "        if k * 2 + i < M:\n"
        "            C[k * 2 + i, 0] = 1"
    )
    assert versioned(body) == (
        "for k in range(K):\n"
        "    if 2 * k + 2 <= M:\n"
        "        for i in unroll(range(2)):\n"
        "            C[k * 2 + i, 0] = 1\n"
        "    else:\n"
        "        for i in unroll(range(2)):\n"
        "            if k * 2 + i < M:\n"
        "                C[k * 2 + i, 0] = 1"
    )


def test_loops_that_an_instruction_does_are_no_loops_to_look_into() -> None:
    body = (
        "for k in range(K):\n"
        "    for i in unroll(range(2)):\n"
        "        if i < M:\n"
        '            for n in tensorize(range(16), "dot4_u8s8"):\n'
        "                for q in range(4):\n"
        "                    S[i, n] += i32(U[i, q]) * i32(V[n, q])"
    )
    assert versioned(body, "S: i32[M, 16], U: u8[M, 4], V: i8[16, 4], K: i64").startswith(
        "if 2 <= M:\n    for k in range(K):\n        for i in unroll(range(2)):"
    )


def test_what_stays() -> None:
    """Guards on data, two branches, locals in a guard, loops that are not innermost, guards of no copies."""
    for body in (
        "for k in range(K):\n    for j in vectorize(range(2)):\n"
        "        if k + j < M:\n            C[k + j, 0] = 1",
        "for k in range(K):\n    for i in unroll(range(2)):\n"
        "        if A[i, k] < M:\n            C[i, 0] = 1",
        "for k in range(K):\n    for i in unroll(range(2)):\n"
        "        if i < M:\n            C[i, 0] = 1\n        else:\n            C[0, i] = 1",
        "for k in range(K):\n    for i in unroll(range(2)):\n"
        "        if i < M:\n            t: i64\n            t = 1\n            C[i, 0] = t",
        "for k in range(K):\n    for j in range(N):\n        if 1 < M:\n            C[1, j] = 1",
    ):
        assert versioned(body) == body


@kdsl.kernel
def product(A: i64[M, K], B: i64[K, N], C: i64[M, N]):
    for i in range(M):
        for j in range(N):
            for k in range(K):
                C[i, j] += A[i, k] * B[k, j]


def test_meaning() -> None:
    def steps(s: Schedule) -> Schedule:
        s = s.tile(["i", "j"], [2, 4]).reorder("i_o", "j_o", "k", "i_i", "j_i")
        return s.stage("C", "j_o", memory="register").vectorize("j_i").unroll("i_i")

    check_schedule(product, steps)
