"""Races that the interpreter finds: parallel iterations and vector lanes that meet in one element."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl.errors import KdslError
from kdsl.ir.interpreter import run
from kdsl.ir.parser import parse_func
from tests.ir.test_interpreter import execute

HEAD = "def f(A: i64[16], B: i64[16], C: i64[1], F: f32[16], P: i64[16]):\n"


def outcome(body: str, head: str = HEAD, **others: Any) -> str:
    """The error's code, "" when there is none. `A` and `B` are whole numbers, `P` has a repetition."""
    arrays = {
        "A": np.arange(16),
        "B": np.arange(16) * 2,
        "C": np.zeros(1, np.int64),
        "F": np.zeros(16, np.float32),
        "P": np.array([3, 1, 2, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 3]),
        **others,
    }
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    try:
        run(parse_func(head + lines), arrays, {}, {})
    except KdslError as e:
        return e.code
    return ""


PARALLEL = {
    "A[i] = B[i]": "",
    "C[0] = A[i]": "K0360",
    "C[0] += A[i]": "K0360",
    "C[0] = max(C[0], A[i])": "K0360",
    "atomic_add(C, 0, A[i])": "",
    "atomic_add(C, 0, A[i])\nA[i] = C[0]": "K0360",
    "atomic_add(C, 0, A[i])\nif i == 3:\n    C[0] = 1": "K0360",
    "if i == 3:\n    C[0] = 1": "",
    "if i == 3:\n    C[0] = 1\nA[i] = C[0]": "K0360",
    "A[i] = C[0]\nif i == 15:\n    C[0] = 1": "K0360",
    "t: i64\nt = A[i]\nB[i] = t": "",
    "T: i64[4]\nfor k in range(4):\n    T[k] = A[i]\nB[i] = T[3]": "",
    "A[i] = A[15 - i]": "K0360",
    "A[i] = A[i] + 1\nB[i] = A[i]": "",
    "B[P[i]] = A[i]": "K0360",
    "if i < 15:\n    B[P[i]] = A[i]": "",
    "A[i if i < 15 else 0] = 1": "K0360",
    "if C[0] == 0:\n    A[i] = 1": "",
    "for k in range(C[0] + 1):\n    A[i] = 1\nif i == 7:\n    C[0] = 0": "K0360",
    "while A[i] > 0:\n    A[i] = A[i] - 1": "",
}


@pytest.mark.parametrize("body", PARALLEL)
@pytest.mark.parametrize("mark", ["parallel(range(16))", 'bind(range(16), "grid.x")'])
def test_iterations_of_a_parallel_loop(body: str, mark: str) -> None:
    inside = "".join(f"    {line}\n" for line in body.splitlines())
    assert outcome(f"for i in {mark}:\n{inside}") == PARALLEL[body]


VECTOR = {
    "A[i] = A[i] + 1": "",
    "if i < 15:\n    A[i] = A[i + 1]": "",
    "if i < 15:\n    A[i + 1] = A[i]": "K0361",
    "if i < 15:\n    B[i] = A[i + 1]\n    A[i] = B[i]": "",
    "if i < 15:\n    A[i] = B[i]\n    B[i] = A[i + 1]": "K0361",
    "if i > 0:\n    A[i] = B[i]\n    B[i] = A[i - 1]": "",
    "if i > 0:\n    B[i] = A[i - 1]\n    A[i] = B[i]": "K0361",
    "C[0] = A[i]": "K0361",
    "C[0] += A[i]": "",
    "C[0] += A[i]\nC[0] *= 2": "K0361",
    "C[0] += A[i]\nA[i] = C[0]": "K0361",
    "C[0] += A[i]\nC[0] += B[i]": "",
    "A[i // 2] += 1": "K0361",
    "if i < 15:\n    A[i] += 1\n    A[i + 1] += 2": "",
    "B[P[i]] += A[i]": "K0361",
    "atomic_add(B, P[i], A[i])": "",
    "k: i64\nk = 0\nC[k] += A[i]": "",
    "if i < 3:\n    for k in range(1):\n        C[k] += A[i]": "",
    "if i < 3:\n    k: i64\n    k = 0\n    C[k] += A[i]": "",
    "k: i64\nk = 0\nif i == 3:\n    k = 1 - 1\nC[k] += A[i]": "K0361",
    "k: i64\nk = i // 16\nC[k] += A[i]": "K0361",
    "for k in range(3):\n    if i + k < 15:\n        A[i + k + 1] += A[i + k] if k > 5 else 1": "",
    # Iteration k + 1 of lane i reads what iteration k of the lane before wrote: earlier in lockstep.
    "for k in range(1, 3):\n    if i > 0:\n        A[i] = A[i - 1] + B[k] if k == 2 else 0": "K0361",
    "for k in range(2):\n    if k == 0:\n        A[i] = i\n    elif i > 0:\n        B[i] = A[i - 1]": "",
    "for k in range(i % 2, 2):\n    C[0] += A[k]": "",
    "F[0] += 1.0": "",
    "if i % 2 == 0:\n    A[i + 1] = 5\nelse:\n    B[i] = A[i]": "",
    "if i % 2 == 1:\n    B[i] = A[i]\nelse:\n    A[i + 1] = 5": "K0361",
    "n: i64\nn = 0\nwhile n < i:\n    n += 1\n    A[n] += 1": "K0361",
}


@pytest.mark.parametrize("body", VECTOR)
def test_lanes_of_a_vector(body: str) -> None:
    inside = "".join(f"    {line}\n" for line in body.splitlines())
    assert outcome(f"for i in vectorize(range(16)):\n{inside}") == VECTOR[body]


@pytest.mark.parametrize(("lanes", "code"), [(8, ""), (16, "K0361")])
def test_the_distance_decides(lanes: int, code: str) -> None:
    inner = f"o * {lanes} + i"
    body = f"for o in range({16 // lanes}):\n    for i in vectorize(range({lanes})):\n"
    body += f"        D[{inner} + 8] = D[{inner}]"
    assert outcome(body, "def f(D: i64[24]):\n", D=np.arange(24)) == code


ROWS = "for i in parallel(range(2)):\n    T: i64[2, 2]\n    for j in vectorize(range(2)):\n"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        # What an earlier loop, or an earlier execution, did is over.
        ("for i in parallel(range(8)):\n    A[i] = 1\nfor j in parallel(range(8)):\n    A[7 - j] = 2", ""),
        ("for t in range(3):\n    for i in parallel(range(8)):\n        A[(i + t) % 8] = i", ""),
        # Inner parallel loops of different iterations of the outer one meet, those of one iteration follow.
        (
            "for i in parallel(range(2)):\n    for j in parallel(range(8)):\n        A[j] = i",
            "K0360",
        ),
        (
            "for i in parallel(range(2)):\n    for t in range(3):\n        for j in parallel(range(8)):\n"
            "            A[i * 8 + (j + t) % 8] = i",
            "",
        ),
        ("t: i64\nfor i in parallel(range(2)):\n    t = i", "K0360"),
        ("T: i64[3]\nfor i in parallel(range(2)):\n    T[i] = i", ""),
        ("T: i64[3]\nfor i in parallel(range(2)):\n    T[1] = i", "K0360"),
        (ROWS + "        T[1, j] = i", ""),
        (ROWS + "        T[j, 1 - j] = i\n        T[0, 1] = j", "K0361"),
        (
            "for i in parallel(range(2)):\n    t: i64\n    t = 0\n    for j in parallel(range(2)):\n"
            "        t += j",
            "K0360",
        ),
        ("for i in parallel(range(2)):\n    t: i64\n    t = 0\n    for j in range(2):\n        t += j", ""),
        ("t: i64\nfor i in parallel(range(2)):\n    t = atomic_add(C, 0, 1)", "K0360"),
    ],
)
def test_nests(body: str, code: str) -> None:
    assert outcome(body) == code


def test_strict_sums_of_floats_have_an_order() -> None:
    body = "for i in vectorize(range(16)):\n    F[0] += 1.0\n    C[0] += 1"
    assert outcome(body) == ""
    assert outcome(body, "@options(strict=True)\n" + HEAD) == "K0361"


def test_arrays_that_may_alias_are_told_apart_by_address() -> None:
    memory = np.zeros(20, np.int64)
    body = "for i in parallel(range(16)):\n    A[i] = B[i]"
    head = '@options(may_alias=("A", "B"))\n' + HEAD
    assert outcome(body, head, A=memory[:16], B=memory[4:]) == "K0360"
    assert outcome(body, head, A=memory[:16], B=memory[:16]) == ""
    assert outcome(body, head, A=memory[:16]) == ""


def test_marks_can_be_ignored() -> None:
    c = np.zeros(1, np.int64)
    func = parse_func("def f(C: i64[1]):\n    for i in parallel(range(3)):\n        C[0] = i\n")
    run(func, {"C": c}, {}, {}, races=False)
    assert c[0] == 2


def message(text: str, **arrays: Any) -> str:
    with pytest.raises(KdslError) as e:
        execute(text, arrays)
    return str(e.value)


def test_a_race_names_the_loop_both_iterations_the_element_and_both_lines() -> None:
    text = """\
def f(A: i64[4], C: i64[2, 2]):
    for i in parallel(range(4)):
        A[i] = C[1, 0]
        if i == 2:
            C[1, 0] = 5
"""
    assert message(text, A=np.zeros(4, np.int64), C=np.zeros((2, 2), np.int64)) == (
        "error[K0360]: a race in the parallel loop `i`: nothing orders two iterations that use one element\n"
        " --> ir.txt:5:13\n"
        "5 |             C[1, 0] = 5\n"
        "  |             ^^^^^^^^^^^ iteration i=2 writes C[1, 0]\n"
        "3 |         A[i] = C[1, 0]\n"
        "  |                ^^^^^^^ iteration i=0 reads C[1, 0]\n"
        "2 |     for i in parallel(range(4)):\n"
        "  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^ marked `parallel`\n"
        "  = help: run this loop in order, or let each iteration write elements of its own; "
        "`kdsl.atomic_add` may meet"
    )


def test_a_conflict_of_lanes() -> None:
    text = """\
def f(A: i64[4]):
    for i in vectorize(range(3)):
        A[i + 1] = A[i]
"""
    assert message(text, A=np.zeros(4, np.int64)) == (
        "error[K0361]: lanes of the vector loop `i` meet in one element, and lockstep changes their order\n"
        " --> ir.txt:3:20\n"
        "3 |         A[i + 1] = A[i]\n"
        "  |                    ^^^^ lane i=1 reads A[1]\n"
        "3 |         A[i + 1] = A[i]\n"
        "  |         ^^^^^^^^^^^^^^^ lane i=0 writes A[1]\n"
        "2 |     for i in vectorize(range(3)):\n"
        "  |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^ marked `vectorize`\n"
        "  = help: run this loop in order, or vectorize fewer lanes than lie between the two"
    )


@kdsl.kernel
def histogram(A: kdsl.i64[kdsl.sizes("N")], C: kdsl.i64[kdsl.sizes("M")]):
    for i in range(A.shape[0]):
        C[A[i]] += 1


@pytest.mark.parametrize(("mark", "code"), [("parallel", "K0360"), ("bind", "K0360"), ("vectorize", "K0361")])
def test_the_interpreter_as_a_target_finds_them(mark: str, code: str) -> None:
    start = histogram.on("interpreter").schedule()
    marked = {
        "parallel": lambda: start.parallel("i", unsafe=True),
        "bind": lambda: start.bind("i", "grid.x", unsafe=True),
        "vectorize": lambda: start.vectorize("i", 4, unsafe=True),
    }[mark]()
    bins = np.zeros(5, np.int64)
    marked(np.array([3, 0, 1, 2]), bins)
    assert bins.tolist() == [1, 1, 1, 1, 0]
    with pytest.raises(KdslError, match=f"marked `{mark}` with unsafe=True") as e:
        marked(np.array([3, 0, 3, 2]), bins)
    assert e.value.code == code and "C[3]" in str(e.value)
    histogram.with_schedule(marked).on("interpreter")(np.array([3, 0, 1]), bins)
