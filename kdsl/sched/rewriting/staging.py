"""Proofs that a staged copy is coherent: where its box is, what is copied in and what is copied back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from kdsl.analysis.accesses import Access, collect
from kdsl.analysis.affine import at_least, constant
from kdsl.analysis.answers import Question
from kdsl.analysis.regions import Range, Regions, box, sites
from kdsl.ir.nodes import Alloc, Body, Func, If, Load, ScalarParam
from kdsl.ir.printer import print_expr, print_func
from kdsl.ir.walk import stmts, subexprs
from kdsl.sched.rewriting.copies import Plan, Stage
from kdsl.sched.rewriting.layout import Arrangement
from kdsl.sched.rewriting.tree import replaced


def plan(stage: Stage) -> Plan:
    """The copy that `stage` asks for, proved, or refused."""
    edit, place, source = stage.edit, stage.place, stage.source
    sizes = set(edit.func.sizes)
    scalars = {p.name for p in edit.func.params if isinstance(p, ScalarParam)}
    outside = sizes | scalars | {s.var for s in place.outer} | {place.loop.var}
    found = list(sites(place.loop.body, source.name))
    region = box(found, source.shape, source.atoms, outside, sizes)
    stores = [(s, loops) for s, loops in found if not isinstance(s, Load)]
    written = box(stores, source.shape, source.atoms, outside, sizes) if stores else None
    if written is not None:
        written = tuple(_inner(mine, all_) for mine, all_ in zip(written, region))
    rank = len(source.shape)
    draft = Plan(
        replace(stage, layout=Arrangement((None,) * rank, tuple(range(rank)), 0, None)),
        region,
        written,
        True,
        (False,) * rank,
        (False,) * rank,
    )
    return _Proof(draft, stage).plan()


def _inner(mine: Range, whole: Range) -> Range:
    """`mine` where it certainly lies in `whole`."""
    start, rest = mine.lo - whole.lo, whole.lo + whole.extent - mine.lo - mine.extent
    fits = start.is_const and rest.is_const and start.const >= 0 and rest.const >= 0
    return mine if fits else whole


@dataclass(slots=True)
class _Proof:
    """Both copies, without tests, around the body as it was: their accesses are compared with the body's."""

    draft: Plan
    stage: Stage
    regions: Regions = field(init=False)
    depth: int = field(init=False)
    order: dict[int, int] = field(init=False)

    def plan(self) -> Plan:
        draft, stage = self.draft, self.stage
        loop = stage.place.loop
        alloc = Alloc(stage.name, stage.source.dtype, draft.memory.shape_exprs(), loc=loop.loc)
        copy_in, copy_out = draft.copy_in(), draft.copy_out()
        probe = replace(loop, body=(alloc, *copy_in, *loop.body, *copy_out))
        probed = replaced(stage.edit.func, {loop.id: (probe,)})
        at = [s.id for s in stmts(probed.body)].index(loop.id)
        question = Question("stage", print_func(probed), f"{at} {stage.source.name} {stage.name}")
        known = question.recall()
        if known is None:
            known = self.answer(probed, copy_in, copy_out)
            question.keep(known)
        read, below, above = known
        return Plan(stage, draft.box, draft.written, read, tuple(below), tuple(above))

    def answer(
        self, probed: Func, copy_in: Body, copy_out: Body
    ) -> tuple[bool, tuple[bool, ...], tuple[bool, ...]]:
        """Whether the copy has to be read, and the dimensions to be clipped below and above."""
        stage = self.stage
        loop, name = stage.place.loop, stage.source.name
        self.regions = Regions(collect(probed))
        self.depth = 1 + len(stage.place.outer)
        self.order = _order(loop.body)
        ids_in, ids_out = ({s.id for s in stmts(body)} for body in (copy_in, copy_out))
        mine = [a for a in self.regions.accesses.accesses if a.site.buffer == name]
        ours = [a for a in mine if a.stmt in self.order]
        (fill,) = [a for a in mine if a.stmt in ids_in]
        (place,) = [a for a in self.regions.accesses.accesses if a.stmt in ids_in and a is not fill]
        back = next((a for a in mine if a.stmt in ids_out), None)
        for access in ours:
            self.check(access, fill, place)
        rank = range(len(fill.index))
        below = tuple([not self.regions.never(fill, at_least(-fill.index[n] - 1)) for n in rank])
        above = tuple([not self.regions.never(fill, at_least(fill.index[n] - fill.extent[n])) for n in rank])
        read = any(a.mode != "write" and not self.covered(a, ours) for a in ours)
        if back is not None and not read:
            writes = [a for a in ours if a.mode == "write"]
            read = not self.regions.covered(back, writes, self.depth)
        return read, below, above

    def check(self, access: Access, fill: Access, place: Access) -> None:
        """Refuses an access that may leave the array or the box."""
        stage = self.stage
        loop, name = stage.place.loop, stage.source.name
        for n, f in enumerate(access.index):
            text = print_expr(access.site.index[n], True)
            where = access.site.loc or next(
                (s.loc for s in stmts(loop.body) if s.id == access.stmt), loop.loc
            )
            if not self.regions.within(access, n, constant(0), access.extent[n]):
                size = print_expr(self.draft.expr(stage.source.shape[n]), True)
                values = self.regions.accesses.values
                fixed = all(values.symbols[s].kind != "opaque" for s in values.closure(f.names()))
                on_data = any(isinstance(x, Load) for x in subexprs(access.site.index[n]))
                raise stage.edit.refused(
                    "K0310",
                    f"cannot stage `{name}` at the loop `{loop.var}`: its region is not known",
                    loop,
                    loc=where,
                    label=f"not proved that 0 <= {text} < {size}"
                    if fixed
                    else f"`{text}` depends on data, so that any element may be meant"
                    if on_data
                    else f"`{text}` is not affine",
                    help="state what the sizes have in common, as in s.assume(...)"
                    if fixed
                    else f"stage at a loop in which `{name}` has indices made of loop variables and sizes",
                )
            lo = fill.index[n] - place.index[n]
            if not self.regions.within(access, n, lo, place.extent[n]):
                raise stage.edit.refused(
                    "K0310",
                    f"cannot stage `{name}` at the loop `{loop.var}`: its region is not known",
                    loop,
                    loc=where,
                    label=f"no box was found that holds `{text}` in every iteration",
                    help="stage at a loop further in",
                )

    def covered(self, access: Access, ours: Sequence[Access]) -> bool:
        """True: what is read was certainly written earlier in the same iteration."""
        at = self.order[access.stmt]
        writes = [a for a in ours if a.mode == "write" and self.order[a.stmt] < at]
        return bool(writes) and self.regions.covered(access, writes, self.depth)


def _order(body: Body) -> dict[int, int]:
    """For each statement, the position of the statement of `body` that it belongs to."""
    if len(body) == 1 and isinstance(body[0], If) and not body[0].orelse:
        return {body[0].id: -1, **_order(body[0].then)}
    return {inner.id: n for n, s in enumerate(body) for inner in stmts((s,))}
