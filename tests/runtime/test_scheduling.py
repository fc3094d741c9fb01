"""Kernels that run by a schedule: started, called, kept, pickled, taken for other signatures."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import kdsl
from kdsl import f32, f64
from tests.runtime.process import copy_of_kdsl, run_python

M, N, K = kdsl.sizes("M N K")
T = kdsl.typevar("T", f32, f64)


@kdsl.kernel
def matmul(A: T[M, K], B: T[K, N], C: T[M, N]):
    for i in range(M):
        for j in range(N):
            acc = T(0)
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


def tiled(s):
    s = s.tile(["i", "j"], [4, 16])
    s = s.reorder("i_o", "j_o", "k", "i_i", "j_i")
    return s.vectorize("j_i").unroll("i_i").parallel("i_o")


def operands(m: int, n: int, k: int, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m + n + k)
    A, B = rng.integers(-4, 5, (m, k)).astype(dtype), rng.integers(-4, 5, (k, n)).astype(dtype)
    return A, B, np.full((m, n), -1, dtype)


@pytest.fixture(scope="module")
def schedule() -> kdsl.Schedule:
    return tiled(matmul.schedule())


@pytest.mark.parametrize("shape", [(0, 3, 2), (1, 1, 1), (4, 16, 3), (7, 37, 5), (13, 16, 0)])
def test_a_schedule_runs_when_it_is_called(schedule: kdsl.Schedule, shape: tuple[int, int, int]) -> None:
    A, B, C = operands(*shape)
    schedule(A, B, C)
    assert (C == A @ B).all()


def test_a_scheduled_kernel_takes_other_types_layouts_and_targets(schedule: kdsl.Schedule) -> None:
    fast = matmul.with_schedule(schedule)
    A, B, C = operands(7, 18, 5, np.float64)
    fast(A, B, C)
    assert (C == A @ B).all()
    A, B, C = operands(9, 18, 6)
    fast(A[::2], B[:, ::-1], C[::2])
    assert (C[::2] == A[::2] @ B[:, ::-1]).all()
    C[:] = -1
    fast.on("interpreter")(A, B, C)
    assert (C == A @ B).all()


def test_the_same_schedule_gives_the_same_kernel(schedule: kdsl.Schedule) -> None:
    assert matmul.with_schedule(schedule) is matmul.with_schedule(tiled(matmul.schedule()))


def test_a_scheduled_kernel_goes_on_from_its_schedule(schedule: kdsl.Schedule) -> None:
    assert matmul.with_schedule(schedule).schedule() == schedule


def test_a_function_is_a_schedule() -> None:
    @kdsl.kernel(schedule=lambda s: s.split("i", 4).vectorize("i_i"))
    def double(A: f32[N]):
        for i in range(N):
            A[i] *= 2

    a = np.arange(10, dtype=np.float32)
    double(a)
    assert (a == 2 * np.arange(10)).all()
    assert "vectorize" in double.ir()


@kdsl.kernel
def scaled(A: f32[N], by: kdsl.constexpr, twice: kdsl.constexpr = False):
    for i in range(N):
        A[i] = A[i] * by * (2 if twice else 1)


def test_a_schedule_runs_with_the_constants_it_was_started_with() -> None:
    start = np.ones(5, np.float32)
    s = scaled.schedule(start, 3, twice=True).vectorize("i", 4)
    for args, options, expected in (
        ((), {}, 6),
        ((5,), {}, 10),
        ((), {"by": 7}, 14),
        ((5, False), {}, 5),
        ((), {"twice": False}, 3),
    ):
        A = start.copy()
        s(A, *args, **options)
        assert A.tolist() == [expected] * 5


def test_scheduled_kernels_and_schedules_pickle(schedule: kdsl.Schedule) -> None:
    A, B, C = operands(5, 20, 3)
    pickle.loads(pickle.dumps(matmul.with_schedule(schedule)))(A, B, C)
    assert (C == A @ B).all()
    again = pickle.loads(pickle.dumps(schedule))
    assert again == schedule
    C[:] = -1
    again(A, B, C)
    assert (C == A @ B).all()


def test_schedules_are_text(schedule: kdsl.Schedule) -> None:
    assert kdsl.Schedule.from_json(matmul, schedule.to_json()) == schedule
    namespace: dict[str, object] = {}
    exec(schedule.trace(), namespace)
    rebuilt = namespace["schedule"]
    assert callable(rebuilt)
    assert rebuilt(matmul.schedule()) == schedule


def test_code_can_be_seen(schedule: kdsl.Schedule) -> None:
    assert "<16 x float>" in schedule.llvm()
    assert "vectorize" in str(schedule)
    assert schedule.asm()


def test_a_warm_process_loads_no_compiler(tmp_path) -> None:
    code = """
import sys
import numpy as np
import kdsl
from kdsl import f32
N = kdsl.sizes("N")
@kdsl.kernel
def double(A: f32[N]):
    for i in range(N):
        A[i] *= 2
a = np.ones(9, np.float32)
double.with_schedule(double.schedule().split("i", 4))(a)
print(a.sum(), "llvmlite" in sys.modules)
"""
    script = tmp_path / "double.py"
    script.write_text(code)
    own, cache = copy_of_kdsl(tmp_path / "own"), str(tmp_path / "cache")
    first, second = (run_python(str(script), kdsl=own, KDSL_CACHE_DIR=cache).stdout.split() for _ in range(2))
    assert first == ["18.0", "True"]
    assert second == ["18.0", "False"]


@pytest.mark.parametrize("wrong", [3, "fast", int])
def test_other_things_are_no_schedules(wrong: object) -> None:
    with pytest.raises(kdsl.ScheduleError, match="is not a schedule"):
        matmul.with_schedule(wrong)  # type: ignore[arg-type]


def test_a_function_must_give_a_schedule() -> None:
    @kdsl.kernel(schedule=lambda s: None)
    def nothing(A: f32[N]):
        for i in range(N):
            A[i] *= 2

    with pytest.raises(kdsl.ScheduleError, match="is a NoneType, not a Schedule"):
        nothing(np.ones(3, np.float32))


@pytest.mark.parametrize("target", ["cpu", "interpreter"])
def test_loops_bound_to_a_gpu_run_in_order_elsewhere(target: str) -> None:
    @kdsl.kernel(schedule=lambda s: s.split("i", 4).bind("i_o", "grid.x").bind("i_i", "block.x"))
    def double(A: f32[N]):
        for i in range(N):
            A[i] *= 2

    a = np.arange(10, dtype=np.float32)
    double.on(target)(a)
    assert (a == 2 * np.arange(10)).all()
