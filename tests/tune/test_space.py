"""Sketches: what the space of a program contains, that all of it is legal, and that its traces are steps."""

from __future__ import annotations

import random
from typing import Any

import pytest

from benchmarks import kernels
from kdsl.backends import llvm
from kdsl.errors import KdslError, ScheduleError
from kdsl.ir.printer import print_func
from kdsl.sched import Schedule
from kdsl.sched.rewriting.tree import places
from kdsl.tune.spaces.choice import pinned
from kdsl.tune.spaces.rows import STREAMS
from kdsl.tune.spaces.sketches import sketches
from kdsl.tune.spaces.space import Knob, Sketch
from kdsl.tune.spaces.sums import FORMS
from tests.sched.check import check_forms, check_meaning, schedule_of
from tests.tune import kernels as small

TARGET = llvm.host_target()
SIZES = {"M": 256, "N": 256, "K": 256, "H": 64, "W": 64, "C": 16, "D": 16}


def space(kernel: Any) -> list[Sketch]:
    s = schedule_of(kernel)
    return sketches(s, TARGET, {n: SIZES[n] for n in s.func.sizes})


def test_a_knob_starts_from_one_of_its_values() -> None:
    with pytest.raises(AssertionError):
        Knob("tall", (1, 2), 3)


def test_candidates_are_counted_and_named() -> None:
    sketch = Sketch("a", (Knob("x", (1, 2, 3), 2), Knob("y", ("p", "q"), "p")), lambda s, _: s)
    found = list(sketch.candidates())
    assert len(found) == sketch.count == 6 and len({c.key for c in found}) == 6
    assert sketch.candidate(y="q").values == {"x": 2, "y": "q"}


@pytest.mark.parametrize(
    ("kernel", "ways"),
    [
        ("gelu", {"vectors"}),
        ("softmax", {"vectors"}),
        ("matmul", {"vectors", "tile i x j"}),
        ("matmul_dots", {"vectors", "tile i x j"}),
        ("conv2d", {"vectors", "tile d x x"}),
        ("jacobi", {"vectors", "blocks of i over t"}),
        ("blur", {"vectors", "P in tiles", "P in rows", "P inline"}),
    ],
)
def test_ways(kernel: str, ways: set[str]) -> None:
    """Found by structure: nothing in the tuner knows these kernels."""
    assert {*ways, "program order"} <= {s.name for s in space(getattr(kernels, kernel))}


@pytest.mark.parametrize("kernel", ["matmul", "matmul_dots", "blur_u16", "jacobi"])
def test_candidates_are_right(kernel: str) -> None:
    """Random candidates: JSON, trace and pickle round trips; the same arrays before and after the steps."""
    rng = random.Random(kernel)
    start = schedule_of(getattr(kernels, kernel))
    tried = 0
    for sketch in space(getattr(kernels, kernel)):
        values = {k.name: rng.choice(k.values) for k in sketch.knobs}
        try:
            s = sketch.candidate(**values).schedule(start)
        except ScheduleError:
            continue
        tried += 1
        assert s.steps[: len(start.steps)] == start.steps
        check_forms(s)
        check_meaning(s, rounds=2)
    assert tried >= 2


def knob(kernel: Any, name: str, sketch: str, **sizes: int) -> Knob | None:
    """The knob of a sketch at these sizes."""
    s = schedule_of(kernel)
    found = next(x for x in sketches(s, TARGET, sizes) if x.name == sketch)
    return next((k for k in found.knobs if k.name == name), None)


def test_streams_have_a_knob() -> None:
    """Line by line from the start where memory is what a loop waits for."""
    large, small = {"M": 4096, "N": 4096}, {"M": 8, "N": 512}
    for sizes, default in ((large, "8 x 64"), (small, "together")):
        found = knob(kernels.layernorm, "stream", "vectors", **sizes)
        assert found is not None and found.default == default
    light, heavy = (knob(k, "stream", "vectors", N=1 << 24) for k in (kernels.saxpy, kernels.gelu))
    assert light is not None and light.default == "4 x 32"  # loads what it writes
    assert heavy is not None and heavy.default == "together"
    # The last loop of a row of softmax writes what the one before has left in the cache.
    assert knob(kernels.softmax, "stream", "vectors", **large) is None
    # Each term of a product comes to the same cells.
    assert knob(kernels.matmul, "stream", "vectors", M=1024, N=1024, K=1024) is None


@pytest.mark.parametrize("kernel", ["layernorm", "saxpy", "gelu"])
def test_streams_are_right(kernel: str) -> None:
    start = schedule_of(getattr(kernels, kernel))
    sketch = next(x for x in space(getattr(kernels, kernel)) if x.name == "vectors")
    for form in STREAMS:
        s = sketch.candidate(stream=form).schedule(start)
        written = {str(step) for step in s.steps if step.name == "unroll"}
        assert bool(written) == (form not in ("together", "1 x 64")), form
        check_forms(s)
        if kernel == "saxpy":  # the interpreter of the others needs their math functions expanded
            check_meaning(s, rounds=2)


def test_rows_of_a_hand_written_schedule_are_in_the_space() -> None:
    start = schedule_of(kernels.layernorm)
    sketch = next(x for x in space(kernels.layernorm) if x.name == "vectors")
    s = sketch.candidate(registers=8, stream="8 x 64").schedule(start)
    assert print_func(s.func) == print_func(kernels.streamed_rows(start).func)


@pytest.mark.parametrize("kernel", ["matmul", "matmul_dots"])
def test_products_of_few_rows(kernel: str) -> None:
    """Rows of the operand are added as they lie in memory; where many rows use it there is no such way."""
    start = schedule_of(getattr(kernels, kernel))
    few, many = (sketches(start, TARGET, {"M": m, "N": 4096, "K": 4096}) for m in (1, 64))
    assert "rows of k x j" not in {x.name for x in many}
    sketch = next(x for x in few if x.name == "rows of k x j")
    s = sketch.candidate(block=512, wide=2).schedule(start)
    check_forms(s)
    check_meaning(s, rounds=2)


@pytest.mark.parametrize("form", FORMS)
def test_sums_of_blocks(form: str) -> None:
    start = schedule_of(kernels.total)
    found = sketches(start, TARGET, {"N": 1 << 20})
    sketch = next(x for x in found if x.name == "partial sums of i")
    s = sketch.candidate(block=1 << 12, form=form).schedule(start)
    assert ("unroll" in {step.name for step in s.steps}) == (form != "together")
    check_forms(s)
    check_meaning(s, rounds=2)


def test_planes_in_blocks() -> None:
    """Loops that move along memory in different arrays, and no others."""
    start = schedule_of(small.transposed)
    found = {x.name: x for x in sketches(start, TARGET, {"M": 700, "N": 900})}
    for tall, broad in ((4, 16), (16, 4)):
        s = found["blocks of i x j"].candidate(tall=tall, broad=broad).schedule(start)
        assert [step.name for step in s.steps] == ["tile", "reorder", "vectorize", "parallel"]
        check_forms(s)
        check_meaning(s, rounds=2)
    for kernel in (kernels.matmul, kernels.softmax, kernels.blur):
        assert not [x for x in space(kernel) if x.name.startswith("blocks of")]


def test_sums_of_columns_are_added_row_by_row() -> None:
    start = schedule_of(small.columns)
    found = {x.name: x for x in sketches(start, TARGET, {"M": 700, "N": 900})}
    s = found["vectors"].candidate().schedule(start)
    # Threads for the loop over a row would start once for each row.
    assert s.trace().splitlines()[1:4] == [
        '    s = s.reorder("i", "j")',
        '    s = s.vectorize("j", lanes=64)',
        '    s = s.parallel("j@0")',
    ]
    check_forms(s)
    check_meaning(s, rounds=2)


def test_blocks_of_a_time_sweep_are_shared() -> None:
    """Guards around their loops are no reason against it: the hand-written schedule is in the space."""
    start = schedule_of(kernels.jacobi)
    found = {x.name: x for x in sketches(start, TARGET, {"N": 2048}, threads=2)}
    s = found["blocks of i over t"].candidate(lanes=1, registers=1).schedule(start)
    assert [p.loop.mark.kind for p in places(s.func) if p.loop.var == "i_i" and p.loop.mark] == [
        "parallel"
    ] * 2


def test_program_order_on_threads() -> None:
    start = schedule_of(small.running)
    found = {x.name: x for x in sketches(start, TARGET, {"M": 64, "N": 512})}
    assert [str(step) for step in found["threads"].candidate().schedule(start).steps] == ['s.parallel("i")']
    assert "threads" not in {x.name for x in sketches(schedule_of(kernels.total), TARGET, {"N": 1 << 20})}


def test_on_one_thread_there_is_nothing_to_choose_about_threads() -> None:
    start, sizes = schedule_of(kernels.gelu), {"N": 1 << 20}
    one, two = (sketches(start, TARGET, sizes, threads=n) for n in (1, 2))
    for few, many in zip(one, two, strict=True):
        assert few.name == many.name
        assert [k.name for k in many.knobs if k.name != "threads"] == [k.name for k in few.knobs]
        assert few.candidate().schedule(start) == many.candidate().schedule(start)
    with pytest.raises(KdslError, match="there is no knob `threads`"):
        pinned(one, {"threads": "one"})
    assert pinned(two, {"threads": "one"})


def test_a_prefix_is_kept() -> None:
    start = schedule_of(kernels.matmul).split("k", 64)
    found = sketches(start, TARGET, {"M": 256, "N": 256, "K": 256})
    assert len(found) > 2
    for sketch in found:
        s = sketch.candidate().schedule(start)
        assert isinstance(s, Schedule) and s.steps[:1] == start.steps
