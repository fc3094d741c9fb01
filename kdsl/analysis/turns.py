"""Which instances of two statements change places, told from the loops around them: no points are computed.

    for i:                       for j:
        for j:                       for i:
            S               ->           S
            T                            T

Here an instance x of S that came before an instance y of T comes after it only where y.i > x.i and
y.j < x.j: one *turn*, signs of y - x for pairs of loops. Most statements have no turn, and where subscripts
say that two uses of a cell have other signs, they need not be looked at: `A[i, j]` is `A[i, j]` again where
both differences are 0. All this wherever the loops of the new program are loops of the old one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from kdsl.analysis.affine import Form, Monomial, symbol
from kdsl.analysis.polyhedra import is_param
from kdsl.analysis.program import Dim, Place, Use
from kdsl.analysis.relations import Relations
from kdsl.analysis.values import Values

Pair = tuple[int, int]
"""A loop around the first statement and one around the second, by their numbers in the old program."""

Turn = dict[Pair, int]
"""For pairs of loops the sign of second - first."""

Numbers = Mapping[str, int]
"""The number of each loop, by its symbol."""


def numbered(dims: Sequence[Dim]) -> dict[str, int]:
    """The place of each loop."""
    return {d.name: n for n, d in enumerate(dims)}


def permuted(dims: Sequence[Dim], iterations: Sequence[Form]) -> dict[str, int] | None:
    """Where the loops of a new statement are those of the old one: the number of each among these.

    `iterations`: the variables of the old loops in terms of the new ones. None: loops were cut or merged.
    """
    places = {f: n for n, f in enumerate(iterations)}
    found = {d.name: places.get(symbol(d.name), -1) for d in dims}
    return found if len(places) == len(iterations) == len(dims) and -1 not in found.values() else None


@dataclass(frozen=True, slots=True)
class Order:
    """How two instances are ordered: by the first of these loops in which they differ, in its direction; if
    in none, by `last`: 1 when the first statement comes first, -1 when the second one does, else 0."""

    loops: tuple[tuple[Pair, int], ...]
    last: int

    def cases(self, sign: int) -> Iterator[Turn]:
        """When the first instance comes earlier (`sign` 1) or later (-1)."""
        same: Turn = {}
        for pair, direction in self.loops:
            yield {**same, pair: direction * sign}
            same[pair] = 0
        if self.last == sign:
            yield same


def order(first: Place, mine: Numbers, second: Place, theirs: Numbers) -> Order | None:
    """The order of instances at two places; None where it is not one of loops."""
    loops: dict[Pair, int] = {}
    for a, b in zip_longest(first, second, fillvalue=0):
        if isinstance(a, int) and isinstance(b, int):
            if a != b:
                return Order(tuple(loops.items()), 1 if a < b else -1)
        elif isinstance(a, Dim) and a == b and a.direction:
            loops[mine[a.name], theirs[a.name]] = a.direction
        else:
            return None
    return Order(tuple(loops.items()), 0)


def turns(before: Order, after: Order) -> list[Turn]:
    """Where instances are in another order `after` than `before`."""
    out = []
    for sooner in before.cases(1):
        for later in after.cases(-1):
            both = {**later, **sooner}
            if all(both[pair] == sign for pair, sign in later.items()):
                out.append(both)
    return out


def signs(values: Values, first: Use, mine: Numbers, second: Use, theirs: Numbers) -> Turn | None:
    """What must be true of the loops of two uses of one buffer where they are of one cell; None: they never
    are. What is said by single loops and parameters alone."""
    found: Turn = {}
    for a, b in zip(subscripts(first), subscripts(second)):
        gap = _gap(values, a, mine, b, theirs)
        if gap is None:
            continue
        pair, distance = gap
        sign = (distance > 0) - (distance < 0)
        if pair is None:
            if sign:
                return None
        elif found.setdefault(pair, sign) != sign:
            return None
    return found


def subscripts(use: Use) -> tuple[Form, ...]:
    """All subscripts of a use, those that a local has for the loops around it included."""
    return *[symbol(d.name) for d in use.buffer.hidden], *use.index


def _gap(values: Values, a: Form, mine: Numbers, b: Form, theirs: Numbers) -> tuple[Pair | None, int] | None:
    """The two loops whose difference the equation a = b gives, and that difference (without loops, 0 where it
    is true). None: the equation says nothing so simple."""
    first, second = _parts(values, a, mine), _parts(values, b, theirs)
    if first is None or second is None:
        return None
    gap = first.rest - second.rest
    if not gap.is_const or first.factor != second.factor:
        return None
    if not first.factor:
        return None, gap.const
    distance, left = divmod(gap.const, first.factor)
    return (None, 1) if left else ((first.loop, second.loop), distance)


@dataclass(frozen=True, slots=True)
class _Parts:
    """factor * loop + rest, the rest the same during the whole call; without a loop the factor is 0."""

    loop: int
    factor: int
    rest: Form


def _parts(values: Values, form: Form, numbers: Numbers) -> _Parts | None:
    loop, factor = -1, 0
    rest: dict[Monomial, int] = {}
    for m, c in form.terms.items():
        if len(m) > 1:
            return None
        if all(is_param(values.symbols[n]) for n in m):
            rest[m] = c
        elif factor or m[0] not in numbers:
            return None
        else:
            loop, factor = numbers[m[0]], c
    return _Parts(loop, factor, Form(rest))


def turned_map(relations: Relations, turn: Turn, sizes: tuple[int, int]) -> Any:
    """{ [loops of the first] -> [loops of the second] : the signs are these }."""
    isl = relations.isl
    out = isl.Map.universe(isl.Space.alloc(relations.polyhedra.context, 0, *sizes))
    ways = {0: "equate", 1: "order_lt", -1: "order_gt"}
    for (a, b), sign in turn.items():
        out = getattr(out, ways[sign])(isl.dim_type.in_, a, isl.dim_type.out, b)
    return out
