"""Which invocation of a work-group owns a cell: the one that subscripts of all accesses lead back to.

T[8 * tx + r, k]    with 0 <= r < 8: dimension 0 in blocks of 8, so that cell (9, k) belongs to tx = 1
T[tx + 64 * r]      with 0 <= tx < 64: dimension 0 cyclic by 64

Where every access of an array follows one such pattern for all axes, no two invocations share a cell.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, product
from typing import Literal

from kdsl.analysis.accesses import Access, Accesses
from kdsl.analysis.affine import Form, conjuncts, symbol
from kdsl.analysis.ranges import Facts, prove
from kdsl.analysis.values import Values


@dataclass(frozen=True, slots=True)
class Share:
    """How an axis takes part in the subscript of a dimension, less what is the same for the work-group:

    block: `size * v + rest` with 0 <= rest < size. cyclic: `v + size * rest` with 0 <= v < size.
    """

    axis: str
    dim: int
    kind: Literal["block", "cyclic"]
    size: int


MOST = 16
"""So many ways are tried for each access."""

Pattern = tuple[Share, ...]
"""A share for each axis; those of one dimension from the outermost to the innermost."""


@dataclass(slots=True)
class Ownership:
    """Questions about the accesses of one dispatch.

    `axes`: for the id of each loop over invocations its axis and number of iterations. `group`: the symbols
    that are the same for all of a work-group during all of its life, besides sizes and scalars.
    """

    accesses: Accesses
    axes: dict[int, tuple[str, int]]
    group: frozenset[str]
    _facts: dict[int, Facts] = field(default_factory=dict)
    _memo: dict[tuple[int, Pattern], tuple[Form, ...] | None] = field(default_factory=dict)

    @property
    def values(self) -> Values:
        return self.accesses.values

    def coordinates(self, access: Access) -> dict[str, tuple[str, int]]:
        """For each axis the symbol of the loop around the access, and its number of iterations."""
        found = [(self.axes[s.id], s.name) for s in access.loops if s.id in self.axes]
        return {axis: (name, count) for (axis, count), name in found}

    def wide(self, accesses: Iterable[Access]) -> list[str]:
        """The axes along which several invocations make one of the accesses."""
        out = {a for x in accesses for a, (_, count) in self.coordinates(x).items() if count > 1}
        return sorted(out)

    def pattern(self, accesses: list[Access], fixed: bool = False) -> Pattern | None:
        """A pattern by which each cell that the accesses touch belongs to one invocation; None when none is
        found. `fixed`: what is the same for the work-group takes no part."""
        long = {axis for axis, count in self.axes.values() if count > 1}
        if any(not long <= self.coordinates(x).keys() for x in accesses):
            return None  # invocations along the other axes do the same
        axes = self.wide(accesses)
        for pattern in self.candidates(accesses, axes):
            bases = {self.base(a, pattern) for a in accesses}
            if len(bases) != 1 or None in bases:
                continue
            (base,) = bases
            if base is not None and (not fixed or all(not f.terms for f in base)):
                return pattern
        return None

    def candidates(self, accesses: list[Access], axes: list[str]) -> Iterator[Pattern]:
        """Patterns that one of the accesses suggests: each has a share for each of the axes."""
        seen: set[Pattern] = set()
        for access in accesses:
            here = self.coordinates(access)
            if any(a not in here for a in axes):
                continue
            choices: list[list[Share]] = [self.shares(access, a, *here[a]) for a in axes]
            for chosen in islice(product(*choices), MOST):
                pattern = tuple(sorted(chosen, key=lambda s: (s.dim, -s.size, s.axis)))
                if pattern not in seen:
                    seen.add(pattern)
                    yield pattern

    def shares(self, access: Access, axis: str, name: str, count: int) -> list[Share]:
        """The ways in which an axis may take part in the subscripts of an access."""
        out: list[Share] = []
        for dim, form in enumerate(access.index):
            factor = form.coefficient(name)
            if factor is None or not factor.is_const or factor.const <= 0:
                continue
            by = factor.const
            rest = [c for m, c in self.varying(form).terms.items() if m != (name,)]
            if by == 1 and rest and all(c % count == 0 or c >= count for c in rest):
                whole = min(rest)
                if all(c % whole == 0 for c in rest) and whole >= count:
                    out.append(Share(axis, dim, "cyclic", whole))
            out.append(Share(axis, dim, "block", by))
        return out

    def varying(self, form: Form) -> Form:
        """The terms that change during the life of a work-group, or between its invocations."""
        return Form({m: c for m, c in form.terms.items() if not self.is_fixed(m)})

    def is_fixed(self, names: Iterable[str]) -> bool:
        kinds = self.values.symbols
        return all(
            n in self.group or kinds[n].kind in ("size", "scalar", "fixed")
            for n in self.values.closure(names)
        )

    def base(self, access: Access, pattern: Pattern) -> tuple[Form, ...] | None:
        """What is left, for each dimension of the pattern, when the access follows it: what is the same for
        the work-group. None when it does not follow it, or that is not proved."""
        key = id(access), pattern
        if key not in self._memo:
            self._memo[key] = self._base(access, pattern)
        return self._memo[key]

    def _base(self, access: Access, pattern: Pattern) -> tuple[Form, ...] | None:
        here = self.coordinates(access)
        facts = self.facts(access)
        out: list[Form] = []
        for dim in sorted({s.dim for s in pattern}):
            form = access.index[dim]
            rest = self.varying(form)
            out.append(form - rest)
            for share in [s for s in pattern if s.dim == dim]:
                if share.axis not in here:
                    return None
                name, count = here[share.axis]
                if share.kind == "block":
                    rest = rest - symbol(name) * share.size
                    if not (prove(rest, facts) and prove(-rest + (share.size - 1), facts)):
                        return None
                    continue
                rest = rest - symbol(name)
                if count > share.size or any(c % share.size for c in rest.terms.values()):
                    return None
                rest = Form({m: c // share.size for m, c in rest.terms.items()})
                if not prove(rest, facts):
                    return None
        return tuple(out)

    def facts(self, access: Access) -> Facts:
        """What is known where an access is made."""
        found = self._facts.get(id(access))
        if found is None:
            found = Facts(self.values).extend([f for part in access.context for f in conjuncts(part)])
            self._facts[id(access)] = found
        return found
