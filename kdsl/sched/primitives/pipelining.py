"""Software pipelining of local arrays: double_buffer.

for t:                          if 0 < n:
    T: f32[8]                       T: f32[2, 8]
    FILL(t, T)                      FILL(0, T[0])
    USE(t, T)            ->         for t:
                                        if t + 1 < n:
                                            FILL(t + 1, T[(t + 1) % 2])
                                        USE(t, T[t % 2])

The order of FILL and USE is proved for an array of one element for each t. Two are enough for any order that
this proof accepts: the copy of t is used in the iterations t - 1 (FILL) and t only, and in t after FILL.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kdsl.analysis.linear import extent, faultless
from kdsl.ir.nodes import Accumulate, Alloc, Atomic, Body, Compare, Const, Expr, If, Loop, Stmt, fresh_id
from kdsl.ir.walk import stmts, substitute
from kdsl.passes.simplify import simplify_expr
from kdsl.sched.edit import Edit
from kdsl.sched.legality import order_refusal
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.arith import add, binary, const, floor_div, sub, var
from kdsl.sched.rewriting.arrays import Local, local_arrays, local_of
from kdsl.sched.rewriting.names import header, shown
from kdsl.sched.rewriting.tree import (
    Track,
    bound,
    buffers,
    contains,
    first_return,
    fresh_names,
    indexed,
    leaves_loop,
    places,
    reads,
    renamed_buffers,
    replaced,
    siblings,
    wrap,
    written,
)


@primitive
def double_buffer(edit: Edit, local: str, unsafe: bool = False) -> Edit:
    """Two copies of a local array: one iteration fills the next one's, and uses its own.

    before:
        for t in range(N):
            A_s: f32[8]
            for A_s_0 in range(8):
                A_s[A_s_0] = A[t, A_s_0]
            for i in range(8):
                S(t, A_s[i])
    after: double_buffer("A_s")
        if 0 < N:
            A_s: f32[2, 8]
            for A_s_0 in range(8):
                A_s[0, A_s_0] = A[0, A_s_0]
            for t in range(N):
                if t + 1 < N:
                    for A_s_0 in range(8):
                        A_s[(t + 1) % 2, A_s_0] = A[t + 1, A_s_0]
                for i in range(8):
                    S(t, A_s[t % 2, i])

    The loop is the one in whose body the array is made. Its fill are the statements there that store to it
    before another one reads or updates it, and those that compute other locals for them.

    legal: the fill writes locals of the body alone, and no dependence is reversed when it runs one iteration
    early; the loop is neither parallel nor a vector.
    known as: double_buffer, software_pipeline (TVM), ring buffers and async producers (Halide).
    """
    for found in local_of(edit, local):
        edit = _doubled(edit, next(c for c in local_arrays(edit.func) if c.alloc.id == found.alloc.id))
    return edit


def _doubled(edit: Edit, local: Local) -> Edit:
    loop, guards = _loop_of(edit, local)
    _check(edit, local, loop)
    body = guards[-1].then if guards else loop.body
    parts = _parts(edit, local, loop, body)
    pipeline = _Pipeline(edit, loop, guards, parts)
    if not edit.unsafe:
        track = Track()
        whole = pipeline.built(lambda t: t, track)
        after = replaced(edit.func, {loop.id: whole})
        help = f"fill `{local.alloc.name}` from what earlier iterations do not write, or keep one copy"
        refusal = order_refusal(edit, edit.func, after, track, loop, help)
        if refusal is not None:
            raise refusal
    return edit.keeps_order(replaced(edit.func, {loop.id: pipeline.built(pipeline.parity, Track())}))


@dataclass(frozen=True, slots=True)
class _Parts:
    """A loop's body taken apart: `fill` and `use`, without the allocations of locals that fill writes.

    Of these, `shared` are used in both parts, `inner` in the fill alone.
    """

    fill: Body
    use: Body
    shared: tuple[Alloc, ...]
    inner: tuple[Alloc, ...]


@dataclass(frozen=True, slots=True)
class _Pipeline:
    """Writes the pipelined loop."""

    edit: Edit
    loop: Loop
    guards: tuple[If, ...]
    parts: _Parts

    def built(self, place: Callable[[Expr], Expr], track: Track) -> Body:
        """What replaces the loop, when iteration t uses the copies at `place(t)`."""
        loop, parts, edit = self.loop, self.parts, self.edit
        assert isinstance(loop.step, Const)
        step = int(loop.step.value)
        following = add(var(loop.var), step)
        own = tuple([replace(s, id=fresh_id()) for s in parts.inner])
        first = self.inside(own, track.copy(parts.fill), loop.lo, place(loop.lo), track)
        alone = fresh_names(edit.func, [s.name for s in parts.inner])
        first = renamed_buffers(first, alone)
        ahead = If(
            Compare("<" if step > 0 else ">", following, loop.hi),
            self.inside(parts.inner, parts.fill, following, place(following), track),
            loc=loop.loc,
        )
        use = wrap(self.guards, self.indexed(parts.use, place(var(loop.var))))
        allocs = tuple([replace(s, shape=(const(2), *s.shape)) for s in parts.shared])
        rest: Body = (*first, replace(loop, body=(ahead, *use)))
        some = Compare("<" if step > 0 else ">", loop.lo, loop.hi)
        if not extent(loop) and not self.known(some):
            return (If(some, (*allocs, *rest), loc=loop.loc),)
        # The locals now stand in the body around the loop, where the names may mean something else.
        taken = bound(tuple([s for s in siblings(edit.func, loop.id) if s.id != loop.id]))
        names = fresh_names(edit.func, [s.name for s in allocs if s.name in taken])
        return renamed_buffers((*allocs, *rest), names)

    def known(self, test: Expr) -> bool:
        """Whether an `if` around the loop has made the same test."""
        place = next(p for p in places(self.edit.func) if p.loop.id == self.loop.id)
        ifs = [s for s in place.above if isinstance(s, If) and s.cond == test]
        return faultless(test) and any(contains(x, self.loop.id) for s in ifs for x in s.then)

    def inside(self, allocs: Sequence[Alloc], fill: Body, t: Expr, place: Expr, track: Track) -> Body:
        """The fill of iteration `t`, under the loop's guards."""
        values = {self.loop.var: t}
        body = self.indexed(track.substitute(fill, values), place)
        ifs = [replace(g, id=fresh_id(), cond=simplify_expr(substitute(g.cond, values))) for g in self.guards]
        return wrap(ifs, (*allocs, *body))

    def indexed(self, body: Body, place: Expr) -> Body:
        return indexed(body, {s.name: (place,) for s in self.parts.shared})

    def parity(self, t: Expr) -> Expr:
        """The copy of iteration `t`: their numbers, counted from 0, modulo 2."""
        loop = self.loop
        assert isinstance(loop.step, Const)
        step = int(loop.step.value)
        count = floor_div(sub(t, loop.lo) if step > 0 else sub(loop.lo, t), abs(step))
        return simplify_expr(binary("%", count, const(2)))


def _parts(edit: Edit, local: Local, loop: Loop, body: Body) -> _Parts:
    """The fill and the rest of the body, or refused."""
    name = local.alloc.name
    own = {s.name for s in body if isinstance(s, Alloc)}
    before: list[Stmt] = []
    first: Stmt | None = None
    for s in body:
        if name in buffers((s,)) and (_updates((s,), name) or not written((s,)) <= own):
            first = s
            break
        before.append(s)
    fill = [s for s in before if name in written((s,))]
    needed = set().union(*[reads((s,)) for s in fill]) & own
    for s in reversed(before):
        if s not in fill and written((s,)) & needed and written((s,)) <= own:
            fill.append(s)
            needed |= reads((s,)) & own
    ids = {s.id for s in fill}
    blocker = next((s for s in before if s.id not in ids and written((s,)) & (needed | {name})), None)
    if blocker is None and not fill:
        blocker = first
    if blocker is not None or not fill:
        others = sorted((written((blocker,)) if blocker is not None else set()) - own - {""})
        raise edit.refused(
            "K0346",
            f"cannot double_buffer `{name}` in the loop `{loop.var}`: nothing fills it apart from the rest",
            loop,
            loc=blocker.loc if blocker is not None else None,
            label=""
            if blocker is None
            else f"`{shown(blocker)}` also writes `{others[0]}`"
            if others
            else f"`{shown(blocker)}` comes first",
            help="fill it first, by statements that write nothing but locals: cut a mixed loop by fission",
        )
    made = [s for s in body if isinstance(s, Alloc) and s.name in written(tuple(fill))]
    use = tuple([s for s in body if s.id not in ids and s not in made])
    there = buffers(use)
    shared = tuple([s for s in made if s.name in there or s.name == name])
    for s in stmts(body):
        if isinstance(s, Atomic) and s.old in {a.name for a in shared}:
            raise edit.refused(
                "K0308",
                f"cannot double_buffer `{name}`: `{s.old}` receives the old value of an atomic update",
                loop,
                loc=s.loc,
                help=f"copy `{s.old}` into another variable in the kernel",
            )
    inner = tuple([s for s in made if s not in shared])
    return _Parts(tuple([s for s in body if s.id in ids]), use, shared, inner)


def _updates(body: Body, name: str) -> bool:
    """Whether what a statement does to the buffer depends on its elements."""
    return name in reads(body) or any(
        isinstance(s, (Accumulate, Atomic)) and s.buffer == name for s in stmts(body)
    )


# ------------------------------------------------------------------------ refusals


def _loop_of(edit: Edit, local: Local) -> tuple[Loop, tuple[If, ...]]:
    """The loop in whose body the local is made, and the ifs around all of that body."""
    guards: list[If] = []
    inside: Stmt = local.alloc
    for s in reversed(local.above):
        alone = inside is local.alloc or _body(s) == (inside,)
        if isinstance(s, Loop) and alone:
            return s, tuple(reversed(guards))
        if not isinstance(s, If) or s.orelse or not alone:
            break
        guards.append(s)
        inside = s
    raise edit.refused(
        "K0346",
        f"cannot double_buffer `{local.alloc.name}`: it is not made in the body of a loop",
        loc=local.alloc.loc,
        label="one array for all iterations" if not local.outer else "made in a part of the body",
        help="stage what a loop reads: s.stage(..., at=...) makes an array for each iteration",
    )


def _body(s: Stmt) -> Body:
    return s.body if isinstance(s, Loop) else s.then if isinstance(s, If) else ()


def _check(edit: Edit, local: Local, loop: Loop) -> None:
    """Refuses loops whose iterations do not follow one another to their end."""
    name = local.alloc.name
    if loop.mark is not None and loop.mark.kind != "unroll":
        raise edit.refused(
            "K0309",
            f"cannot double_buffer `{name}` in the loop `{loop.var}`: its iterations have no order",
            loop,
            label=f"marked by `{loop.mark.kind}`",
            help=f"split `{loop.var}` before it is marked, and stage at its inner loop",
        )
    if not (isinstance(loop.step, Const) and loop.step.value):
        raise edit.refused(
            "K0308",
            f"cannot double_buffer `{name}` in the loop `{loop.var}`: its step is not a constant",
            loop,
            label=f"`{header(loop)}`",
            help="write the step as a number, or pass it as a `kdsl.constexpr`",
        )
    edit.need_stable(loop)
    leave = leaves_loop(loop.body) or first_return(loop.body)
    if leave is not None:
        raise edit.refused(
            "K0308",
            f"cannot double_buffer `{name}` in the loop `{loop.var}`: an iteration may end it early",
            loop,
            label="left from inside",
            notes=[(leave.loc, "here")] if leave.loc else [],
            help="write the condition as an `if` around the rest of the body",
        )
