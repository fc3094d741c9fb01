"""Moving a loop out of the loops over invocations around it, so that the work-group runs it together.

for i_i in bind(range(16), "block.x"):        for i_i in bind(range(16), "block.x"):
    acc = 0                                       acc[i_i] = 0
    for k_o in range(K // 8):           ->    for k_o in range(K // 8):
        ...                                       for i_i in bind(range(16), "block.x"): ...
    C[i_i] = acc                              for i_i in bind(range(16), "block.x"):
                                                  C[i_i] = acc[i_i]

The rewrite is that of `reorder`, and proved like it.
"""

from __future__ import annotations

from kdsl.analysis.axes import axis_of, is_block, is_grid
from kdsl.analysis.linear import extent
from kdsl.ir.nodes import Loop
from kdsl.ir.walk import stmts
from kdsl.sched.edit import Edit
from kdsl.sched.legality import order_refusal
from kdsl.sched.rewriting.names import copy_name, header
from kdsl.sched.rewriting.nests import Nest, rearranged
from kdsl.sched.rewriting.tree import Place, Track, places


def out_of_invocations(edit: Edit, place: Place, buffer: str) -> Edit:
    """The edit after the loop at `place` has moved out of the block loops around it, with the loops between;
    refused where shared memory for `buffer` has no place in it."""
    loop = place.loop
    _need_group(edit, place, buffer)
    blocks = [s for s in place.outer if is_block(s)]
    if not blocks:
        return edit
    root = blocks[0]
    nest = Nest(edit, root, edit.func)
    nest.check(loop)
    band = [s for s in nest.chain(root, loop.id) if isinstance(s, Loop)]
    order = [s.var for s in band if s not in blocks] + [s.var for s in blocks]
    track = Track()
    after = rearranged(edit, edit.func, root, loop, order, track)
    moved = next(p.loop for p in places(after) if p.loop.id == loop.id)
    title = f"cannot stage `{buffer}` in shared memory at the loop `{loop.var}`"
    for s in stmts(moved.body):
        if isinstance(s, Loop) and is_block(s) and extent(s) is None:
            raise edit.refused(
                "K0363",
                f"{title}: the invocations of a work-group do not run it together",
                loop,
                label=f"`{header(loop)}` has other iterations for each `{s.var}`",
                notes=[(s.loc, f"`{s.var}` is bound to {axis_of(s)}")] if s.loc else [],
                help=f"let `{loop.var}` run over the longest range, with an `if` around its body, "
                'or stage in memory="local"',
            )
    refusal = order_refusal(
        edit,
        edit.func,
        after,
        track,
        loop,
        'stage in memory="local"; the invocations do not agree on an order',
        code="K0363",
        title=f"{title}: the work-group cannot run it together",
    )
    if refusal is not None:
        raise refusal
    return edit.keeps_order(after)


def _need_group(edit: Edit, place: Place, buffer: str) -> None:
    """Refuses loops whose iterations belong to one invocation, or to the host."""
    loop = place.loop
    title = f"cannot stage `{buffer}` in shared memory at the loop `{loop.var}`"
    if is_block(loop):
        outer = [s for s in place.outer if not is_block(s)]
        around = copy_name(edit, outer[-1]) if outer else ""
        inside = [s for s in stmts(loop.body) if isinstance(s, Loop) and not axis_of(s)]
        at = copy_name(edit, inside[0]) if inside else around
        raise edit.refused(
            "K0362",
            f"{title}: an iteration is one invocation",
            loop,
            label=f"bound to {axis_of(loop)}; shared memory belongs to a whole work-group",
            help=f's.stage("{buffer}", at="{at}", memory="shared")' if at else 'stage in memory="local"',
        )
    grids = [s for s in stmts(loop.body) if isinstance(s, Loop) and is_grid(s)]
    if grids:
        raise edit.refused(
            "K0364",
            f"{title}: work-groups start inside of it",
            loop,
            label="shared memory belongs to one work-group",
            notes=[(grids[0].loc, f"`{grids[0].var}` is bound to {axis_of(grids[0])}")]
            if grids[0].loc
            else [],
            help=f's.stage("{buffer}", at="{copy_name(edit, grids[-1])}", memory="shared")',
        )
