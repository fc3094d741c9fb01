"""One way to ask whether launches keep the meaning of a kernel: the model's run against the interpreter's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from kdsl.errors import KdslError
from kdsl.ir import interpreter
from kdsl.ir.launch import Dispatch, HostIf, HostLoop, HostSteps, Launches
from kdsl.ir.launch_printer import dispatches
from kdsl.ir.nodes import ArrayParam, Barrier, Body, Func
from kdsl.ir.parser import parse_func
from kdsl.ir.walk import map_stmt, stmts
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.passes.launches import launches
from kdsl.target import Limits, Target
from tests.launches.model import Model, Order, Race, backwards, in_order, shuffled, verify_launches

TARGET = Target(
    "vulkan",
    cpu="a test device",
    features="shaderInt64,shaderFloat64",
    limits=Limits(
        invocations=256, block=(256, 256, 64), groups=(1 << 31,) * 3, shared_bytes=32768, buffers=16
    ),
)

EXTENTS = (7, 1, 0, 5, 13, 8, 3)
ORDERS: tuple[Order, ...] = (in_order, backwards, shuffled(1))


def launched(func: Func | str, target: Target = TARGET) -> Launches:
    """The launches of a function, or of its text, after lowering."""
    func = parse_func(func) if isinstance(func, str) else func
    made = launches(lower(func, target, definition, verify=True), target)
    verify_launches(made)
    return made


def sizes_to_try(func: Func, rounds: int = 5) -> list[dict[str, int]]:
    """Values for the sizes, different ones for different symbols."""
    return [
        {name: EXTENTS[(n + 2 * k) % len(EXTENTS)] for k, name in enumerate(func.sizes)}
        for n in range(rounds if func.sizes else 1)
    ]


def arguments(func: Func, sizes: Mapping[str, int], seed: int = 0) -> dict[str, Any]:
    """Arrays of small integers, and scalars, for one run."""
    rng = np.random.default_rng(seed)
    out: dict[str, Any] = {}
    for p in func.params:
        if isinstance(p, ArrayParam):
            out[p.name] = rng.integers(0, 4, [d.evaluate(sizes) for d in p.shape]).astype(p.dtype.np)
        else:
            out[p.name] = p.dtype.np.type(rng.integers(1, 5))
    return out


def outcome(run: Any, given: Mapping[str, Any], sizes: Mapping[str, int], **options: Any) -> Any:
    """The arrays after a run, or the text of the error."""
    arrays = {k: v.copy() for k, v in given.items() if isinstance(v, np.ndarray)}
    scalars = {k: v for k, v in given.items() if not isinstance(v, np.ndarray)}
    try:
        run(arrays, scalars, sizes, **options)
    except KdslError as e:
        return str(e)
    return arrays


def same(got: Any, want: Any, what: str) -> None:
    """The same bits in every array, or the same error."""
    assert isinstance(got, dict) == isinstance(want, dict), (what, got, want)
    if not isinstance(got, dict):
        assert got == want, what
        return
    for name in want:
        assert got[name].tobytes() == want[name].tobytes(), (what, name, got[name], want[name])


def check_launches(
    func: Func | str,
    target: Target = TARGET,
    sizes: Sequence[Mapping[str, int]] | None = None,
    orders: Sequence[Order] = ORDERS,
) -> Launches:
    """Cuts `func` into launches; runs them at several sizes, in several orders, against the interpreter."""
    func = parse_func(func) if isinstance(func, str) else func
    made = launched(func, target)
    model = Model(made)
    plain = interpreter.Interpreter(lower(func, Target("interpreter"), definition))
    for n, at in enumerate(sizes or sizes_to_try(func)):
        given = arguments(func, at, n)
        want = outcome(plain.run, given, at)
        for k, order in enumerate(orders):
            same(outcome(model.run, given, at, order=order), want, f"sizes {dict(at)}, order {k}")
    return made


def barriers(made: Launches) -> list[int]:
    """The ids of all barriers."""
    return [s.id for d in dispatches(made.steps) for s in stmts(d.body) if isinstance(s, Barrier)]


def without(made: Launches, barrier: int) -> Launches:
    """`made` without one barrier."""

    def body(old: Body) -> Body:
        return tuple([map_stmt(s, lambda e: e, body) for s in old if s.id != barrier])

    def steps(old: HostSteps) -> HostSteps:
        out: list[Any] = []
        for s in old:
            match s:
                case Dispatch():
                    out.append(replace(s, body=body(s.body)))
                case HostLoop():
                    out.append(replace(s, steps=steps(s.steps)))
                case HostIf():
                    out.append(replace(s, then=steps(s.then), orelse=steps(s.orelse)))
        return tuple(out)

    return replace(made, steps=steps(made.steps))


def every_barrier_is_needed(made: Launches) -> None:
    """Without any one of them, two invocations meet."""
    sizes = [*sizes_to_try(made.func, 7), dict.fromkeys(made.func.sizes, 17)]
    for barrier in barriers(made):
        model = Model(without(made, barrier))
        assert any(complains(model, arguments(made.func, at, n), at) for n, at in enumerate(sizes))


def complains(model: Model, given: Mapping[str, Any], at: Mapping[str, int]) -> bool:
    """Whether two invocations meet, or one uses what another has not yet written."""
    try:
        found = outcome(model.run, given, at)
    except Race:
        return True
    return isinstance(found, str) and "is used before it is set" in found
