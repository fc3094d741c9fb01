"""Primitives that give each iteration of a loop its own copy of a local: privatize, expand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kdsl.ir.nodes import Alloc, Body, Func, Loop, While, fresh_id
from kdsl.ir.walk import map_stmt, stmts
from kdsl.sched import legality
from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.expansion import expansion, need_no_old_values
from kdsl.sched.rewriting.tree import (
    Place,
    bound,
    buffers,
    declared,
    fresh_names,
    places,
    renamed_buffers,
    replaced,
    siblings,
)


@primitive
def privatize(edit: Edit, local: str, loop: str, unsafe: bool = False) -> Edit:
    """A copy of a local for each iteration: its allocation moves into the loop's body.

    before:
        t: f32[N]
        for i in range(M):
            for j in range(N):
                t[j] = A[i, j] * 2.0
            for j_1 in range(N):
                B[i, j_1] = t[N - 1 - j_1]
    after: privatize("t", "i")
        for i in range(M):
            t: f32[N]
            for j in range(N):
                t[j] = A[i, j] * 2.0
            for j_1 in range(N):
                B[i, j_1] = t[N - 1 - j_1]

    Then the loop may be parallel. If the local is used elsewhere too, the copy gets a new name (`t_1`).

    legal: each iteration writes what it reads, and nothing reads that after the loop.
    known as: privatisation, omp private.
    """
    chosen = _chosen(edit, local, loop)
    for place in chosen:
        if _made_in(place.loop, local):
            raise edit.refused(
                "K0334",
                f"`{local}` is made inside of the loop `{place.loop.var}`",
                place.loop,
                label="each iteration has one of its own already",
                help=f'for an element for each iteration outside of the loop: s.expand("{local}", "{loop}")',
            )
    return edit.keeps_order(_privatised(edit, local, chosen)[0])


@primitive
def expand(edit: Edit, local: str, loop: str, unsafe: bool = False) -> Edit:
    """An element (or a row) of a local for each iteration: it moves out of the loop and gets a dimension.

    before:
        for i in range(N):
            t: f32
            t = A[i] * 2.0
            B[i] = t * t
    after: expand("t", "i")
        t: f32[N]
        for i in range(N):
            t[i] = A[i] * 2.0
            B[i] = t[i] * t[i]

    Elements count from the least value of the loop's variable; one of a step other than 1 leaves some unused.
    The local may be made in the loop, or around it. If one made
    around it is used elsewhere too, that of the loop gets a new name (`t_1`).

    legal: a number of iterations bounded by the sizes; made around the loop, as for privatize.
    known as: scalar expansion, expand_dim and lift_alloc (Exo).
    """
    chosen = _chosen(edit, local, loop)
    func, names = _privatised(edit, local, [p for p in chosen if not _made_in(p.loop, local)])
    for place in chosen:
        func = _lifted(edit, func, place.loop.id, names.get(place.loop.id, local))
    return edit.keeps_order(func)


def _chosen(edit: Edit, local: str, loop: str) -> list[Place]:
    """The copies of the loop that use the local; refused when none does."""
    named = edit.loops(loop)
    chosen = [p for p in named if local in buffers(p.loop.body) or _made_in(p.loop, local)]
    known = [s.name for s in stmts(edit.func.body) if isinstance(s, Alloc)]
    if not chosen and local not in known and all(a.name != local for a in edit.func.arrays):
        raise edit.refused(
            "K0304",
            f"there is no local `{local}`",
            notes=[f"the locals are {', '.join(f'`{k}`' for k in dict.fromkeys(known))}"] if known else [],
            help="name a variable or an array that the kernel makes",
        )
    if not chosen:
        raise edit.refused(
            "K0334",
            f"the loop `{named[0].loop.var}` does not use `{local}`",
            named[0].loop,
            help=f"name a loop with `{local}` inside",
        )
    return chosen


def _made_in(loop: Loop | While, local: str) -> bool:
    return any(isinstance(s, Alloc) and s.name == local for s in stmts(loop.body))


# ------------------------------------------------------------------------ rewriting


def _privatised(edit: Edit, local: str, chosen: Sequence[Place]) -> tuple[Func, dict[int, str]]:
    """The function with a copy of the local in the body of each loop, and what they are called, by loop."""
    made: dict[int, list[Loop]] = {}
    sources: dict[int, Alloc] = {}
    for place in chosen:
        source = declared(edit.func, place, local)
        if not isinstance(source, Alloc):
            raise edit.refused(
                "K0334",
                f"`{local}` is an argument, which the caller sees",
                place.loop,
                help=f's.stage("{local}", at="{place.loop.var}") makes a copy of what an iteration uses',
            )
        if not edit.unsafe:
            refusal = legality.private_refusal(edit, edit.func, source, place.loop)
            if refusal is not None:
                raise refusal
        made.setdefault(source.id, []).append(place.loop)
        sources[source.id] = source
    new: dict[int, Body] = {}
    names: dict[int, str] = {}
    for id_, loops in made.items():
        source = sources[id_]
        emptied = replace(edit.func, body=siblings(edit.func, id_))
        emptied = replaced(emptied, {loop.id: (replace(loop, body=()),) for loop in loops})
        name = local
        if local in buffers(emptied.body):
            name = fresh_names(edit.func, [local])[local]
        else:
            new[id_] = ()
        for loop in loops:
            body = renamed_buffers(loop.body, {local: name}) if name != local else loop.body
            copy = replace(source, id=fresh_id(), name=name)
            new[loop.id] = (replace(loop, body=(copy, *body)),)
            names[loop.id] = name
    return replaced(edit.func, new), names


def _lifted(edit: Edit, func: Func, loop_id: int, local: str) -> Func:
    """The function with the local moved out of the loop's body."""
    place = next(p for p in places(func) if p.loop.id == loop_id)
    loop, around = place.loop, siblings(func, loop_id)
    for s in stmts(loop.body):
        if isinstance(s, (Loop, While)) and _made_in(s, local):
            raise edit.refused(
                "K0334",
                f"`{local}` is made in a loop inside of `{loop.var}`",
                loop,
                loc=s.loc,
                label="each of its iterations has one",
                help=f's.expand("{local}", "{s.var}") first' if isinstance(s, Loop) else "name a loop inside",
            )
    edit.need_known_step(loop)
    need_no_old_values(edit, loop, loop.body, {local})
    elements = expansion(edit, [loop], place.outer, local)
    others = tuple(s for s in around if s.id != loop_id)
    taken = bound(others)
    allocs: list[Alloc] = []

    def lift(body: Body) -> Body:
        own = next((s for s in body if isinstance(s, Alloc) and s.name == local), None)
        if own is None:
            return tuple([map_stmt(s, lambda e: e, lift) for s in body])
        name = local
        if name in taken:
            name = fresh_names(replace(func, body=(*func.body, *allocs)), [local])[local]
        taken.add(name)
        allocs.append(elements.alloc(own, name))
        rest = elements.apply(tuple(s for s in body if s is not own), [local])
        return renamed_buffers(rest, {local: name}) if name != local else rest

    body = lift(loop.body)
    return replaced(func, {loop_id: (*allocs, replace(loop, body=body))})
