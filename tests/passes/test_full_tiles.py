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


def versioned(body: str) -> str:
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    func: Func = parse_func(f"def f(A: i64[M, K], C: i64[M, N]):\n{lines}\n")
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


def test_blocks_however_large() -> None:
    """The last vector of a block is whole where the block is, which the test of the inner loop's end says; a
    block's number times its length stays below the size, however long blocks are."""
    assert versioned("""
for i_o in parallel(range((N + 1048575) // 1048576)):
    for i_i in range(16384):
        for i_v in vectorize(range(64)):
            if i_o * 1048576 + i_i * 64 + i_v < N:
                C[0, 0] += A[0, i_o * 1048576 + i_i * 64 + i_v]
""") == (
        "for i_o in parallel(range((N + 1048575) // 1048576)):\n"
        "    for i_i in range(min(16384, N // 64 - i_o * 16384)):\n"
        "        for i_v in vectorize(range(64)):\n"
        "            C[0, 0] += A[0, i_o * 1048576 + i_i * 64 + i_v]\n"
        "    if max(0, N // 64 - i_o * 16384) < 16384:\n"
        "        for i_i in range(max(0, N // 64 - i_o * 16384), 16384):\n"
        "            for i_v in vectorize(range(64)):\n"
        "                if i_o * 1048576 + i_i * 64 + i_v < N:\n"
        "                    C[0, 0] += A[0, i_o * 1048576 + i_i * 64 + i_v]"
    )


def test_a_multiple_that_could_overflow_stays_guarded() -> None:
    body = (
        "for i_o in range(0 - N, (N + 1048575) // 1048576):\n"
        "    for i_i in range(16384):\n"
        "        for i_v in vectorize(range(64)):\n"
        "            if i_o * 1048576 + i_i * 64 + i_v < N:\n"
        "                C[0, 0] += A[0, i_i * 64 + i_v]"
    )
    assert versioned(body) == body


def test_what_stays() -> None:
    """Guards on data, two branches, a local that would reach further, loops that are not innermost."""
    for body in (
        "for k in range(K):\n    for i in unroll(range(2)):\n"
        "        if A[i, k] < M:\n            C[i, 0] = 1",
        "for k in range(K):\n    for i in unroll(range(2)):\n"
        "        if i < M:\n            C[i, 0] = 1\n        else:\n            C[0, i] = 1",
        "for k in range(K):\n    for i in unroll(range(2)):\n"
        "        if i < M:\n            t: i64\n            t = 1\n            C[i, 0] = t\n"
        "        A[0, 0] = 1",
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


def test_whole_vectors_and_a_masked_tail() -> None:
    assert versioned("""
for i in range((N + 3) // 4):
    for v in vectorize(range(4)):
        if i * 4 + v < N:
            C[0, i * 4 + v] = 1
""") == (
        "for i in range(N // 4):\n"
        "    for v in vectorize(range(4)):\n"
        "        C[0, i * 4 + v] = 1\n"
        "for i in range(max(0, N // 4), (N + 3) // 4):\n"
        "    for v in vectorize(range(4)):\n"
        "        if i * 4 + v < N:\n"
        "            C[0, i * 4 + v] = 1"
    )


def test_a_sum_has_a_tail_only_where_there_is_one() -> None:
    """Partial results of the tail are combined only then."""
    assert "if max(0, N // 4) < (N + 3) // 4:" in versioned("""
for i in range((N + 3) // 4):
    for v in vectorize(range(4)):
        if i * 4 + v < N:
            C[0, 0] += i
""")


def test_a_version_for_each_number_of_vectors() -> None:
    """Lanes that are off in all of a vector cost nothing; the first lane of the last one is on."""
    assert versioned("""
for j_o in range((N + 7) // 8):
    for k in range(K):
        for j in unroll(range(2)):
            for v in vectorize(range(4)):
                if j_o * 8 + j * 4 + v < N:
                    C[0, j_o * 8 + j * 4 + v] += A[0, k]
""") == (
        "for j_o in range((N + 7) // 8):\n"
        "    if 8 * j_o + 8 <= N:\n"
        "        for k in range(K):\n"
        "            for j in unroll(range(2)):\n"
        "                for v in vectorize(range(4)):\n"
        "                    C[0, j_o * 8 + j * 4 + v] += A[0, k]\n"
        "    elif 8 * j_o + 5 <= N:\n"
        "        for k in range(K):\n"
        "            for j in unroll(range(1)):\n"
        "                for v in vectorize(range(4)):\n"
        "                    C[0, j_o * 8 + j * 4 + v] += A[0, k]\n"
        "            for j in unroll(range(1, 2)):\n"
        "                for v in vectorize(range(4)):\n"
        "                    if v == 0 or j_o * 8 + j * 4 + v < N:\n"
        "                        C[0, j_o * 8 + j * 4 + v] += A[0, k]\n"
        "    elif 8 * j_o < N:\n"
        "        for k in range(K):\n"
        "            for j in unroll(range(1)):\n"
        "                for v in vectorize(range(4)):\n"
        "                    if v == 0 or j_o * 8 + j * 4 + v < N:\n"
        "                        C[0, j_o * 8 + j * 4 + v] += A[0, k]\n"
        "    else:\n"
        "        for k in range(K):\n"
        "            pass"
    )


def test_masks_of_two_kinds_stay() -> None:
    """Lanes by columns, and lanes by data of another loop: no count of vectors says which are on."""
    body = """
for j_o in range((N + 3) // 4):
    for k in range(K):
        for v in vectorize(range(4)):
            if j_o * 4 + v < N:
                C[0, j_o * 4 + v] += A[0, k]
            if v < M:
                C[v, 0] += 1
"""
    assert "v == 0" not in versioned(body)


def test_a_tile_is_versioned_as_a_whole() -> None:
    """Its local lives in one version; each fills, works and empties without guards."""
    text = versioned("""
for i_o in range((M + 1) // 2):
    t: i64[2]
    for i in unroll(range(2)):
        if i_o * 2 + i < M:
            t[i] = 0
    for k in range(K):
        for i in unroll(range(2)):
            if i_o * 2 + i < M:
                t[i] += A[i_o * 2 + i, k]
    for i in unroll(range(2)):
        if i_o * 2 + i < M:
            C[i_o * 2 + i, 0] = t[i]
""")
    whole, _, edge = text.partition("    else:\n")
    assert whole.count("if ") == 1 and whole.count("t: i64[2]") == 1
    assert edge.count("if i_o * 2 + i < M:") == 3 and edge.count("t: i64[2]") == 1
