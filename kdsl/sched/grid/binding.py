"""The default binding: which loops of a kernel run on the axes of a GPU when the schedule does not say so.

for i in range(M):              for i in bind(range(M), "grid.y"):
    for j in range(N):              for j_o in bind(range((N + 63) // 64), "grid.x"):
        S(i, j)          ->             for j_i in bind(range(64), "block.x"):
                                            if j_o * 64 + j_i < N:
                                                S(i, j_o * 64 + j_i)

A band is a chain of loops, one directly inside the other, whose iterations are proved independent: all its
points are then, and any cut of them into work-groups and invocations computes the same (`sharing`
makes the cut). The outermost bands are bound, and loops that `parallel` marks already; loops around them
run on the host. Loops that a work-group runs together, such as copies into shared memory, are shared out to
its invocations, which combine their partial results where a vector loop does (`trees`). Arrays that
the iterations of a loop share are made for each where that is what they wait for (`own_locals`). What
is not proved stays in order; nothing is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kdsl.analysis.answers import Question
from kdsl.analysis.axes import AXES, axis_of, is_block
from kdsl.analysis.linear import extent, faultless
from kdsl.ir.nodes import Body, Const, Expr, Func, If, Loop, ScalarParam
from kdsl.ir.printer import print_func
from kdsl.ir.verify import verify
from kdsl.ir.walk import stmt_bodies, stmts
from kdsl.sched.grid.own_locals import with_own_locals
from kdsl.sched.grid.sharing import INVOCATIONS, Band, Block, points, shared_out, within_guards
from kdsl.sched.grid.trees import with_trees
from kdsl.sched.rewriting.arith import names_in
from kdsl.sched.rewriting.tree import first_return, leaves_loop, replaced
from kdsl.target import Target

ANY = Target("vulkan")
"""A GPU that has no more than it must."""

FEW = 32
"""The host starts no loop for fewer iterations than these."""


def bound(func: Func, target: Target = ANY) -> Func:
    """`func` with each loop that the GPU can share out bound to an axis; loops that are bound stay so."""
    func = with_trees(func, target)
    if first_return(func.body) is not None:
        return func
    func = with_own_locals(func, _is_independent)
    answers = _Answers(func)
    bands = list(_Planner(func, answers).host(func.body, frozenset()))
    answers.keep()
    for band in bands:
        func = replaced(func, {band.loops[0].id: shared_out(func, band)})
    if bands:
        verify(func)
    return func


def why_in_order(func: Func, loop: Loop) -> str:
    """Why no loop of a GPU was made of `loop`, a loop of a function that is bound."""
    if leaves_loop(loop.body) is not None:
        return "it may be left early"
    if first_return(func.body) is not None:
        return "a `return` may end the kernel"
    if loop.mark is not None:
        return f"it is marked by `{loop.mark.kind}`"
    from kdsl.analysis.dependence import Unproved, check_mark

    verdict = check_mark(func, loop.id, "bind")
    if verdict is None:
        count = extent(loop)
        if count is not None and count < FEW:
            return "it is too short to start work-groups for"
        return "its bounds, or a condition around it, are computed on the device"
    return verdict.reason if isinstance(verdict, Unproved) else verdict.text


def _is_independent(func: Func, loop: Loop) -> bool:
    answers = _Answers(func)
    found = leaves_loop(loop.body) is None and answers.independent(loop)
    answers.keep()
    return found


@dataclass(slots=True)
class _Answers:
    """Which loops of `func` have independent iterations; known again in other processes."""

    func: Func
    question: Question = field(init=False)
    known: dict[str, bool] = field(init=False)
    places: dict[int, str] = field(init=False)
    asked: bool = False

    def __post_init__(self) -> None:
        self.question = Question("binding", print_func(self.func))
        self.known = self.question.recall() or {}
        self.places = {s.id: str(n) for n, s in enumerate(stmts(self.func.body))}

    def independent(self, loop: Loop) -> bool:
        """Proved: no iteration depends on another."""
        at = self.places[loop.id]
        if at not in self.known:
            from kdsl.analysis.dependence import check_mark

            self.asked = True
            self.known[at] = check_mark(self.func, loop.id, "bind") is None
        return self.known[at]

    def keep(self) -> None:
        """Keeps what was found out."""
        if self.asked:
            self.question.keep(self.known)


@dataclass(frozen=True, slots=True)
class _Planner:
    func: Func
    answers: _Answers

    # -- what the host runs

    def host(self, body: Body, host_vars: frozenset[str]) -> Iterator[Band]:
        for s in body:
            if isinstance(s, If):
                if self.on_host((s.cond,), host_vars):
                    for inner in stmt_bodies(s):
                        yield from self.host(inner, host_vars)
            elif isinstance(s, Loop):
                yield from self.host_loop(s, host_vars)

    def host_loop(self, loop: Loop, host_vars: frozenset[str]) -> Iterator[Band]:
        if axis_of(loop):
            yield from self.group((loop,), self.block_of(loop))
            return
        chosen = any(isinstance(x, Loop) and (axis_of(x) or is_parallel(x)) for x in stmts(loop.body))
        if is_parallel(loop) or (loop.mark is None and not chosen):
            band = self.band(loop, host_vars)
            if band is not None:
                yield band
                return
        exprs = (loop.lo, loop.hi, loop.step)
        if loop.mark is not None or leaves_loop(loop.body) is not None or not self.on_host(exprs, host_vars):
            return
        inner = list(self.host(loop.body, host_vars | {loop.var}))
        if chosen or any((points(band) or FEW) >= FEW for band in inner):
            yield from inner

    def band(self, loop: Loop, host_vars: frozenset[str]) -> Band | None:
        """The loops from `loop` inwards that can make work-groups."""
        loops: list[Loop] = []
        while self.can_bind(loop) and self.on_host((loop.lo, loop.hi, loop.step), host_vars):
            loops.append(loop)
            if len(loop.body) != 1 or not isinstance(loop.body[0], Loop):
                return Band(tuple(loops))
            loop = loop.body[0]
        if not loops:
            return None
        # A loop whose length depends on the others: the work-group runs it together.
        ragged = extent(loop) is None and self.can_bind(loop) and faultless(loop.lo) and faultless(loop.hi)
        return Band(tuple(loops), ragged=loop if ragged else None)

    def can_bind(self, loop: Loop) -> bool:
        if leaves_loop(loop.body) is not None or extent(loop) == 0 or not isinstance(loop.step, Const):
            return False
        return is_parallel(loop) or (loop.mark is None and self.answers.independent(loop))

    def on_host(self, exprs: Sequence[Expr], host_vars: frozenset[str]) -> bool:
        """Whether the host can compute these: they are made of sizes, scalars and loops that it runs."""
        scalars = {p.name for p in self.func.params if isinstance(p, ScalarParam)}
        known = scalars | set(self.func.sizes) | host_vars
        return names_in(exprs) <= known and all(map(faultless, exprs))

    # -- what a work-group runs together

    def block_of(self, root: Loop) -> Block:
        """The invocations along each axis of the work-groups that `root` makes."""
        sizes = [1, 1, 1]
        for s in stmts((root,)):
            if is_block(s) and isinstance(s, Loop):
                n = AXES.index(axis_of(s)[-1])
                sizes[n] = max(sizes[n], extent(s) or 1)
        if not any(map(is_block, stmts((root,)))):
            sizes[0] = INVOCATIONS
        return sizes[0], sizes[1], sizes[2]

    def group(self, body: Body, block: Block) -> Iterator[Band]:
        for s in body:
            if isinstance(s, If):
                for inner in stmt_bodies(s):
                    yield from self.group(inner, block)
            elif isinstance(s, Loop) and not is_block(s):
                holds = any(axis_of(x) for x in stmts((s,)))
                loops = () if holds else self.group_band(s)
                if loops:
                    yield Band(loops, block)
                else:
                    yield from self.group(s.body, block)

    def group_band(self, loop: Loop) -> tuple[Loop, ...]:
        """The loops from `loop` inwards whose points the invocations can take in any order."""
        loops: list[Loop] = []
        while self.can_bind(loop) and faultless(loop.lo) and faultless(loop.hi):
            if names_in((loop.lo, loop.hi)) & {s.var for s in loops}:
                break
            loops.append(loop)
            inner = within_guards(loop.body)[1]
            if len(inner) != 1 or not isinstance(inner[0], Loop):
                break
            loop = inner[0]
        return tuple(loops)


def is_parallel(loop: Loop) -> bool:
    """Marked by `parallel`."""
    return loop.mark is not None and loop.mark.kind == "parallel"
