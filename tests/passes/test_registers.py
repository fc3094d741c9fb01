"""Short loops around arrays for registers are written out; the arrays then have constant subscripts."""

from __future__ import annotations

import kdsl
from kdsl import f32
from kdsl.ir.nodes import Func
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from kdsl.ir.verify import verify
from kdsl.passes.registers import registers
from tests.sched.check import check_schedule

M, N, K = kdsl.sizes("M N K")


def changed(body: str) -> str:
    """The loops that get a mark."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    func: Func = parse_func(f"def f(A: f32[M, N], B: f32[8]):\n{lines}\n")
    new = registers(func)
    verify(new)
    old, now = print_func(func).splitlines(), print_func(new).splitlines()
    return "\n".join(b.strip() for a, b in zip(old, now, strict=True) if a != b)


def test_loops_that_fill_and_combine() -> None:
    assert (
        changed("""
t: f32[8]
for z in range(8):
    t[z] = 0.0
for i in range(M):
    for j in vectorize(range(8)):
        if j < N:
            t[j] += A[i, j]
for r in range(8):
    B[r] += t[r]
""")
        == "for z in unroll(range(8)):\nfor r in unroll(range(8)):"
    )


def test_a_vector_statement_counts_once() -> None:
    assert (
        changed("""
t: f32[32]
for i in range(M):
    for j in range(4):
        for j_v in vectorize(range(8)):
            t[j * 8 + j_v] = 0.0
""")
        == "for j in unroll(range(4)):"
    )


def test_arrays_that_no_vector_uses_stay_in_memory() -> None:
    assert (
        changed("""
t: f32[8]
for z in range(8):
    t[z] = 0.0
for i in range(M):
    t[3] += A[i, 0]
""")
        == ""
    )


def test_subscripts_that_stay_variable() -> None:
    assert (
        changed("""
t: f32[8]
for z in range(8):
    t[z] = 0.0
for i in range(M):
    for j in vectorize(range(4)):
        t[j] += t[i % 8]
""")
        == ""
    )
    assert (
        changed("""
t: f32[8]
for z in range(8):
    t[z] = 0.0
for i in range(min(M, 8)):
    for j in vectorize(range(4)):
        t[j] += t[i]
""")
        == ""
    )


def test_long_loops_stay() -> None:
    assert (
        changed("""
t: f32[128]
for z in range(128):
    t[z] = 0.0
for i in range(M):
    for j in vectorize(range(128)):
        t[j] += A[i, j]
""")
        == ""
    )


@kdsl.kernel
def rows(A: f32[M, N], B: f32[M]):
    for i in range(M):
        t = kdsl.zeros(4, f32)
        for j in range(N):
            for k in range(4):
                t[k] += A[i, j]
        for k in range(4):
            B[i] += t[k]


def test_meaning() -> None:
    check_schedule(rows, lambda s: s.vectorize("k"))
