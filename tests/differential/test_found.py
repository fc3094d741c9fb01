"""Programs that random testing found to differ, each reduced to its point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.differential.harness import agree, load, outcome


def kernel(params: str, *body: str) -> str:
    return "\n".join(["@kdsl.kernel", f"def program({params}):", *("    " + line for line in body), ""])


def test_a_comparison_that_the_type_decides_still_reads_its_operand() -> None:
    """u8 > -1 is true whatever the element, but there must be one."""
    text = kernel("X: u8[N], Y: i32[M]", "if M > 1 and X[M] > -1:", "    Y[0] = 1")
    agree(text, [np.zeros(0, np.uint8), np.zeros(2, np.int32)])
    assert outcome(load(text)["program"], "cpu", [np.zeros(0, np.uint8), np.zeros(2, np.int32)])[0] == "index"


def test_power_zero_still_reads_its_operand() -> None:
    text = kernel("X: i32[N], Y: i32[M]", "if M > 1:", "    Y[0] = X[M] ** 0")
    agree(text, [np.zeros(1, np.int32), np.zeros(2, np.int32)])


def test_comparing_u64_with_a_negative_number_reads_both() -> None:
    text = kernel("X: u64[N], Y: i64[M]", "if M > 1 and X[M] < Y[0]:", "    Y[0] = 1")
    agree(text, [np.zeros(0, np.uint64), np.full(2, -1)])


GUARDS = {
    "wrapped": ("s: i64", "if (s << 1) & 1 == 0:", np.int64(2**63 - 1)),
    "unsigned": ("s: u64", "if i64(s) & 1 == 1:", np.uint64(2**64 - 1)),
    "narrowed": ("s: u8", "if i8(s) < 100:", np.uint8(135)),
    "doubled": ("s: u32", "if (s << 1) & 1 == 0:", np.uint32(2**32 - 1)),
}


@pytest.mark.parametrize("guard", GUARDS)
def test_a_scalar_that_no_index_uses_may_be_anything(guard: str) -> None:
    """A condition on the way to an access is no reason to refuse the call."""
    scalar, line, value = GUARDS[guard]
    text = kernel(f"Y: i64[M], {scalar}", line, "    for i in range(M):", "        Y[i] = 1")
    args: list[Any] = [np.zeros(3, np.int64), value]
    assert outcome(load(text)["program"], "cpu", args)[0] == ""
    agree(text, args)


@pytest.mark.parametrize("value", [70000, -70000, 255])
def test_a_store_wraps(value: int) -> None:
    """NumPy refuses np.int32(70000) for an element of an i16 array; kernels wrap, also as Python."""
    text = kernel("X: i16[N], Y: u8[N], s: i32", "X[0] = s", "Y[0] = s")
    args: list[Any] = [np.zeros(1, np.int16), np.zeros(1, np.uint8), np.int32(value)]
    agree(text, args)


def test_an_index_beyond_64_bits_is_an_index_error() -> None:
    text = kernel("X: i32[N], at: u64[N]", "for i in range(N):", "    X[at[i]] = 1")
    agree(text, [np.zeros(2, np.int32), np.array([0, 2**64 - 1], np.uint64)])


@pytest.mark.parametrize("n", [0, 1, 4])
def test_an_empty_part_of_an_array_may_lie_anywhere(n: int) -> None:
    """At N = 0 each of these parts starts beyond the array's end, and has no elements."""
    text = kernel("X: i32[N], Y: i32[N]", "Y[1:] = X[:0:-1]", "X[1:] = X[:-1]")
    agree(text, [np.arange(n, dtype=np.int32), np.zeros(n, np.int32)])
