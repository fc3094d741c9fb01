"""Damaged schedules as JSON and as calls: `ScheduleError`, or a schedule that reads back."""

from __future__ import annotations

import inspect
import json
import random
from typing import Any

import kdsl
from kdsl.errors import KdslError
from kdsl.sched.primitive import PRIMITIVES
from tests.check import Draw
from tests.stress.driver import Run, main
from tests.stress.material import programs

NAMES = (
    "i", "j", "k", "i_o", "j_i", "i@1", "x", "", "é", "N", "i_1", "acc", "A", "0", "i ", "\n", "__class__",
)  # fmt: skip
VALUES = (
    0, 1, 2, 4, 7, 8, -1, 64, 1 << 31, 1 << 63, 1 << 64, 10**40, -(10**40), 10**5000, 0.5, float("inf"),
    float("nan"), True, False, None, "guard", "cut", "perfect", "register", "local", "shared", "grid.x",
    "block.x", "N == 64", "N % 4 == 0", "N >", "1", "M * N > 3", "import os", "__import__('os')",
    "N == 10**400", "(" * 400, [], ["i"], ["i", "j"], [4, 4], [0, -1], [["i"]], {}, {"a": 1},
    ("i_a", "i_b"),
)  # fmt: skip


def _value(draw: random.Random, names: list[str]) -> Any:
    match draw.randrange(4):
        case 0:
            return draw.choice(VALUES)
        case 1:
            return [draw.choice(names) for _ in range(draw.randrange(4))]
        case 2:
            return draw.choice(names)
        case _:
            return draw.choice((1, 2, 3, 4, 8, 16))


def _step(draw: random.Random, names: list[str]) -> tuple[str, dict[str, Any]]:
    """A primitive with arguments of random types."""
    name = draw.choice(sorted(PRIMITIVES))
    parameters = list(inspect.signature(PRIMITIVES[name]).parameters.values())[1:]
    given = {}
    for p in parameters:
        if p.name == "unsafe" or (p.default is not p.empty and draw.random() < 0.6):
            continue
        if draw.random() < 0.03:
            continue
        likely = p.name in (
            "loop",
            "loops",
            "outer",
            "inner",
            "first",
            "second",
            "by",
            "at",
            "buffer",
            "local",
        )
        one = draw.choice(names) if likely and draw.random() < 0.8 else _value(draw, names)
        given[p.name] = [one] if p.kind is p.VAR_POSITIONAL and not isinstance(one, list) else one
    if draw.random() < 0.02:
        given["more"] = 1
    return name, given


def damaged(text: str, draw: random.Random) -> str:
    """Text of JSON cut, with bytes changed, or with values exchanged."""
    at = draw.randrange(len(text))
    match draw.randrange(5):
        case 0:
            return text[:at]
        case 1:
            return text[:at] + chr(draw.randrange(1, 0x250)) + text[at + 1 :]
        case 2:
            return text[:at] + text[at + draw.randrange(20) :]
        case 3:
            rows = json.loads(text)
            row = draw.choice(rows["steps"])
            row[draw.choice(sorted(row))] = draw.choice([v for v in VALUES if v != 10**5000])
            return json.dumps(rows)
        case _:
            rows = json.loads(text)
            odd: Any = draw.choice(([], {}, None, 3, "x", [[]], [{}], [{"do": 1}], [{"do": "split"}], [None]))
            return json.dumps({**rows, draw.choice(("steps", "kernel")): odd})


def stress(run: Run) -> None:
    """Until the budget is spent."""
    chosen = [
        p for p in programs() if p.kernel.name in ("conv2d", "blur", "gemm", "jacobi_2d", "matmul", "softmax")
    ]
    chosen = chosen or list(programs()[:5])
    for number in run.rounds():
        draw = run.random
        p = chosen[number % len(chosen)]
        s = p.kernel.schedule(*p.arguments(Draw(0), *p.sizes[0]))
        names = [*NAMES, *_names(s)]
        for _ in range(6):
            name, given = _step(draw, names)
            run.counts["steps"] += 1
            shown = f"{p.kernel.name}: {s.to_json()}\n{name} {_shown(given)}"
            with run.guarded(f"the step {name}", shown):
                s = s.replay([(name, given)])
                run.counts["accepted"] += 1
                names = [*NAMES, *_names(s)]
        if s.steps:
            text = s.to_json()
            if kdsl.Schedule.from_json(p.kernel, text).ir() != s.ir() and p.kernel.schedule().base == s.base:
                run.find("a schedule reads back as something else", text)
            for _ in range(5):
                bad = damaged(text, draw)
                run.counts["texts"] += 1
                with run.guarded("a schedule's JSON", bad, KdslError):
                    kdsl.Schedule.from_json(p.kernel, bad)
                    run.counts["read"] += 1


def _shown(given: dict[str, Any]) -> str:
    """What Python refuses to print is shown by its types: numbers of more digits than it allows."""
    try:
        return repr(given)
    except ValueError:
        return str({name: type(value) for name, value in given.items()})


def _names(s: Any) -> list[str]:
    from kdsl.ir.nodes import Alloc, Loop
    from kdsl.ir.walk import stmts

    loops = [x.var for x in stmts(s.func.body) if isinstance(x, Loop)]
    locals_ = [x.name for x in stmts(s.func.body) if isinstance(x, Alloc)]
    return [*loops, *loops, *loops, *locals_, *[p.name for p in s.func.params]]


if __name__ == "__main__":
    main(stress)
