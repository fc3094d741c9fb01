"""Primitives about storage: stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from kdsl.analysis.axes import axis_of
from kdsl.ir.nodes import Alloc, Atomic, Body, Loop, Prefetch
from kdsl.ir.walk import stmts
from kdsl.sched.edit import Edit
from kdsl.sched.grid.hoisting import out_of_invocations
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.arrays import Array, array_of, local_arrays, meant, of_copy, resolve_array
from kdsl.sched.rewriting.copies import Plan, Stage
from kdsl.sched.rewriting.layout import Layout, layout_of
from kdsl.sched.rewriting.names import header
from kdsl.sched.rewriting.staging import plan
from kdsl.sched.rewriting.tree import (
    Place,
    Site,
    accessed,
    buffers,
    first_return,
    free_stem,
    leaves_loop,
    map_accesses,
    places,
    replaced,
)


@primitive
def stage(
    edit: Edit,
    buffer: str,
    at: str,
    memory: Literal["register", "local", "shared"] = "local",
    layout: Layout | None = None,
) -> Edit:
    """The region of a buffer that one iteration of a loop touches, in a local array of its own.

    before:
        for i_o in range((N + 7) // 8):
            for i_i in range(8):
                if i_o * 8 + i_i < N:
                    C[i_o * 8 + i_i] += X[i_o * 8 + i_i]
    after: stage("C", at="i_o")
        for i_o in range((N + 7) // 8):
            C_s: f32[8]
            for C_s_0 in range(8):
                if i_o * 8 + C_s_0 < N:
                    C_s[C_s_0] = C[i_o * 8 + C_s_0]
            for i_i in range(8):
                if i_o * 8 + i_i < N:
                    C_s[i_i] += X[i_o * 8 + i_i]
            for C_s_w0 in range(8):
                if i_o * 8 + C_s_w0 < N:
                    C[i_o * 8 + C_s_w0] = C_s[C_s_w0]

    The region is a box, clipped to the array. It is copied in unless every cell of it is written before it is
    read, and the box of what is written is copied back. `layout` arranges the copy: `tile=(None, 64)` splits
    dimensions in place into outer and inner, `order=(1, 0, 2)` permutes the result, `pad` adds elements to
    the last dimension, `fill` is the value of cells outside of the array, `align` asks for so many bytes.
    On a CPU all kinds of memory are ordinary; "register" wants a constant shape. "shared" is the memory of a
    GPU's work-group: a loop inside block loops moves out of them first, as by `reorder`, so that the group
    runs it together; the loops that copy are shared out to the invocations unless they are bound by hand.

    legal: indices are affine and proved to lie inside the array, and nothing else reaches it under `at`.
    known as: cache_read and cache_write (TVM), stage_mem (Exo), compute_at of a wrapper (Halide), packing.
    """
    named = edit.loops(at)
    stem, copies = resolve_array(edit, buffer)
    chosen = [p for p in named if stem in accessed(p.loop.body) and of_copy(p, copies)]
    if not chosen:
        raise _untouched(edit, buffer, stem, named[0].loop)
    name = free_stem(edit.func, f"{stem}_s")
    new: dict[int, Body] = {}
    if memory == "shared":
        for place in chosen:
            edit = out_of_invocations(edit, _at_place(edit, place.loop), stem)
        chosen = [_at_place(edit, place.loop) for place in chosen]
        # A local of the invocations has got an element for each.
        stem, copies = resolve_array(edit, buffer)
    for place in chosen:
        source = array_of(edit, meant(edit, place, stem, copies))
        _check(edit, place, source)
        arrangement = layout_of(edit, layout or {}, stem, len(source.shape), source.dtype)
        request = Stage(edit, place, source, name, arrangement)
        found = plan(request)
        if memory == "register" and not all(e.is_const for e in found.memory.shape):
            raise edit.refused(
                "K0328",
                f"cannot keep `{stem}` in registers at `{place.loop.var}`: its shape there is not constant",
                place.loop,
                label=f"the region is {found.region_text()}",
                help=f'stage at an inner loop, or in memory="local": s.stage("{buffer}", at="{at}")',
            )
        in_group = any(axis_of(s) for s in (place.loop, *place.outer))
        if memory == "shared" and in_group and not all(e.is_const for e in found.memory.shape):
            raise edit.refused(
                "K0365",
                f"cannot keep `{stem}` in shared memory at `{place.loop.var}`: its shape is not constant",
                place.loop,
                label=f"the region is {found.region_text()}",
                help="stage at a loop further in, or split the loops over it by constant factors first",
            )
        new[place.loop.id] = (_staged(request, found, memory),)
    return edit.keeps_order(replaced(edit.func, new))


def _at_place(edit: Edit, loop: Loop) -> Place:
    """Where `loop` stands now."""
    return next(p for p in places(edit.func) if p.loop.id == loop.id)


def _staged(request: Stage, found: Plan, memory: Literal["register", "local", "shared"]) -> Loop:
    loop = request.place.loop
    alloc = Alloc(request.name, request.source.dtype, found.memory.shape_exprs(), memory, loc=loop.loc)
    body = _redirected(loop.body, request.source.name, request.name, found)
    return replace(loop, body=(alloc, *found.copy_in(), *body, *found.copy_out()))


def _redirected(body: Body, buffer: str, name: str, found: Plan) -> Body:
    """`body` with the accesses to `buffer` made to the copy."""

    def on_access(_: Site, new: Site, loops: tuple[Loop, ...]) -> Site:
        if new.buffer != buffer or isinstance(new, Prefetch):
            return new
        at = [found.relative(n, e) for n, e in enumerate(new.index)]
        return replace(new, buffer=name, index=found.memory.placed(at, loops))

    return map_accesses(body, on_access)


# ------------------------------------------------------------------------ refusals


def _untouched(edit: Edit, buffer: str, stem: str, loop: Loop) -> Exception:
    known = {*[a.name for a in edit.func.arrays], *[c.alloc.name for c in local_arrays(edit.func)]}
    inside = sorted(accessed(loop.body) & known)
    if stem in inside:
        label, help = f"touches another copy of `{stem}`", f'name the copy that it touches, or all: "{stem}"'
    else:
        label = f"touches {', '.join(f'`{k}`' for k in inside)}" if inside else "touches no array"
        help = f"stage it at a loop with `{stem}` inside"
    return edit.refused(
        "K0326",
        f"cannot stage `{buffer}` at the loop `{loop.var}`: the loop does not touch it",
        loop,
        label=label,
        help=help,
    )


def _check(edit: Edit, place: Place, source: Array) -> None:
    """Refuses bodies in which something else could reach the array, or that may end before the copy back."""
    loop, name = place.loop, source.name
    if not source.shape:
        raise edit.refused(
            "K0326",
            f"cannot stage `{name}`: it is a scalar",
            loop,
            label=f"`{name}` has no elements to choose from",
            help="scalars are kept in registers as they are; stage an array",
        )
    leave = leaves_loop(loop.body) or first_return(loop.body)
    if leave is not None:
        raise edit.refused(
            "K0308",
            f"cannot stage `{name}` at the loop `{loop.var}`: an iteration may end before its end",
            loop,
            label="left from inside",
            notes=[(leave.loc, "here")] if leave.loc else [],
            help="write the condition as an `if` around the rest of the body",
        )
    for s in stmts(loop.body):
        if isinstance(s, Atomic) and name in (s.buffer, s.old):
            raise edit.refused(
                "K0327",
                f"cannot stage `{name}` at the loop `{loop.var}`: an atomic update works on the array itself",
                loop,
                loc=s.loc,
                label="other iterations are to see this at once",
                help=f"stage another array, or write the update as `{name}[...] += ...`",
            )
    shared = set(edit.func.options.may_alias)
    others = sorted((shared & buffers(loop.body)) - {name})
    if name in shared and others:
        raise edit.refused(
            "K0327",
            f"cannot stage `{name}` at the loop `{loop.var}`: another array may overlap it",
            loop,
            label=f"`{others[0]}`, used under `{header(loop)}`, may share its memory",
            help="leave both names out of `may_alias` if they never overlap",
        )
