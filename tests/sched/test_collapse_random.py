"""Random rectangles, collapsed, split and reordered: verdicts against enumeration at all small sizes.

- Accepted as parallel: no two iterations conflict; as a vector: lockstep gives equal memory.
- Accepted in another order: equal memory. Refused with a counterexample: some sizes show one.
"""

from __future__ import annotations

from itertools import product
from typing import Any

from hypothesis import given, note
from hypothesis import strategies as st

from kdsl.analysis.dependence import Unproved, Violation, check_mark
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Loop
from kdsl.ir.parser import parse_func
from kdsl.ir.walk import stmts
from kdsl.sched import Schedule
from tests.analysis.running import conflict, instances, run, run_lockstep
from tests.analysis.test_dependence_random import HEADER, QUICK, VARS, Nest, statements

SIZES = [{"M": m, "N": n} for m, n in product(range(4), repeat=2)]


@st.composite
def schedules(draw: st.DrawFn) -> Schedule:
    depth = draw(st.integers(2, 3))
    loops = []
    for var in VARS[:depth]:
        lo = draw(st.sampled_from(("0", "0", "0", "1")))
        hi = draw(st.sampled_from(("M", "N", "M", "N", "3", "M - 1")))
        step = draw(st.sampled_from((1, 1, 1, 2, -1)))
        loops.append((var, lo, f"{hi}, {step}") if step > 0 else (var, f"{hi} - 1", f"{lo} - 1, {step}"))
    body = tuple([draw(statements(VARS[:depth])) for _ in range(draw(st.integers(1, 2)))])
    s = Schedule(parse_func(HEADER + Nest(tuple(loops), body).text()))
    pair = draw(st.sampled_from([("i", "j"), ("j", "k")] if depth == 3 else [("i", "j")]))
    s = s.collapse(*pair)
    name = "_".join(pair)
    if depth == 3 and draw(st.booleans()):
        s = s.collapse("i_j", "k") if pair == ("i", "j") else s.collapse("i", "j_k")
        name = "i_j_k"
    if draw(st.booleans()):
        tail: Any = draw(st.sampled_from(("guard", "cut", "perfect")))
        try:
            s = s.split(name, draw(st.integers(1, 4)), tail=tail)
        except ScheduleError as refusal:
            # A constant number of iterations that is no multiple.
            assert tail == "perfect" and refusal.code == "K0315"
    note(str(s))
    return s


@QUICK
@given(schedules(), st.data())
def test_marks(s: Schedule, data: Any) -> None:
    loops = [x for x in stmts(s.func.body) if isinstance(x, Loop)]
    loop = data.draw(st.sampled_from(loops))
    lanes = data.draw(st.sampled_from((None, 2, 3)))
    depth = 1 + sum(any(x is loop for x in stmts(outer.body)) for outer in loops)
    race, vector = (check_mark(s.func, loop.id, kind, lanes) for kind in ("parallel", "vectorize"))  # type: ignore[arg-type]
    racing = False
    for sizes in SIZES:
        order = list(instances(s.func, sizes))
        if vector is None:
            assert run(order) == run_lockstep(s.func, sizes, depth, lanes, loop), sizes
        racing = racing or races(order, loop, depth)
    assert not (racing and race is None)
    if isinstance(race, Violation):
        assert races(list(instances(s.func, race.sizes)), loop, depth), race
    if isinstance(race, Unproved):
        note(f"not proved: {race}, {racing}")


def races(order: list[Any], loop: Loop, depth: int) -> bool:
    at = 2 * depth - 1
    inside = [x for x in order if len(x.path) > at and any(s is x.stmt for s in stmts(loop.body))]
    return any(
        a.path[:at] == b.path[:at] and a.env[loop.var] != b.env[loop.var] and conflict(a, b, strict=True)
        for k, a in enumerate(inside)
        for b in inside[k + 1 :]
    )


@QUICK
@given(schedules(), st.data())
def test_orders(s: Schedule, data: Any) -> None:
    loops = list(dict.fromkeys(x.var for x in stmts(s.func.body) if isinstance(x, Loop)))
    order = data.draw(st.permutations(loops))
    try:
        new = s.reorder(*order[: data.draw(st.integers(2, 4))])
    except ScheduleError:
        return
    for sizes in SIZES:
        assert run(instances(s.func, sizes)) == run(instances(new.func, sizes)), (sizes, str(new))
