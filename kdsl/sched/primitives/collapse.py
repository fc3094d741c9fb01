"""The primitive collapse: two loops over a rectangle as one loop that counts its points.

    for i in range(M):                 for i_j in range(M * N):
        for j in range(N):      ->         S(i_j // N, i_j % N)
            S(i, j)

The counter is an ordinary loop variable, so that every other step takes the loop; the analysis knows that
`i_j // N` and `i_j % N` run in lexicographic order (`analysis.relations`), also in blocks of a split.
"""

from __future__ import annotations

from dataclasses import replace

from kdsl.analysis.linear import faultless
from kdsl.ir.nodes import (
    Alloc,
    Body,
    Condition,
    Func,
    If,
    Loop,
    ScalarParam,
    Stmt,
)
from kdsl.ir.printer import print_expr
from kdsl.ir.walk import stmts
from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.arith import binary, const, names_in, var
from kdsl.sched.rewriting.names import copy_name, header, shown
from kdsl.sched.rewriting.products import FITS, most, small_product
from kdsl.sched.rewriting.ranges import add_conditions, at, check_splittable, length
from kdsl.sched.rewriting.tree import Place, Track, contains, replaced


@primitive
def collapse(edit: Edit, outer: str, inner: str, into: str | None = None) -> Edit:
    """Two loops, one directly inside the other, into one over all their iterations.

    before:
        for i in range(M):
            for j in range(N):
                S(i, j)
    after:
        for i_j in range(M * N):
            S(i_j // N, i_j % N)

    The loop is called `i_j`, or `into`. More loops by repetition: `collapse("i_j", "k")`. A call with more
    than 2**52 iterations is refused. Of loops with copies, those inside of each other are collapsed.

    legal: when nothing stands between the loops and the inner one has the same length in every iteration.
    known as: fuse (Halide, TVM), mult_loops (Exo), collapse (OpenMP), coalescing.
    """
    inside = {p.loop.id for p in edit.loops(inner)}
    track = Track()
    func = edit.func
    new: dict[int, Body] = {}
    around = [p for p in edit.loops(outer) if any(s.id in inside for s in stmts(p.loop.body))]
    if not around:
        raise edit.refused(
            "K0341",
            f"the loop `{inner}` is not inside `{outer}`",
            edit.loops(outer)[0].loop,
            help="name the outer loop first, then the one directly inside it",
        )
    for place in around:
        guards, second = _next(edit, place.loop, inside, inner)
        name = into or f"{place.loop.var}_{second.var}"
        edit.need_free(name, place)
        func = _counted(edit, place, second, name, func)
        new[place.loop.id] = (_collapsed(place.loop, guards, second, name, func, track),)
    return edit.keeps_order(replaced(func, new))


# ------------------------------------------------------------------------ helpers


def _next(edit: Edit, outer: Loop, inside: set[int], inner: str) -> tuple[list[If], Loop]:
    """The loop directly inside `outer`, and the conditions on the way, which may as well stand inside it."""
    guards: list[If] = []
    body = outer.body
    while len(body) == 1 and isinstance(guard := body[0], If) and not guard.orelse:
        if not faultless(guard.cond):
            break
        guards.append(guard)
        body = guard.then
    found = body[0]
    if len(body) == 1 and isinstance(found, Loop) and found.id in inside:
        return guards, found
    around = next(n for n, s in enumerate(body) if any(contains(s, wanted) for wanted in inside))
    other: Stmt = body[around]
    if len(body) > 1:
        other = next((x for n, x in enumerate(body) if n != around and not isinstance(x, Alloc)), body[0])
    way = f"take the loops `{outer.var}` and `{inner}` out of what stands between them in the kernel"
    name = copy_name(edit, outer)
    if len(body) > 1 and not guards:
        before = [n for n in range(around) if not isinstance(body[n], Alloc)]
        cut = before[-1] if before else around
        way = f'take it apart first: s.fission("{name}", after={cut})'
    elif isinstance(other, Loop):
        way = f'collapse from the outside in: s.collapse("{name}", "{copy_name(edit, other)}")'
    raise edit.refused(
        "K0341",
        f"the loop `{inner}` is not all that `{outer.var}` repeats",
        outer,
        loc=other.loc,
        label=f"`{shown(other)}` stands between them" if len(body) == 1 else f"`{shown(other)}` is there too",
        help=way,
    )


def _collapsed(outer: Loop, guards: list[If], inner: Loop, name: str, func: Func, track: Track) -> Loop:
    rows, columns = length(outer, func), length(inner, func)
    t = var(name)
    width = columns if columns != const(0) else const(1)
    body = track.substitute(inner.body, {inner.var: at(inner, binary("%", t, width))})
    for guard in reversed(guards):
        body = (replace(guard, then=body),)
    body = track.substitute(body, {outer.var: at(outer, binary("//", t, width))})
    count = binary("*", rows, columns)
    return replace(outer, var=name, lo=const(0), hi=count, step=const(1), body=body)


def _counted(edit: Edit, place: Place, inner: Loop, name: str, func: Func) -> Func:
    """`func` with the condition that the iterations of both loops can be counted; refused when they cannot
    be, or not before the loop."""
    outer = place.loop
    for loop in (outer, inner):
        check_splittable(edit, loop)
    bounds = (inner.lo, inner.hi)
    edit.need_stable(outer, exprs=bounds)
    rows, columns = length(outer, func), length(inner, func)
    if outer.var in names_in((columns,)):
        raise edit.refused(
            "K0340",
            f"cannot collapse the loops `{outer.var}` and `{inner.var}`: they do not form a rectangle",
            inner,
            label=f"`{header(inner)}` has another length in each `{outer.var}`",
            help=f"write the inner loop over the longest range, with an `if` around its body, or run "
            f's.parallel("{outer.var}") alone',
        )
    if not all(map(faultless, bounds)):
        raise edit.refused(
            "K0310",
            f"cannot prove `collapse` of `{outer.var}` and `{inner.var}`: its bounds may fault",
            inner,
            label=f"`{header(inner)}` would be evaluated where the kernel does not",
            help="make the bound a size or a scalar argument of the kernel",
        )
    if most(rows, func) * most(columns, func) <= FITS:
        return func
    known = set(func.sizes) | {p.name for p in func.params if isinstance(p, ScalarParam)}
    loose = sorted(names_in((rows, columns)) - known)
    if loose or not faultless(rows):
        raise edit.refused(
            "K0342",
            f"cannot prove that the iterations of `{outer.var}` and `{inner.var}` can be counted in 64 bits",
            outer,
            label=f"their number depends on `{loose[0]}`" if loose else f"`{header(outer)}`",
            help="collapse loops whose lengths are sizes or constants, before a step that cuts them",
        )
    total = print_expr(binary("*", rows, columns), True)
    title = f"the schedule counts {total} iterations in `{name}`, which are too many"
    return add_conditions(func, (Condition(small_product(rows, columns), title, loc=outer.loc),))
