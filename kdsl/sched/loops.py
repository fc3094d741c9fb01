"""Primitives that change loops: split, tile, reorder, fuse, fission, skew, peel.

Each is a rewrite rule. `before` and `after` show it on loops over `i` (and `j`); `legal` says when it is
accepted; `known as` gives the name in Halide, TVM and Exo.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from kdsl.analysis.linear import difference
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Alloc, Body, Expr, Func, If, Loop, fresh_id
from kdsl.ir.walk import stmt_bodies, stmts
from kdsl.sched.arith import add, largest, least, mul, sub, var, within
from kdsl.sched.edit import Edit
from kdsl.sched.names import header, shown, statement_index
from kdsl.sched.nests import Nest, Node
from kdsl.sched.primitive import primitive
from kdsl.sched.ranges import Tail, add_conditions, check_splittable, split_loop
from kdsl.sched.tree import (
    Place,
    Track,
    bound,
    first_return,
    fresh_names,
    leaves_loop,
    renamed_buffers,
    replaced,
)


@primitive
def split(
    edit: Edit, loop: str, factor: int, into: tuple[str, str] | None = None, tail: Tail = "guard"
) -> Edit:
    """One loop into two: blocks of `factor` iterations.

    before:
        for i in range(N):
            S(i)
    after:
        for i_o in range((N + 63) // 64):
            for i_i in range(64):
                if i_o * 64 + i_i < N:
                    S(i_o * 64 + i_i)

    `into` names the two loops. `tail` says what becomes of iterations beyond the last whole block: "guard"
    tests each, "cut" runs them in a loop `i_t` of their own, "perfect" proves that there are none, or checks
    it at the call. Blocks count from the loop's start, or from 0 when the start depends on an outer loop.

    legal: always, but for a loop that a `break` leaves.
    known as: split (Halide, TVM), divide_loop (Exo), strip-mining.
    """
    return _split(edit, loop, factor, into, tail, Track())


@primitive
def tile(
    edit: Edit, loops: Sequence[str], sizes: Sequence[int], tail: Tail = "guard", unsafe: bool = False
) -> Edit:
    """Each loop into blocks, all block loops outside of all inner loops.

    before:
        for i in range(M):
            for j in range(N):
                S(i, j)
    after:
        for i_o in range((M + 63) // 64):
            for j_o in range((N + 63) // 64):
                for i_i in range(64):
                    if i_o * 64 + i_i < M:
                        for j_i in range(64):
                            if j_o * 64 + j_i < N:
                                S(i_o * 64 + i_i, j_o * 64 + j_i)

    `loops` from the outermost to the innermost. `tail` as in `split`; remainders stay as they are.

    legal: when no dependence is reversed.
    known as: tile (Halide), tile_2D (Exo's library).
    """
    if len(loops) != len(sizes) or not loops:
        raise edit.refused(
            "K0302",
            f"`tile` got {len(loops)} loops and {len(sizes)} sizes",
            help='give each loop its size: s.tile(["i", "j"], [64, 64])',
        )
    stems = [name.partition("@")[0] for name in loops]
    before, track = edit.func, Track()
    for name, size in zip(loops, sizes):
        edit = _split(edit, name, size, None, tail, track)
    names = [f"{stem}_o" for stem in stems] + [f"{stem}_i" for stem in stems]
    if len(stems) == 1:
        return edit
    skew = f's.skew("{stems[-1]}", "{stems[0]}", 1)'
    return _reorder(edit, names, before, track, help=f"make all dependences go forward first, as in {skew}")


@primitive
def reorder(edit: Edit, *loops: str, unsafe: bool = False) -> Edit:
    """The named loops of a nest in a new order, outermost first; others stay where they are.

    before:
        for i in range(M):
            acc = 0.0
            for k in range(K):
                acc += A[i, k]
            s[i] = acc
    after: reorder("k", "i")
        acc: f32[M]
        for i in range(M):
            acc[i] = 0.0
        for k in range(K):
            for i in range(M):
                acc[i] += A[i, k]
        for i in range(M):
            s[i] = acc[i]

    Bounds of triangular nests are rewritten. Statements between the loops are distributed, locals that live
    across the pieces get an element for each iteration.

    legal: when no dependence is reversed; terms of one accumulation may change places.
    known as: reorder (Halide, TVM), reorder_loops (Exo), interchange.
    """
    if len(loops) < 2 or len(set(loops)) != len(loops):
        raise edit.refused(
            "K0302",
            "`reorder` takes two or more different loops",
            help='name the loops in their new order, outermost first: s.reorder("j", "i")',
        )
    skew = f's.skew("{_stem(loops[0])}", "{_stem(loops[1])}", 1)'
    return _reorder(edit, loops, help=f"skew the inner loop first, as in {skew}, or keep the order")


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
    nest = Nest(edit, place.loop)
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


@primitive
def skew(edit: Edit, loop: str, by: str, factor: int) -> Edit:
    """The index of `loop` grows by `factor` for each iteration of the loop `by` around it.

    before:
        for t in range(T):
            for i in range(N):
                S(t, i)
    after: skew("i", "t", 1)
        for t in range(T):
            for i in range(t, N + t):
                S(t, i - t)

    Afterwards the loops can often be reordered or tiled: wavefronts, time tiling.

    legal: always (the order stays).
    known as: loop skewing.
    """
    around = {p.loop.id: p.loop.var for p in edit.loops(by)}
    new: dict[int, Body] = {}
    track = Track()
    for place in edit.loops(loop):
        old = place.loop
        edit.need_unmarked(old)
        edit.need_unit_step(old)
        found = next((s for s in place.outer if s.id in around), None)
        if found is None:
            raise edit.refused(
                "K0317",
                f"the loop `{by}` is not around `{old.var}`",
                old,
                help=f"skew by a loop that stands around `{old.var}`"
                + (f": `{place.outer[-1].var}`" if place.outer else ""),
            )
        offset = mul(var(found.var), factor)
        body = track.substitute(old.body, {old.var: sub(var(old.var), offset)})
        new[old.id] = (replace(old, lo=add(old.lo, offset), hi=add(old.hi, offset), body=body),)
    return edit.keeps_order(replaced(edit.func, new))


@primitive
def peel(edit: Edit, loop: str, n: int, end: Literal["first", "last"] = "first") -> Edit:
    """The first (or last) `n` iterations in a loop of their own.

    before:
        for i in range(N):
            S(i)
    after: peel("i", 1)
        for i_p in range(min(N, 1)):
            S(i_p)
        for i in range(1, N):
            S(i)

    legal: always, but for a loop that a `break` leaves.
    known as: peeling, cut_loop (Exo), loop_partition (TVM).
    """
    new: dict[int, Body] = {}
    track = Track()
    if n < 1:
        raise edit.refused("K0302", f"`peel` takes at least one iteration apart, not {n}", help="pass n >= 1")
    for place in edit.loops(loop):
        old = place.loop
        check_splittable(edit, old)
        edit.need_unit_step(old)
        name = f"{old.var}_p"
        edit.need_free(name, place)
        apart = track.substitute(track.copy(old.body), {old.var: var(name)})
        part = replace(old, id=fresh_id(), var=name, body=apart)
        if end == "first":
            cut = add(old.lo, n)
            new[old.id] = (replace(part, hi=least(old.hi, cut)), replace(old, lo=cut))
        else:
            cut = add(old.hi, -n)
            new[old.id] = (replace(old, hi=cut), replace(part, lo=largest(old.lo, cut)))
    return edit.keeps_order(replaced(edit.func, new))


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
    two = track.substitute(b.loop.body, {b.loop.var: add(var(name), -shift)})
    clash = bound(one) & {s.name for s in two if isinstance(s, Alloc)}
    clash |= bound(two) & {s.name for s in one if isinstance(s, Alloc)}
    two = renamed_buffers(two, fresh_names(edit.func, sorted(clash)))
    lo, hi = a.loop.lo, a.loop.hi
    if shift:
        one = (If(within(None, var(name), hi), one, loc=a.loop.loc),)
        two = (If(within(add(lo, shift), var(name), None), two, loc=b.loop.loc),)
    fused = replace(a.loop, var=name, hi=add(hi, shift), body=(*one, *two))
    help = ""
    after = replaced(edit.func, {a.loop.id: (fused,), b.loop.id: ()})
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


def _split(
    edit: Edit, loop: str, factor: int, into: tuple[str, str] | None, tail: Tail, track: Track
) -> Edit:
    if factor < 1:
        raise edit.refused("K0302", f"blocks of {factor} iterations make no sense", help="pass a factor >= 1")
    new: dict[int, Body] = {}
    func = edit.func
    for place in edit.loops(loop):
        var_ = place.loop.var
        outer, inner = into or (f"{var_}_o", f"{var_}_i")
        if outer == inner:
            raise edit.refused(
                "K0306", f"both loops would be called `{outer}`", place.loop, help="give two names"
            )
        for name in (outer, inner):
            edit.need_free(name, place)
        made = split_loop(edit, place, factor, (outer, inner, f"{var_}_t"), tail, track)
        new[place.loop.id] = made.body
        func = add_conditions(func, made.conditions)
    return edit.keeps_order(replaced(func, new))


def _reorder(
    edit: Edit,
    names: Sequence[str],
    before: Func | None = None,
    track: Track | None = None,
    *,
    help: str,
) -> Edit:
    """With `before` and `track` (of the splits of a tile), the order is proved from there, and loops of these
    names that are not in a full nest are left as they are."""
    chains = _chains(edit, names, remainders=track is not None)
    after = edit.func
    for chain in chains:
        nest = Nest(edit, chain[0])
        nest.check(chain[-1])
        band = [s for s in nest.chain(chain[0], chain[-1].id) if isinstance(s, Loop)]
        wanted = iter([_stem(n) for n in names])
        named = {s.var for s in chain}
        order = [next(wanted) if s.var in named else s.var for s in band]
        if order != [s.var for s in band]:
            after = replaced(after, {chain[0].id: nest.arrange(chain[0], chain[-1].id, order)})
    if after is edit.func:
        return edit
    return edit.proved(after, track or Track(), chains[0][0], before=before, help=help)


def _stem(name: str) -> str:
    return name.partition("@")[0]


def _chains(edit: Edit, names: Sequence[str], remainders: bool) -> list[list[Loop]]:
    """The named loops nest by nest, outermost first; each nest must have every name once."""
    stems = {_stem(n) for n in names}
    named = {p.loop.id: p for name in names for p in edit.loops(name)}
    chains: list[list[Loop]] = []
    used: dict[int, int] = {}
    for place in named.values():
        if not any(s.id in named for s in stmts(place.loop.body)):
            chain = [s for s in place.outer if s.id in named] + [place.loop]
            if remainders and {s.var for s in chain} != stems:
                continue
            chains.append(chain)
            for s in chain:
                used[s.id] = used.get(s.id, 0) + 1
    for chain in chains:
        missing = [n for n in names if _stem(n) not in {s.var for s in chain}]
        if missing or any(used[s.id] > 1 for s in chain):
            copies = [f'"{_stem(n)}"' for n in names if len(edit.loops(n)) > 1]
            raise edit.refused(
                "K0318",
                f"the loops {', '.join(f'`{n}`' for n in names)} do not stand one inside the other",
                chain[0],
                label=f"`{missing[0]}` is neither inside nor around it"
                if missing
                else "has several of them inside",
                help=f'choose copies that do, as in {copies[0][:-1]}@1"'
                if copies
                else "reorder loops of one nest; use fuse to join two nests",
            )
    return chains


def _check_fusable(edit: Edit, a: Place, b: Place, shift: int) -> None:
    """Two loops of one body, nothing but locals between them, over equal ranges of step 1."""
    if shift < 0:
        raise edit.refused(
            "K0302", f"`shift` is {shift}: the second loop cannot run earlier", help="pass shift >= 0"
        )
    siblings = _siblings(edit, a)
    ids = [s.id for s in siblings]
    if b.loop.id not in ids or ids.index(b.loop.id) <= ids.index(a.loop.id):
        raise edit.refused(
            "K0319",
            f"the loop `{b.loop.var}` does not follow `{a.loop.var}` in one body",
            b.loop,
            notes=[(a.loop.loc, "the first loop")] if a.loop.loc else [],
            help="fuse loops that follow each other; fuse the loops around them first",
        )
    for s in siblings[ids.index(a.loop.id) + 1 : ids.index(b.loop.id)]:
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
        edit.need_unit_step(place.loop)
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
    if not (_equal(a.loop.lo, b.loop.lo) and _equal(a.loop.hi, b.loop.hi)):
        raise edit.refused(
            "K0321",
            f"the loops `{a.loop.var}` and `{b.loop.var}` run over different ranges",
            b.loop,
            label=f"`{header(b.loop)}`",
            notes=[(a.loop.loc, f"`{header(a.loop)}`")] if a.loop.loc else [],
            help=f'peel what one has more: s.peel("{b.loop.var}", 1)',
        )


def _equal(a: Expr, b: Expr) -> bool:
    return a == b or difference(a, b) == 0


def _siblings(edit: Edit, place: Place) -> Body:
    """The body in which the loop stands."""
    if not place.above:
        return edit.func.body
    return next(body for body in stmt_bodies(place.above[-1]) if any(s.id == place.loop.id for s in body))
