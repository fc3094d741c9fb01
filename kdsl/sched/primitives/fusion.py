"""Primitives that cut loops apart and join them: fission, fuse."""

from __future__ import annotations

from dataclasses import replace

from kdsl.analysis.linear import difference
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Alloc, Body, Const, Expr, If
from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.arith import add, var, within
from kdsl.sched.rewriting.names import header, shown, statement_index
from kdsl.sched.rewriting.nests import Nest, Node
from kdsl.sched.rewriting.tree import (
    Place,
    Track,
    bound,
    first_return,
    fresh_names,
    leaves_loop,
    renamed_buffers,
    replaced,
    siblings,
)


@primitive
def fission(edit: Edit, loop: str, after: str | int, unsafe: bool = False) -> Edit:
    """One loop into two, cut after the statement `after` of its body (its text as printed, or its index).

    before:
        for i in range(N):
            B[i] = A[i] + 1.0
            C[i] = B[i] * 2.0
    after: fission("i", after="B[i] = A[i] + 1.0")
        for i in range(N):
            B[i] = A[i] + 1.0
        for i in range(N):
            C[i] = B[i] * 2.0

    Both loops keep the name. Locals used on both sides get an element for each iteration.

    legal: when no dependence is reversed.
    known as: fission (Exo), loop_partition, distribution.
    """
    place = edit.one(loop)
    nest = Nest(edit, place.loop, edit.func)
    nodes: list[Node] = [place.loop]
    body = place.loop.body
    while len(body) == 1 and isinstance(body[0], If) and not body[0].orelse:
        nodes.append(body[0])
        body = body[0].then
    nest.check(place.loop)
    for node in nodes[1:]:
        assert isinstance(node, If)
        edit.need_stable(place.loop, exprs=(node.cond,))
    cut = statement_index(edit, place.loop, body, after) + 1
    if cut == len(body):
        raise edit.refused(
            "K0316",
            f"cannot cut the loop `{place.loop.var}` after its last statement",
            place.loop,
            loc=body[-1].loc,
            label="nothing comes after it",
            help="name an earlier statement of the body",
        )
    new = nest.distributed(nodes, [body[:cut], body[cut:]])
    return edit.proved(replaced(edit.func, {place.loop.id: new}), Track(), place.loop)


@primitive
def fuse(
    edit: Edit, first: str, second: str, into: str | None = None, shift: int = 0, unsafe: bool = False
) -> Edit:
    """Two loops that follow each other into one over the same range.

    before:
        for i in range(N):
            S(i)
        for i_1 in range(N):
            T(i_1)
    after: fuse("i", "i_1", shift=1)
        for i in range(N + 1):
            if i < N:
                S(i)
            if 1 <= i:
                T(i - 1)

    The loop keeps the name of the first, or gets `into`. With `shift=k` the second body runs k iterations
    later.

    legal: equal ranges, nothing between the loops, and no dependence reversed.
    known as: fuse (Exo), compute_with (Halide), loop fusion or jamming.
    """
    return _fuse(edit, first, second, into, shift, hint=True)


# ------------------------------------------------------------------------ helpers


def _fuse(edit: Edit, first: str, second: str, into: str | None, shift: int, hint: bool) -> Edit:
    """`hint`: a refusal says which shift would do."""
    a, b = edit.one(first), edit.one(second)
    _check_fusable(edit, a, b, shift)
    name = into or a.loop.var
    if into is not None and into != a.loop.var:
        edit.need_free(into, a)
        edit.need_free(into, b)
    track = Track()
    one = track.substitute(a.loop.body, {a.loop.var: var(name)}) if name != a.loop.var else a.loop.body
    assert isinstance(a.loop.step, Const)
    step = int(a.loop.step.value)
    later = shift * step
    two = track.substitute(b.loop.body, {b.loop.var: add(var(name), -later)})
    clash = bound(one) & {s.name for s in two if isinstance(s, Alloc)}
    clash |= bound(two) & {s.name for s in one if isinstance(s, Alloc)}
    two = renamed_buffers(two, fresh_names(edit.func, sorted(clash)))
    lo, hi = a.loop.lo, a.loop.hi
    if shift:
        early = within(None, var(name), hi) if step > 0 else within(add(hi, 1), var(name), None)
        start = add(lo, later)
        late = within(start, var(name), None) if step > 0 else within(None, var(name), add(start, 1))
        one = (If(early, one, loc=a.loop.loc),)
        two = (If(late, two, loc=b.loop.loc),)
    # Locals made between the loops are made before them.
    around = siblings(edit.func, a.loop.id)
    ids = [s.id for s in around]
    between = around[ids.index(a.loop.id) : ids.index(b.loop.id)]
    moved = [s for s in between if isinstance(s, Alloc)]
    one = renamed_buffers(one, fresh_names(edit.func, sorted(bound(one) & {s.name for s in moved})))
    fused = replace(a.loop, var=name, hi=add(hi, later), body=(*one, *two))
    help = ""
    gone: dict[int, Body] = dict.fromkeys([b.loop.id, *[s.id for s in moved]], ())
    after = replaced(edit.func, {a.loop.id: (*moved, fused), **gone})
    try:
        return edit.proved(after, track, b.loop)
    except ScheduleError as refusal:
        found = _good_shift(edit, first, second, into, shift) if hint and refusal.code == "K0320" else None
        if found is None:
            raise
        help = f"run the second body later: shift={found}"
    return edit.proved(after, track, b.loop, help=help)


def _good_shift(edit: Edit, first: str, second: str, into: str | None, shift: int) -> int | None:
    """The smallest larger shift, of a few, with which the loops fuse."""
    for more in range(shift + 1, shift + 4):
        try:
            _fuse(edit, first, second, into, more, hint=False)
        except ScheduleError:
            continue
        return more
    return None


def _check_fusable(edit: Edit, a: Place, b: Place, shift: int) -> None:
    """Two loops of one body, nothing but locals between them, over equal ranges."""
    edit.need_small("shift", shift, 0)
    around = siblings(edit.func, a.loop.id)
    ids = [s.id for s in around]
    if b.loop.id not in ids or ids.index(b.loop.id) <= ids.index(a.loop.id):
        raise edit.refused(
            "K0319",
            f"the loop `{b.loop.var}` does not follow `{a.loop.var}` in one body",
            b.loop,
            notes=[(a.loop.loc, "the first loop")] if a.loop.loc else [],
            help="fuse loops that follow each other; fuse the loops around them first",
        )
    for s in around[ids.index(a.loop.id) + 1 : ids.index(b.loop.id)]:
        if not isinstance(s, Alloc):
            raise edit.refused(
                "K0319",
                f"a statement stands between the loops `{a.loop.var}` and `{b.loop.var}`",
                b.loop,
                loc=s.loc,
                label=f"`{shown(s)}`",
                help="fuse with it first, or move it in the kernel",
            )
    for place in (a, b):
        edit.need_unmarked(place.loop)
        edit.need_known_step(place.loop)
        edit.need_stable(place.loop, (*a.loop.body, *b.loop.body))
        leave = leaves_loop(place.loop.body) or first_return(place.loop.body)
        if leave is not None:
            raise edit.refused(
                "K0308",
                f"cannot fuse the loop `{place.loop.var}`: an iteration may end it early",
                place.loop,
                label="left from inside",
                notes=[(leave.loc, "here")] if leave.loc else [],
                help="write the condition as an `if` around the rest of the body",
            )
    if a.loop.step != b.loop.step or not (_equal(a.loop.lo, b.loop.lo) and _equal(a.loop.hi, b.loop.hi)):
        raise edit.refused(
            "K0321",
            f"the loops `{a.loop.var}` and `{b.loop.var}` run over different ranges",
            b.loop,
            label=f"`{header(b.loop)}`",
            notes=[(a.loop.loc, f"`{header(a.loop)}`")] if a.loop.loc else [],
            help=f'peel what one has more: s.peel("{b.loop.var}", 1)'
            if a.loop.step == b.loop.step
            else "fuse loops that run in the same direction with the same step",
        )


def _equal(a: Expr, b: Expr) -> bool:
    return a == b or difference(a, b) == 0
