"""A kernel cut where all work-groups must have ended: the parts are dispatches, between them is the host.

    P: f32[N]                                   a Scratch
    for t in range(T):                          Repeat over t
        for i in bind(range(N), "grid.x"):          Piece (i)
            P[i] = ...
        s = P[0]                                    Piece (): one invocation
        for i in bind(range(N), "grid.x"):          Piece (i)
            ...

A loop over work-groups whose body holds more than another such loop is distributed: its iterations are
independent, so that all of them may do the first statement before any does the second. Locals that live in
several parts become device buffers, with an element for each iteration of the loops over work-groups around.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kdsl.analysis.axes import axis_of, escapes, has_grid, is_grid, leaves
from kdsl.analysis.linear import faultless
from kdsl.dtypes import i32, i64
from kdsl.ir.host import is_host
from kdsl.ir.launch import Scratch
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Body,
    Cast,
    Compare,
    Const,
    Expr,
    If,
    Load,
    Loop,
    Prefetch,
    Stmt,
    Store,
    Unary,
    Var,
    While,
    fresh_id,
)
from kdsl.ir.printer import print_expr, print_head
from kdsl.ir.walk import stmt_exprs, stmts, subexprs, substitute
from kdsl.passes.counting import ONE, ZERO, most_iterations, op, step_of
from kdsl.passes.host_scalars import mapped
from kdsl.passes.launch_context import Context
from kdsl.passes.moving_buffers import Around, Index, Move, moved
from kdsl.passes.unbind import unbound

Prefix = tuple[Loop | If, ...]
"""Loops over work-groups and the conditions under which a group has work, outermost first; bodies are not
looked at."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one dispatch does."""

    prefix: Prefix
    body: Body


@dataclass(frozen=True, slots=True)
class Repeat:
    """A loop of the host; the body of `loop` is not looked at."""

    loop: Loop
    parts: Parts


@dataclass(frozen=True, slots=True)
class Branch:
    """A condition that the host computes."""

    cond: Expr
    then: Parts
    orelse: Parts


Part = Piece | Repeat | Branch
Parts = tuple[Part, ...]


def cut(body: Body, context: Context) -> Parts:
    """The parts of a kernel's body."""
    return _Cutter(context).parts(body, (), context.host)


@dataclass(slots=True)
class _Cutter:
    context: Context
    hosts: list[Loop] = field(default_factory=list)

    def parts(self, body: Body, prefix: Prefix, host: frozenset[str]) -> Parts:
        """`host`: the names that the host knows here."""
        allocs = [s for s in body if isinstance(s, Alloc)]
        runs: list[Body] = []
        apart: set[int] = set()
        for s in body:
            if isinstance(s, Alloc):
                continue
            if has_grid(s) and self.can_cut(s, prefix, host):
                apart.add(len(runs))
                runs.append((s,))
            elif runs and len(runs) - 1 not in apart:
                runs[-1] = (*runs[-1], *unbound((s,), "grid"))
            else:
                runs.append(unbound((s,), "grid"))
        moves: dict[str, Move] = {}
        for a in allocs:
            users = [n for n, run in enumerate(runs) if a.name in buffers(run)]
            if len(users) == 1 and users[0] not in apart:
                runs[users[0]] = (a, *runs[users[0]])
            elif users:
                moves[a.name] = self.shared(a, prefix)
        out: list[Part] = []
        for n, run in enumerate(runs):
            run = moved(run, moves, self.context.fresh)
            if n in apart:
                out += self.step(run[0], prefix, host)
            else:
                out.append(Piece(prefix, run))
        return tuple(out)

    def shared(self, a: Alloc, prefix: Prefix) -> Move:
        """The buffer for a local that lives in several parts."""
        loops = [s for s in prefix if isinstance(s, Loop)]
        counts = [self.context.room(s, self.hosts, a.name) for s in loops]
        self.context.scratch.append(Scratch(a.name, a.dtype, (*counts, *a.shape)))
        places = tuple([coordinate(s) for s in loops])

        def index(old: Index, _: Around) -> Index:
            return (*places, *old)

        return Move(a.name, index, len(places))

    def can_cut(self, s: Stmt, prefix: Prefix, host: frozenset[str]) -> bool:
        """Whether `s` can be taken apart. TargetError where not and work-groups are around already: what
        loops over work-groups in it ask for cannot be had."""
        why = self.problem(s, prefix, host)
        if why is None:
            return True
        if not prefix:
            return False
        inner = next(x for x in stmts((s,)) if isinstance(x, Loop) and is_grid(x))
        raise self.context.error(
            "K0539",
            f"the loop `{inner.var}` cannot be bound to {axis_of(inner)} inside of `{print_head(s)[:-1]}`",
            s,
            label=why,
            notes=[(inner.loc, f"bound to {axis_of(inner)} here")] if inner.loc else [],
            help=f"bind a loop further out, or leave `{inner.var}` unbound",
        )

    def problem(self, s: Stmt, prefix: Prefix, host: frozenset[str]) -> str | None:
        match s:
            case Loop() if is_grid(s):
                return None
            case Loop() if not all(is_host(e, host) for e in (s.lo, s.hi, s.step)):
                return "its bounds are not known before the work-groups start"
            case Loop() if not step_of(s):
                return "its step is no constant"
            case Loop() if leaves(s):
                return "an iteration of it may end the loop"
            case Loop():
                return None
            case If() if escapes((s,)):
                return "it may end an iteration of a loop around it"
            case If() if prefix or is_host(s.cond, host):
                return None
            case If() | While():
                return "data decide it"
            case _:
                raise AssertionError(f"no loop is in {type(s).__name__}")

    def step(self, s: Stmt, prefix: Prefix, host: frozenset[str]) -> Parts:
        match s:
            case Loop() if is_grid(s):
                more, body = self.grid(s, prefix, host)
                inside = (*prefix, *more)
                if any(map(has_grid, body)):
                    return self.parts(body, inside, host)
                return (Piece(inside, body),)
            case Loop():
                self.context.ranges.host_loop(s)
                self.hosts.append(s)
                parts = self.parts(s.body, prefix, host | {s.var})
                self.hosts.pop()
                return (Repeat(s, parts),)
            case If() if is_host(s.cond, host):
                then, orelse = (self.parts(b, prefix, host) for b in (s.then, s.orelse))
                return (Branch(s.cond, then, orelse),)
            case If():
                out: list[Part] = []
                cond = s.cond
                if not faultless(cond):
                    # What it reads may change in the parts: it is decided once.
                    flag = self.shared(Alloc(self.context.fresh("taken"), i32, (), loc=s.loc), prefix)
                    place = flag.index((), {})
                    out.append(Piece(prefix, (Store(flag.name, place, Cast(cond, i32), loc=s.loc),)))
                    cond = Compare("!=", Load(flag.name, place, i32), Const(0, i32))
                for b, c in ((s.then, cond), (s.orelse, Unary("not", cond))):
                    out += self.parts(b, (*prefix, replace(s, id=fresh_id(), cond=c)), host)
                return tuple(out)
            case _:
                raise AssertionError(f"{type(s).__name__} is not cut")

    def grid(self, s: Loop, prefix: Prefix, host: frozenset[str]) -> tuple[Prefix, Body]:
        """A loop over work-groups with bounds that the host knows, a guard where they are not its own, and
        what is left to do inside."""
        if step_of(s) and is_host(s.lo, host) and is_host(s.hi, host):
            return (s,), s.body
        around = [x for x in prefix if isinstance(x, Loop)]
        most = most_iterations(s, around, host, self.context.ranges)
        if most is None:
            bounds = [e for e in (s.lo, s.hi, s.step) if not is_host(e, host)] or [s.step]
            raise self.context.error(
                "K0539",
                f"the number of work-groups along {axis_of(s)} is not known at the launch",
                s,
                label=f"`{print_expr(bounds[0], True)}` is computed on the device"
                if step_of(s)
                else "the step is no constant",
                help=f"bind a loop with bounds made of sizes and scalars, or split `{s.var}`"
                " and bind its inner loop to a block axis",
            )
        step = step_of(s)
        here = op("+", s.lo, op("*", Var(s.var, i64), step))
        inside = Compare("<" if step > 0 else ">", here, s.hi)
        loop = replace(s, lo=ZERO, hi=most, step=ONE, body=())
        return (loop, If(inside, (), loc=s.loc)), mapped(s.body, lambda e: substitute(e, {s.var: here}))


def coordinate(loop: Loop) -> Expr:
    """The number of the iteration in which a loop is."""
    return op("//", op("-", Var(loop.var, i64), loop.lo), step_of(loop))


def buffers(body: Body) -> set[str]:
    """The names of all buffers that `body` touches."""
    out: set[str] = set()
    for s in stmts(body):
        if isinstance(s, (Store, Accumulate, Atomic, Prefetch)):
            out.add(s.buffer)
        if isinstance(s, Atomic) and s.old:
            out.add(s.old)
        for root in stmt_exprs(s):
            out |= {e.buffer for e in subexprs(root) if isinstance(e, Load)}
    return out
