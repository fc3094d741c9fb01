"""What `compute_at` does: the statements that produce a local moved to the top of loops that read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from kdsl.analysis.accesses import collect
from kdsl.analysis.affine import Form, at_least, constant
from kdsl.analysis.regions import Regions
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Alloc, Body, Expr, Func, Load, Loop, Stmt, Store, While
from kdsl.ir.printer import print_expr
from kdsl.ir.walk import map_expr_children, stmt_bodies, stmts
from kdsl.sched import legality
from kdsl.sched.edit import Edit
from kdsl.sched.rewriting.arith import const
from kdsl.sched.rewriting.boxes import Box, box_read
from kdsl.sched.rewriting.producing import (
    Production,
    made,
    reads,
    rest,
)
from kdsl.sched.rewriting.recomputed import Cutting, Test
from kdsl.sched.rewriting.tree import (
    Place,
    Track,
    bound,
    contains,
    fresh_names,
    is_leaf,
    map_exprs,
    renamed_buffers,
    renamed_loops,
    replaced,
)


def targets(edit: Edit, production: Production, places: Sequence[Place]) -> list[Place]:
    """The loops, of those named, with the reads of the local inside; refused unless they have all of them."""
    name, position = production.alloc.name, production.positions()
    found = [p for p in places if p.loop.id in position and any(reads(s, name) for s in stmts(p.loop.body))]
    asked = places[0].loop
    own = [p.loop for p in places if position.get(p.loop.id) in production.makers]
    if own:
        cut = any(p.loop in own for p in found)
        raise edit.refused(
            "K0338",
            f"cannot compute `{name}` at the loop `{own[0].var}`: it is one of those that produce `{name}`",
            own[0],
            help="cut the loop between producing and reading it first, s.fission(...)"
            if cut
            else f"name a loop that reads `{name}`",
        )
    inside = {s.id for p in found for s in stmts(p.loop.body)}
    group = {s.id for n in production.makers for s in stmts(made(production.body[n], name))}
    others = {s.id for n in production.makers for s in stmts(rest(production.body[n], name))}
    outside = [
        s
        for s in stmts(production.body)
        if reads(s, name) and s.id not in inside and (s.id not in group or s.id in others)
    ]
    if outside:
        raise edit.refused(
            "K0338",
            f"cannot compute `{name}` at the loop `{asked.var}`: it is read outside of the loop too",
            asked,
            notes=[(s.loc, f"`{name}` is read here") for s in outside[:1] if s.loc],
            help=_outside_help(production, outside[0]),
        )
    if not found:
        raise edit.refused(
            "K0338",
            f"cannot compute `{name}` at the loop `{asked.var}`: the loop does not read it",
            asked,
            help=f"name a loop with the reads of `{name}` inside",
        )
    return found


def _outside_help(production: Production, read: Stmt) -> str:
    """A loop around all reads, if there is one."""
    name = production.alloc.name
    for child in production.body:
        if contains(child, read.id):
            writes = sorted({s.buffer for s in stmts((child,)) if isinstance(s, Store)} - {name})
            locals_ = [b for b in writes if any(reads(s, b) for s in stmts(production.body))]
            if locals_:
                return f'it goes into `{locals_[0]}`: place that first, s.compute_at("{locals_[0]}", ...)'
    return f"name a loop around all reads of `{name}`, or fuse the loops that read it"


def moved(edit: Edit, production: Production, targets: Sequence[Place]) -> Edit:
    """The function with the local computed in `targets`."""
    name, alloc = production.alloc.name, production.alloc
    position = production.positions()
    for place in targets:
        _check_target(edit, production, place, position)
    track = Track()
    new: dict[int, Body] = {alloc.id: ()}
    for n in production.makers:
        maker = production.body[n]
        new[maker.id] = rest(maker, name)
    group = [s for n in production.makers for s in made(production.body[n], name)]
    copies: dict[int, frozenset[int]] = {}
    for place in targets:
        loop = place.loop
        clash = _names_above(edit, place) & (bound(tuple(group)) | {name}) - {name}
        names = fresh_names(edit.func, sorted(clash))
        body = renamed_buffers(renamed_loops(tuple(group), names), names)
        part, proved = _part(edit, production, place, body)
        cutting = Cutting(edit, part, track, {new_: old for old, new_ in names.items()}, proved)
        copy = cutting.body(body, ())
        if cutting.guarded:
            _check_conditions(edit, name, body)
        copies[loop.id] = frozenset(s.id for s in stmts(copy) if is_leaf(s))
        here = replace(alloc, id=Alloc(name, alloc.dtype, ()).id, shape=part.shape(alloc))
        new[loop.id] = (replace(loop, body=(here, *copy, *_redirected(loop.body, part))),)
    after = replaced(edit.func, new)
    if not edit.unsafe:
        leaves = frozenset(s.id for s in stmts(tuple(group)) if is_leaf(s))
        refusal = _refusal(edit, production, leaves, targets[0].loop, after, track, copies)
        if refusal is not None:
            raise refusal
    return edit.keeps_order(after)


def _check_target(edit: Edit, production: Production, place: Place, position: dict[int, int]) -> None:
    name, loop = production.alloc.name, place.loop
    later = [production.body[n] for n in production.makers if n > position[loop.id]]
    if later:
        raise edit.refused(
            "K0336",
            f"cannot compute `{name}` at the loop `{loop.var}`: it is written again after the loop",
            loop,
            notes=[(later[0].loc, f"writes `{name}`")] if later[0].loc else [],
            help="give what is written there a name of its own in the kernel",
        )
    for s in (*place.above, loop):
        if isinstance(s, Loop) and s.mark is not None and s.mark.kind == "vectorize":
            edit.need_unmarked(s)
        if isinstance(s, While) and s not in production.above:
            raise edit.refused(
                "K0308",
                f"cannot compute `{name}` inside of a `while` loop",
                loop,
                loc=s.loc,
                help="name a loop around the `while` loop",
            )


def _check_conditions(edit: Edit, name: str, group: Body) -> None:
    """Refuses conditions on elements that may lie outside of the part: only stores are tested."""
    for s in stmts(group):
        if not is_leaf(s) and reads(s, name):
            raise edit.refused(
                "K0310",
                f"cannot prove `{edit.step.name}`: the part of `{name}` that is needed is not known",
                loc=s.loc,
                label="a condition on what is produced",
                help=f"use `{edit.step.name}` before splitting the loops that produce `{name}`",
            )


def _names_above(edit: Edit, place: Place) -> set[str]:
    """The names that mean something at the top of the loop's body, or will further down in it."""
    known = {p.name for p in edit.func.params} | set(edit.func.sizes) | {place.loop.var}
    known |= {s.var for s in place.outer}
    bodies = [edit.func.body, place.loop.body, *[b for s in place.above for b in stmt_bodies(s)]]
    return known | {s.name for body in bodies for s in body if isinstance(s, Alloc)}


def _redirected(body: Body, part: Box) -> Body:
    """`body` with the reads of the local made to its part."""

    def on_expr(e: Expr) -> Expr:
        e = map_expr_children(e, on_expr)
        return replace(e, index=part.placed(e.index)) if isinstance(e, Load) and e.buffer == part.name else e

    return map_exprs(body, on_expr)


# -------------------------------------------------------------------------- proofs


def _part(edit: Edit, production: Production, place: Place, group: Body) -> tuple[Box, set[Test]]:
    """The part of the local that one iteration reads, and the tests that always hold in the loops cut to it.

    Refused unless all accesses are known to lie in the local. A dimension in which reads are not known to lie
    in the part is computed whole.
    """
    part = box_read(edit, place, production.alloc)
    while part.cut():
        draft = Cutting(edit, part, Track(), {})
        copy = draft.body(group, ())
        corners: list[Expr] = []
        for n in part.cut():
            corners += [part.expr(part.ranges[n].lo), part.expr(part.ranges[n].extent)]
        corner = Store(part.name, tuple(corners), const(0))
        probe = replace(place.loop, body=(corner, *copy, *place.loop.body))
        regions = Regions(collect(replaced(edit.func, {place.loop.id: (probe,)})))
        found = {
            a.stmt: a for a in regions.accesses.accesses if a.stmt in draft.probes or a.stmt == corner.id
        }
        loose = _loose(edit, production, place, part, regions, found[corner.id].index)
        if loose is not None:
            part = part.widened(loose, production.alloc)
            continue
        return part, {
            test
            for number, tests in draft.probes.items()
            for test, gap in zip(tests, found[number].index)
            if regions.never(found[number], at_least(-gap - 1))
        }
    return part, set()


def _loose(
    edit: Edit,
    production: Production,
    place: Place,
    part: Box,
    regions: Regions,
    corners: tuple[Form, ...],
) -> int | None:
    """A dimension in which a read may lie outside of the part; refused if it may lie outside of the local."""
    reading = {s.id for s in stmts(place.loop.body)}
    writing = {s.id for n in production.makers for s in stmts((production.body[n],))}
    for access in regions.accesses.accesses:
        if access.site.buffer != part.name or access.stmt not in reading | writing:
            continue
        for k, n in enumerate(part.cut()):
            if not regions.within(access, n, constant(0), access.extent[n]):
                raise edit.refused(
                    "K0310",
                    f"cannot prove `{edit.step.name}`: the part of `{part.name}` that is needed is not known",
                    place.loop,
                    loc=access.site.loc,
                    label=f"not proved that `{print_expr(access.site.index[n], True)}` is inside of it",
                    help="state what the sizes have in common, as in s.assume(...)",
                )
            if access.stmt in reading and not regions.within(access, n, corners[2 * k], corners[2 * k + 1]):
                return n
    return None


def _refusal(
    edit: Edit,
    production: Production,
    group: frozenset[int],
    loop: Loop,
    after: Func,
    track: Track,
    copies: dict[int, frozenset[int]],
) -> ScheduleError | None:
    from kdsl.analysis import dependence

    asked = dependence.Production(
        production.alloc, production.depth, production.positions(), group, production.private
    )
    origins = legality.origins(edit.func, after, track)
    verdict = dependence.check_move(edit.func, after, origins, asked, copies)
    if verdict is None:
        return None
    name = production.alloc.name
    title = f"cannot compute `{name}` at the loop `{loop.var}`"
    return legality.recompute_refusal(edit, name, verdict, loop, title)
