"""Barriers between what the invocations of a work-group do, where data pass from one to another.

    for k_o in range(K // 16):
        barrier()                                   # before T is filled again
        for tx: for ty: T[tx, ty] = A[i, k_o]
        barrier()                                   # before others read T
        for tx: for ty: acc += T[tx, k]

In program order, and round each loop, the accesses since the last barrier are kept. A nest that conflicts
with one of them - the same memory, one of the two writes, not by the same invocation - gets a barrier before
it: as late as possible, so that one serves many. All stand at the level of the work-group, where control is
the same for all invocations; that it is so is proved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

from kdsl.analysis.accesses import Access, written
from kdsl.analysis.axes import is_block, meeting
from kdsl.analysis.meeting import Meetings
from kdsl.analysis.ownership import Ownership
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Barrier,
    Body,
    Break,
    Continue,
    Expr,
    If,
    Load,
    Loop,
    Stmt,
    Store,
    While,
)
from kdsl.ir.printer import print_head, stored_buffers
from kdsl.ir.walk import stmt_bodies, stmt_exprs, stmts, subexprs
from kdsl.passes.host_program import buffers
from kdsl.passes.launch_context import Context

Mode = Literal["read", "write", "atomic"]


@dataclass(frozen=True, slots=True)
class Use:
    """Memory that invocations touch. `nest`: the id of the nest, 0 for what all of them do. `wide`: the axes
    along which several invocations do it. `access`, number `number`: how, if subscripts are there."""

    memory: str
    mode: Mode
    nest: int
    wide: frozenset[str] = frozenset()
    number: int = -1
    access: Access | None = field(default=None, compare=False)
    lags: frozenset[tuple[int, int]] = frozenset()

    def later(self, loop: int, turns: int) -> Use:
        """As it is seen `turns` iterations of a loop later (2: some)."""
        lags = dict(self.lags)
        lags[loop] = min(2, lags.get(loop, 0) + turns)
        return replace(self, lags=frozenset(lags.items()))


Uses = frozenset[Use]
NONE: Uses = frozenset()


def with_barriers(
    body: Body,
    owners: Ownership,
    meetings: Callable[[], Meetings],
    own: frozenset[str],
    context: Context,
) -> Body:
    """The body of a dispatch in two levels, its locals in their places, with the barriers that it needs.

    `own`: device buffers that have cells for each work-group, or invocation, alone.
    """
    work = _Placer(owners, meetings, own, context, body)
    new, _ = work.body(body, NONE)
    return new


@dataclass(slots=True)
class _Placer:
    owners: Ownership
    ask: Callable[[], Meetings]
    own: frozenset[str]
    context: Context
    whole: Body
    # The buffers of which several invocations see what is written to them.
    seen: frozenset[str] = field(init=False)
    meetings: Meetings | None = None
    by_nest: dict[int, Uses] = field(default_factory=dict)
    # Statements of control that may go differently for some invocations, outermost first.
    parted: list[Stmt] = field(default_factory=list)
    varying: set[str] = field(default_factory=set)
    # What became of loops, by what was pending before them.
    loops: dict[tuple[int, Uses, bool], tuple[Stmt, Uses, bool]] = field(default_factory=dict)
    leaving: list[tuple[list[Uses], list[Uses]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        private = {s.name for s in stmts(self.whole) if isinstance(s, Alloc) and s.memory != "shared"}
        stored = {self.memory(name) for name in stored_buffers(self.whole)}
        self.seen = frozenset([n for n in buffers(self.whole) - private if self.memory(n) in stored])
        self.find_varying()

    # -------------------------------------------------------------------- uses

    def memory(self, buffer: str) -> str:
        return "may_alias" if buffer in self.context.func.options.may_alias else buffer

    def nest(self, s: Stmt) -> Uses:
        """What a nest touches of what is seen by others."""
        found = self.by_nest.get(s.id)
        if found is None:
            found = self.by_nest[s.id] = frozenset(self.uses_of(s))
        return found

    def uses_of(self, s: Stmt) -> Iterable[Use]:
        inside = [x for x in stmts((s,)) if isinstance(x, Loop) and is_block(x)]
        wide = frozenset([axis for x in inside for axis, n in (self.owners.axes[x.id],) if n > 1])
        for n, a in enumerate(self.owners.accesses.accesses):
            if any(i.id == s.id for i in a.loops) and a.site.buffer in self.seen:
                if isinstance(a.site, Accumulate) and a.site.together:
                    continue  # see `met`
                mode: Mode = "read" if a.mode == "read" else "write"
                mode = "atomic" if isinstance(a.site, Atomic) else mode
                yield Use(self.memory(a.site.buffer), mode, s.id, wide, n, a)
        for name, mode in scalar_uses((s,)):
            if name in self.seen:
                yield Use(self.memory(name), mode, s.id, wide)

    def met(self, s: Stmt, x: Accumulate, pending: Uses, out: list[Stmt]) -> Uses:
        """A nest in which all invocations meet, between what they read and what the first one updates."""
        self.before(s, self.nest(s), pending, out)
        if self.parted:
            self.refuse(s)
        return frozenset([Use(self.memory(x.buffer), "write", s.id)] if x.buffer in self.seen else [])

    def read_by_all(self, exprs: Iterable[Expr]) -> Uses:
        """What statements of the work-group read."""
        names = {x.buffer for e in exprs for x in subexprs(e) if isinstance(x, Load)}
        return frozenset([Use(self.memory(n), "read", 0) for n in names & self.seen])

    def conflict(self, a: Use, b: Use) -> bool:
        """Whether one invocation may see, or undo, what another one does."""
        if a.memory != b.memory or a.mode == b.mode == "read" or a.mode == b.mode == "atomic":
            return False
        if not a.nest or not b.nest:
            return True
        if not a.wide and not b.wide:
            return False
        if a.access is None or b.access is None or a.access.site.buffer != b.access.site.buffer:
            return True
        if self.owners.pattern([a.access, b.access]) is not None:
            return False
        if self.meetings is None:
            self.meetings = self.ask()
        return self.meetings.may(a.number, b.number, dict(a.lags))

    # ------------------------------------------------------------------ placing

    def before(self, s: Stmt, uses: Uses, pending: Uses, out: list[Stmt]) -> Uses:
        """Puts a barrier before `s` where its uses ask for one; what is pending after `s`."""
        if any(self.conflict(a, b) for a in pending for b in uses):
            if self.parted:
                self.refuse(s)
            out.append(Barrier(loc=s.loc))
            pending = NONE
        return pending | uses

    def body(self, body: Body, pending: Uses) -> tuple[Body, Uses]:
        """`body` with barriers, after which `pending` is what was touched since the last one."""
        out: list[Stmt] = []
        for s in body:
            if is_block(s):
                x = meeting(s)
                if x is not None:
                    pending = self.met(s, x, pending, out)
                else:
                    pending = self.before(s, self.nest(s), pending, out)
                out.append(s)
                continue
            match s:
                case Barrier():
                    pending = NONE
                case Loop() | While():
                    s, pending = self.loop(s, pending, out)
                case If():
                    s, pending = self.branch(s, pending, out)
                case Break():
                    self.leaving[-1][0].append(pending)
                case Continue():
                    self.leaving[-1][1].append(pending)
                case _:
                    pending = self.before(s, self.read_by_all(stmt_exprs(s)), pending, out)
            out.append(s)
        return tuple(out), pending

    def loop(self, s: Loop | While, pending: Uses, out: list[Stmt]) -> tuple[Stmt, Uses]:
        test = self.read_by_all(stmt_exprs(s))
        pending = self.before(s, test, pending, out)
        key = s.id, pending, bool(self.parted)
        if key not in self.loops:
            self.loops[key] = self.cheapest(s, test, pending)
        new, after, barrier = self.loops[key]
        if barrier:
            out.append(Barrier(loc=s.loc))
        return new, after

    def cheapest(self, s: Loop | While, test: Uses, pending: Uses) -> tuple[Stmt, Uses, bool]:
        """The loop with barriers inside, or with fewer and one before it; whether that is wanted."""
        new, after = self.round(s, test, pending)
        if _count(new) and pending - test and not self.parted:
            other, after_other = self.round(s, test, test)
            if _count(other) < _count(new):
                return other, after_other, True
        return new, after, False

    def round(self, s: Loop | While, test: Uses, entry: Uses) -> tuple[Stmt, Uses]:
        """The loop with the barriers that it needs inside, when `entry` is pending before it."""
        own = stmt_exprs(s)
        parts = self.parts(own) or self.leaves_apart(s.body)
        if parts:
            self.parted.append(s)
        while True:
            self.leaving.append(([], []))
            body, end = self.body(s.body, entry)
            breaks, continues = self.leaving.pop()
            if isinstance(s, While):
                last: list[Stmt] = list(body)
                end = self.before(s, test, end, last)
                body = tuple(last)
                if any(self.conflict(a, b) for uses in continues for a in uses for b in test):
                    self.refuse(s)
            carried = [u.later(s.id, 1) for u in end.union(*continues)]
            again = entry.union(carried)
            if again == entry:
                break
            entry = again
        if parts:
            self.parted.pop()
        return replace(s, body=body), frozenset([u.later(s.id, 2) for u in entry.union(end, *breaks)])

    def branch(self, s: If, pending: Uses, out: list[Stmt]) -> tuple[Stmt, Uses]:
        pending = self.before(s, self.read_by_all((s.cond,)), pending, out)
        parts = self.parts((s.cond,))
        if parts:
            self.parted.append(s)
        then, after_then = self.body(s.then, pending)
        orelse, after_else = self.body(s.orelse, pending)
        if parts:
            self.parted.pop()
        return replace(s, then=then, orelse=orelse), after_then | after_else

    def refuse(self, s: Stmt) -> None:
        outer = self.parted[0] if self.parted else s
        raise self.context.error(
            "K0541",
            "the invocations of a work-group would have to wait for one another where not all may come",
            outer,
            label=f"not proved to go the same way for all: `{print_head(outer).rstrip(':')}`",
            notes=[(s.loc, "reads or writes what another invocation did")] if s.loc else [],
            help="decide it by sizes, scalars, or arrays that this part of the kernel does not write",
        )

    # --------------------------------------------------------------- uniformity

    def parts(self, exprs: Iterable[Expr]) -> bool:
        """Whether the value of one of the expressions may differ between invocations: it is read from device
        memory that the dispatch writes, where other work-groups may change it in between."""
        return any(isinstance(x, Load) and (x.buffer in self.varying) for e in exprs for x in subexprs(e))

    def leaves_apart(self, body: Body) -> bool:
        """Whether some invocations may leave an iteration of a loop before others do."""
        for s in body:
            if isinstance(s, If):
                ends = any(isinstance(x, (Break, Continue)) for b in stmt_bodies(s) for x in stmts(b))
                if ends and self.parts((s.cond,)):
                    return True
                if self.leaves_apart(s.then) or self.leaves_apart(s.orelse):
                    return True
        return False

    def find_varying(self) -> None:
        """Arrays of other work-groups too that the dispatch writes, and the scalars that depend on them."""
        own = {s.name for s in stmts(self.whole) if isinstance(s, Alloc)} | self.own
        self.varying = {n for n in written(self.whole) if n not in own}
        if any(n in self.varying for n in self.context.func.options.may_alias):
            self.varying |= set(self.context.func.options.may_alias)
        before = -1
        while before != len(self.varying):
            before = len(self.varying)
            self.spread(self.whole, False)

    def spread(self, body: Body, parted: bool) -> None:
        for s in body:
            if is_block(s):
                continue
            own = parted or self.parts(stmt_exprs(s))
            if isinstance(s, (Store, Accumulate)) and own:
                self.varying.add(s.buffer)
            apart = own and isinstance(s, (If, While, Loop))
            for inner in stmt_bodies(s):
                self.spread(inner, apart)


def _count(s: Stmt) -> int:
    return sum(isinstance(x, Barrier) for x in stmts((s,)))


def scalar_uses(body: Body) -> list[tuple[str, Mode]]:
    """The buffers without dimensions that `body` touches."""
    out: list[tuple[str, Mode]] = []
    for s in stmts(body):
        if isinstance(s, Store) or (isinstance(s, Accumulate) and not s.together):
            out += [] if s.index else [(s.buffer, "write")]
        if isinstance(s, Atomic):
            if not s.index:
                out.append((s.buffer, "atomic"))
            if s.old:
                out.append((s.old, "write"))
        for root in stmt_exprs(s):
            out += [(e.buffer, "read") for e in subexprs(root) if isinstance(e, Load) and not e.index]
    return out
