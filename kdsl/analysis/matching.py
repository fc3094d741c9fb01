"""Which instances of a rewritten function are which instances of the original.

A `Copy` relates the iterations of an original leaf to those of a leaf made from it. Data-dependent control is
matched too: an unknown of the one function (a load, a condition) is an unknown of the other when both are the
same expression of the same iterations. Iterations are then compared for every value of the unknowns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kdsl.analysis.affine import Form, Formula, any_of, at_least, equal, formula_names, symbol
from kdsl.analysis.program import Leaf, Program, Unknown, is_unknown
from kdsl.analysis.relations import Relations, names
from kdsl.analysis.shapes import shape
from kdsl.analysis.state import State
from kdsl.analysis.turns import numbered, permuted
from kdsl.analysis.verdict import Origin, Unproved, Violation
from kdsl.analysis.witness import missing, smallest
from kdsl.ir.nodes import Const, Expr, Load, Var
from kdsl.ir.walk import expr_children, subexprs

DIFFERENT = "data decide when it runs, and not visibly as in the original"

Pairs = list[tuple[Form, Form]]


@dataclass(frozen=True)
class Copy:
    """A leaf made from another, of which `dims` and `unknowns` are. `context` holds at the iterations of both
    that belong together.

    `numbers`: where its loops are just those of the original, the place of each among these.
    """

    leaf: Leaf
    context: tuple[Formula, ...]
    dims: tuple[str, ...]
    unknowns: tuple[str, ...]
    numbers: Mapping[str, int] | None
    relations: Relations

    @cached_property
    def relation(self) -> Any:
        """{ [original dims, unknowns] -> [dims] }."""
        return self.relations.relation(self.context, (*self.dims, *self.unknowns), names(self.leaf.dims))

    @cached_property
    def pairs(self) -> Any:
        """{ [original dims] -> [dims] }."""
        if not self.unknowns:
            return self.relation
        return self.relations.relation(self.context, self.dims, names(self.leaf.dims))


@dataclass(frozen=True, slots=True)
class Match:
    """A leaf of the original with its copies. `exact`: no unknowns decide where it runs. `same`: there is one
    copy, which runs at the same points, whatever the order of loops."""

    leaf: Leaf
    copies: tuple[Copy, ...]
    unknowns: tuple[str, ...]
    exact: bool
    same: bool

    @property
    def numbers(self) -> Mapping[str, int]:
        """The number of each loop around the original."""
        return numbered(self.leaf.dims)


@dataclass(slots=True)
class Matching:
    """Matches the leaves of `after` with those of `before`."""

    before: Program
    after: Program
    origins: Mapping[int, Origin]
    relations: Relations
    nested: bool = False
    """Copies may stand under conditions that the original does not have."""

    def matches(self) -> Iterator[tuple[Leaf, tuple[Leaf, ...]]]:
        """Each leaf of the original with the leaves made from it."""
        made: dict[int, list[Leaf]] = {leaf.stmt.id: [] for leaf in self.before.leaves}
        for leaf in self.after.leaves:
            source = self.origin(leaf).stmt
            assert source in made, "each statement comes from one of the original"
            made[source].append(leaf)
        for leaf in self.before.leaves:
            yield leaf, tuple(made[leaf.stmt.id])

    def origin(self, leaf: Leaf) -> Origin:
        """A leaf that is not in `origins` is where it was."""
        return self.origins.get(leaf.stmt.id, Origin(leaf.stmt.id, ()))

    def match(self, leaf: Leaf, made: tuple[Leaf, ...]) -> Match | Unproved:
        """`leaf` with its copies; Unproved when control differs in a way that data decide."""
        unknowns = self.opaque(leaf.context)
        exact = leaf.exact and not unknowns
        copies = []
        for new in made:
            iterations = self.iterations(leaf, new)
            if isinstance(iterations, Unproved):
                return iterations
            context = *new.context, *[equal(symbol(d.name) - f) for d, f in zip(leaf.dims, iterations)]
            own = self.opaque(context)
            exact = exact and new.exact and not own
            identified = self.identify(leaf, unknowns, new, own, context)
            if identified is None:
                return Unproved(DIFFERENT, leaf.stmt.loc)
            context = (*context, *identified)
            renamed = permuted(new.dims, iterations)
            copies.append(Copy(new, context, names(leaf.dims), unknowns, renamed, self.relations))
        return Match(leaf, tuple(copies), unknowns, exact, exact and self.alone(leaf, copies))

    def alone(self, leaf: Leaf, copies: Sequence[Copy]) -> bool:
        """Whether there is one copy at the same points, as can be seen from how both are described."""
        if len(copies) != 1 or copies[0].numbers is None:
            return False
        values = self.relations.values
        before = shape(values, leaf.context, numbered(leaf.dims))
        return before is not None and before == shape(values, copies[0].leaf.context, copies[0].numbers)

    def iterations(self, leaf: Leaf, new: Leaf) -> list[Form] | Unproved:
        """The iterations of `leaf` in terms of the loops around `new`."""
        iters = dict(self.origin(new).iters)
        scope = self.after.scope(new)
        turns = [d for d in new.dims if not d.var]
        out = []
        for d in leaf.dims:
            if not d.var:
                if not turns:
                    return Unproved("it left a `while` loop", leaf.stmt.loc)
                form = symbol(turns.pop(0).name)
            elif d.var in iters:
                form = scope.modular(iters[d.var])
            else:
                value = new.names[d.var]
                assert isinstance(value, Form), "the variable of a loop is an integer"
                form = value
            if not form.is_affine:
                return Unproved(f"`{d.var}` is not affine in the new loops", leaf.stmt.loc)
            out.append(form)
        if turns:
            return Unproved("it entered a `while` loop", leaf.stmt.loc)
        return out

    # ------------------------------------------------------------------ unknowns

    def opaque(self, context: tuple[Formula, ...]) -> tuple[str, ...]:
        """The opaque symbols on which `context` depends, in order of evaluation."""
        symbols = self.relations.values.symbols
        used = self.relations.values.closure(set().union(*[formula_names(f) for f in context]))
        found = [symbols[n] for n in used if is_unknown(symbols[n])]
        return tuple([s.name for s in sorted(found, key=lambda s: s.rank)])

    def identify(
        self,
        leaf: Leaf,
        unknowns: tuple[str, ...],
        new: Leaf,
        own: tuple[str, ...],
        context: tuple[Formula, ...],
    ) -> tuple[Formula, ...] | None:
        """Equations that identify each of the `own` unknowns of `new` with one of `leaf`; None on failure.

        Where copies are `nested`, unknowns without a counterpart are left free.
        """
        found: list[Formula] = []
        free = list(unknowns)
        for name in own:
            if name in free:
                free.remove(name)
                continue
            for other in [*free, *[u for u in unknowns if u not in free and self.constant(u)]]:
                if self.same(other, name, (*context, *found), leaf, new):
                    break
            else:
                if self.nested:
                    continue
                return None
            if other in free:
                free.remove(other)
            found.append(equal(symbol(other) - symbol(name)))
        return tuple(found)

    def constant(self, name: str) -> bool:
        """True when nothing writes what the unknown reads."""
        unknown = self.before.unknowns.get(name)
        if unknown is None:
            return False
        written = {u.buffer.name for leaf in self.before.leaves for u in leaf.uses if u.mode != "read"}
        return not any(isinstance(e, Load) and e.buffer in written for e in subexprs(unknown.expr))

    def same(self, a: str, b: str, context: tuple[Formula, ...], leaf: Leaf, new: Leaf) -> bool:
        """True when the two unknowns are one value, if memory is as it was."""
        pairs: Pairs = []
        divisions = self.relations.values.divisions
        if a in divisions and b in divisions:
            one, two = divisions[a], divisions[b]
            if one.divisor != two.divisor or (a == one.quotient) != (b == two.quotient):
                return False
            pairs.append((one.dividend, two.dividend))
        else:
            first, second = self.before.unknowns.get(a), self.after.unknowns.get(b)
            if first is None or second is None:
                return False
            if not self.alike(first.expr, first, second.expr, second, pairs):
                return False
        differ = any_of(*[part for x, y in pairs for part in (at_least(x - y - 1), at_least(y - x - 1))])
        if not all(x.is_affine and y.is_affine for x, y in pairs):
            return False
        dims = (*names(leaf.dims), *names(new.dims))
        return bool(self.relations.polyhedra.points((*context, differ), dims).is_empty())

    def alike(self, e: Expr, first: Unknown, f: Expr, second: Unknown, pairs: Pairs) -> bool:
        """True when the expressions agree if the `pairs` of forms are equal."""
        if isinstance(e, Load) and isinstance(f, Load):
            if e.buffer != f.buffer or len(e.index) != len(f.index):
                return False
            return all(self.equal_ints(x, first, y, second, pairs) for x, y in zip(e.index, f.index))
        if e.dtype != f.dtype or type(e) is not type(f):
            return False
        if isinstance(e, Var) and isinstance(f, Var):
            x, y = first.names.get(e.name), second.names.get(f.name)
            if isinstance(x, Form) and isinstance(y, Form):
                pairs.append((x, y))
                return True
            return x == y and e.name == f.name
        if isinstance(e, Const):
            return e == f
        if getattr(e, "op", "") != getattr(f, "op", "") or getattr(e, "fn", "") != getattr(f, "fn", ""):
            return False
        inner, other = expr_children(e), expr_children(f)
        return len(inner) == len(other) and all(
            self.equal_ints(x, first, y, second, pairs) for x, y in zip(inner, other)
        )

    def equal_ints(self, e: Expr, first: Unknown, f: Expr, second: Unknown, pairs: Pairs) -> bool:
        """As `alike`; integers without loads are compared by value."""
        if e.dtype.is_int and f.dtype == e.dtype and self.plain(e, first) and self.plain(f, second):
            values = self.relations.values
            x, y = State(values, names=first.names).value(e), State(values, names=second.names).value(f)
            pairs.append((x, y))
            return True
        return self.alike(e, first, f, second, pairs)

    def plain(self, e: Expr, unknown: Unknown) -> bool:
        return all(
            not isinstance(s, Load) and (not isinstance(s, Var) or s.name in unknown.names)
            for s in subexprs(e)
        )

    # ----------------------------------------------------------------- instances

    def complete(self, match: Match) -> Violation | Unproved | None:
        """None when the copies run each instance of the original just once."""
        if match.same:
            return None
        r, leaf = self.relations, match.leaf
        dims = (*names(leaf.dims), *match.unknowns)
        wanted = r.points(leaf.context, dims)
        seen: list[Any] = []
        for copy in match.copies:
            here = copy.relation.domain()
            if not here.is_subset(wanted):
                return self.wrong("added", match, here.subtract(wanted))
            if not copy.relation.is_single_valued():
                return self.wrong("doubled", match, self.twice(copy))
            for other in seen:
                if not here.is_disjoint(other):
                    return self.wrong("doubled", match, here.intersect(other))
            seen.append(here)
        for here in seen:
            wanted = wanted.subtract(here)
        return None if wanted.is_empty() else self.wrong("lost", match, wanted)

    def twice(self, copy: Copy) -> Any:
        """{ original dims : they belong to two iterations of the copy }."""
        same = copy.relation.reverse().apply_range(copy.relation)
        space = same.get_space().domain()
        earlier = same.intersect(self.relations.isl.Map.lex_lt(space))
        return copy.relation.intersect_range(earlier.domain()).domain()

    def wrong(self, kind: Any, match: Match, where: Any) -> Violation | Unproved:
        if not match.exact:
            return Unproved(DIFFERENT, match.leaf.stmt.loc)
        isl = self.relations.isl
        nothing = isl.Set.universe(isl.Space.set_alloc(self.relations.polyhedra.context, 0, 0))
        point = smallest(self.relations, isl.Map.from_domain_and_range(where, nothing))
        return missing(self.relations, kind, point, match.leaf)
