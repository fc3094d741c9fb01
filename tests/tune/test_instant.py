"""A schedule at once: for the usual kernels a good one, for any program a right one."""

from __future__ import annotations

from itertools import takewhile
from typing import Any

import pytest

from benchmarks import kernels
from kdsl.backends import llvm
from kdsl.errors import KdslError
from kdsl.sched import Schedule
from kdsl.tune.auto import instant, ranked
from kdsl.tune.costs.cost import FEATURES, features, predict
from kdsl.tune.spaces.sketches import sketches
from tests.check import Draw, Program, clone, compare_all, results
from tests.programs.test_programs import PROGRAMS
from tests.sched.check import check_forms, check_meaning, schedule_of
from tests.tune import kernels as small

TARGET = llvm.host_target()
SAMPLE = [p for p in PROGRAMS if "cpu" in p.targets][3::12]


def marks(s: Schedule) -> set[str]:
    return {step.name for step in s.steps}


@pytest.mark.parametrize("kernel", ["gelu", "saxpy", "softmax", "total"])
def test_rows_and_elements_become_vectors(kernel: str) -> None:
    start = schedule_of(getattr(kernels, kernel))
    s = instant(start, TARGET, {"M": 1024, "N": 1024})
    assert "vectorize" in marks(s)
    check_forms(s)


@pytest.mark.parametrize("kernel", ["matmul", "matmul_dots", "matmul_f64"])
def test_products_become_tiles(kernel: str) -> None:
    start = schedule_of(getattr(kernels, kernel))
    s = instant(start, TARGET, {"M": 1000, "N": 999, "K": 1001})
    assert {"reorder", "stage", "vectorize", "unroll"} <= marks(s)
    assert predict(s.func, TARGET, {"M": 1000, "N": 999, "K": 1001}) < 0.05 * predict(
        start.func, TARGET, {"M": 1000, "N": 999, "K": 1001}
    )
    check_meaning(s)


def test_the_order_in_memory_counts_beyond_the_caches() -> None:
    """A line after the other is faster where results go to memory; in the caches it makes no difference."""
    start = schedule_of(kernels.layernorm)
    wide, lines = kernels.by_rows(start), kernels.streamed_rows(start)

    def ratio(**sizes: int) -> float:
        return predict(wide.func, TARGET, sizes) / predict(lines.func, TARGET, sizes)

    assert ratio(M=1 << 14, N=1 << 12) > 1.15
    assert 0.9 < ratio(M=8, N=1024) < 1.1


def test_short_pieces_of_rows_take_memory_longer() -> None:
    """Columns of a matrix that is used once: the wider, the better; whole rows are the best."""
    start, sizes = schedule_of(kernels.matmul), {"M": 1, "N": 4096, "K": 4096}
    found = {x.name: x for x in sketches(start, TARGET, sizes)}

    def seconds(name: str, **values: Any) -> float:
        return predict(found[name].candidate(**values).schedule(start).func, TARGET, sizes)

    columns = [seconds("tile i x j", wide=n) for n in (1, 2, 4, 8)]
    assert columns == sorted(columns, reverse=True) and columns[0] > 3 * columns[-1]
    assert seconds("rows of k x j") < 0.8 * columns[-1]
    assert seconds("rows of k x j") < seconds("vectors")


def test_an_array_that_is_both_operands() -> None:
    """Its rows and its columns are apart in memory, whatever lies between them."""
    assert {"tile", "split"} & marks(instant(schedule_of(small.square_relu), TARGET, {"N": 256}))


@pytest.mark.parametrize("n", (700, 1024, 4096))
def test_transposes_become_blocks(n: int) -> None:
    start = schedule_of(small.transposed)
    assert "tile" in marks(instant(start, TARGET, {"M": n, "N": n}))


def test_the_same_program_gets_the_same_schedule() -> None:
    start = schedule_of(kernels.conv2d)
    sizes = {"C": 16, "D": 16, "H": 56, "W": 56}
    assert instant(start, TARGET, sizes).to_json() == instant(start, TARGET, sizes).to_json()


def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that are made from now on, in a list that grows."""
    made: list[str] = []
    taking = Schedule._with

    def counted(s: Schedule, step: Any, func: Any) -> Schedule:
        made.append(str(step))
        return taking(s, step, func)

    monkeypatch.setattr(Schedule, "_with", counted)
    return made


def test_schedules_that_begin_alike_share_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    start, sizes = schedule_of(kernels.matmul), {"M": 256, "N": 256, "K": 256}
    sketch = next(x for x in sketches(start, TARGET, sizes) if x.name == "tile i x j")
    made = taken(monkeypatch)
    with start.remembering() as shared:
        one = sketch.candidate(registers=1).schedule(shared)
        assert len(made) == len(one.steps)
        same = sketch.candidate(registers=1).schedule(shared)
        assert same == one and len(made) == len(one.steps)
        other = sketch.candidate(registers=8, tall=4).schedule(shared)
        alike = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one.steps, other.steps)))
        assert alike and len(made) == len(one.steps) + len(other.steps) - alike
        refusals = []
        for _ in range(2):
            with pytest.raises(KdslError) as caught:
                shared.vectorize("nothing", 4)
            refusals.append(str(caught.value))
        assert refusals[0] == refusals[1]
    del made[:]
    assert start.split("i", 4) == one.__class__(start.func).split("i", 4) and len(made) == 2
    assert sketch.candidate(registers=1).schedule(start) == one and len(made) == 2 + len(one.steps)


def test_a_choice_makes_each_step_once(monkeypatch: pytest.MonkeyPatch) -> None:
    start = schedule_of(kernels.layernorm)
    made = taken(monkeypatch)
    seen = ranked(start, TARGET, {"M": 4096, "N": 1024})
    assert sum(len(s.steps) for _, s, _ in seen) > len(made) > 0


def test_features_are_as_many_for_all() -> None:
    for kernel in (kernels.gelu, kernels.matmul, kernels.blur):
        s = schedule_of(kernel)
        sizes = dict.fromkeys(s.func.sizes, 128)
        assert features(s.func, TARGET, sizes).shape == (FEATURES,)


def checked(program: Program, s: Schedule) -> None:
    """The program under a schedule against its oracle, at all of its sizes."""
    for n, size in enumerate(program.sizes):
        args = program.arguments(Draw(n), *size)
        want, got = [clone(a) for a in args], [clone(a) for a in args]
        expected = results(program.oracle(*want))
        actual = results(program.kernel.with_schedule(s)(*got))
        terms = max(4.0, 4.0 * program.terms)  # sums come in another order
        compare_all(actual, expected, "result", terms)
        arrays = [(a, b) for a, b in zip(got, want) if hasattr(a, "shape")]
        compare_all([a for a, _ in arrays], [b for _, b in arrays], "argument", terms)


@pytest.mark.parametrize("program", SAMPLE, ids=lambda p: p.id)
def test_programs_stay_right(program: Program) -> None:
    args: tuple[Any, ...] = program.arguments(Draw(0), *program.sizes[-1])
    start = program.kernel.schedule(*args)
    try:
        s = instant(start, TARGET, {n: 100 + k for k, n in enumerate(start.func.sizes)})
    except KdslError as error:
        pytest.fail(f"no schedule: {error}")
    checked(program, s)
