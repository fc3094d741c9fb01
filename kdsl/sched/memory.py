"""Primitives about storage: stage."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from kdsl.analysis.regions import Atoms
from kdsl.analysis.values import size_form
from kdsl.ir.nodes import Accumulate, Alloc, Atomic, Body, Expr, Func, Load, Loop, Stmt, Store
from kdsl.ir.walk import map_expr_children, map_stmt, stmt_bodies, stmts
from kdsl.sched.copies import Plan, Source, Stage
from kdsl.sched.edit import Edit
from kdsl.sched.layout import Layout, layout_of
from kdsl.sched.names import header
from kdsl.sched.primitive import primitive
from kdsl.sched.staging import plan
from kdsl.sched.tree import Place, bound, buffers, first_return, leaves_loop, replaced


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
    On a CPU all kinds of memory are ordinary; "register" wants a constant shape.

    legal: indices are affine and proved to lie inside the array, and nothing else reaches it under `at`.
    known as: cache_read and cache_write (TVM), stage_mem (Exo), compute_at of a wrapper (Halide), packing.
    """
    chosen = [p for p in edit.loops(at) if buffer in buffers(p.loop.body)]
    if not chosen:
        raise _untouched(edit, buffer, at)
    name = _fresh(edit.func, buffer)
    new: dict[int, Body] = {}
    for place in chosen:
        source = _source(edit, place, buffer)
        _check(edit, place, source)
        request = Stage(
            edit, place, source, name, layout_of(edit, layout or {}, buffer, len(source.shape), source.dtype)
        )
        found = plan(request)
        if memory == "register" and not all(e.is_const for e in found.memory.shape):
            raise edit.refused(
                "K0328",
                f"cannot keep `{buffer}` in registers at `{place.loop.var}`: its shape there is not constant",
                place.loop,
                label=f"the region is {found.region_text()}",
                help=f'stage at an inner loop, or in memory="local": s.stage("{buffer}", at="{at}")',
            )
        new[place.loop.id] = (_staged(request, found, memory),)
    return edit.keeps_order(replaced(edit.func, new))


def _staged(request: Stage, found: Plan, memory: Literal["register", "local", "shared"]) -> Loop:
    loop = request.place.loop
    alloc = Alloc(request.name, request.source.dtype, found.memory.shape_exprs(), memory, loc=loop.loc)
    body = _redirected(loop.body, request.source.name, request.name, found)
    return replace(loop, body=(alloc, *found.copy_in(), *body, *found.copy_out()))


def _redirected(body: Body, buffer: str, name: str, found: Plan) -> Body:
    """`body` with the accesses to `buffer` made to the copy."""

    def index(index: tuple[Expr, ...], loops: tuple[Loop, ...]) -> tuple[Expr, ...]:
        return found.memory.placed([found.relative(n, e) for n, e in enumerate(index)], loops)

    def on_body(body: Body, loops: tuple[Loop, ...]) -> Body:
        def on_expr(e: Expr) -> Expr:
            e = map_expr_children(e, on_expr)
            if isinstance(e, Load) and e.buffer == buffer:
                return replace(e, buffer=name, index=index(e.index, loops))
            return e

        out: list[Stmt] = []
        for s in body:
            inner = (*loops, s) if isinstance(s, Loop) else loops
            new = map_stmt(s, on_expr, lambda b, inner=inner: on_body(b, inner))  # type: ignore[misc]
            if isinstance(new, (Store, Accumulate)) and new.buffer == buffer:
                new = replace(new, buffer=name, index=index(new.index, loops))
            out.append(new)
        return tuple(out)

    return on_body(body, ())


# ------------------------------------------------------------------------ refusals


def _source(edit: Edit, place: Place, buffer: str) -> Source:
    """What the name means around the loop."""
    atoms = Atoms()
    sizes = set(edit.func.sizes)
    for a in edit.func.arrays:
        if a.name == buffer:
            return Source(buffer, a.dtype, tuple(map(size_form, a.shape)), atoms)
    for body in (edit.func.body, *[b for s in place.above for b in stmt_bodies(s)]):
        for s in body:
            if isinstance(s, Alloc) and s.name == buffer:
                forms = tuple([atoms.form(e, sizes) for e in s.shape])
                assert all(f is not None for f in forms), "shapes are made of sizes"
                return Source(buffer, s.dtype, tuple([f for f in forms if f is not None]), atoms)
    raise edit.refused(
        "K0326",
        f"cannot stage `{buffer}` at the loop `{place.loop.var}`: it is made inside of the loop",
        place.loop,
        label="each iteration has one of its own already",
        help=f"stage `{buffer}` at a loop further in",
    )


def _untouched(edit: Edit, buffer: str, at: str) -> Exception:
    known = [a.name for a in edit.func.arrays] + [
        s.name for s in stmts(edit.func.body) if isinstance(s, Alloc)
    ]
    loop = edit.loops(at)[0].loop
    if buffer not in known:
        return edit.refused(
            "K0304",
            f"there is no array `{buffer}`",
            notes=[f"the arrays are {', '.join(f'`{k}`' for k in dict.fromkeys(known))}"],
            help="name an argument or a local array",
        )
    inside = sorted(buffers(loop.body) & set(known))
    return edit.refused(
        "K0326",
        f"cannot stage `{buffer}` at the loop `{loop.var}`: the loop does not touch it",
        loop,
        label=f"touches {', '.join(f'`{k}`' for k in inside)}" if inside else "touches no array",
        help=f"stage it at a loop with `{buffer}` inside",
    )


def _check(edit: Edit, place: Place, source: Source) -> None:
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


def _fresh(func: Func, buffer: str) -> str:
    """A name that nothing begins with so far: loops that copy are named after it."""
    taken = bound(func.body) | {p.name for p in func.params} | set(func.sizes)
    name, n = f"{buffer}_s", 1
    while any(t == name or t.startswith(f"{name}_") for t in taken):
        n += 1
        name = f"{buffer}_s{n}"
    return name
