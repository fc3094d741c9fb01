"""Primitives that move what produces a local to where it is read: compute_at, inline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice

from kdsl.analysis.accesses import collect
from kdsl.analysis.affine import Form, at_least, constant
from kdsl.analysis.regions import Regions
from kdsl.analysis.verdict import Unproved, Verdict, Violation
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Alloc, Body, Expr, Func, Load, Loop, Stmt, Store, While
from kdsl.ir.printer import print_expr
from kdsl.ir.verify import MAX_DEPTH
from kdsl.ir.walk import map_expr_children, map_stmt, stmt_bodies, stmt_exprs, stmts, subexprs
from kdsl.sched import legality
from kdsl.sched.arith import const
from kdsl.sched.boxes import Box, box_read
from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.producing import Production, check_makers, made, productions, reads, rest
from kdsl.sched.recomputed import Cutting, Test
from kdsl.sched.substitution import Renaming, chosen, depth, exclusive, several_steps, sources
from kdsl.sched.tree import (
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
    written,
)

TERMS = 5_000
"""Expressions do not grow beyond so many operations."""


@primitive
def compute_at(edit: Edit, producer: str, loop: str, unsafe: bool = False) -> Edit:
    """A local computed where it is read: the part that one iteration of a loop reads, at the top of its body.

    before:
        P: f32[N + 2]
        for i in range(N + 2):
            P[i] = A[i] * 2.0
        for j_o in range((N + 7) // 8):
            for j_i in range(8):
                if j_o * 8 + j_i < N:
                    B[j_o * 8 + j_i] = P[j_o * 8 + j_i] + P[j_o * 8 + j_i + 2]
    after: compute_at("P", "j_o")
        for j_o in range((N + 7) // 8):
            P: f32[10]
            for i in range(10):
                if j_o * 8 + i < N + 2:
                    P[i] = A[j_o * 8 + i] * 2.0
            for j_i in range(8):
                if j_o * 8 + j_i < N:
                    B[j_o * 8 + j_i] = P[j_i] + P[j_i + 2]

    The part is a box. Loops that produce it keep their names (one that is taken there gets a number); where
    the box's extent is a constant they count from its start. What several iterations read is computed again
    in each of them, but never more than in the original. Locals on which a local depends come after it.

    legal: all reads are in the loop, no element is made of others, and no operand changes in between.
    known as: compute_at (Halide, TVM), recomputation, overlapped tiling.
    """
    found = productions(edit, producer)
    places = edit.loops(loop)
    for production in found:
        check_makers(edit, production)
        edit = _moved(edit, production, _targets(edit, production, places))
    return edit


@primitive
def inline(edit: Edit, producer: str, unsafe: bool = False) -> Edit:
    """A local no longer stored: each read becomes the expression that is stored there.

    before:
        P: f32[N + 2]
        for i in range(N + 2):
            P[i] = A[i] * 2.0
        for j in range(N):
            B[j] = P[j] + P[j + 2]
    after: inline("P")
        for j in range(N):
            B[j] = A[j] * 2.0 + A[j + 2] * 2.0

    Where several statements may have stored the element, the expression asks which was the last.

    legal: each element is stored once by each of them, and no operand changes before the read.
    known as: compute_inline (Halide, TVM), inline_assign (Exo), forward substitution.
    """
    for production in productions(edit, producer):
        check_makers(edit, production)
        edit = _inlined(edit, production)
    return edit


# ---------------------------------------------------------------------- compute_at


def _targets(edit: Edit, production: Production, places: Sequence[Place]) -> list[Place]:
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


def _moved(edit: Edit, production: Production, targets: Sequence[Place]) -> Edit:
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


# -------------------------------------------------------------------------- inline


def _inlined(edit: Edit, production: Production) -> Edit:
    """The function without the local."""
    name, alloc = production.alloc.name, production.alloc
    if not production.readers:
        raise edit.refused(
            "K0338",
            f"cannot inline `{name}`: nothing reads it",
            loc=alloc.loc,
            help=f"leave `{name}` out of the kernel",
        )
    last = max(production.makers, default=-1)
    early = [
        s
        for n in production.readers
        if n <= last
        for s in stmts((production.body[n],))
        if reads(s, name) and name not in written((s,))
    ]
    if early:
        read = early[0]
        raise edit.refused(
            "K0338",
            f"cannot inline `{name}`: it is read before all of it is made",
            loc=read.loc,
            label="read here",
            notes=[(s.loc, f"writes `{name}`") for s in (production.body[last],) if s.loc],
            help="cut the loop between producing and reading it first, s.fission(...)",
        )
    found = sources(edit, production)
    group = frozenset(s.store.id for s in found)
    chains: Mapping[int, Sequence[Sequence[int]]] = {}
    if not edit.unsafe:
        verdict, chains = _inline_verdict(edit, production, group)
        if verdict is not None:
            raise _explained(edit, name, verdict, None, f"cannot inline `{name}`")
    for source in found:
        if reads(source.store, name):
            raise several_steps(edit, name, source.store)
    every = [s.store.id for s in reversed(found)]
    by_id = {s.store.id: s for s in found}
    fresh = Renaming(edit.func)

    def on_stmt(s: Stmt) -> Stmt:
        known = iter(chains.get(s.id, ()))

        def on_expr(e: Expr) -> Expr:
            e = map_expr_children(e, on_expr)
            if not (isinstance(e, Load) and e.buffer == name):
                return e
            return fresh(chosen([by_id[n] for n in next(known, ()) or every], e.index))

        return map_stmt(s, on_expr, on_body) if any(reads(x, name) for x in stmts((s,))) else s

    def on_body(body: Body) -> Body:
        return tuple([on_stmt(s) for s in body])

    new: dict[int, Body] = {alloc.id: ()}
    for n in production.makers:
        new[production.body[n].id] = rest(production.body[n], name)
    for n in production.readers:
        new[production.body[n].id] = (on_stmt(production.body[n]),)
    after = replaced(edit.func, new)
    _check_size(edit, name, after)
    return edit.keeps_order(after)


def _inline_verdict(
    edit: Edit, production: Production, group: frozenset[int]
) -> tuple[Verdict, Mapping[int, Sequence[Sequence[int]]]]:
    from kdsl.analysis import dependence

    asked = dependence.Production(
        production.alloc, production.depth, production.positions(), group, production.private
    )
    pairs = frozenset(
        pair for n in production.makers for pair in exclusive((production.body[n],), production.alloc.name)
    )
    return dependence.check_inline(edit.func, asked, pairs)


def _check_size(edit: Edit, name: str, after: Func) -> None:
    """Refuses expressions that would grow beyond what can be compiled."""
    for s in stmts(after.body):
        for e in stmt_exprs(s):
            if sum(1 for _ in islice(subexprs(e), TERMS + 1)) > TERMS or depth(e) > MAX_DEPTH - 20:
                raise edit.refused(
                    "K0307",
                    f"inlining `{name}` would make an expression of more than {TERMS} operations",
                    loc=s.loc,
                    help=f'keep `{name}`, near its readers: s.compute_at("{name}", ...)',
                )


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
    return _explained(edit, name, verdict, loop, f"cannot compute `{name}` at the loop `{loop.var}`")


def _explained(
    edit: Edit, name: str, verdict: Unproved | Violation, loop: Loop | None, title: str
) -> ScheduleError:
    """The verdict as an error."""
    if isinstance(verdict, Unproved):
        return edit.refused(
            "K0310",
            f"cannot prove `{edit.step.name}` of `{name}`",
            loop,
            loc=verdict.loc,
            label=verdict.reason,
            help="pass unsafe=True if you know that it is right for your data"
            if verdict.help.startswith("unsafe") or not verdict.help
            else verdict.help,
        )
    code, why, way = _REASONS[verdict.kind]
    notes = [(loop.loc, "this loop")] if loop is not None and loop.loc and loop.loc != verdict.first else []
    if verdict.second is not None and verdict.second != verdict.first:
        notes.insert(0, (verdict.second, legality.at(verdict.second_iter)))
    return edit.refused(
        code,
        f"{title}: {why}",
        loop,
        loc=verdict.first,
        label=verdict.text,
        notes=notes,
        help=way.format(name=name),
    )


_REASONS = {
    "feeds": (
        "K0335",
        "its elements are made of each other",
        "keep `{name}` as it is: a recurrence runs in order",
    ),
    "changed": (
        "K0336",
        "what it is made of changes in between",
        "write the result to another array, or keep `{name}` as it is",
    ),
    "unwritten": (
        "K0337",
        "an element that is read is never produced",
        "produce all elements that are read, or read fewer",
    ),
    "elsewhere": (
        "K0337",
        "an element that is read comes from another iteration",
        "cut the loop between producing and reading `{name}`, s.fission(...)",
    ),
    "twice": (
        "K0339",
        "an element is produced more than once",
        "use compute_at, which keeps all that produces `{name}`",
    ),
}
"""For each kind of violation the code, the reason and the way out."""
