"""prefetch: hints for the cells that a later iteration of a loop will touch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from kdsl.analysis.accesses import collect
from kdsl.analysis.affine import at_least
from kdsl.analysis.regions import Range, Regions, box, sites
from kdsl.errors import ScheduleError
from kdsl.ir.nodes import (
    Alloc,
    ArrayParam,
    Body,
    Compare,
    Const,
    Expr,
    If,
    Load,
    Loop,
    Mark,
    Prefetch,
    ScalarParam,
    Store,
    fresh_id,
)
from kdsl.ir.printer import print_expr
from kdsl.ir.walk import subexprs, substitute
from kdsl.passes.simplify import simplify_expr
from kdsl.sched.edit import Edit
from kdsl.sched.primitive import primitive
from kdsl.sched.rewriting.arith import add, ceil_div, const, from_linear, mul, names_in, var
from kdsl.sched.rewriting.arrays import Array, array_of, meant, of_copy, resolve_array
from kdsl.sched.rewriting.names import header
from kdsl.sched.rewriting.tree import Place, accessed, free_stem, replaced, wrap
from kdsl.source import Loc

LINE_BYTES = 64
"""The smallest cache line of current CPUs: one hint for each."""

WRITTEN_OUT = 64
"""No more hints than this are written out one by one; loops make the others."""


@primitive
def prefetch(edit: Edit, buffer: str, loop: str, distance: int) -> Edit:
    """Hints for the cells of an array that a loop will touch `distance` iterations later.

    before:
        for i in range(N):
            S(A[i, 0])
    after: prefetch("A", "i", 8)
        for i in range(N):
            if i + 8 < N:
                prefetch(A[i + 8, 0])
            S(A[i, 0])

    One hint for each 64 bytes of the innermost dimension, in every row of the region. A hint reads nothing
    and cannot fault; it stands under a test where its cell may not exist.

    legal: always, for a region that moves with the loop and is known: indices of loop variables and sizes.
    known as: prefetch (Halide), software prefetching.
    """
    edit.need_small("distance", distance, 1)
    places = edit.loops(loop)
    stem, copies = resolve_array(edit, buffer)
    chosen = [p for p in places if stem in accessed(p.loop.body) and of_copy(p, copies)]
    if not chosen:
        raise edit.refused(
            "K0347",
            f"cannot prefetch `{buffer}` in the loop `{places[0].loop.var}`: the loop does not touch it",
            places[0].loop,
            help=f"name a loop with `{stem}` inside",
        )
    name = free_stem(edit.func, f"{stem}_p")
    new: dict[int, Body] = {}
    for place in chosen:
        what = meant(edit, place, stem, copies)
        hints = _Hints(edit, place, array_of(edit, what), _is_dense(what), name, distance)
        new[place.loop.id] = (replace(place.loop, body=(*hints.body(), *place.loop.body)),)
    return edit.keeps_order(replaced(edit.func, new))


def _is_dense(what: ArrayParam | Alloc) -> bool:
    """Whether neighbours in the last dimension are neighbours in memory."""
    return isinstance(what, Alloc) or what.contiguous


@dataclass(frozen=True, slots=True)
class _Hints:
    """The hints in the body of one loop. `name` begins the names of their own loops."""

    edit: Edit
    place: Place
    array: Array
    dense: bool
    name: str
    distance: int

    def body(self) -> Body:
        """The hints with their tests, inside loops over the rows and lines of the region."""
        region = self.region()
        loops: list[Loop] = []
        index: list[Expr] = []
        for n, r in enumerate(region):
            last = n == len(region) - 1
            width = max(1, LINE_BYTES // self.array.dtype.bytes) if last and self.dense else 1
            count = ceil_div(self.expr(r), width)
            start = self.later(r)
            if count != const(1):
                counter = f"{self.name}_{n}"
                loops.append(Loop(counter, const(0), count, const(1), (), loc=self.place.loop.loc))
                start = add(start, mul(var(counter), width))
            index.append(start)
        total = 1
        for loop in loops:
            total *= int(loop.hi.value) if isinstance(loop.hi, Const) else WRITTEN_OUT + 1
        if total <= WRITTEN_OUT:
            loops = [replace(loop, mark=Mark("unroll")) for loop in loops]
        hint = Prefetch(self.array.name, tuple(index), loc=self.place.loop.loc)
        return self.guarded(hint, loops)

    def expr(self, r: Range) -> Expr:
        return substitute(from_linear(r.extent), dict(self.array.atoms.exprs))

    def later(self, r: Range) -> Expr:
        """The start of the region in the iteration that is meant."""
        loop = self.place.loop
        assert isinstance(loop.step, Const)
        then = add(var(loop.var), self.distance * int(loop.step.value))
        start = substitute(from_linear(r.lo), dict(self.array.atoms.exprs))
        return simplify_expr(substitute(start, {loop.var: then}))

    def guarded(self, hint: Prefetch, loops: Sequence[Loop]) -> Body:
        """The hint in its loops, under tests of what is not proved to be in the array."""
        loop = self.place.loop
        value = Load(self.array.name, hint.index, self.array.dtype)
        trial = Alloc(self.name, self.array.dtype, ())
        probe = Store(self.name, (), value)
        probing = replace(loop, body=(trial, *wrap(loops, (probe,)), *loop.body))
        regions = Regions(collect(replaced(self.edit.func, {loop.id: (probing,)})))
        (access,) = [a for a in regions.accesses.accesses if a.stmt == probe.id]
        tests: list[Expr] = []
        for n, e in enumerate(hint.index):
            at, extent = access.index[n], access.extent[n]
            size = substitute(from_linear(self.array.shape[n]), dict(self.array.atoms.exprs))
            if not regions.never(access, at_least(-at - 1)):
                tests.append(Compare("<=", const(0), e))
            if not regions.never(access, at_least(at - extent)):
                tests.append(Compare("<", e, size))
        body: Body = (hint,)
        inner = list(loops)
        while inner or tests:
            # Each test as far out as it can stand.
            own = {inner[-1].var} if inner else set()
            for test in [t for t in reversed(tests) if not inner or names_in((t,)) & own]:
                body = (If(test, body, id=fresh_id(), loc=loop.loc),)
                tests.remove(test)
            if inner:
                body = (replace(inner.pop(), body=body),)
        return body

    def region(self) -> tuple[Range, ...]:
        """The box that an iteration touches, or refused."""
        edit, array, loop = self.edit, self.array, self.place.loop
        if not array.shape:
            raise edit.refused(
                "K0347",
                f"cannot prefetch `{array.name}`: it is a scalar",
                loop,
                help="name an array",
            )
        if not (isinstance(loop.step, Const) and loop.step.value):
            raise edit.refused(
                "K0308",
                f"cannot prefetch in the loop `{loop.var}`: its step is not a constant",
                loop,
                label=f"`{header(loop)}`",
                help="write the step as a number, or pass it as a `kdsl.constexpr`",
            )
        sizes = set(edit.func.sizes)
        scalars = {p.name for p in edit.func.params if isinstance(p, ScalarParam)}
        outside = sizes | scalars | {s.var for s in self.place.outer} | {loop.var}
        found = list(sites(loop.body, array.name))
        if not found:
            raise self.unknown("touched by atomic updates alone", None)
        region = box(found, array.shape, array.atoms, outside, sizes)
        for n, r in enumerate(region):
            if r.whole:
                on_data = next((x for x, _ in found if _reads(x.index[n])), None)
                site = on_data or found[0][0]
                text = print_expr(site.index[n], True)
                raise self.unknown(
                    f"`{text}` depends on data" if on_data else f"no box holds `{text}`", site.loc
                )
        if not any(loop.var in array.atoms.names(r.lo) for r in region):
            raise edit.refused(
                "K0347",
                f"cannot prefetch `{array.name}` in the loop `{loop.var}`: its region does not move",
                loop,
                label=f"every iteration touches {' x '.join(print_expr(self.expr(r), True) for r in region)} "
                "cells at the same place",
                help=f"name a loop whose variable stands in an index of `{array.name}`",
            )
        return region

    def unknown(self, why: str, loc: Loc | None) -> ScheduleError:
        name, loop = self.array.name, self.place.loop
        return self.edit.refused(
            "K0347",
            f"cannot prefetch `{name}` in the loop `{loop.var}`: the cells are not known",
            loop,
            loc=loc,
            label=why,
            help="prefetch an array whose indices are sums of loop variables and sizes",
        )


def _reads(e: Expr) -> bool:
    return any(isinstance(x, Load) for x in subexprs(e))
