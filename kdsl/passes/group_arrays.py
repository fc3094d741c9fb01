"""Where the locals of a dispatch live: in registers of one invocation, in shared memory, in device memory.

    acc: f32[16, 16, 4]              acc: f32[4]                    # one for each invocation
    T: f32[64] @ "shared"            T: f32[64] @ "shared"
    for tx: for ty:                  for tx: for ty:
        acc[tx, ty, r] = 0.0   ->        acc[r] = 0.0
    for tx: for ty:                  for tx: for ty:
        acc[tx, ty, r] += T[tx]          acc[r] += T[tx]

An array of the work-group each of whose cells belongs to one invocation is distributed: what is left of it is
private. Other ones are shared, where their shape is constant and they fit; else they lie in device memory,
with dimensions for the work-groups. So do private arrays that are too large for an invocation, with further
dimensions for the invocations, last, so that neighbours lie side by side.

What is allocated in a dispatch afterwards is shared where it says so, else private to an invocation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from kdsl.analysis.accesses import collect, written
from kdsl.analysis.axes import axis_of, block_sizes, is_block, meeting
from kdsl.analysis.linear import extent
from kdsl.analysis.meeting import Meetings
from kdsl.analysis.ownership import Ownership, Pattern
from kdsl.dtypes import i64
from kdsl.ir.launch import Scratch
from kdsl.ir.nodes import (
    Alloc,
    Binary,
    Body,
    Const,
    Expr,
    Func,
    Loop,
    Stmt,
    Var,
    While,
)
from kdsl.ir.walk import map_stmt, stmt_bodies, stmts, subexprs, substitute
from kdsl.passes.counting import ZERO, op
from kdsl.passes.full_tiles import fresh
from kdsl.passes.host_program import Prefix, buffers, coordinate
from kdsl.passes.launch_context import Context
from kdsl.passes.moving_buffers import Around, Index, Move, moved
from kdsl.passes.simplify import simplify_expr

PRIVATE_BYTES = 4096
"""A larger array does not stay with an invocation: drivers keep such ones in slow memory of their own."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A dispatch's body with the locals in their places, and the device buffers that it needs for its own:
    those with one element or more for each work-group, whose leading extents are those of the grid."""

    body: Body
    scratch: tuple[Scratch, ...]


def owners(
    prefix: Prefix, body: Body, hosts: Sequence[Loop], scratch: Sequence[Scratch], context: Context
) -> Ownership:
    """What is known of the accesses of a dispatch, which uses these device buffers."""
    found = collect(as_func(prefix, body, hosts, scratch, context), assuming=False)
    axes = {s.id: (axis_of(s), extent(s) or 1) for s in stmts(body) if isinstance(s, Loop) and is_block(s)}
    outside = {s.id for s in (*hosts, *prefix)}
    group = {i.name for a in found.accesses for i in a.loops if i.id in outside}
    return Ownership(found, axes, frozenset(group))


def meetings(
    prefix: Prefix, body: Body, hosts: Sequence[Loop], scratch: Sequence[Scratch], context: Context
) -> Meetings:
    """Questions about the accesses of a dispatch, numbered as those of `owners`."""
    again = fresh(body)
    originals = {new.id: old.id for old, new in zip(stmts(body), stmts(again))}
    found = collect(as_func(prefix, (*body, *again), hosts, scratch, context), assuming=False)
    first = [a for a in found.accesses if a.stmt not in originals]
    later = [a for a in found.accesses if a.stmt in originals]
    outside = len(first) - len(later)  # those of conditions around the body, which stand once
    loops = [s for s in stmts(body) if isinstance(s, (Loop, While)) and not is_block(s)]
    axes = {s.id: axis_of(s) for s in stmts(body) if is_block(s)}
    return Meetings(
        found, tuple(first), (*first[:outside], *later), axes, tuple([s.id for s in loops]), originals
    )


def as_func(
    prefix: Prefix, body: Body, hosts: Sequence[Loop], scratch: Sequence[Scratch], context: Context
) -> Func:
    """A dispatch as a function of its own."""
    for s in reversed(prefix):
        body = (replace(s, body=body) if isinstance(s, Loop) else replace(s, then=body, orelse=()),)
    for s in reversed(hosts):
        body = (replace(s, body=body),)
    made = tuple([Alloc(s.name, s.dtype, tuple([ZERO for _ in s.shape])) for s in scratch])
    return replace(context.func, body=(*made, *body))


def placed(prefix: Prefix, body: Body, hosts: Sequence[Loop], context: Context) -> Stored:
    """The body of a dispatch in two levels (`work_groups`) with its locals in their places."""
    axes = block_sizes(body)
    return _Places(prefix, body, axes, hosts, context).run()


@dataclass(slots=True)
class _Places:
    prefix: Prefix
    body: Body
    axes: dict[str, int]
    hosts: Sequence[Loop]
    context: Context
    known: Ownership | None = None
    moves: dict[str, Move] = field(default_factory=dict)
    changed: dict[int, Alloc | None] = field(default_factory=dict)
    scratch: list[Scratch] = field(default_factory=list)

    @property
    def owners(self) -> Ownership:
        """Made when a question is asked: most dispatches have none."""
        if self.known is None:
            self.known = owners(self.prefix, self.body, self.hosts, self.context.scratch, self.context)
        return self.known

    def run(self) -> Stored:
        self.visit(self.body, inside=not self.axes)
        self.share()
        body = moved(self.placed_allocs(self.body), self.moves, self.context.fresh)
        return Stored(body, tuple(self.scratch))

    def visit(self, body: Body, inside: bool) -> None:
        """Decides for all locals but those that may be shared."""
        for s in body:
            if isinstance(s, Alloc):
                if inside:
                    self.private(s)
                else:
                    self.of_group(s)
            for inner in stmt_bodies(s):
                self.visit(inner, inside or is_block(s))

    def placed_allocs(self, body: Body) -> Body:
        out: list[Stmt] = []
        for s in body:
            if isinstance(s, Alloc) and s.id in self.changed:
                new = self.changed[s.id]
                if new is not None:
                    out.append(new)
            else:
                out.append(map_stmt(s, lambda e: e, self.placed_allocs))
        return tuple(out)

    # ------------------------------------------------------------------ private

    def private(self, a: Alloc) -> None:
        """A local of one invocation."""
        if a.shape and not small(a, PRIVATE_BYTES):
            self.to_scratch(a, list(self.axes))
        elif a.memory == "shared":
            self.changed[a.id] = replace(a, memory="auto")

    def to_scratch(
        self, a: Alloc, axes: list[str], index: Callable[[Index, Around], Index] | None = None
    ) -> None:
        """A device buffer for `a`, with dimensions for the work-groups and the invocations along `axes`.

        `index` gives what is left of the subscripts.
        """
        grid = [s for s in self.prefix if isinstance(s, Loop)]
        counts = [self.context.count(s) for s in grid]  # for now: see `grid_parts`
        blocks = [Const(self.axes[x], i64) for x in axes]
        places = tuple([coordinate(s) for s in grid])

        def place(old: Index, around: Around) -> Index:
            inner = index(old, around) if index is not None else old
            return (*places, *inner, *[Var(around[x], i64) for x in axes])

        self.scratch.append(Scratch(a.name, a.dtype, (*counts, *a.shape, *blocks)))
        self.moves[a.name] = Move(a.name, place, len(places))
        self.changed[a.id] = None

    # ---------------------------------------------------------------- the group's

    def of_group(self, a: Alloc) -> None:
        if not a.shape and a.memory != "shared" and not self.in_nests(a.name):
            return  # a scalar that each invocation keeps for itself
        if a.memory == "shared":
            return
        if not a.shape:
            if self.by_one(a.name):
                return
            self.changed[a.id] = replace(a, memory="shared")
            return
        accesses = [x for x in self.owners.accesses.accesses if x.site.buffer == a.name]
        nested = all(len(self.owners.coordinates(x)) == len(self.axes) for x in accesses)
        pattern = self.owners.pattern(accesses, fixed=True) if nested else None
        plain = not any(x.site.checked for x in accesses)
        if pattern is not None and plain and self.distribute(a, pattern):
            return
        self.changed[a.id] = replace(a, memory="shared")

    def in_nests(self, name: str) -> bool:
        """Whether a nest writes the buffer, or one invocation alone does."""
        return any(name in written((s,)) for s in self.nests(self.body))

    def by_one(self, name: str) -> bool:
        """Whether the first invocation is the only one that touches a buffer."""
        outside = self.without_nests(self.body)
        if name in buffers(outside):
            return False
        users = [s for s in self.nests(self.body) if name in buffers((s,))]
        return all(n == 1 for s in users for n in block_sizes((s,)).values())

    def nests(self, body: Body) -> list[Stmt]:
        out: list[Stmt] = []
        for s in body:
            if is_block(s):
                out.append(s)
            else:
                for inner in stmt_bodies(s):
                    out += self.nests(inner)
        return out

    def without_nests(self, body: Body) -> Body:
        return tuple([map_stmt(s, lambda e: e, self.without_nests) for s in body if not is_block(s)])

    # ------------------------------------------------------------------- distributed

    def distribute(self, a: Alloc, pattern: Pattern) -> bool:
        """Leaves to each invocation its own cells; False where subscripts hide how they are made."""
        for index, around in sites(self.body, a.name):
            for share in pattern:
                v = around.get(share.axis)
                if v is None or coefficient(index[share.dim], v) is None:
                    return False

        def own(index: Index, around: Around) -> Index:
            out: list[Expr] = []
            for dim, e in enumerate(index):
                left = True
                for share in [s for s in pattern if s.dim == dim]:
                    e = simplify_expr(substitute(e, {around[share.axis]: ZERO}))
                    if share.kind == "cyclic":
                        e = op("//", e, share.size)
                    elif share.size == 1:
                        left = False
                out += [e] if left else []
            return tuple(out)

        shape: list[Expr] = []
        for dim, n in enumerate(a.shape):
            whole: Expr | None = n
            for share in [s for s in pattern if s.dim == dim]:
                if share.kind == "cyclic":
                    assert whole is not None
                    whole = op("//", op("+", whole, share.size - 1), share.size)
                else:
                    whole = Const(share.size, i64) if share.size > 1 else None
            if whole is not None:
                shape.append(whole)
        new = replace(a, shape=tuple(shape))
        if shape and not small(new, PRIVATE_BYTES):
            self.to_scratch(new, list(self.axes), own)
        else:
            self.moves[a.name] = Move(a.name, own)
            self.changed[a.id] = new
        return True

    # -------------------------------------------------------------------- shared

    def share(self) -> None:
        """Gives shared memory to those that asked for it, then to the others that fit."""
        limit = self.context.target.limits.shared_bytes
        wanted = [s for s in stmts(self.body) if isinstance(s, Alloc)]
        asked = [s for s in wanted if s.memory == "shared" and s.id not in self.changed]
        others = [
            new for s in wanted if (new := self.changed.get(s.id)) is not None and new.memory == "shared"
        ]
        # What invocations do together takes an element, and a bit, for each of them.
        found = {s.id: s.value.dtype.bits for x in stmts(self.body) if (s := meeting(x)) is not None}
        used = sum([(max(32, bits) + 1) * prod(self.axes.values()) // 8 + 4 for bits in found.values()])
        for a in asked:
            size = bytes_of(a)
            if size is None:
                raise self.context.error(
                    "K0542",
                    f"`{a.name}` cannot be shared by a work-group: its shape is not constant",
                    a,
                    label="shared memory has a fixed size",
                    help="split the loops that it is indexed by with constant factors first",
                )
            used += size
            if used > limit:
                raise self.context.error(
                    "K0538",
                    f"the shared arrays of a work-group take {used} bytes,"
                    f" but {self.context.device} has {limit}",
                    a,
                    label=f"`{a.name}` takes {size} bytes",
                    help="use smaller tiles, or stage some of the arrays in registers",
                )
        for new in others:
            size = bytes_of(new)
            if size is not None and used + size <= limit:
                used += size
            else:
                self.to_scratch(new, [])


def bytes_of(a: Alloc) -> int | None:
    """The size of a local whose shape is constant; None otherwise."""
    extents = [simplify_expr(e) for e in a.shape]
    if not all(isinstance(e, Const) for e in extents):
        return None
    return a.dtype.bits // 8 * prod([max(0, int(e.value)) for e in extents if isinstance(e, Const)])


def small(a: Alloc, limit: int) -> bool:
    size = bytes_of(a)
    return size is not None and size <= limit


def sites(body: Body, name: str) -> list[tuple[Index, dict[str, str]]]:
    """The subscripts of all accesses to a buffer, with the loops over invocations around each."""
    out: list[tuple[Index, dict[str, str]]] = []

    def note(index: Index, around: Around) -> Index:
        out.append((index, dict(around)))
        return index

    moved(body, {name: Move(name, note)}, lambda stem: stem)
    return out


def coefficient(e: Expr, name: str) -> int | None:
    """The factor of a variable in a sum; None when it stands anywhere else."""
    match e:
        case Var():
            return int(e.name == name)
        case Binary(op="+" | "-" as sign, a=x, b=y):
            a, b = coefficient(x, name), coefficient(y, name)
            return None if a is None or b is None else a + b if sign == "+" else a - b
        case Binary(op="*", a=x, b=Const(value=by)) | Binary(op="*", a=Const(value=by), b=x):
            a = coefficient(x, name)
            return None if a is None else a * int(by)
        case _:
            return None if any(isinstance(x, Var) and x.name == name for x in subexprs(e)) else 0
