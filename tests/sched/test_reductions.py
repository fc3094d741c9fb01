"""`rfactor`: partial results of reductions. Meaning first; refusals as whole messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f16, f32, f64, i8, i64, u8
from kdsl.backends import llvm
from kdsl.backends.llvm.codegen import llvm_text
from kdsl.errors import ScheduleError
from kdsl.ir import interpreter
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.sched import Schedule
from tests.sched import kernels
from tests.sched.check import Steps, check_schedule, schedule_of

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def total(A: f32[N], out: f32[1]):
    acc = 0.0
    for k in range(N):
        acc += A[k]
    out[0] = acc


@kdsl.kernel
def product(A: i64[N], out: i64[1]):
    acc = 1
    for k in range(N):
        acc *= A[k]
    out[0] = acc


@kdsl.kernel
def narrow(A: u8[N], B: i8[N], out: u8[1], most: i8[1]):
    for k in range(N):
        out[0] += A[k]
        most[0] = max(most[0], B[k])


@kdsl.kernel
def extremes(A: f32[N], B: i64[N], out: f64[4]):
    low = kdsl.inf
    high = f32(-kdsl.inf)
    least = 100
    most = -100
    for k in range(N):
        low = min(low, A[k])
        high = max(high, A[k])
        least = min(least, B[k])
        most = max(most, B[k])
    out[0] = low
    out[1] = high
    out[2] = least
    out[3] = most


@kdsl.kernel
def moments(A: f32[N], out: f32[2]):
    s = 0.0
    q = 0.0
    for k in range(N):
        s += A[k]
        q += A[k] * A[k]
    out[0] = s
    out[1] = q


@kdsl.kernel
def half(A: f16[N], out: f16[1]):
    for k in range(N):
        out[0] += A[k]


@kdsl.kernel
def columns(A: f32[M, N], s: f32[N]):
    for i in range(M):
        for j in range(N):
            s[j] += A[i, j]


@kdsl.kernel
def window(A: f32[M, N], s: f32[N]):
    for i in range(M):
        for j in range(2, N - 1):
            s[j + 1] += A[i, j - 2]


@kdsl.kernel
def lower_columns(A: i64[N, N], s: i64[N]):
    for i in range(N):
        for j in range(i):
            s[j] += A[i, j]


@kdsl.kernel
def lower_rows(A: i64[N, N], s: i64[N]):
    for i in range(N):
        for j in range(i):
            s[i] += A[i, j]


@kdsl.kernel
def upper_rows(A: i64[N, N], s: i64[N]):
    for i in range(N):
        for j in range(i + 1, N):
            s[i] += A[i, j]


@kdsl.kernel
def everything(A: i64[M, N], out: i64[1]):
    for i in range(M):
        for j in range(N):
            out[0] += A[i, j]


@kdsl.kernel
def positive(A: i64[N], out: i64[1], count: i64[1]):
    for i in range(N):
        if A[i] > 1:
            out[0] += A[i]
            count[0] += 1


@kdsl.kernel
def shifted(A: i64[N], out: i64[1]):
    for i in range(3, N):
        out[0] += A[i - 3] * i


@kdsl.kernel
def weights(A: i64[M, N], w: i64[K], out: i64[M, K]):
    for i in range(M):
        for j in range(N):
            for k in range(K):
                out[i, k] += A[i, j] * w[k]


@kdsl.kernel
def scratch(A: i64[M, N], out: i64[N]):
    t = kdsl.zeros(N, i64)
    for i in range(M):
        for j in range(N):
            t[j] += A[i, j]
    for j in range(N):
        out[j] = t[j] * 2


@kdsl.kernel
def histogram(X: i64[N], H: i64[8]):
    for i in range(N):
        H[X[i]] += 1


@kdsl.kernel
def scattered(X: i64[M, N], at: i64[N], s: i64[4, N]):
    for i in range(M):
        for j in range(N):
            s[at[j], j] += X[i, j]


@kdsl.kernel
def progress(X: i64[N], Y: i64[N], out: i64[1]):
    n = 0
    for i in range(N):
        out[0] += X[i]
        n += 1
        Y[i] = n
    out[0] += n


@kdsl.kernel
def evens(A: i64[N], out: i64[1]):
    for k in range(0, N, 2):
        out[0] += A[k]


@kdsl.kernel
def backwards(A: i64[N, N], s: i64[N]):
    for i in range(N - 1, -1, -2):
        for j in range(i, 0, -1):
            s[j] += A[i, j]


@kdsl.kernel
def until(A: i64[N], out: i64[1]):
    for i in range(N):
        if A[i] == 2:
            break
        out[0] += A[i]


@kdsl.kernel
def restarted(A: i64[M, N], out: i64[M]):
    acc = 0
    for i in range(M):
        acc = i
        for j in range(N):
            acc += A[i, j]
        out[i] = acc


@kdsl.kernel
def set_first(A: i64[N], out: i64[1]):
    for i in range(N):
        if i == 0:
            out[0] = 5
        out[0] += A[i]


@kdsl.kernel
def two_targets(A: i64[N], s: i64[N], out: i64[1]):
    for i in range(N):
        s[i] += A[i]
        out[0] += A[i]


@kdsl.kernel
def corners(A: i64[M, N], s: i64[M, N]):
    for k in range(N):
        for i in range(M - 1):
            s[i, 0] += A[i + 1, k]
            s[i + 1, 0] += A[i, k]


@kdsl.kernel
def norms(X: f32[M, N], s: f32[M]):
    for i in range(M):
        acc = 0.0
        for j in range(N):
            acc += X[i, j] * X[i, j]
        s[i] = acc


MEANING: list[tuple[str, Any, Steps]] = [
    ("scalar", total, lambda s: s.rfactor("k")),
    ("inner", total, lambda s: s.split("k", 4).rfactor("k_i")),
    ("outer", total, lambda s: s.split("k", 4).rfactor("k_o")),
    ("vector", total, lambda s: s.split("k", 8).rfactor("k_i").vectorize("k_i")),
    (
        "vectors",
        total,
        lambda s: s.split("k", 8).rfactor("k_i").split("k_i", 4).unroll("k_i_o").vectorize("k_i_i"),
    ),
    (
        "longer than lanes",
        total,
        lambda s: s.split("k", 8).rfactor("k_i").vectorize("k_i", 4).vectorize("k_i_z", 4),
    ),
    (
        "cores",
        total,
        lambda s: s.split("k", 4).rfactor("k_o").parallel("k_o").vectorize("k_i").vectorize("k_o_r", 4),
    ),
    (
        "all at once",
        total,
        lambda s: s.split("k", 4).rfactor("k_i").vectorize("k_i").vectorize("k_i_z").vectorize("k_i_r"),
    ),
    ("cut", total, lambda s: s.split("k", 4, tail="cut").rfactor("k_i").vectorize("k_i").rfactor("k_t")),
    ("tree", total, lambda s: s.split("k", 4).rfactor("k_i").split("k_i_r", 2).rfactor("k_i_r_i")),
    (
        "twice",
        total,
        lambda s: s.split("k", 4).rfactor("k_o").rfactor("k_i").parallel("k_o").vectorize("k_i"),
    ),
    ("product", product, lambda s: s.split("k", 3).rfactor("k_i").vectorize("k_i")),
    ("wrapping", narrow, lambda s: s.split("k", 4).rfactor("k_i").vectorize("k_i")),
    ("min and max", extremes, lambda s: s.split("k", 4).rfactor("k_i").vectorize("k_i")),
    ("min alone", extremes, lambda s: s.split("k", 4).rfactor("k_o", buffer="low").rfactor("k_o", "most")),
    ("two sums", moments, lambda s: s.split("k", 4).rfactor("k_i").vectorize("k_i").unroll("k_i_r")),
    ("one of two", moments, lambda s: s.split("k", 4).rfactor("k_i", buffer="q")),
    ("half precision", half, lambda s: s.split("k", 4).rfactor("k_i").vectorize("k_i")),
    ("rows", columns, lambda s: s.rfactor("i").parallel("i").vectorize("j", 4)),
    (
        "blocks of rows",
        columns,
        lambda s: s.split("i", 2).rfactor("i_o").parallel("i_o").vectorize("s_r_0", 4),
    ),
    (
        "tile",
        columns,
        lambda s: s.tile(["i", "j"], [2, 3]).reorder("j_o", "i_o", "i_i", "j_i").rfactor("i_i"),
    ),
    ("rows fused", columns, lambda s: s.rfactor("i").reorder("s_r_0", "i_r").parallel("s_r_0")),
    ("part of a row", window, lambda s: s.split("i", 2).rfactor("i_o").parallel("i_o")),
    ("triangle by columns", lower_columns, lambda s: s.rfactor("i").parallel("i")),
    ("triangle in blocks", lower_columns, lambda s: s.split("i", 3).rfactor("i_i")),
    ("triangle by rows", lower_rows, lambda s: s.rfactor("j").parallel("j")),
    ("upper triangle", upper_rows, lambda s: s.rfactor("j").parallel("i")),
    ("upper triangle in blocks", upper_rows, lambda s: s.split("j", 4).rfactor("j_i").vectorize("j_i")),
    ("outer of two", everything, lambda s: s.rfactor("i").parallel("i")),
    ("inner of two", everything, lambda s: s.split("j", 4).rfactor("j_i").vectorize("j_i")),
    ("both", everything, lambda s: s.rfactor("i").rfactor("j")),
    ("if", positive, lambda s: s.split("i", 4).rfactor("i_i").vectorize("i_i")),
    ("if on cores", positive, lambda s: s.split("i", 4).rfactor("i_o").parallel("i_o")),
    ("starts at 3", shifted, lambda s: s.rfactor("i")),
    ("step of two", evens, lambda s: s.rfactor("k").parallel("k")),
    ("backwards", backwards, lambda s: s.rfactor("i").parallel("i")),
    ("backwards in blocks", backwards, lambda s: s.split("i", 2).rfactor("i_o").parallel("i_o")),
    ("middle", weights, lambda s: s.split("j", 4).rfactor("j_i").parallel("i")),
    ("middle outside", weights, lambda s: s.reorder("j", "i", "k").rfactor("j").parallel("j")),
    ("local array", scratch, lambda s: s.rfactor("i").parallel("i")),
    ("break", until, lambda s: s.rfactor("i")),
    ("histogram", histogram, lambda s: s.split("i", 4).rfactor("i_o").parallel("i_o")),
    ("data choose one dimension", scattered, lambda s: s.rfactor("i").parallel("i").vectorize("j", 4)),
    ("one alone", progress, lambda s: s.rfactor("i", buffer="out")),
    ("set again", restarted, lambda s: s.split("j", 4).rfactor("j_i").vectorize("j_i")),
    ("set before", set_first, lambda s: s.rfactor("i")),
    ("only what stays", two_targets, lambda s: s.rfactor("i").parallel("i")),
    ("several cells", corners, lambda s: s.rfactor("k").parallel("k")),
    ("in a parallel loop", norms, lambda s: s.parallel("i").split("j", 4).rfactor("j_i").vectorize("j_i")),
    ("in a vector loop", norms, lambda s: s.split("j", 4).rfactor("j_i").vectorize("i", 4)),
    ("product of matrices", kernels.matmul, lambda s: s.split("k", 4).rfactor("k_i").vectorize("k_i")),
    ("after reorder", kernels.matmul, lambda s: s.reorder("k", "i", "j").rfactor("k").parallel("k")),
    ("staged", columns, lambda s: s.split("i", 2).rfactor("i_o").stage("s_r", "i_o").parallel("i_o")),
    ("initial values in array", kernels.rows, lambda s: s.split("j", 4).rfactor("j_i").vectorize("j_i")),
    ("under a copy", norms, lambda s: s.peel("i", 1).split("j", 4).rfactor("j_i").vectorize("j_i")),
]


@pytest.mark.parametrize(("kernel", "steps"), [c[1:] for c in MEANING], ids=[c[0] for c in MEANING])
def test_meaning(kernel: Any, steps: Steps) -> None:
    check_schedule(kernel, steps)


def test_text() -> None:
    s = schedule_of(columns).tile(["i", "j"], [2, 4]).reorder("j_o", "i_o", "i_i", "j_i").rfactor("i_i")
    assert str(s) == (
        "def columns(A: f32[M, N], s: f32[N]):\n"
        "    for j_o in range((N + 3) // 4):\n"
        "        s_r: f32[2, 4]\n"
        "        for i_i_z in range(2):\n"
        "            for s_r_z0 in range(4):\n"
        "                s_r[i_i_z, s_r_z0] = -0.0\n"
        "        for i_o in range((M + 1) // 2):\n"
        "            for i_i in range(2):\n"
        "                if i_o * 2 + i_i < M:\n"
        "                    for j_i in range(4):\n"
        "                        if j_o * 4 + j_i < N:\n"
        "                            s_r[i_i, j_i] += A[i_o * 2 + i_i, j_o * 4 + j_i]\n"
        "        for i_i_r in range(2):\n"
        "            for s_r_0 in range(4):\n"
        "                if j_o * 4 + s_r_0 < N:\n"
        "                    s[j_o * 4 + s_r_0] += s_r[i_i_r, s_r_0]"
    )


def test_partial_results_live_around_the_outermost_loop() -> None:
    """Across all of `j_o`, but not across `i`, which changes the target."""
    text = str(schedule_of(weights).split("j", 4).rfactor("j_i"))
    assert text.index("for i in") < text.index("out_r: i64[4, K]") < text.index("for j_o in")


def test_the_shorter_loop_combines() -> None:
    text = str(schedule_of(lower_rows).rfactor("j"))
    assert "s_r: i64[N - 1]" in text and "for j_r in range(i):" in text


def test_nothing_changes_without_terms() -> None:
    """Partial results that got no term leave the cell as it was, -0.0 too."""
    s = schedule_of(columns).rfactor("i")
    cells = np.array([-0.0, 0.0, np.inf, -np.inf, np.nan], np.float32)
    after = cells.copy()
    interpreter.run(s.func, {"A": np.zeros((0, 5), np.float32), "s": after}, {}, {"M": 0, "N": 5})
    assert after.tobytes() == cells.tobytes()


@kdsl.kernel
def smallest(A: f32[N], out: f32[1]):
    for k in range(N):
        out[0] = min(out[0], A[k])


@pytest.mark.parametrize("first", [2.0, np.inf, -np.inf, np.nan])
def test_min_over_nan_keeps_pythons_meaning(first: float) -> None:
    """`min(cell, term)` never takes a NaN term, and keeps a NaN cell: in any grouping."""
    terms = np.array([np.nan, 3.0, np.inf, 1.0, np.nan, -4.0, 7.0], np.float32)
    want, got = np.array([first], np.float32), np.array([first], np.float32)
    s = schedule_of(smallest)
    interpreter.run(s.func, {"A": terms, "out": want}, {}, {"N": 7})
    interpreter.run(s.split("k", 3).rfactor("k_i").func, {"A": terms, "out": got}, {}, {"N": 7})
    np.testing.assert_array_equal(want, got)


def optimised(s: Schedule) -> str:
    target = llvm.host_target()
    return llvm_text(lower(s.func, target, definition), target)


@pytest.mark.parametrize(
    "steps",
    [
        lambda s: s.split("k", 8).rfactor("k_i").vectorize("k_i"),
        lambda s: s.split("k", 32).rfactor("k_i").split("k_i", 8).unroll("k_i_o").vectorize("k_i_i"),
        lambda s: s.split("k", 32).rfactor("k_i").vectorize("k_i", 8),
    ],
)
def test_vector_accumulators_are_registers(steps: Steps) -> None:
    """No memory but the terms: partial sums are neither loaded nor stored."""
    text = optimised(steps(schedule_of(total)))
    body = text[text.index("@kernel.total(") :]
    body = body[: body.index("\n}")]
    assert "alloca" not in body and "phi <8 x float>" in body
    assert body.count("store ") == 1


# ------------------------------------------------------------------------ refusals


@kdsl.kernel
def running(X: i64[N], Y: i64[N]):
    s = 0
    for i in range(N):
        s += X[i]
        Y[i] = s


@kdsl.kernel
def levels(X: i64[N], Y: i64[N], H: i64[4]):
    for i in range(N):
        H[X[i]] += 1
        Y[i] = H[0]


@kdsl.kernel
def stored(X: i64[N], out: i64[1]):
    for i in range(N):
        out[0] += X[i]
        if i == 3:
            out[0] = 0


@kdsl.kernel
def two_operators(X: i64[N], out: i64[1]):
    for i in range(N):
        out[0] += X[i]
        out[0] *= 2


@kdsl.kernel
def steering(X: i64[N], out: i64[1]):
    for i in range(N):
        if out[0] < 10:
            out[0] += X[i]


@kdsl.kernel
def own_elements(X: i64[N], s: i64[N]):
    for i in range(N):
        s[i] += X[i]


@kdsl.kernel
def own_blocks(X: i64[N], s: i64[2 * N]):
    for i in range(N):
        for j in range(2 * i, 2 * i + 2):
            s[j] += X[i]


@kdsl.kernel
def folded(X: i64[N], s: i64[4]):
    for i in range(N):
        s[i % 4] += X[i]


@kdsl.kernel
def feedback(X: i64[N], s: i64[2 * N]):
    for i in range(N):
        for j in range(N):
            s[j] += s[j + N] * X[i]


@kdsl.kernel
def recurrence(X: i64[N], s: i64[2 * N]):
    for i in range(N):
        for j in range(N - 1):
            s[j] += s[j + 1] * X[i]


@kdsl.kernel(strict=True)
def strict_total(A: f32[N], out: f32[1]):
    for k in range(N):
        out[0] += A[k]


@kdsl.kernel(strict=True)
def strict_least(A: f32[N], out: f32[1]):
    for k in range(N):
        out[0] = min(out[0], A[k])


@kdsl.kernel(strict=True)
def strict_count(A: i64[N], out: i64[1]):
    for k in range(N):
        out[0] += A[k]


@kdsl.kernel(may_alias=("A", "out"))
def aliased(A: i64[N], out: i64[1]):
    for k in range(N):
        out[0] += A[k]


@kdsl.kernel
def longer(A: i64[K, M], s: i64[N]):
    for k in range(K):
        for j in range(M):
            s[j] += A[k, j]


@kdsl.kernel
def unknown_length(A: i64[N], starts: i64[M], s: i64[M]):
    for i in range(M):
        for k in range(starts[i], starts[i] * 2):
            if k < N and k >= 0:
                s[i] += A[k]


@kdsl.kernel
def leaving(A: i64[N], out: i64[1]):
    for k in range(N):
        if A[k] == 3:
            return
        out[0] += A[k]


@kdsl.kernel
def by_argument(A: i64[N], step: i64, out: i64[1]):
    for k in range(0, N, step):
        out[0] += A[k]


@kdsl.kernel
def half_set(A: i64[M, N], out: i64[N]):
    t = kdsl.empty(N, i64)
    for j in range(0, N, 2):
        t[j] = 0
    for i in range(M):
        for j in range(N):
            if j % 2 == 0:
                t[j] += A[i, j]
    for j in range(0, N, 2):
        out[j] = t[j]


def test_cells_that_nothing_touches_may_be_read() -> None:
    check_schedule(feedback, lambda s: s.rfactor("i").parallel("i"))


@kdsl.kernel
def single(X: i64[N], H: i64[1]):
    for i in range(N):
        H[X[i]] += 1


def test_an_index_that_data_choose_is_tested() -> None:
    """Even where there is only one element."""
    s = schedule_of(single).rfactor("i")
    for func in (s.func, lower(s.func, llvm.host_target(), definition)):
        with pytest.raises(kdsl.KernelIndexError):
            interpreter.run(func, {"X": np.array([0, 1]), "H": np.zeros(1, np.int64)}, {}, {"N": 2})


def test_strict_integers() -> None:
    check_schedule(strict_count, lambda s: s.split("k", 4).rfactor("k_i").vectorize("k_i"))


def test_a_fact_on_sizes_is_a_way_out() -> None:
    s = schedule_of(longer).assume("M <= N").rfactor("k")
    arrays = {"A": np.arange(6).reshape(2, 3), "s": np.ones(4, np.int64)}
    interpreter.run(s.func, arrays, {}, {"K": 2, "M": 3, "N": 4})
    assert arrays["s"].tolist() == [4, 6, 8, 1]


GOLDEN = Path(__file__).with_name("reduction_refusals.txt")

REFUSED: list[tuple[str, Any, Steps]] = [
    ("running value", running, lambda s: s.rfactor("i")),
    ("stored in between", stored, lambda s: s.rfactor("i")),
    ("two operators", two_operators, lambda s: s.rfactor("i")),
    ("decides", steering, lambda s: s.rfactor("i")),
    ("recurrence", recurrence, lambda s: s.rfactor("i")),
    ("own elements", own_elements, lambda s: s.rfactor("i")),
    ("own blocks", own_blocks, lambda s: s.rfactor("i")),
    ("no reduction", kernels.pair, lambda s: s.rfactor("i")),
    ("local of the iteration", kernels.matmul, lambda s: s.rfactor("j")),
    ("another buffer", total, lambda s: s.rfactor("k", buffer="out")),
    ("folded", folded, lambda s: s.rfactor("i")),
    ("one of several is read", progress, lambda s: s.rfactor("i")),
    ("data decide the element that is read", levels, lambda s: s.rfactor("i")),
    ("strict sum", strict_total, lambda s: s.rfactor("k")),
    ("strict minimum", strict_least, lambda s: s.rfactor("k")),
    ("may alias", aliased, lambda s: s.rfactor("k")),
    ("not proved inside", longer, lambda s: s.rfactor("k")),
    ("unknown length", unknown_length, lambda s: s.rfactor("k")),
    ("return", leaving, lambda s: s.rfactor("k")),
    ("unknown step", by_argument, lambda s: s.rfactor("k")),
    ("marked", total, lambda s: s.split("k", 4).vectorize("k_i").rfactor("k_i")),
    ("without value", half_set, lambda s: s.rfactor("i")),
]


def message(kernel: Any, steps: Steps) -> str:
    start = schedule_of(kernel)
    text = str(start)
    with pytest.raises(ScheduleError) as caught:
        steps(start)
    assert str(start) == text
    shown = re.sub(r"\([^ ()]*\.py:\d+\)", "(FILE)", re.sub(r"line \d+", "line ...", str(caught.value)))
    shown = re.sub(
        r"(?m)^ *--> (?:\S*/)?(\w+\.py):\d+:\d+", r" --> \1", re.sub(r"(?m)^ *\d+ \|", " |", shown)
    )
    return re.sub(r"(?m)^ +(?=[|=])", " ", shown)


@pytest.mark.parametrize(("name", "kernel", "steps"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(name: str, kernel: Any, steps: Steps) -> None:
    golden = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", GOLDEN.read_text(), re.M))
    assert message(kernel, steps) == golden[name].rstrip("\n")


def test_golden_texts(update_messages: bool) -> None:
    if update_messages:
        GOLDEN.write_text("\n\n".join(f"## {name}\n{message(k, s)}" for name, k, s in REFUSED) + "\n")
