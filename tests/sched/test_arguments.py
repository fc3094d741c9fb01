"""Whatever a step is given, of whatever type: what comes out is a Schedule or a ScheduleError."""

from __future__ import annotations

import inspect
import json
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kdsl.errors import ScheduleError
from kdsl.ir.printer import print_func
from kdsl.ir.verify import verify
from kdsl.sched import Schedule
from kdsl.sched.primitive import PRIMITIVES
from tests.sched import kernels
from tests.sched.check import schedule_of

QUIET = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=250)

STARTS = [schedule_of(k) for k in (kernels.matmul, kernels.jacobi, kernels.until, kernels.pair)]

names = st.one_of(
    st.sampled_from(["i", "j", "k", "t", "i@0", "i@-1", "i@x", "@", "", "acc", "A", "N", "for", "größe"]),
    st.text(max_size=6),
)
numbers = st.one_of(
    st.integers(-2, 9), st.sampled_from([2**31, 2**62, 2**63, 2**64, -(2**63), 10**40]), st.integers()
)
conditions = st.one_of(
    st.sampled_from(
        ["N == 5", "N % 0 == 0", "M // 0 > 1", f"N < {10**400}", "N < 2 ** 200", "N <", "N == N == N",
         "a.b > 1", "N if N else N", "-N > --3", "not N", "(" * 300 + "N" + ")" * 300 + " > 1",
         "N\0 > 1", "N > 1e999",
         "N > '1'", "f(N) > 1", "[N] > 1", "N > 1; N", "N := 3", "lambda: N", "N " + "and N " * 2000]
    ),
    st.text(max_size=12),
)  # fmt: skip
scalars = st.one_of(names, numbers, conditions, st.none(), st.booleans(), st.floats())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=3)),
    max_leaves=6,
)
layouts = st.dictionaries(
    st.sampled_from(["tile", "order", "pad", "align", "fill", "x"]),
    st.one_of(numbers, st.floats(), st.lists(st.one_of(numbers, st.none()), max_size=3), values),
    max_size=4,
)


@st.composite
def arguments(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """Arguments by name, most of them of the right kind."""
    own = list(inspect.signature(PRIMITIVES[name]).parameters.values())[1:]
    given: dict[str, Any] = {}
    for p in own:
        kind = str(p.annotation)
        likely: Any = scalars
        if "Sequence[str]" in kind or p.kind is p.VAR_POSITIONAL:
            likely = st.lists(names, max_size=4)
        elif "Sequence[int]" in kind:
            likely = st.lists(numbers, max_size=4)
        elif "tuple[str, str]" in kind:
            likely = st.one_of(st.none(), st.lists(names, min_size=2, max_size=2))
        elif "Layout" in kind:
            likely = layouts
        elif p.name == "condition":
            likely = conditions
        elif kind.startswith("int"):
            likely = numbers
        elif kind.startswith("str"):
            likely = names
        elif "Literal" in kind or kind in ("Tail", "Axis"):
            likely = st.sampled_from(["guard", "cut", "perfect", "first", "last", "grid.x", "register", "x"])
        if p.default is p.empty or draw(st.booleans()):
            given[p.name] = draw(st.one_of(likely, likely, likely, values))
    return given


def only_schedule_errors(start: Schedule, text: str) -> None:
    shown = str(start)
    try:
        made = Schedule.from_json(start.base, text)
    except ScheduleError as refusal:
        assert refusal.code.startswith("K03") and str(refusal)
    else:
        verify(made.func)
        assert print_func(made.func)
        assert Schedule.from_json(start.base, made.to_json()) == made
    assert str(start) == shown


@QUIET
@given(st.sampled_from(STARTS), st.sampled_from(sorted(PRIMITIVES)), st.data())
def test_arguments_of_steps(start: Schedule, name: str, data: Any) -> None:
    given = data.draw(arguments(name))
    only_schedule_errors(start, json.dumps({"steps": [{"do": name, **given}]}))
    many = [
        p.name for p in inspect.signature(PRIMITIVES[name]).parameters.values() if p.kind is p.VAR_POSITIONAL
    ]
    first = given.pop(many[0]) if many else []
    try:
        getattr(start, name)(*(first if isinstance(first, list) else [first]), **given)
    except ScheduleError as refusal:
        assert refusal.code.startswith("K03") and str(refusal)


@QUIET
@given(st.sampled_from(STARTS), st.one_of(values.map(json.dumps), st.text(), st.lists(values).map(
    lambda steps: json.dumps({"steps": steps}))))  # fmt: skip
@example(STARTS[0], '{"steps": [{"do": "split", "self": 1}]}')
@example(STARTS[0], '{"steps": [{"do": "__init__"}]}')
@example(STARTS[0], '{"steps": [{"do": ["split"], "loop": "i"}]}')
@example(STARTS[0], '{"steps": {"do": "split"}}')
@example(STARTS[0], '{"steps": [{"do": "split", "loop": "i", "factor": ' + "9" * 5000 + "}]}")
@example(STARTS[0], '{"steps": ' + "[" * 3000 + "]" * 3000 + "}")
@example(STARTS[0], '{"steps": [{"do": "reorder", "loops": "ij"}]}')
@example(STARTS[0], '{"steps": [{"do": "split", "loop": "\\ud800", "factor": 2}]}')
def test_texts(start: Schedule, text: str) -> None:
    only_schedule_errors(start, text)
