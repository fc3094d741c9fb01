"""Splitting one loop: how blocks of iterations are counted, and the three tails.

`i` runs over `first + t * step` for t in range(count). Blocks count t from 0, or, for a loop of step 1 that
starts at an expression of outer loops, `i` itself from 0 (then blocks line up in all outer iterations, and
skewed bands tile).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from kdsl.analysis.linear import difference, linear
from kdsl.dtypes import bool_
from kdsl.ir.nodes import (
    Binary,
    Body,
    Cast,
    Compare,
    Condition,
    Const,
    Expr,
    Func,
    If,
    Loop,
    ScalarParam,
    Stmt,
    Var,
    fresh_id,
)
from kdsl.ir.printer import print_expr
from kdsl.ir.walk import map_stmt, subexprs
from kdsl.sched.edit import Edit
from kdsl.sched.rewriting.arith import (
    add,
    binary,
    ceil_div,
    const,
    divides,
    floor_div,
    largest,
    least,
    mul,
    names_in,
    sub,
    var,
    within,
)
from kdsl.sched.rewriting.products import never_negative
from kdsl.sched.rewriting.tree import Place, Track, first_break

Tail = Literal["guard", "cut", "perfect"]


@dataclass(frozen=True, slots=True)
class Split:
    """What replaces a loop, and the conditions on sizes that it relies on."""

    body: Body
    conditions: tuple[Condition, ...] = ()


def split_loop(
    edit: Edit, place: Place, factor: int, names: tuple[str, str, str], tail: Tail, track: Track
) -> Split:
    """`place.loop` in blocks of `factor`: outer and inner loop and remainder get `names`."""
    loop = place.loop
    outer, inner, rest = names
    check_splittable(edit, loop)
    step = int(loop.step.value) if isinstance(loop.step, Const) else 0
    aligned = step == 1 and bool(names_in((loop.lo,)) & {s.var for s in place.outer})
    if aligned and difference(loop.hi, loop.lo) is None:
        return _aligned(edit, loop, factor, names, tail, track)
    t = add(mul(var(outer), factor), var(inner))
    count = trips(loop, edit.func, tail == "guard")
    conditions: tuple[Condition, ...] = ()
    whole = divides(edit.func, count, factor)
    if tail == "perfect" and not whole:
        conditions = (_divisible(edit, loop, count, factor),)
    if tail == "guard" and not whole:
        body = track.substitute(loop.body, {loop.var: at(loop, t)})
        guarded = If(
            within(None, at(loop, t), loop.hi) if step == 1 else within(None, t, count), body, loc=loop.loc
        )
        main = _two(loop, names, const(0), ceil_div(count, factor), factor, (guarded,))
        return Split((main,))
    blocks = floor_div(count, factor)
    kept = track.copy(loop.body) if tail == "cut" and not whole else ()
    body = track.substitute(loop.body, {loop.var: at(loop, t)})
    main = _two(loop, names, const(0), blocks, factor, body)
    if tail != "cut" or whole:
        return Split((main,), conditions)
    edit.need_free(rest, place)
    done = mul(blocks, factor)
    remainder = track.substitute(kept, {loop.var: var(rest) if step == 1 else at(loop, var(rest))})
    lo, hi = (add(loop.lo, done), loop.hi) if step == 1 else (done, count)
    tail_loop = replace(loop, id=fresh_id(), var=rest, lo=lo, hi=hi, step=const(1), body=remainder)
    return Split((main, tail_loop))


def check_splittable(edit: Edit, loop: Loop) -> None:
    """Refuses loops whose iterations cannot be counted beforehand, or that may be left by `break`."""
    edit.need_unmarked(loop)
    leave = first_break(loop.body)
    if leave is not None:
        raise edit.refused(
            "K0308",
            f"cannot {edit.step.name} the loop `{loop.var}`: a `break` leaves it",
            loop,
            label="left from inside",
            notes=[(leave.loc, "here")] if leave.loc else [],
            help="replace the `break` by a condition around the rest of the body",
        )
    edit.need_known_step(loop)
    edit.need_stable(loop)


def at(loop: Loop, t: Expr) -> Expr:
    """The value of the loop's variable in its iteration number `t`."""
    assert isinstance(loop.step, Const)
    step = int(loop.step.value)
    if step < 0:
        return binary("-", loop.lo, mul(t, -step))
    scaled = mul(t, step)
    if loop.lo == const(0):
        return scaled
    if isinstance(loop.lo, Const):
        return add(scaled, int(loop.lo.value))
    return add(loop.lo, scaled)


def trips(loop: Loop, func: Func, any_sign: bool) -> Expr:
    """The number of iterations. `any_sign`: an empty loop may give a negative number too."""
    assert isinstance(loop.step, Const)
    step = int(loop.step.value)
    count = sub(loop.hi, loop.lo) if step > 0 else sub(loop.lo, loop.hi)
    if abs(step) != 1:
        count = ceil_div(count, abs(step))
    if isinstance(count, Const):
        return const(max(0, int(count.value)))
    return count if any_sign or never_negative(count, func) else largest(count, const(0))


def length(loop: Loop, func: Func) -> Expr:
    """The number of iterations, never negative."""
    return trips(loop, func, any_sign=False)


def counted(func: Func, loops: set[int], track: Track) -> Func:
    """`func` with the variables of these loops (by id) counting iterations, from 0 in steps of 1."""

    def on_body(body: Body) -> Body:
        return tuple([on_stmt(map_stmt(s, lambda e: e, on_body)) for s in body])

    def on_stmt(s: Stmt) -> Stmt:
        if not (isinstance(s, Loop) and s.id in loops and s.step != const(1)):
            return s
        inside = track.substitute(s.body, {s.var: at(s, var(s.var))})
        return replace(s, lo=const(0), hi=trips(s, func, True), step=const(1), body=inside)

    return replace(func, body=on_body(func.body))


def _two(loop: Loop, names: tuple[str, str, str], lo: Expr, hi: Expr, factor: int, body: Body) -> Loop:
    inner = Loop(names[1], const(0), const(factor), const(1), body, loc=loop.loc)
    return replace(loop, var=names[0], lo=lo, hi=hi, step=const(1), body=(inner,))


def _aligned(
    edit: Edit, loop: Loop, factor: int, names: tuple[str, str, str], tail: Tail, track: Track
) -> Split:
    """Blocks counted from 0 for a loop that starts at an expression of outer loops."""
    outer, inner, rest = names
    index = add(mul(var(outer), factor), var(inner))
    first, last = floor_div(loop.lo, factor), ceil_div(loop.hi, factor)
    clean_lo, clean_hi = divides(edit.func, loop.lo, factor), divides(edit.func, loop.hi, factor)
    if tail == "perfect" and not (clean_lo and clean_hi):
        raise edit.refused(
            "K0315",
            f"cannot prove that {factor} divides the bounds of the loop `{loop.var}`",
            loop,
            label="depends on an outer loop, so that no check at the call can tell",
            help=f'use tail="guard": s.{edit.step.name}(..., tail="guard")',
        )
    if tail != "cut" or (clean_lo and clean_hi):
        body = track.substitute(loop.body, {loop.var: index})
        if not (clean_lo and clean_hi):
            test = within(None if clean_lo else loop.lo, index, None if clean_hi else loop.hi)
            body = (If(test, body, loc=loop.loc),)
        return Split((_two(loop, names, first, last, factor, body),))
    begin = ceil_div(loop.lo, factor)
    end = floor_div(loop.hi, factor)
    head = track.substitute(track.copy(loop.body), {loop.var: var(rest)})
    foot = track.substitute(track.copy(loop.body), {loop.var: var(rest)})
    body = track.substitute(loop.body, {loop.var: index})
    start = mul(begin, factor)
    return Split(
        (
            replace(loop, id=fresh_id(), var=rest, hi=least(loop.hi, start), body=head),
            _two(loop, names, begin, end, factor, body),
            replace(loop, id=fresh_id(), var=rest, lo=largest(start, mul(end, factor)), body=foot),
        )
    )


def _divisible(edit: Edit, loop: Loop, count: Expr, factor: int) -> Condition:
    """The condition at the call that blocks are whole; refused when the call cannot know."""
    scalars = {p.name: p.dtype for p in edit.func.params if isinstance(p, ScalarParam)}
    known = set(edit.func.sizes) | set(scalars)
    if isinstance(count, Const) or not names_in((count,)) <= known or not _from_names(count):
        raise edit.refused(
            "K0315",
            f"the loop `{loop.var}` does not divide into blocks of {factor}"
            if isinstance(count, Const)
            else f"cannot prove that {factor} divides the number of iterations of `{loop.var}`",
            loop,
            label=f"{print_expr(count, True)} iterations",
            help='use tail="guard" or tail="cut"',
        )
    test = Compare("==", Binary("%", count, const(factor)), const(0))
    return Condition(test, f"the schedule needs {print_expr(test, True)}", loc=loop.loc)


def _from_names(e: Expr) -> bool:
    """True when `e` is made of variables and arithmetic that cannot fault."""
    return linear(e) is not None or all(isinstance(x, (Var, Const, Binary, Cast)) for x in subexprs(e))


def add_conditions(func: Func, conditions: tuple[Condition, ...]) -> Func:
    """`func` with those conditions that it does not have yet."""
    new = tuple(c for c in conditions if all(c.expr != old.expr for old in func.conditions))
    assert all(c.expr.dtype == bool_ for c in new)
    return replace(func, conditions=(*func.conditions, *new))
