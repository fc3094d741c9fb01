"""`set_layout`: local arrays in other arrangements; names of copies of arrays. Refusals as whole messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32, i64
from kdsl.errors import KernelIndexError
from kdsl.ir import interpreter
from kdsl.sched import Schedule
from tests.sched.check import Steps, check_schedule, golden_texts, refusal, schedule_of, write_golden

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def twice(X: i64[M, N], Y: i64[M, N]):
    T = kdsl.empty((M, N), i64)
    for i in range(M):
        for j in range(N):
            T[i, j] = X[i, j] + 1
    for p in range(M):
        for q in range(N):
            Y[p, q] = T[p, q] * 2


@kdsl.kernel
def product(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            for k in range(K):
                C[i, j] += A[i, k] * B[k, j]


@kdsl.kernel
def stepped(X: i64[N], Y: i64[N]):
    T = kdsl.zeros(N + 3, i64)
    for i in range(N - 1, -1, -2):
        T[i + 1] = X[i]
    for j in range(1, N, 3):
        Y[j] = T[j] + T[j + 2] - T[N - j]


@kdsl.kernel
def counted(X: i64[M, N], H: i64[M, 4]):
    for i in range(M):
        T = kdsl.zeros(4, i64)
        for j in range(N):
            kdsl.atomic_add(T, X[i, j], j)
        for j in range(4):
            H[i, j] = T[j]


@kdsl.kernel
def looked_up(X: i64[N], Y: i64[N]):
    T = kdsl.empty((5, 3), i64)
    for i in range(5):
        for j in range(3):
            T[i, j] = i * 10 + j
    for i in range(N):
        Y[i] = T[X[i], 1]


@kdsl.kernel
def longer(X: i64[M], Y: i64[N]):
    T = kdsl.zeros(M, i64)
    for i in range(N):
        Y[i] = T[i]


@kdsl.kernel
def scaled(X: i64[N], Y: i64[N]):
    for i in range(N):
        t = X[i]
        Y[i] = t * t


def tiled(s: Schedule) -> Schedule:
    return s.tile(["i", "j"], [3, 4]).tile(["p", "q"], [6, 2])


def blocked(s: Schedule) -> Schedule:
    return s.tile(["i", "j"], [3, 4]).reorder("i_o", "j_o", "k", "i_i", "j_i")


PANELS: Any = {"tile": (None, 4), "order": (1, 0, 2)}

MEANING: list[tuple[str, Any, Steps]] = [
    ("transposed", twice, lambda s: s.set_layout("T", order=(1, 0))),
    ("padded", twice, lambda s: s.set_layout("T", pad=5, align=32)),
    ("tiles", twice, lambda s: tiled(s).set_layout("T", tile=(3, 4), order=(0, 2, 1, 3), pad=1)),
    ("tiles first", twice, lambda s: tiled(s.set_layout("T", tile=(3, 4), order=(0, 2, 1, 3)))),
    ("tile innermost last", twice, lambda s: s.set_layout("T", tile=(None, 4), order=(0, 2, 1), pad=1)),
    ("vectors", twice, lambda s: tiled(s).set_layout("T", **PANELS).vectorize("j_i").vectorize("q_i")),
    ("vectors across tiles", twice, lambda s: s.set_layout("T", tile=(None, 3)).vectorize("q", 8)),
    ("parallel", twice, lambda s: tiled(s).set_layout("T", **PANELS).parallel("i_o").parallel("p_o")),
    ("twice", twice, lambda s: s.set_layout("T", **PANELS).set_layout("T", tile=(2, None, 2), pad=1)),
    ("unrolled", twice, lambda s: s.set_layout("T", tile=(4, 4)).unroll("j", 3)),
    ("steps", stepped, lambda s: s.set_layout("T", tile=(4,), order=(1, 0), pad=1)),
    ("steps split", stepped, lambda s: s.set_layout("T", tile=(4,)).split("i", 3).vectorize("j", 4)),
    ("atomics in a private array", counted, lambda s: s.set_layout("T", tile=(3,)).parallel("i")),
    ("staged", product, lambda s: blocked(s).stage("B", "i_o").set_layout("B_s", **PANELS)),
    ("panels padded", product, lambda s: s.stage("B", "i", layout=PANELS).set_layout("B_s", pad=2)),
    ("arranged, then staged", twice, lambda s: s.set_layout("T", **PANELS).stage("T", "p").stage("T", "j")),
    ("copies", twice, lambda s: s.specialize("N == 8").set_layout("T", tile=(None, 8))),
    ("one copy", twice, lambda s: s.specialize("N == 8").set_layout("T@0", order=(1, 0))),
    (
        "copies of a staged array",
        product,
        lambda s: s.split("i", 3, tail="cut").split("i_t", 1, into=("i_o", "x"))
        .stage("A", "i_o").set_layout("A_s", order=(1, 0)).set_layout("A_s@1", pad=3),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "steps"), [c[1:] for c in MEANING], ids=[c[0] for c in MEANING])
def test_meaning(kernel: Any, steps: Steps) -> None:
    check_schedule(kernel, steps)


def test_text() -> None:
    """Indices that are made of blocks stay affine."""
    s = tiled(schedule_of(twice)).set_layout("T", tile=(None, 4), order=(1, 0, 2), pad=1)
    assert "    T: i64[(N + 3) // 4, M, 5]\n" in str(s)
    assert "T[j_o, i_o * 3 + i_i, j_i] = X" in str(s)
    assert "T[(q_o * 2 + q_i) // 4, p_o * 6 + p_i, (q_o * 2 + q_i) % 4] * 2" in str(s)


@pytest.mark.parametrize("at", [4, 5, -1])
def test_an_index_out_of_an_array_stays_an_error(at: int) -> None:
    """Padding and ragged tiles have room for elements that are not there."""
    s = schedule_of(looked_up).set_layout("T", tile=(3, 2), order=(1, 0, 2, 3), pad=3)
    arrays = {"X": np.array([at]), "Y": np.zeros(1, np.int64)}
    if at == 4:
        interpreter.run(s.func, arrays, {}, {"N": 1})
        assert arrays["Y"].tolist() == [41]
        return
    with pytest.raises(
        KernelIndexError, match=f"index {at} is out of bounds for dimension 0 of `T.X.i., 1.`"
    ):
        interpreter.run(s.func, arrays, {}, {"N": 1})
    with pytest.raises(KernelIndexError, match=f"index {at} is out of bounds"):
        looked_up.with_schedule(looked_up.schedule().set_layout("T", tile=(3, 2), pad=3))(**arrays)


def test_a_copy_alone() -> None:
    s = schedule_of(twice).specialize("N == 8").set_layout("T@1", pad=1)
    assert "T: i64[M, 8]\n" in str(s) and "T: i64[M, N + 1]\n" in str(s)
    s = schedule_of(twice).specialize("N == 8").stage("T@1", "p")
    assert str(s).count("T_s: ") == 1 and str(s).index("T_s: ") > str(s).index("else")


def test_stage_takes_the_array_in_scope() -> None:
    """Of two versions of an array, each with its own shape, a loop means the one around it."""
    s = check_schedule(twice, lambda s: s.specialize("M == 3 and N == 8").stage("T", "p"))
    assert "T_s: i64[1, 8]" in str(s) and "T_s: i64[1, N]" in str(s)


GOLDEN = Path(__file__).with_name("layout_refusals.txt")

REFUSED: list[tuple[str, Any, Steps]] = [
    ("no such array", twice, lambda s: s.set_layout("D", pad=1)),
    ("misspelt", product, lambda s: s.stage("A", "i").set_layout("A_z", pad=1)),
    ("no such copy", twice, lambda s: s.set_layout("T@1", pad=1)),
    ("no such copy of several", twice, lambda s: s.specialize("N == 8").set_layout("T@2", pad=1)),
    ("copy of an argument", twice, lambda s: s.stage("X@1", "i")),
    ("argument", twice, lambda s: s.set_layout("X", pad=1)),
    ("scalar", scaled, lambda s: s.set_layout("t", pad=1)),
    ("order", twice, lambda s: s.set_layout("T", tile=(None, 4), order=(1, 0))),
    ("tile of zero", twice, lambda s: s.set_layout("T", tile=(0, None))),
    ("align", twice, lambda s: s.set_layout("T", align=128)),
    ("wrong type", twice, lambda s: s.set_layout("T", order="ij")),
    ("not proved inside", longer, lambda s: s.set_layout("T", pad=8)),
    ("staged at another copy", twice, lambda s: s.specialize("N == 8").stage("T@0", "p@1")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "kernel", "steps"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(name: str, kernel: Any, steps: Steps) -> None:
    assert refusal(kernel, steps) == golden_texts(GOLDEN)[name]


def test_golden_texts(update_messages: bool) -> None:
    if update_messages:
        write_golden(GOLDEN, REFUSED)
    assert list(golden_texts(GOLDEN)) == [c[0] for c in REFUSED]
