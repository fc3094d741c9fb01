"""Loops that a driver ends too early: a test at the end of an invocation, so that there is an error then.

    FunctionCall matmul_0.body      driver: not more than 65535 iterations of all loops of an invocation
    for n in range(2 + zero): pass  zero: the sign of a size, which no optimiser knows
    fault unless n == 2

llvmpipe counts the iterations of the invocations that run together, and behind that number lets each loop do
one more and goes on with what follows; so does it with this loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from kdsl.analysis.axes import axis_of
from kdsl.analysis.linear import extent
from kdsl.backends.spirv.arith import Arith
from kdsl.backends.spirv.faults import SiteTable, State
from kdsl.dtypes import i32
from kdsl.ir.nodes import Body, Loop, While
from kdsl.ir.walk import stmt_bodies, stmts
from kdsl.target import Target

LLVMPIPE = 65535
"""Source: LP_MAX_TGSI_LOOP_ITERATIONS in Mesa's gallivm."""


def most_iterations(target: Target) -> int | None:
    """Iterations that the driver gives all loops of an invocation together; None: any number."""
    return LLVMPIPE if target.cpu.startswith("llvmpipe") else None


def may_end(body: Body, target: Target) -> bool:
    """Whether the driver may end a loop of a dispatch too early."""
    most, all_ = most_iterations(target), _iterations(body)
    # Half of it: arithmetic that is done in software has loops too.
    return most is not None and (all_ is None or all_ > most // 2)


def _iterations(body: Body) -> int | None:
    """How many iterations the loops of an invocation have together, at most; None: that is not known."""
    total = 0
    for s in body:
        inside = 0
        for part in stmt_bodies(s):
            count = _iterations(part)
            if count is None:
                return None
            inside += count
        if isinstance(s, While):
            return None
        if isinstance(s, Loop) and not axis_of(s):
            trips = extent(s)
            if trips is None:
                return None
            inside = trips * (inside + 1)
        total += inside
    return total


def test_ending(a: Arith, body: Body, target: Target, number: int, state: State, sites: SiteTable) -> None:
    """Notes a fault if the driver has ended a loop of `body`, at the first one that can be long.

    `number`: an i32 that is not negative, which no optimiser knows.
    """
    most = most_iterations(target)
    assert most is not None
    code = a.code
    zero = a.op("ShiftRightLogical", "i32", number, a.const("i32", 31))
    end = a.op("IAdd", "i32", zero, a.const("i32", 2))

    def more(v: Sequence[int]) -> int:
        return a.compare("<", i32, v[0], end)

    def step(v: Sequence[int]) -> Sequence[int]:
        return (a.op("IAdd", "i32", v[0], a.const("i32", 1)),)

    (n,) = code.loop(("i32",), (a.const("i32", 0),), more, lambda *_: None, step)
    # Not the test of the loop itself: behind a loop its test is taken for false.
    ok = a.op("IEqual", "bool", a.op("ISub", "i32", n, zero), a.const("i32", 2))
    long = [s for s in stmts(body) if isinstance(s, (Loop, While)) and not axis_of(s)]
    loc = next((s.loc for s in long if isinstance(s, While) or extent(s) is None), long[0].loc)
    state.note(code, ok, sites.number("loops", "", 0, loc), None, (a.const("i32", most), "i32"))
