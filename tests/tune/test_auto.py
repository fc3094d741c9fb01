"""`schedule="auto"`: which schedule a call gets."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import f32
from kdsl.runtime.arguments import arguments
from kdsl.runtime.auto import Chooser, class_facts, fingerprint, tuning_database
from kdsl.runtime.targets import resolve
from kdsl.sched import Schedule
from kdsl.tune.auto import instant
from kdsl.tune.classes import sizes_class
from kdsl.tune.database import Best, Key
from kdsl.tune.measuring.problem import kernel_key
from tests.runtime.process import run_python
from tests.tune import kernels as k


def store(kernel: Any, sizes: dict[str, int], schedule: Schedule, target: str = "") -> None:
    """Keeps a schedule as a tuning does."""
    key = Key(kernel_key(schedule.base), sizes_class(sizes), target or fingerprint(resolve("cpu")))
    tuning_database().set_best(key, Best(kernel.name, sizes, 1.0, 2.0, schedule.to_json()))


def fresh() -> Any:
    """A kernel that nobody has called."""
    N = kdsl.sizes("N")

    @kdsl.kernel(schedule="auto")
    def triple(X: f32[N], Y: f32[N]):  # type: ignore[no-untyped-def, valid-type]
        for i in range(N):
            Y[i] = 3 * X[i]

    return triple


def plain(kernel: Any) -> Schedule:
    """Its schedule without steps."""
    return Schedule(kernel.schedule().base)


def run(kernel: Any, n: int) -> None:
    X, Y = np.arange(n, dtype=np.float32), np.zeros(n, np.float32)
    kernel(X, Y)
    np.testing.assert_array_equal(Y, 3 * X)


def lanes(kernel: Any, n: int) -> str:
    """The last step of the schedule for this size."""
    X = np.zeros(n, np.float32)
    steps = kernel.schedule(X, X.copy()).steps
    return str(steps[-1]) if steps else ""


def test_a_stored_schedule_is_used() -> None:
    kernel = fresh()
    store(kernel, {"N": 1000}, plain(kernel).vectorize("i", 4))
    assert lanes(kernel, 1000) == 's.vectorize("i", lanes=4)'
    run(kernel, 1000)
    assert "range(4)" in kernel.ir()
    # Calls of the same size and of others take the C entry at once.
    assert type(kernel).__call__ is not type(fresh()).__call__
    for n in (1000, 0, 1, 7, 5000):
        run(kernel, n)


def test_without_a_stored_one_the_cost_model_decides() -> None:
    kernel = fresh()
    run(kernel, 100_000)
    assert "vectorize" in kernel.ir()
    # What was decided is remembered on disk.
    again = fresh()
    run(again, 100_000)
    assert again.ir() == kernel.ir()


def count_choices(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of kernels for which the cost model was asked, in a list that grows."""
    asked: list[str] = []

    def counted(schedule: Schedule, *args: Any, **more: Any) -> Schedule:
        asked.append(schedule.func.name)
        return instant(schedule, *args, **more)

    monkeypatch.setattr("kdsl.tune.auto.instant", counted)
    return asked


def test_another_process_takes_the_choice_and_proves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(
        """
import sys
import numpy as np
import kdsl
from kdsl import f32
from kdsl.tune import auto

def refuse(*args, **more):
    raise AssertionError("chosen again")

if sys.argv[1] == "known":
    auto.instant = refuse
N = kdsl.sizes("N")

@kdsl.kernel(schedule="auto")
def sums(X: f32[N, N], Y: f32[N]):
    for i in range(N):
        total = f32(0)
        for j in range(N):
            total += X[i, j]
        Y[i] = total

X, Y = np.ones((100, 100), np.float32), np.zeros(100, np.float32)
sums(X, Y)
assert (Y == 100).all()
s = sums.schedule(X, Y)
assert s.steps
print(s.to_json(), "islpy" in sys.modules)
"""
    )
    folder = str(tmp_path / "cache")
    first = run_python(str(script), "new", KDSL_CACHE_DIR=folder).stdout
    again = run_python(str(script), "known", KDSL_CACHE_DIR=folder).stdout
    assert first.endswith("True\n") and again.endswith("False\n")
    assert first.rpartition(" ")[0] == again.rpartition(" ")[0]


@pytest.mark.parametrize(
    "kept",
    [
        {},
        {"steps": 3},
        {"steps": "no schedule"},
        {"steps": '{"kernel": "triple", "steps": [{"do": "vectorize", "loop": "k", "lanes": 4}]}'},
        {"steps": '{"kernel": "triple", "steps": [{"do": "hurry"}]}'},
    ],
)
def test_a_remembered_choice_that_is_none_is_made_again(
    kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KDSL_CACHE_DIR", str(tmp_path))
    asked = count_choices(monkeypatch)
    X = np.zeros(5000, np.float32)
    first = fresh().schedule(X, X.copy()).to_json()
    assert fresh().schedule(X, X.copy()).to_json() == first and asked == ["triple"]
    kernel = fresh()
    chooser = Chooser(kernel, arguments(kernel.__kdsl_source__, (X, X.copy()), {}, kernel.target))
    chooser._store(chooser._choice, kept)
    run(kernel, 5000)
    assert asked == ["triple", "triple"]
    assert fresh().schedule(X, X.copy()).to_json() == first and len(asked) == 2


def test_each_class_with_a_stored_schedule_has_its_own() -> None:
    kernel = fresh()
    store(kernel, {"N": 1000}, plain(kernel).vectorize("i", 4))
    store(kernel, {"N": 64}, plain(kernel).vectorize("i", 16))
    for n in (1000, 64, 1000, 64, 5, 1000, 100_003, 64):
        run(kernel, n)
    assert lanes(kernel, 64) == 's.vectorize("i", lanes=16)'
    # 1000 and 1016 are of one class; 1001 is not divisible by 8, but of the same power of two.
    assert lanes(kernel, 1016) == lanes(kernel, 1001) == 's.vectorize("i", lanes=4)'
    run(kernel, 1001)
    (variants,) = kernel._variants.values()
    assert [v.only for v in variants][:2] == ["N=2^10/8", "N=2^6/64"]


def test_assumptions_are_tested_again() -> None:
    kernel = fresh()
    s = plain(kernel).assume("N % 100 == 0").split("i", 100, tail="perfect").vectorize("i_i", 4)
    store(kernel, {"N": 1000}, s)
    assert lanes(kernel, 1000) == 's.vectorize("i_i", lanes=4)'
    assert lanes(kernel, 1008) != 's.vectorize("i_i", lanes=4)'
    for n in (1000, 1008, 600, 0, 3):
        run(kernel, n)
    other = fresh()
    for n in (1008, 1000, 8):
        run(other, n)


def test_what_this_version_refuses_is_passed_over() -> None:
    kernel = fresh()
    s = plain(kernel).vectorize("i", 4)
    key = Key(kernel_key(s.base), sizes_class({"N": 64}), fingerprint(resolve("cpu")))
    for steps in ("nonsense", '{"steps": [{"do": "vectorize", "loop": "gone"}]}', '{"steps": 3}'):
        tuning_database().set_best(key, Best("triple", {"N": 64}, 1.0, 2.0, steps))
        fresh_one = fresh()
        run(fresh_one, 64)


def test_another_number_of_threads_is_better_than_nothing() -> None:
    kernel = fresh()
    target = resolve("cpu").fingerprint
    store(kernel, {"N": 64}, plain(kernel).vectorize("i", 16), f"{target}/63")
    assert lanes(kernel, 64) == 's.vectorize("i", lanes=16)'
    store(kernel, {"N": 64}, plain(kernel).vectorize("i", 8))
    assert lanes(kernel, 64) == 's.vectorize("i", lanes=8)'
    store(kernel, {"N": 32}, plain(kernel).vectorize("i", 4), "another/2")
    assert lanes(kernel, 32) != 's.vectorize("i", lanes=4)'


def test_the_ways_to_ask_for_it() -> None:
    kernel = k.matmul.with_schedule("auto")
    assert kernel is k.matmul.with_schedule("auto")
    A, B, C = k.product(33, 17, 9)
    pickle.loads(pickle.dumps(kernel))(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-4, atol=1e-4)
    C[:] = 0
    kernel(A=A, B=B, C=C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-4, atol=1e-4)
    kernel.on("interpreter")(A, B, C)
    np.testing.assert_allclose(C, A @ B, rtol=1e-4, atol=1e-4)
    with pytest.raises(kdsl.ScheduleError, match="'fastest' is not a schedule"):
        k.matmul.with_schedule("fastest")  # type: ignore[arg-type]
    with pytest.raises(kdsl.ArgumentError):
        kernel(A, A, C)
    assert k.double.with_schedule("auto")(np.ones((3, 4), np.float32)).tolist() == [[2.0] * 4] * 3


def test_the_facts_of_a_class() -> None:
    assert class_facts("M=2^10/64 N=2^9/8 K=2^3") == [
        *("M <= 1024", "M > 512", "M % 64 == 0"),
        *("N <= 512", "N > 256", "N % 8 == 0", "N % 64 != 0"),
        *("K <= 8", "K > 4", "K % 8 != 0"),
    ]
    for n in (0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 1000, 1024):
        for fact in class_facts(sizes_class({"N": n})):
            assert eval(fact, {"N": n}), (n, fact)
