"""Primitives that change loops: split, tile, reorder, skew, peel.

Each is a rewrite rule. `before` and `after` show it on loops over `i` (and `j`); `legal` says when it is
accepted; `known as` gives the name in Halide, TVM and Exo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from kdsl.ir.nodes import Body, Const, Func, Loop, fresh_id
from kdsl.ir.walk import stmts
from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.arith import add, largest, least, mul, sub, var
from kdsl.sched.rewriting.names import copy_name, header
from kdsl.sched.rewriting.nests import Nest, rearranged
from kdsl.sched.rewriting.ranges import Tail, add_conditions, at, check_splittable, split_loop, trips
from kdsl.sched.rewriting.tree import Track, replaced

STEEP = 1 << 15
"""The largest factor of a skew: its product with a size (below 2**47) stays within 64 bits."""


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
    across the pieces get an element for each iteration. Of loops with copies, the nests that have all the
    names are reordered; remainders keep their order.

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
    edit.need_small("factor", factor, -STEEP, STEEP)
    around = {p.loop.id: p.loop.var for p in edit.loops(by)}
    new: dict[int, Body] = {}
    track = Track()
    for place in edit.loops(loop):
        old = place.loop
        edit.need_unmarked(old)
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
    edit.need_small("n", n, 1)
    for place in edit.loops(loop):
        old = place.loop
        check_splittable(edit, old)
        name = f"{old.var}_p"
        edit.need_free(name, place)
        apart = track.substitute(track.copy(old.body), {old.var: var(name)})
        part = replace(old, id=fresh_id(), var=name, body=apart)
        step = int(old.step.value) if isinstance(old.step, Const) else 0
        nearer, farther = (least, largest) if step > 0 else (largest, least)
        if end == "first":
            cut = add(old.lo, n * step)
            new[old.id] = (replace(part, hi=nearer(old.hi, cut)), replace(old, lo=cut))
        else:
            cut = add(old.hi, -n * step)
            if abs(step) > 1:
                cut = at(old, add(trips(old, edit.func, True), -n))
            new[old.id] = (replace(old, hi=cut), replace(part, lo=farther(old.lo, cut)))
    return edit.keeps_order(replaced(edit.func, new))


# ------------------------------------------------------------------------ helpers


def _split(
    edit: Edit, loop: str, factor: int, into: tuple[str, str] | None, tail: Tail, track: Track
) -> Edit:
    edit.need_small("factor", factor, 1)
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
    """With `before` and `track` (of the splits of a tile), the order is proved from there."""
    chains = _chains(edit, names)
    track = track or Track()
    after = edit.func
    for chain in chains:
        nest = Nest(edit, chain[0], after)
        nest.check(chain[-1])
        wanted = iter([_stem(n) for n in names])
        named = {s.var for s in chain}
        band = [s.var for s in nest.chain(chain[0], chain[-1].id) if isinstance(s, Loop)]
        order = [next(wanted) if name in named else name for name in band]
        after = rearranged(edit, after, chain[0], chain[-1], order, track)
    if after is edit.func:
        return edit
    return edit.proved(after, track, chains[0][0], before=before, help=help)


def _stem(name: str) -> str:
    return name.partition("@")[0]


def _chains(edit: Edit, names: Sequence[str]) -> list[list[Loop]]:
    """The nests of loops of all these names, outermost first. Other loops of the names, such as those around
    remainders, are in none."""
    stems = {_stem(n) for n in names}
    named = {p.loop.id: p for name in names for p in edit.loops(name)}
    nests: list[list[Loop]] = []
    for place in named.values():
        if not any(s.id in named for s in stmts(place.loop.body)):
            nests.append([s for s in place.outer if s.id in named] + [place.loop])
    full = [nest for nest in nests if {s.var for s in nest} == stems]
    used = Counter(s.id for nest in full for s in nest)
    if full and max(used.values()) == 1 and all(len(nest) == len(names) for nest in full):
        return full
    listed = ", ".join(f"`{n}`" for n in names)
    if not full:
        most = max(nests, key=len)
        missing = next(n for n in names if _stem(n) not in {s.var for s in most})
        order = sorted(most, key=lambda s: [_stem(n) for n in names].index(s.var))
        raise edit.refused(
            "K0318",
            f"the loops {listed} do not stand one inside the other",
            most[0],
            label=f"`{missing}` is neither inside nor around it",
            help=f"reorder loops of one nest, as in {_call('reorder', edit, order)}"
            if len(most) > 1 and edit.step.name == "reorder"
            else f"{edit.step.name} loops of one nest; use fuse to join two nests",
        )
    shared = next(s for nest in full for s in nest if used[s.id] > 1)
    inside = [s for nest in full for s in nest if used[s.id] == 1 and any(x is shared for x in nest)]
    copies = [f'"{copy_name(edit, s)}" is `{header(s)}`' for s in inside]
    order = sorted(full[0], key=lambda s: [_stem(n) for n in names].index(s.var))
    raise edit.refused(
        "K0318",
        f"the loops {listed} form several nests that share a loop",
        shared,
        label=f"`{shared.var}` is in {used[shared.id]} of them",
        notes=list(dict.fromkeys(copies)),
        help=f"name the copies of one nest, as in {_call('reorder', edit, order)}",
    )


def _call(step: str, edit: Edit, loops: Sequence[Loop]) -> str:
    """A step on these loops, as the user types it."""
    names = [f'"{copy_name(edit, s)}"' for s in loops]
    return f"s.{step}({', '.join(names)})"
