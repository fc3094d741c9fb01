"""The loops of a scheduled function as sketches see them: names, iterations, roles, how accesses move."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from kdsl.analysis.dependence import check_mark
from kdsl.analysis.linear import extent
from kdsl.dtypes import DType
from kdsl.ir.nodes import (
    Accumulate,
    Alloc,
    Atomic,
    Body,
    Break,
    Continue,
    Expr,
    Func,
    Load,
    Loop,
    Return,
    Stmt,
    Store,
    Var,
    While,
)
from kdsl.ir.walk import stmt_bodies, stmt_exprs, stmts, subexprs
from kdsl.sched.rewriting.tree import places
from kdsl.target import Target
from kdsl.tune.ranges import Ranges, after, range_of, trips

Access = Load | Store | Accumulate | Atomic


@dataclass(frozen=True, slots=True)
class Place:
    """A loop by the name that steps take, with the loops around it, outermost first, and its iterations."""

    name: str
    loop: Loop
    outer: tuple[Loop, ...]
    trips: float

    @property
    def constant(self) -> int | None:
        """The number of iterations, where it is the same for all sizes."""
        return extent(self.loop)

    @property
    def inner(self) -> list[Loop]:
        """The loops in it."""
        return [s for s in stmts(self.loop.body) if isinstance(s, Loop)]


@dataclass(frozen=True)
class View:
    """A function at some stage, for these sizes."""

    func: Func
    target: Target
    sizes: Mapping[str, int]

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """All loops in program order."""
        found = list(places(self.func))
        copies: dict[str, list[int]] = {}
        for p in found:
            copies.setdefault(p.loop.var, []).append(p.loop.id)
        counts: dict[int, float] = {}

        def visit(body: Body, known: Ranges) -> None:
            for s in body:
                inside = known
                if isinstance(s, Loop):
                    counts[s.id], span = trips(s, known)
                    inside = {**known, s.var: span}
                for inner in stmt_bodies(s):
                    visit(inner, inside)
                known = after(s, known)

        visit(self.func.body, {name: (float(n), float(n)) for name, n in self.sizes.items()})
        out = []
        for p in found:
            same = copies[p.loop.var]
            name = p.loop.var if len(same) == 1 else f"{p.loop.var}@{same.index(p.loop.id)}"
            out.append(Place(name, p.loop, p.outer, counts[p.loop.id]))
        return tuple(out)

    def place(self, name: str) -> Place | None:
        """The loop of this name; of several copies the first."""
        return next((p for p in self.places if name in (p.name, p.loop.var)), None)

    def of(self, loop: Loop) -> Place:
        """The place of a loop of the function."""
        return next(p for p in self.places if p.loop.id == loop.id)

    @cached_property
    def innermost(self) -> tuple[Place, ...]:
        """The loops without a loop in them."""
        return tuple([p for p in self.places if not p.inner])

    def parallel(self, p: Place) -> bool:
        """Whether the iterations are independent."""
        return check_mark(self.func, p.loop.id, "parallel") is None

    def vector(self, p: Place, lanes: int) -> bool:
        """Whether so many iterations can run in lockstep."""
        if any(isinstance(s, (Break, Continue, Return, While)) for s in stmts(p.loop.body)):
            return False
        return check_mark(self.func, p.loop.id, "vectorize", lanes) is None

    def lanes(self, body: Body) -> int:
        """Elements of a vector register, of the widest type that the statements compute with."""
        return max(1, self.target.vector_bytes // max([t.bytes for t in _types(body)], default=8))

    @cached_property
    def allocs(self) -> dict[str, tuple[Alloc, tuple[Loop, ...]]]:
        """The locals with the loops around each; of several of one name the first."""
        out: dict[str, tuple[Alloc, tuple[Loop, ...]]] = {}
        for s, loops in walked(self.func.body):
            if isinstance(s, Alloc):
                out.setdefault(s.name, (s, loops))
        return out


def walked(body: Body, loops: tuple[Loop, ...] = ()) -> Iterator[tuple[Stmt, tuple[Loop, ...]]]:
    """All statements with the loops around each."""
    for s in body:
        yield s, loops
        for inner in stmt_bodies(s):
            yield from walked(inner, (*loops, s) if isinstance(s, Loop) else loops)


def _types(body: Body) -> Iterator[DType]:
    for a in accesses(body):
        yield a.type if isinstance(a, Load) else a.value.dtype


def accesses(body: Body) -> Iterator[Access]:
    """The accesses of all statements that compute something, those of loop bounds left out."""
    for s in stmts(body):
        if isinstance(s, (Store, Accumulate, Atomic)):
            yield s
        if not isinstance(s, (Loop, Alloc)):
            for e in stmt_exprs(s):
                yield from loads(e)


def loads(e: Expr) -> Iterator[Load]:
    """The loads in an expression, those in indices included."""
    for x in subexprs(e):
        if isinstance(x, Load):
            yield x


def steps(a: Access, var: str, sizes: Mapping[str, int]) -> tuple[int | None, ...]:
    """For each subscript how far one iteration of `var` moves it; None where data decide."""
    out: list[int | None] = []
    for e in a.index:
        names = {x.name for x in subexprs(e) if isinstance(x, Var)}
        if var not in names and not any(isinstance(x, Load) for x in subexprs(e)):
            out.append(0)
            continue
        still = {n: (float(sizes.get(n, 0)),) * 2 for n in names}
        here, there = range_of(e, still), range_of(e, {**still, var: (1.0, 1.0)})
        out.append(None if here is None or there is None else int(there[0] - here[0]))
    return tuple(out)


def stride(a: Access, var: str, sizes: Mapping[str, int]) -> int | None:
    """Elements between one iteration of `var` and the next, as far as the last subscript tells: 0 when the
    cell stays, 1 when the next one follows; None when a row or more lies between, or data decide.
    """
    moves = steps(a, var, sizes)
    if None in moves or any(moves[:-1]):
        return None
    return moves[-1] if moves else 0


def dimension(a: Access, var: str, sizes: Mapping[str, int]) -> int | None:
    """The one dimension in which `var` counts elements, with the factor 1; None when there is no such one."""
    moves = steps(a, var, sizes)
    found = [n for n, m in enumerate(moves) if m]
    return found[0] if len(found) == 1 and None not in moves and moves[found[0]] == 1 else None


def uses(a: Access, var: str) -> bool:
    """Whether the cell depends on `var`."""
    return any(isinstance(x, Var) and x.name == var for e in a.index for x in subexprs(e))
