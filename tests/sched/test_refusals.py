"""Refused steps: whole messages, kept in refusals.txt (written anew by --update-messages)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kdsl.errors import ScheduleError
from kdsl.sched import Schedule
from tests.sched import kernels as k
from tests.sched.check import Steps, schedule_of

GOLDEN = Path(__file__).with_name("refusals.txt")


def from_text(text: str) -> Any:
    return lambda s: Schedule.from_json(s.base, text)


CASES: list[tuple[str, Any, Steps]] = [
    ("missing argument", k.add, lambda s: s.split("i")),  # type: ignore[call-arg]
    ("unknown argument", k.add, lambda s: s.split("i", 4, tails="cut")),  # type: ignore[call-arg]
    ("wrong type", k.add, lambda s: s.split("i", 4.5)),  # type: ignore[arg-type]
    ("wrong choice", k.add, lambda s: s.split("i", 4, tail="mask")),  # type: ignore[arg-type]
    ("names in one string", k.add, lambda s: s.tile("ij", [4, 4])),
    ("factor of zero", k.add, lambda s: s.split("i", 0)),
    ("one loop to reorder", k.add, lambda s: s.reorder("i")),
    ("tile without sizes", k.add, lambda s: s.tile(["i", "j"], [4])),
    ("misspelt loop", k.matmul, lambda s: s.tile(["i", "j"], [4, 4]).split("i_oo", 2)),
    ("no such loop", k.add, lambda s: s.split("rows", 2)),
    ("no such copy", k.add, lambda s: s.split("i@1", 2)),
    ("several copies", k.pair, lambda s: s.fuse("i", "k").fission("i", after=0).fuse("i", "i")),
    ("misspelt statement", k.both, lambda s: s.fission("i", after="Y[i] = t + 2")),
    ("index beyond the body", k.both, lambda s: s.fission("i", after=9)),
    ("after the last statement", k.both, lambda s: s.fission("i", after=-1)),
    ("taken name", k.matmul, lambda s: s.split("i", 4, into=("j", "x"))),
    ("equal names", k.matmul, lambda s: s.split("i", 4, into=("x", "x"))),
    ("no identifier", k.matmul, lambda s: s.split("i", 4, into=("i.o", "x"))),
    ("break", k.until, lambda s: s.split("i", 4)),
    ("continue", k.skipping, lambda s: s.unroll("i", 4)),
    ("marked already", k.fixed, lambda s: s.unroll("i").split("i", 2)),
    ("bound changes", k.moving, lambda s: s.split("i", 2)),
    ("not whole blocks", k.fixed, lambda s: s.split("i", 3, tail="perfect")),
    ("perhaps not whole blocks", k.triangle, lambda s: s.split("j", 3, tail="perfect")),
    ("unknown length unrolled", k.axpy, lambda s: s.unroll("i")),
    ("recurrence parallel", k.prefix, lambda s: s.parallel("i")),
    ("accumulation parallel", k.rows, lambda s: s.parallel("j")),
    ("recurrence vectorized", k.prefix, lambda s: s.vectorize("i", 4)),
    ("accumulation bound", k.rows, lambda s: s.bind("j", "block.x")),
    ("strict sum vectorized", k.strict_dot, lambda s: s.vectorize("i", 4)),
    ("accumulation in a local", k.matmul, lambda s: s.parallel("k")),
    ("reversed dependence", k.shifted, lambda s: s.reorder("j", "i")),
    ("fusion reads too early", k.upwind, lambda s: s.fuse("i", "k")),
    ("fusion too early", k.jacobi, lambda s: s.fuse("i", "j")),
    ("reversed by fission", k.carried, lambda s: s.fission("i", after=0)),
    ("tiled recurrence", k.seidel, lambda s: s.tile(["t", "i"], [4, 4])),
    ("different ranges", k.offset, lambda s: s.peel("i", 1).fuse("i_p", "i")),
    ("not neighbours", k.matmul, lambda s: s.fuse("i", "j")),
    ("negative shift", k.pair, lambda s: s.fuse("i", "k", shift=-1)),
    ("not nested", k.pair, lambda s: s.reorder("i", "k")),
    (
        "not nested, after a cut",
        k.matmul,
        lambda s: s.tile(["i", "j"], [4, 4], tail="cut").reorder("i_t", "k", "i_i"),
    ),
    (
        "several nests",
        k.both,
        lambda s: s.split("i", 4).fission("i_i", after=1).split("i_i", 2).reorder("i_i_i", "i_i_o", "i_o"),
    ),
    ("unknown step", k.stepped, lambda s: s.peel("i", 1)),
    ("different steps", k.ways, lambda s: s.fuse("i", "k")),
    ("collapsed triangle", k.triangle, lambda s: s.collapse("i", "j")),
    ("collapsed with more inside", k.rows, lambda s: s.collapse("i", "j")),
    ("collapsed from far", k.matmul, lambda s: s.reorder("i", "k", "j").collapse("i", "j")),
    ("collapsed over a loop", k.deep, lambda s: s.collapse("i", "k")),
    ("collapsed outside in", k.add, lambda s: s.collapse("j", "i")),
    ("collapsed of unknown length", k.deep, lambda s: s.collapse("j", "k")),
    ("collapsed by data", k.by_data, lambda s: s.collapse("i", "j")),
    ("collapsed and marked", k.add, lambda s: s.parallel("i").collapse("i", "j")),
    ("collapsed with a break", k.searched, lambda s: s.collapse("i", "j")),
    ("collapsed recurrence parallel", k.shifted, lambda s: s.collapse("i", "j").parallel("i_j")),
    ("collapsed recurrence vectorized", k.shifted, lambda s: s.collapse("i", "j").vectorize("i_j", 4)),
    ("collapsed sum parallel", k.adding, lambda s: s.collapse("i", "j").split("i_j", 4).parallel("i_j_o")),
    ("skewed by itself", k.seidel, lambda s: s.skew("t", "i", 1)),
    ("condition on data", k.axpy, lambda s: s.assume("X[0] > 1")),
    ("condition with unknown name", k.axpy, lambda s: s.assume("L % 2 == 0")),
    ("no condition", k.axpy, lambda s: s.specialize("N %")),
    ("product of sizes", k.matmul, lambda s: s.assume("M * N > 4")),
    ("no schedule", k.axpy, from_text("{}")),
    ("unknown primitive", k.axpy, from_text('{"steps": [{"do": "vectorise", "loop": "i"}]}')),
    ("without kernel", k.axpy, lambda s: s()),
]


def message(kernel: Any, steps: Steps) -> str:
    start = schedule_of(kernel)
    before = str(start)
    with pytest.raises(ScheduleError) as caught:
        steps(start)
    assert str(start) == before
    text = re.sub(r"\(test_refusals.py:\d+\)", "(test_refusals.py)", str(caught.value))
    return re.sub(r"the primitives are .*", "the primitives are ...", text)


@pytest.mark.parametrize(("name", "kernel", "steps"), CASES, ids=[c[0] for c in CASES])
def test_message(name: str, kernel: Any, steps: Steps) -> None:
    golden = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", GOLDEN.read_text(), re.M))
    assert message(kernel, steps) == golden[name].rstrip("\n")


def test_golden_texts(update_messages: bool) -> None:
    if update_messages:
        GOLDEN.write_text("\n\n".join(f"## {name}\n{message(k_, s)}" for name, k_, s in CASES) + "\n")
    assert re.findall(r"^## (.*)", GOLDEN.read_text(), re.M) == [c[0] for c in CASES]


TOO_FAR: list[tuple[Any, Steps]] = [
    (k.add, lambda s: s.split("i", 2**63)),
    (k.add, lambda s: s.tile(["i", "j"], [4, -1])),
    (k.seidel, lambda s: s.skew("i", "t", 2**40)),
    (k.pair, lambda s: s.fuse("i", "k", shift=2**62)),
    (k.add, lambda s: s.peel("i", 2**62)),
    (k.add, lambda s: s.unroll("i", 2**20)),
    (k.add, lambda s: s.split("i", 4, into=("for", "x"))),
    (k.add, lambda s: s.unroll("i", 1000).unroll("j", 1000)),
    (k.axpy, lambda s: s.assume("N < " + "9" * 40)),
    (k.axpy, lambda s: s.assume("-(N) < 1")),
    (k.axpy, lambda s: s.assume("\0")),
    (k.axpy, lambda s: s.split("", 2)),
    (k.axpy, lambda s: s.split("i@", 2)),
    (k.axpy, lambda s: s.split("i@-1", 2)),
    (k.axpy, lambda s: s.fission("i", after="")),
    (k.axpy, lambda s: s.reorder()),
]


@pytest.mark.parametrize(("kernel", "steps"), TOO_FAR)
def test_nonsense_is_refused(kernel: Any, steps: Steps) -> None:
    with pytest.raises(ScheduleError) as caught:
        steps(schedule_of(kernel))
    assert caught.value.help


def test_a_kernel_that_doubles_too_often() -> None:
    s = schedule_of(k.axpy)
    with pytest.raises(ScheduleError) as caught:
        for n in range(20):
            s = s.specialize(f"N > {n}")
    assert caught.value.code == "K0307"


def test_a_nest_that_grows_too_deep() -> None:
    s = schedule_of(k.axpy)
    with pytest.raises(ScheduleError) as caught:
        for n in range(60):
            s = s.split("i" if n == 0 else f"a{n - 1}", 2, into=(f"a{n}", f"b{n}"))
    assert caught.value.code == "K0307"
