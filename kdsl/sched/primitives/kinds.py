"""Primitives that say how a loop is lowered: unroll, vectorize, parallel, bind.

They mark the loop; the mark stays in the IR until lowering and is proved again when a later step changes
the loop.
"""

from __future__ import annotations

from typing import Literal

from kdsl.analysis.linear import extent
from kdsl.ir.nodes import Body, Loop, Mark, MarkKind
from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.names import header
from kdsl.sched.rewriting.ranges import split_loop
from kdsl.sched.rewriting.tree import Place, Track, leaves_loop, places, replaced

Axis = Literal["grid.x", "grid.y", "grid.z", "block.x", "block.y", "block.z"]

MAX_COPIES = 1024
"""The longest loop that is unrolled."""


@primitive
def unroll(edit: Edit, loop: str, factor: int | None = None) -> Edit:
    """All iterations of a loop of constant extent written out, or `factor` of them at a time.

    before:
        for i in range(4):
            S(i)
    after:
        for i in unroll(range(4)):
            S(i)

    With a factor the loop keeps its name and counts blocks, and `i_u` inside is unrolled; iterations beyond
    the last whole block are tested away.

    legal: a constant number of iterations, none of which ends the loop early.
    known as: unroll (Halide, TVM), unroll_loop (Exo).
    """
    return _marked(edit, loop, factor, "u", "unroll", False)


@primitive
def vectorize(edit: Edit, loop: str, lanes: int | None = None, unsafe: bool = False) -> Edit:
    """The iterations of a loop in lockstep, one a vector lane.

    before:
        for i in range(N):
            S(i)
    after: vectorize("i", 16)
        for i in range((N + 15) // 16):
            for i_v in vectorize(range(16)):
                if i * 16 + i_v < N:
                    S(i * 16 + i_v)

    Without `lanes` the loop's extent, a constant, is their number.

    legal: unless a dependence between lanes of one vector has its source not strictly earlier.
    known as: vectorize (Halide, TVM).
    """
    return _marked(edit, loop, lanes, "v", "vectorize", unsafe)


@primitive
def parallel(edit: Edit, loop: str, unsafe: bool = False) -> Edit:
    """The iterations of a loop on the worker pool, in any order.

    before:
        for i in range(N):
            S(i)
    after:
        for i in parallel(range(N)):
            S(i)

    legal: when no iteration depends on another; accumulations into one cell count as a dependence.
    known as: parallel (Halide, TVM), parallelize_loop (Exo), omp parallel for.
    """
    return _set_marks(edit, edit.loops(loop), Mark("parallel", unsafe=unsafe))


@primitive
def bind(edit: Edit, loop: str, axis: Axis, unsafe: bool = False) -> Edit:
    """The iterations of a loop along an axis of a GPU's grid of work-groups or of a work-group.

    before:
        for i in range(N):
            S(i)
    after: bind("i", "grid.x")
        for i in bind(range(N), "grid.x"):
            S(i)

    On a CPU the loop is an ordinary one.

    legal: when no iteration depends on another; accumulations into one cell count as a dependence.
    known as: gpu_blocks and gpu_threads (Halide), bind (TVM).
    """
    return _set_marks(edit, edit.loops(loop), Mark("bind", axis, unsafe))


# ------------------------------------------------------------------------ helpers


def _marked(edit: Edit, name: str, factor: int | None, suffix: str, kind: MarkKind, unsafe: bool) -> Edit:
    """Marks loops of constant extent; splits others, or longer ones, by `factor` and marks the inner one."""
    what = "factor" if kind == "unroll" else "lanes"
    if factor is not None and not 1 <= factor <= MAX_COPIES:
        raise edit.refused(
            "K0302", f"`{what}` is {factor}", help=f"pass a number of iterations from 1 to {MAX_COPIES}"
        )
    track = Track()
    new: dict[int, Body] = {}
    whole: list[int] = []
    for place in edit.loops(name):
        loop = place.loop
        _check(edit, loop, kind)
        count = extent(loop)
        if factor is None or count == factor:
            if count is None:
                raise edit.refused(
                    "K0322",
                    f"cannot {kind} the loop `{loop.var}`: its number of iterations is not a constant",
                    loop,
                    label=f"`{header(loop)}`",
                    help=f'give the {what}: s.{kind}("{loop.var}", 8)',
                )
            if count > MAX_COPIES:
                raise edit.refused(
                    "K0322",
                    f"cannot {kind} the loop `{loop.var}` whole: it has {count} iterations",
                    loop,
                    help=f'give the {what}: s.{kind}("{loop.var}", 8)',
                )
            whole.append(loop.id)
            continue
        inner = f"{loop.var}_{suffix}"
        edit.need_free(inner, place)
        new[loop.id] = split_loop(edit, place, factor, (loop.var, inner, ""), "guard", track).body
    before = edit
    if new:
        edit = edit.keeps_order(replaced(edit.func, new))
    fresh = {p.loop.id for p in places(before.func)}
    chosen = [
        p
        for p in places(edit.func)
        if p.loop.id in whole
        or (p.loop.id not in fresh and p.above and any(s.id in new for s in p.above) and p.loop.mark is None)
    ]
    return _set_marks(edit, chosen, Mark(kind, unsafe=unsafe))


def _check(edit: Edit, loop: Loop, kind: MarkKind) -> None:
    edit.need_unmarked(loop)
    leave = leaves_loop(loop.body)
    if leave is not None:
        raise edit.refused(
            "K0308",
            f"cannot {kind} the loop `{loop.var}`: an iteration may end early",
            loop,
            label="left from inside",
            notes=[(leave.loc, "here")] if leave.loc else [],
            help="write the condition as an `if` around the rest of the body",
        )


def _set_marks(edit: Edit, chosen: list[Place] | tuple[Place, ...], mark: Mark) -> Edit:
    for place in chosen:
        _check(edit, place.loop, mark.kind)
        edit = edit.marked(place.loop, mark)
    return edit
