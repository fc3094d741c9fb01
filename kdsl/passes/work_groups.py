"""The body of a dispatch in two levels: what the work-group does as a whole, and nests of invocations.

    x: f32                                          x: f32
    x = A[i]                                        x = A[i]
    S[0] = x                                        for b_y in bind(range(1), "block.y"):
    for tx in bind(range(16), "block.x"):     ->        for b_x in bind(range(1), "block.x"):
        for ty in bind(range(16), "block.y"):               S[0] = x
            C[tx, ty] = S[0]                        for tx in bind(range(16), "block.x"):
                                                        for ty in bind(range(16), "block.y"):
                                                            C[tx, ty] = S[0]

After this all invocations run what stands outside of the nests alike, on scalars of their own: it writes
nothing else. What one invocation does is a nest of single iterations. Each nest has a loop for every axis
that the dispatch uses, from 0 in steps of 1. A loop over invocations around more than another such loop is
distributed (its iterations are independent); locals between get an element for each iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdsl.analysis.accesses import written
from kdsl.analysis.axes import axis_of, block_sizes, escapes, has_block, is_block
from kdsl.analysis.linear import extent, faultless
from kdsl.dtypes import i32, i64
from kdsl.errors import TargetError
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Barrier,
    Body,
    Cast,
    Compare,
    Const,
    Expr,
    If,
    Load,
    Loop,
    Mark,
    Prefetch,
    Print,
    Stmt,
    Store,
    Unary,
    Var,
    While,
    fresh_id,
)
from kdsl.ir.printer import print_head
from kdsl.ir.walk import stmt_bodies, stmts, subexprs, substitute
from kdsl.passes.counting import ONE, ZERO, op
from kdsl.passes.host_program import buffers
from kdsl.passes.host_scalars import mapped
from kdsl.passes.launch_context import Context
from kdsl.passes.moving_buffers import Around, Index, Move, moved

Nest = tuple[Loop | If, ...]
"""Loops over invocations and conditions, outermost first; bodies are not looked at."""


def two_levels(body: Body, context: Context) -> Body:
    """The body of a dispatch with loops over invocations, in the form above."""
    work = _Group(context, tuple(block_sizes(body)), _replicated(body))
    return work.body(body)


def _replicated(body: Body) -> frozenset[str]:
    """The scalars made outside of the nests that each invocation can keep for itself: those that are only
    written there, from what all know."""
    made: set[str] = set()
    lost: set[str] = set()

    def visit(body: Body, inside: bool) -> None:
        for s in body:
            match s:
                case Alloc(shape=()) if not inside and s.memory != "shared":
                    made.add(s.name)
                case Atomic():
                    lost.update((s.buffer, s.old))
                case Store() | Accumulate() if inside:
                    lost.add(s.buffer)
                case _:
                    pass
            for inner in stmt_bodies(s):
                visit(inner, inside or is_block(s))

    visit(body, False)
    return frozenset(made - lost)


@dataclass(slots=True)
class _Group:
    context: Context
    axes: tuple[str, ...]
    replicated: frozenset[str]

    # --------------------------------------------------------------- the group

    def body(self, body: Body) -> Body:
        """Statements of the work-group."""
        out: list[Stmt] = []
        alone: list[Stmt] = []

        def flush() -> None:
            if alone:
                out.append(self.nest((), tuple(alone)))
                alone.clear()

        for s in body:
            if isinstance(s, Alloc):
                out.append(s)
            elif self.is_alone(s):
                alone.append(s)
            else:
                flush()
                out += self.stmt(s)
        flush()
        return tuple(out)

    def is_alone(self, s: Stmt) -> bool:
        """Whether one invocation does all of `s`: it writes what others see, and nothing else."""
        if has_block(s) or escapes((s,)) or any(isinstance(x, Barrier) for x in stmts((s,))):
            return False
        out = written((s,))
        if any(isinstance(x, (Print, Prefetch)) for x in stmts((s,))):
            return not out & self.replicated
        return bool(out - self.replicated) and not out & self.replicated

    def stmt(self, s: Stmt) -> list[Stmt]:
        match s:
            case Loop() if is_block(s):
                loop, inside = self.plain(s)
                return self.distributed((loop,), inside)
            case Loop() | While():
                return [replace(s, body=self.body(s.body))]
            case If():
                return [replace(s, then=self.body(s.then), orelse=self.body(s.orelse))]
            case _:
                return [s]

    # --------------------------------------------------------------- the nests

    def plain(self, s: Loop) -> tuple[Loop, Body]:
        """A loop over invocations from 0 in steps of 1, and its body."""
        count = extent(s)
        assert count is not None and isinstance(s.step, Const), "checked before"
        if s.lo == ZERO and s.step == ONE:
            return replace(s, body=()), s.body
        here = op("+", s.lo, op("*", Var(s.var, i64), int(s.step.value)))
        body = mapped(s.body, lambda e: substitute(e, {s.var: here}))
        return replace(s, lo=ZERO, hi=Const(count, i64), step=ONE, body=()), body

    def distributed(self, nest: Nest, body: Body) -> list[Stmt]:
        """`body` under the loops of `nest`, as statements of the work-group."""
        if not any(map(has_block, body)):
            return [self.nest(nest, body)]
        allocs = [s for s in body if isinstance(s, Alloc)]
        runs: list[Body] = []
        apart: set[int] = set()
        for s in body:
            if isinstance(s, Alloc):
                continue
            if has_block(s):
                apart.add(len(runs))
                runs.append((s,))
            elif runs and len(runs) - 1 not in apart:
                runs[-1] = (*runs[-1], s)
            else:
                runs.append((s,))
        moves: dict[str, Move] = {}
        out: list[Stmt] = []
        for a in allocs:
            users = [n for n, run in enumerate(runs) if a.name in buffers(run)]
            alone = runs[users[0]] if len(users) == 1 else ()
            if alone and users[0] not in apart:
                runs[users[0]] = (a, *alone)
            elif len(runs) == 1 and alone and is_block(alone[0]) and isinstance(alone[0], Loop):
                # No iteration of this loop sees what another one wrote: each may have the local.
                runs[0] = (replace(alone[0], body=(a, *alone[0].body)),)
            elif users:
                out.append(self.expanded(a, nest, moves))
        for n, run in enumerate(runs):
            run = moved(run, moves, self.context.fresh)
            out += self.part(nest, run) if n in apart else [self.run(nest, run)]
        return out

    def run(self, nest: Nest, body: Body) -> Stmt:
        if escapes(body):
            loop = next(s for s in nest if isinstance(s, Loop))
            raise self.refused(body[0], loop, "it may end an iteration of a loop around")
        return self.nest(nest, body)

    def expanded(self, a: Alloc, nest: Nest, moves: dict[str, Move]) -> Alloc:
        """The local with an element for each iteration of the loops of `nest`."""
        loops = [s for s in nest if isinstance(s, Loop)]
        places = tuple([Var(s.var, i64) for s in loops])

        def index(old: Index, _: Around) -> Index:
            return (*places, *old)

        moves[a.name] = Move(a.name, index, len(places))
        return replace(a, shape=(*[s.hi for s in loops], *a.shape))

    def part(self, nest: Nest, run: Body) -> list[Stmt]:
        """A statement that holds loops over invocations, under those of `nest`."""
        (s,) = run
        first = next(x for x in nest if isinstance(x, Loop))
        match s:
            case Loop() if is_block(s):
                loop, inside = self.plain(s)
                return self.distributed((*nest, loop), inside)
            case Loop():
                if any(self.varies(e, nest) for e in (s.lo, s.hi, s.step)):
                    raise self.refused(s, first, "its bounds differ from one invocation to another")
                return [replace(s, body=tuple(self.distributed(nest, s.body)))]
            case If() if not self.varies(s.cond, nest):
                then, orelse = (tuple(self.distributed(nest, b)) if b else () for b in (s.then, s.orelse))
                return [replace(s, then=then, orelse=orelse)]
            case If() if not escapes((s,)):
                out: list[Stmt] = []
                cond = s.cond
                if not faultless(cond):
                    # What it reads may change in the parts: it is decided once.
                    moves: dict[str, Move] = {}
                    flag = self.expanded(Alloc(self.context.fresh("taken"), i32, (), loc=s.loc), nest, moves)
                    place = moves[flag.name].index((), {})
                    out += [flag, self.nest(nest, (Store(flag.name, place, Cast(cond, i32), loc=s.loc),))]
                    cond = Compare("!=", Load(flag.name, place, i32), Const(0, i32))
                for b, c in ((s.then, cond), (s.orelse, Unary("not", cond))):
                    out += self.distributed((*nest, replace(s, cond=c)), b) if b else []
                return out
            case _:
                raise self.refused(s, first, "data decide how the invocations go on")

    def varies(self, e: Expr, nest: Nest) -> bool:
        """Whether `e` may differ between the invocations that loops of `nest` number."""
        names = {s.var for s in nest if isinstance(s, Loop)}
        return not faultless(e) or any(isinstance(x, Var) and x.name in names for x in subexprs(e))

    def refused(self, s: Stmt, loop: Loop, label: str) -> TargetError:
        inner = next((x for x in stmts((s,)) if isinstance(x, Loop) and is_block(x)), loop)
        return self.context.error(
            "K0543",
            f"cannot run the loop `{loop.var}` on the invocations of a work-group:"
            f" `{print_head(s).rstrip(':')}` stands between it and other loops over invocations",
            s,
            label=label,
            notes=[(inner.loc, f"the loop `{inner.var}` is bound to {axis_of(inner)}")] if inner.loc else [],
            help=f"nest the loops that are bound to block axes directly in each other: reorder `{loop.var}`",
        )

    def nest(self, nest: Nest, body: Body) -> Stmt:
        """`body` in the loops of `nest` and in those of single iterations along the other axes."""
        used = {axis_of(s) for s in nest}
        for s in reversed(nest):
            again = fresh_id()
            match s:
                case Loop():
                    body = (replace(s, id=again, body=body),)
                case If():
                    body = (replace(s, id=again, then=body, orelse=()),)
        for axis in self.axes:
            if axis not in used:
                name = self.context.fresh(f"b_{axis[-1]}")
                body = (Loop(name, ZERO, ONE, ONE, body, Mark("bind", axis)),)
        (whole,) = body
        return whole
