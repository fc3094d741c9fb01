"""Primitives that regroup reductions: rfactor."""

from __future__ import annotations

from kdsl.analysis.linear import faultless
from kdsl.analysis.regions import Atoms
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import Accumulate, AccumulateOp, Alloc, Const, Expr, Func, If, Load, Loop, Var
from kdsl.ir.walk import expr_children, stmts
from kdsl.sched import legality
from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.arith import names_in, sub
from kdsl.sched.rewriting.expansion import span
from kdsl.sched.rewriting.names import shown
from kdsl.sched.rewriting.partials import Group, Names, Partials, Region, region
from kdsl.sched.rewriting.tree import Place, bound, contains, declared, first_return, places


@primitive
def rfactor(edit: Edit, loop: str, buffer: str | None = None, unsafe: bool = False) -> Edit:
    """Partial results for each iteration of a loop, and a loop that combines them.

    before:
        acc = 0.0
        for k_o in range((K + 7) // 8):
            for k_i in range(8):
                if k_o * 8 + k_i < K:
                    acc += A[k_o * 8 + k_i]
    after: rfactor("k_i")
        acc = 0.0
        acc_r: f32[8]
        for k_i_z in range(8):
            acc_r[k_i_z] = -0.0
        for k_o in range((K + 7) // 8):
            for k_i in range(8):
                if k_o * 8 + k_i < K:
                    acc_r[k_i] += A[k_o * 8 + k_i]
        for k_i_r in range(8):
            acc += acc_r[k_i_r]

    Every sum, product, minimum or maximum of the loop whose target is the same in all iterations gets partial
    results, or those of `buffer` alone. They live around the outermost loop that keeps updating the same
    cells. A target that is an array gets a row of the cells in question for each iteration (of all cells,
    where data choose them); the loops over a row are `s_r_z0` and `s_r_0`, and so on. Partial results start
    from the value that changes nothing (-0.0 in a float sum: 0.0 would turn -0.0 into 0.0).

    A vector of partial sums: s.split("k", 8).rfactor("k_i").vectorize("k_i"); several vectors hide latency:
    s.split("k", 32).rfactor("k_i").split("k_i", 8).unroll("k_i_o").vectorize("k_i_i").
    On all cores: s.split("k", 4096).rfactor("k_o").parallel("k_o"); histograms likewise.
    A tree: split once more and factor again, each level's combining loop included.

    legal: nothing reads or stores a target between its updates; not floats in a strict kernel.
    known as: rfactor (Halide, TVM), reduction privatisation.
    """
    after = edit.func
    chosen = [(place, _groups(edit.func, place, buffer)) for place in edit.loops(loop)]
    if not any(groups for _, groups in chosen):
        raise _nothing(edit, chosen[0][0], buffer)
    done: list[Partials] = []
    for place, groups in chosen:
        for group in groups:
            others = [g.buffer for g in groups if g.buffer != group.buffer]
            done.append(_partials(edit, place, group, others, after))
            after = done[-1].rewritten(after)
    if not edit.unsafe:
        for made in done:
            refusal = isinstance(made.group.source, Alloc) and legality.initialised_refusal(
                edit, after, made.group.source, made.update, made.loop
            )
            if refusal:
                raise refusal
    return edit.keeps_order(after)


def _groups(func: Func, place: Place, buffer: str | None) -> list[Group]:
    """The updates in the loop whose targets stay the same."""
    from kdsl.analysis.dependence import share_cells

    found: dict[tuple[str, AccumulateOp], set[int]] = {}
    for s in _updates(place.loop):
        if buffer in (None, s.buffer) and place.loop.var not in _chosen_by(s):
            found.setdefault((s.buffer, s.op), set()).add(s.id)
    groups = []
    for (name, op), ids in found.items():
        source = declared(func, place, name)
        assert source is not None
        if _moves(place.loop, ids) and not share_cells(func, ids, place.loop.id):
            continue
        groups.append(Group(name, op, source, frozenset(ids)))
    return groups


def _updates(loop: Loop) -> list[Accumulate]:
    """The updates in the loop of buffers that are not made in it."""
    own = {s.name for s in stmts(loop.body) if isinstance(s, Alloc)}
    return [s for s in stmts(loop.body) if isinstance(s, Accumulate) and s.buffer not in own]


def _chosen_by(s: Accumulate) -> set[str]:
    """The variables that choose the target. Those that choose data which choose it are not among them."""

    def names(e: Expr) -> set[str]:
        if isinstance(e, Load):
            return set()
        return {e.name} if isinstance(e, Var) else set().union(*map(names, expr_children(e)))

    return set().union(*map(names, s.index))


def _moves(loop: Loop, ids: set[int]) -> bool:
    """True when inner loops, whose ranges change with `loop`, choose the targets."""
    known: set[str] = set()
    for s in stmts(loop.body):
        if isinstance(s, Loop) and names_in((s.lo, s.hi)) & (known | {loop.var}):
            known.add(s.var)
    return any(_chosen_by(s) & known for s in _updates(loop) if s.id in ids)


# ------------------------------------------------------------------------ rewriting


def _partials(edit: Edit, place: Place, group: Group, others: list[str], after: Func) -> Partials:
    """The partial results of a group, proved, or refused. `others`: what else could be factored; `after`: the
    function with the partial results of other groups."""
    loop = place.loop
    _check(edit, place, group)
    start, count = span(edit, loop, place.outer, f"{group.buffer}_r")
    nest, found = _outermost(edit, place, group, others)
    trips = count
    if nest is place and start == loop.lo and faultless(loop.hi) and not isinstance(count, Const):
        # Where the loop is shorter than that, so are those that fill and combine.
        trips = sub(loop.hi, start)
    names = Names(
        _free(after, nest, f"{group.buffer}_r"),
        _free(after, nest, f"{loop.var}_z", loop=True),
        _free(after, nest, f"{loop.var}_r", loop=True),
    )
    dims = tuple(range(len(found.box)))
    return Partials(group, loop, nest, found, names, start, count, trips, dims).clipped(edit)


def _outermost(edit: Edit, place: Place, group: Group, others: list[str]) -> tuple[Place, Region]:
    """The outermost loop around the updates that keeps updating the same cells, and these."""
    func = edit.func
    help = "take a loop that only updates it: a value that is read meanwhile has no parts"
    if others:
        help = f'factor another buffer alone: s.rfactor("{place.loop.var}", buffer="{others[0]}")'
    refusal = legality.delayed_refusal(edit, func, group.ids, group.buffer, place.loop, help)
    if refusal is not None and not edit.unsafe:
        raise refusal
    around = {p.loop.id: p for p in places(func)}
    used = set().union(*[_chosen_by(s) for s in _updates(place.loop) if s.id in group.ids])
    atoms = Atoms()
    best = place, region(func, place, group, atoms)
    for node in reversed(place.above):
        if isinstance(node, If):
            continue
        if not isinstance(node, Loop) or not _may_hold(node, group, used):
            break
        wider = region(func, around[node.id], group, atoms)
        if wider.box != best[1].box:
            break
        if legality.delayed_refusal(edit, func, group.ids, group.buffer, node, "") is not None:
            break
        best = around[node.id], wider
    return best


def _may_hold(loop: Loop, group: Group, used: set[str]) -> bool:
    """False when the targets change with `loop`, belong to one iteration, or the end may not be reached."""
    shared = loop.mark is not None and loop.mark.kind in ("parallel", "bind")
    inside = isinstance(group.source, Alloc) and contains(loop, group.source.id)
    return loop.var not in used and not shared and not inside and first_return(loop.body) is None


def _free(func: Func, nest: Place, stem: str, loop: bool = False) -> str:
    """A name like `stem`: for a loop (others may have it), or for an array and the loops named after it."""
    everything = bound(func.body) | {p.name for p in func.params} | set(func.sizes)
    if loop:
        everything -= {p.loop.var for p in places(func)} - {s.var for s in (*nest.outer, nest.loop)}
    name, n = stem, 1
    while any(t == name or (not loop and t.startswith(f"{name}_")) for t in everything):
        n += 1
        name = f"{stem}{n}"
    return name


# ------------------------------------------------------------------------ refusals


def _check(edit: Edit, place: Place, group: Group) -> None:
    loop, name = place.loop, group.buffer
    edit.need_unmarked(loop)
    edit.need_known_step(loop)
    leave = first_return(loop.body)
    if leave is not None:
        raise edit.refused(
            "K0308",
            f"cannot factor the loop `{loop.var}`: the kernel may end inside",
            loop,
            label="left from inside",
            notes=[(leave.loc, "here")] if leave.loc else [],
            help="write the condition as an `if` around the rest of the body",
        )
    if edit.func.options.strict and group.source.dtype.is_float:
        update = next(s for s in _updates(loop) if s.id in group.ids)
        raise edit.refused(
            "K0332",
            f"cannot make partial results of `{name}`: a strict kernel keeps the order of its float terms",
            loop,
            loc=update.loc,
            label=f"which zero `{group.op}` keeps (-0.0 or 0.0) depends on the order"
            if group.op in ("min", "max")
            else f"`{shown(update)}` rounds after each term",
            help="leave out strict=True, or take a loop whose iterations update different elements",
        )


def _nothing(edit: Edit, place: Place, buffer: str | None) -> ScheduleError:
    """No update in the loop has a target that stays the same."""
    loop = place.loop
    known = [s for s in _updates(loop) if buffer in (None, s.buffer)]
    if buffer is not None and not known:
        found = list(dict.fromkeys(s.buffer for s in _updates(loop)))
        what = ", ".join(f"`{f}`" for f in found)
        return edit.refused(
            "K0330",
            f"cannot factor the loop `{loop.var}`: it updates no `{buffer}` from outside of it",
            loop,
            label=f"updates {what}" if found else "updates nothing that was made outside",
            help="name a buffer that the loop adds to, multiplies, or takes the least or largest of",
        )
    if known:
        from kdsl.analysis.dependence import share_cells

        alike = {s.id for s in known if (s.buffer, s.op) == (known[0].buffer, known[0].op)}
        apart = not share_cells(edit.func, alike, loop.id)
        return edit.refused(
            "K0330",
            f"cannot factor the loop `{loop.var}`: the target changes with it",
            loop,
            loc=known[0].loc,
            label=f"`{shown(known[0])}` has another target in each `{loop.var}`",
            help=f'no partial results are needed here: s.parallel("{loop.var}")'
            if apart
            else "factor a loop that the target does not depend on",
        )
    return edit.refused(
        "K0330",
        f"cannot factor the loop `{loop.var}`: there is no reduction in it",
        loop,
        label="no `+=`, `*=`, `min` or `max` into something made outside of the loop",
        help="name a loop that sums up, multiplies, or takes the least or largest",
    )
