"""Meanings of instructions: kernels on arrays of constant shape, which their loops run over as a whole.

def dot4(acc: i32[16], a: u8[4], b: i8[16, 4]):       loops of 16 and 4; acc has the axes (0), a (1), b (0, 1)
    for l in range(16):
        for q in range(4):
            acc[l] += i32(a[q]) * i32(b[l, q])
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from kdsl.analysis.linear import extent
from kdsl.dtypes import i64
from kdsl.ir.nodes import (
    Accumulate,
    ArrayParam,
    Body,
    Const,
    Func,
    If,
    Load,
    Logic,
    Loop,
    ScalarParam,
    Select,
    Stmt,
    Store,
    Var,
    While,
)
from kdsl.ir.printer import print_expr, print_head
from kdsl.ir.walk import stmt_bodies, stmt_exprs, stmts, subexprs
from kdsl.source import Loc

Access = Load | Store | Accumulate


@dataclass(frozen=True, slots=True)
class Difference:
    """Why a loop is not the instruction: what stands at `loc`, and what the meaning has at `meant`."""

    text: str
    loc: Loc | None = None
    meant: Loc | None = None
    help: str = ""


class Differs(Exception):
    """Carries a `Difference` out."""

    def __init__(self, text: str, loc: Loc | None = None, meant: Loc | None = None, help: str = "") -> None:
        self.difference = Difference(text, loc, meant, help)


@dataclass(frozen=True, slots=True)
class Role:
    """A parameter of a meaning. `axes`: for each dimension the number of the loop that runs over it."""

    param: ArrayParam | ScalarParam
    axes: tuple[int, ...]
    read: bool
    written: bool


@dataclass(frozen=True, slots=True)
class Roles:
    """A meaning of the form that one machine instruction can have.

    Loops, of these constant `extents`, stand one in the other; each dimension of a parameter is run over by a
    loop of its extent, always the same one; one parameter is written.

    As vectors: a parameter that is written has its elements in their order. One that is only read has an
    element for each point of the loops, so that it is repeated along the loops that it does not use.
    """

    extents: tuple[int, ...]
    operands: tuple[Role, ...]

    @property
    def points(self) -> int:
        """The number of iterations of the loops together."""
        return prod(self.extents)

    def count(self, role: Role) -> int:
        """The number of elements of a parameter."""
        return prod([self.extents[a] for a in role.axes])

    def order(self, role: Role) -> list[int]:
        """For each point of the loops, in order, the parameter's element (counted in C order)."""
        out = []
        for point in range(self.points):
            at = []
            for n in reversed(self.extents):
                at.append(point % n)
                point //= n
            at.reverse()
            element = 0
            for a in role.axes:
                element = element * self.extents[a] + at[a]
            out.append(element)
        return out


def roles(meaning: Func) -> Roles | Difference:
    """The roles of the parameters of a meaning, or why no instruction can have it."""
    try:
        return _roles(meaning)
    except Differs as found:
        return found.difference


def software(meaning: Func) -> Difference | None:
    """Why a kernel's body cannot take the place of a loop that does what `meaning` does; None when it can.

    A body made by a schedule may touch whole parameters: so `meaning` has to touch each of them, all of it,
    under no condition.
    """
    try:
        _one_loop(meaning)
        for p in meaning.params:
            if isinstance(p, ArrayParam):
                _used(meaning, p)
        _unconditional(meaning)
    except Differs as found:
        return found.difference
    return None


def _roles(meaning: Func) -> Roles:
    loops = [_one_loop(meaning)]
    while inside := [s for s in loops[-1].body if isinstance(s, Loop)]:
        if len(inside) > 1:
            raise Differs("two loops stand side by side", inside[1].loc, help="put one loop into the other")
        loops.append(inside[0])
    numbers = {s.var: n for n, s in enumerate(loops)}
    extents = tuple([_count(s) for s in loops])
    operands = []
    for p in meaning.params:
        if isinstance(p, ScalarParam):
            operands.append(Role(p, (), True, False))
            continue
        uses = _used(meaning, p)
        axes = {tuple([numbers[n] for n in names]) for _, names in uses}
        if len(axes) > 1:
            raise Differs(
                f"`{p.name}` is indexed in two ways", uses[1][0].loc, help="make two parameters of it"
            )
        read = any(not isinstance(u, Store) for u, _ in uses)
        operands.append(Role(p, axes.pop(), read, any(not isinstance(u, Load) for u, _ in uses)))
    written = [r.param.name for r in operands if r.written]
    if len(written) != 1:
        raise Differs(
            f"it writes {' and '.join(f'`{n}`' for n in written) or 'no parameter'}",
            meaning.loc,
            help="write one of the parameters: an instruction has one result",
        )
    return Roles(extents, tuple(operands))


def _one_loop(meaning: Func) -> Loop:
    first = meaning.body[0] if meaning.body else None
    if len(meaning.body) != 1 or not isinstance(first, Loop):
        other = next((s for s in meaning.body if not isinstance(s, Loop)), None)
        raise Differs(
            "its body is not one loop",
            other.loc if other is not None else meaning.loc,
            help="write one loop, with everything in it: it takes the place of a loop",
        )
    return first


def _count(s: Loop) -> int:
    """The number of iterations of a loop from 0."""
    n = extent(s) or 0
    if n < 1 or s.lo != Const(0, i64) or s.step != Const(1, i64):
        raise Differs(
            f"`{print_head(s).rstrip(':')}` does not count from 0 to a number",
            s.loc,
            help="write `range` with a number of 1 or more",
        )
    return n


def _used(meaning: Func, p: ArrayParam) -> list[tuple[Access, tuple[str, ...]]]:
    """The uses of an array with the loops that run over its dimensions: all of each."""
    shape = tuple([-1 if d.terms else d.const for d in p.shape])
    if -1 in shape:
        raise Differs(f"the shape of `{p.name}` is not constant", p.loc or meaning.loc, help="write numbers")
    out = []
    for use, loops in _uses(meaning.body, p.name, {}):
        names = tuple([e.name if isinstance(e, Var) else "" for e in use.index])
        loc = use.loc or p.loc or meaning.loc
        if not all(n in loops for n in names) or len(set(names)) < len(names):
            raise Differs(
                f"`{text_of(use)}` is not indexed by loop variables alone",
                loc,
                help="use another loop's variable for each dimension",
            )
        counts = tuple([_count(loops[n]) for n in names])
        if counts != shape:
            raise Differs(
                f"the loops run over {list(counts)} of `{p.name}`, which has the shape {list(shape)}",
                loc,
                help=f"declare `{p.name}` with the shape {list(counts)}",
            )
        out.append((use, names))
    if not out:
        raise Differs(f"`{p.name}` is not used", p.loc or meaning.loc, help="leave it out")
    return out


def _uses(body: Body, buffer: str, loops: dict[str, Loop]) -> Iterator[tuple[Access, dict[str, Loop]]]:
    """The uses of a buffer, in order, with the loops around each."""
    for s in body:
        if isinstance(s, (Store, Accumulate)) and s.buffer == buffer:
            yield s, loops
        for e in stmt_exprs(s):
            for x in subexprs(e):
                if isinstance(x, Load) and x.buffer == buffer:
                    yield x, loops
        for inner in stmt_bodies(s):
            yield from _uses(inner, buffer, {**loops, s.var: s} if isinstance(s, Loop) else loops)


def _unconditional(meaning: Func) -> None:
    for s in stmts(meaning.body):
        found: Stmt | None = s if isinstance(s, (If, While)) else None
        if found is None and not any(
            isinstance(x, (Select, Logic)) for e in stmt_exprs(s) for x in subexprs(e)
        ):
            continue
        raise Differs("a part of it runs under a condition", s.loc, help="leave the condition to the caller")


def text_of(use: Access) -> str:
    """`A[i, k]`."""
    if isinstance(use, Load):
        return print_expr(use)
    return f"{use.buffer}[{', '.join([print_expr(e, True) for e in use.index])}]" if use.index else use.buffer
