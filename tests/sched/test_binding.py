"""The default binding: what is bound, that each mark can be proved again, that the meaning stays."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kdsl
from kdsl import f32, i64
from kdsl.analysis.axes import axis_of
from kdsl.analysis.dependence import Violation, check_mark
from kdsl.backends import llvm
from kdsl.ir.nodes import Func, Loop
from kdsl.ir.verify import verify
from kdsl.ir.walk import stmts
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.sched.grid.binding import bound
from kdsl.sched.schedule import Schedule
from tests.sched import kernels as k
from tests.sched.check import Steps, arguments, func_of, interpreted, schedule_of, sizes_to_try
from tests.sched.random_programs import Pick, Program
from tests.sched.test_random import start_of, walk

M, N, K = kdsl.sizes("M N K")


def headers(func: Func) -> list[str]:
    """The bound loops as `axis var`, and the others as `var`."""
    return [f"{axis_of(s)} {s.var}".strip() for s in stmts(func.body) if isinstance(s, Loop)]


def check_bound(func: Func, rounds: int = 5) -> Func:
    """`bound(func)`: verified, no mark disproved, and the same arrays, without a race, at several sizes."""
    made = bound(func)
    verify(made)
    for s in stmts(made.body):
        if isinstance(s, Loop) and s.mark is not None and s.mark.kind == "bind" and not s.mark.unsafe:
            assert not isinstance(check_mark(made, s.id, "bind"), Violation), s.var
    low = lower(made, llvm.host_target(), definition, verify=True)
    for seed, sizes in enumerate(sizes_to_try(func, rounds)):
        given = arguments(func, sizes, seed)
        want = interpreted(func, given, sizes)
        for other in (made, low):
            got = interpreted(other, given, sizes)
            if isinstance(want, str) or isinstance(got, str):
                assert want == got
            else:
                assert all((want[name] == got[name]).all() for name in want), sizes
    return made


BOUND: list[tuple[Any, list[str]]] = [
    (k.matmul, ["grid.y i", "grid.x j_o", "block.x j_i", "k"]),
    (k.axpy, ["grid.x i_o", "block.x i_i"]),
    (k.strided, ["grid.x i_o", "block.x i_i"]),
    (k.backwards, ["i"]),
    (k.triangle, ["grid.x i", "block.x j_i", "j_o"]),
    (k.pair, ["grid.x i_o", "block.x i_i", "grid.x k_o", "block.x k_i"]),
    (k.jacobi, ["t", "grid.x i_o", "block.x i_i", "grid.x j_o", "block.x j_i"]),
    (k.seidel, ["t", "i"]),
    (k.guarded, ["grid.y i", "grid.x j_o", "block.x j_i"]),
    (k.until, ["i"]),
    (k.rows, ["grid.x i_o", "block.x i_i", "j"]),
    (k.scalar_bound, ["grid.x i_o", "block.x i_i"]),
    (k.stepped, ["i"]),
    (k.moving, ["i"]),
]


@pytest.mark.parametrize(("kernel", "expected"), BOUND)
def test_bound(kernel: Any, expected: list[str]) -> None:
    assert headers(check_bound(func_of(kernel))) == expected


@kdsl.kernel
def colours(A: i64[M, N, 3], B: i64[M, N, 3]):
    for i in range(M):
        for j in range(N):
            for c in range(3):
                B[i, j, c] = A[i, j, 2 - c]


@kdsl.kernel
def five(A: i64[M, N, K, M, N], B: i64[M, N, K, M, N]):
    for a in range(M):
        for b in range(N):
            for c in range(K):
                for d in range(M):
                    for e in range(N):
                        B[a, b, c, d, e] = A[a, b, c, d, e] + 1


@kdsl.kernel
def few(A: i64[N, 4]):
    for t in range(1, N):
        for i in range(4):
            A[t, i] = A[t - 1, i] + 1


@kdsl.kernel
def elimination(A: i64[N, N]):
    for p in range(N):
        for i in range(p + 1, N):
            for j in range(p + 1, N):
                A[i, j] -= A[i, p] * A[p, j]


@kdsl.kernel
def scored(X: i64[M, N], Y: i64[M, N]):
    S = kdsl.empty(N, i64)
    for i in range(M):
        for j in range(N):
            S[j] = X[i, j] * 2
        for j_1 in range(N):
            Y[i, j_1] = S[N - 1 - j_1]


@kdsl.kernel
def carried(X: i64[M, N], Y: i64[M, N]):
    S = kdsl.zeros(N, i64)
    for i in range(M):
        for j in range(N):
            Y[i, j] = S[N - 1 - j]
        for j_1 in range(N):
            S[j_1] = X[i, j_1]


@kdsl.kernel
def returning(A: i64[N]):
    for i in range(N):
        A[i] = 1
    if N > 3:
        return
    for j in range(N):
        A[j] = 2


@kdsl.kernel
def on_sizes(A: i64[N]):
    if N > 3:
        for i in range(N):
            A[i] = 1
    if N > 0 and A[0] > 0:
        for j in range(N):
            A[j] = 2


@kdsl.kernel
def taken(A: i64[N]):
    for i_o in range(1):
        for i in range(N):
            A[i] = i + i_o


SHAPES: list[tuple[Any, list[str]]] = [
    (colours, ["grid.y i", "grid.x j_o", "block.y j_i", "block.x c"]),
    (five, ["grid.z c", "grid.y d", "grid.x e_o", "block.x e_i", "a", "b"]),
    (few, ["t", "i"]),
    (elimination, ["p", "grid.y i", "grid.x j_o", "block.x j_i"]),
    (returning, ["i", "j"]),
    (on_sizes, ["grid.x i_o", "block.x i_i", "j"]),
    (taken, ["grid.y i_o", "grid.x i_o2", "block.x i_i"]),
    # Rows that share an array, and rows that wait for one another.
    (scored, ["grid.x i_o", "block.x i_i", "j", "j_1"]),
    (
        carried,
        ["grid.x S_0_o", "block.x S_0_i", "i", "grid.x j_o", "block.x j_i", "grid.x j_1_o", "block.x j_1_i"],
    ),
]


@pytest.mark.parametrize(("kernel", "expected"), SHAPES)
def test_shapes_of_nests(kernel: Any, expected: list[str]) -> None:
    assert headers(check_bound(func_of(kernel))) == expected


SCHEDULED: list[tuple[Any, Steps, list[str]]] = [
    # `parallel` says which loops to take; loops around them run on the host.
    (k.add, lambda s: s.parallel("j"), ["i", "grid.x j_o", "block.x j_i"]),
    (k.add, lambda s: s.vectorize("j", 4).parallel("i"), ["grid.y i", "grid.x j_o", "block.x j_i", "j_v"]),
    (k.prefix, lambda s: s.parallel("i", unsafe=True), ["grid.x i_o", "block.x i_i"]),
    # What the user bound stays; the other nest gets the default.
    (k.pair, lambda s: s.bind("i", "grid.x"), ["grid.x i", "grid.x k_o", "block.x k_i"]),
    (k.jacobi, lambda s: s.bind("i", "grid.x"), ["t", "grid.x i", "grid.x j_o", "block.x j_i"]),
    # Work-groups without invocations share out their loops.
    (k.add, lambda s: s.bind("i", "grid.x"), ["grid.x i", "block.x j_i", "j_o"]),
    (k.rows, lambda s: s.bind("i", "grid.x"), ["grid.x i", "j"]),
]


@pytest.mark.parametrize(("kernel", "steps", "expected"), SCHEDULED)
def test_scheduled(kernel: Any, steps: Steps, expected: list[str]) -> None:
    s = steps(schedule_of(kernel))
    made = bound(s.func)
    assert headers(made) == expected
    if not any(step.unsafe for step in s.steps):
        check_bound(s.func)


def tiled(s: Schedule, size: int = 4) -> Schedule:
    """A product in tiles: work-groups of `size` x `size` invocations."""
    s = s.tile(["i", "j"], [size, size]).split("k", 8)
    return s.bind("i_o", "grid.y").bind("j_o", "grid.x").bind("i_i", "block.y").bind("j_i", "block.x")


def test_nothing_is_left_to_do_when_all_is_bound() -> None:
    s = tiled(schedule_of(k.matmul))
    assert bound(s.func) is s.func


def test_known_answers_need_no_isl(tmp_path: Any) -> None:
    code = """
import sys
from tests.sched import kernels as k
from tests.sched.random_programs import Pick, Program
from tests.sched.test_random import start_of, walk
from tests.sched.check import func_of
import kdsl.runtime.scheduling
from kdsl.sched.grid.binding import bound
assert "grid.x" in str(bound(func_of(k.jacobi)))
print("islpy" in sys.modules)
"""
    env = {"KDSL_CACHE_DIR": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    seen = [
        subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert [line.strip() for line in seen] == ["True", "False"]


def test_scalars_of_f32_stay_private() -> None:
    @kdsl.kernel
    def norms(X: f32[M, N], Y: f32[M, N]):
        for i in range(M):
            total = 0.0
            for j in range(N):
                total += X[i, j] * X[i, j]
            for j in range(N):
                Y[i, j] = X[i, j] / total if total > 0 else 0.0

    assert headers(check_bound(func_of(norms))) == ["grid.x i_o", "block.x i_i", "j", "j_1"]


@settings(deadline=None, suppress_health_check=list(HealthCheck), print_blob=True, max_examples=30)
@given(st.data())
def test_random_kernels(data: Any) -> None:
    """Any kernel, with a few steps or none, computes the same when it is bound."""

    def pick(options: Any) -> Any:
        return data.draw(st.sampled_from(options))

    check_random(pick)


def check_random(pick: Pick) -> None:
    s = start_of(Program(pick).text())
    if s is not None:
        check_bound(walk(pick, s, pick((1, 2, 4))).func, rounds=2)
