"""The bridge to isl: formulas over symbols become sets and maps over symbolic sizes.

Sizes and scalar arguments are isl's parameters, loop variables its dimensions; all other symbols are
existential. `islpy` is imported when a `Polyhedra` is made (54 ms).

    points(formulas, dims)   { [dims] : the formulas hold }
    domain(access)           { S[i, j] : the iterations at which the access runs (or more of them) }
    relation(access)         { S[i, j] -> A[x, y] : the cell that it touches there }
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from kdsl.analysis.accesses import Access
from kdsl.analysis.affine import Atom, Form, Formula, all_of, equal, formula_names, symbol
from kdsl.analysis.values import Symbol, Values

MAX_OPERATIONS = 400_000
"""isl's own count; about 50 ms."""

T = TypeVar("T")

Places = dict[str, tuple[Any, int]]
"""The kind and number of each dimension."""


class Polyhedra:
    """Sets over the symbols of one function. `isl` is the module, `params` the parameters, in order."""

    def __init__(self, values: Values) -> None:
        import islpy

        self.isl: Any = islpy
        self.values = values
        self.context: Any = islpy.Context()
        self.params = [s.name for s in values.symbols.values() if is_param(s)]

    def within_limit(self, compute: Callable[[], T], operations: int = MAX_OPERATIONS) -> T | None:
        """The result of `compute`, or None when isl gave up after so many operations."""
        self.context.reset_operations()
        self.context.set_max_operations(operations)
        try:
            return compute()
        except self.isl.Error as e:
            if "maximal number of operations" not in str(e):
                raise
            return None
        finally:
            self.context.set_max_operations(0)
            self.context.reset_operations()

    def points(self, formulas: Iterable[Formula], dims: tuple[str, ...] = ()) -> Any:
        """{ [dims] : all `formulas` hold, for some values of the other symbols }.

        Dimensions are symbols or new names. What is not affine is left out: the set is then too large.
        """
        isl = self.isl
        wanted = list(formulas)
        used = set(dims).union(*[formula_names(f) for f in wanted])
        names = self.values.closure(n for n in used if n in self.values.symbols)
        symbols = sorted((self.values.symbols[n] for n in names), key=lambda s: s.rank)
        others = [s.name for s in symbols if not is_param(s) and s.name not in dims]
        space = isl.Space.create_from_names(self.context, set=[*dims, *others], params=self.params)
        at = {name: (isl.dim_type.param, n) for n, name in enumerate(self.params)}
        at |= {name: (isl.dim_type.set, n) for n, name in enumerate((*dims, *others))}
        result = self._set(all_of(*wanted, *map(_definition, symbols)), space, at)
        return result.project_out(isl.dim_type.set, len(dims), len(others))

    def domain(self, access: Access) -> Any:
        """{ S<id>[iterations] : `access` runs }; exactly so when `access.certain` and nothing is opaque."""
        dims = tuple([loop.name for loop in access.loops])
        return self.points(access.context, dims).set_tuple_name(f"S{access.stmt}")

    def relation(self, access: Access) -> Any:
        """{ S<id>[iterations] -> buffer[cell] }; more cells than that when the index is not affine."""
        isl = self.isl
        loops = tuple([loop.name for loop in access.loops])
        cells = tuple([f"cell{n}" for n in range(len(access.index))])
        equations = [equal(symbol(c) - f) for c, f in zip(cells, access.index) if f.is_affine]
        pairs = self.points([*access.context, *equations], loops + cells)
        relation = isl.Map.from_domain(pairs)
        relation = relation.move_dims(isl.dim_type.out, 0, isl.dim_type.in_, len(loops), len(cells))
        relation = relation.set_tuple_name(isl.dim_type.in_, f"S{access.stmt}")
        return relation.set_tuple_name(isl.dim_type.out, access.site.buffer)

    def _set(self, formula: Formula, space: Any, at: Places) -> Any:
        isl = self.isl
        if isinstance(formula, Atom):
            return self._basic([formula.form], space, at).to_set()
        if formula.kind == "any":
            out = isl.Set.empty(space)
            for part in formula.parts:
                out = out.union(self._set(part, space, at))
            return out
        atoms = [p.form for p in formula.parts if isinstance(p, Atom)]
        out = self._basic(atoms, space, at).to_set()
        for part in formula.parts:
            if not isinstance(part, Atom):
                out = out.intersect(self._set(part, space, at))
        return out

    def _number(self, value: int) -> Any:
        """Python integers beyond 64 bits reach isl as text."""
        return value if abs(value) < 1 << 62 else self.isl.Val.read_from_str(self.context, str(value))

    def _basic(self, forms: list[Form], space: Any, at: Places) -> Any:
        isl = self.isl
        out = isl.BasicSet.universe(space)
        local = isl.LocalSpace.from_space(space)
        present = set(forms)
        for f in forms:
            if not f.is_affine:
                continue
            if -f in present:
                constraint = isl.Constraint.alloc_equality(local)
                present -= {f, -f}
            elif f in present:
                constraint = isl.Constraint.alloc_inequality(local)
            else:
                continue
            for m, c in f.terms.items():
                if m:
                    constraint = constraint.set_coefficient_val(*at[m[0]], self._number(c))
                else:
                    constraint = constraint.set_constant_val(self._number(c))
            out = out.add_constraint(constraint)
        return out


def is_param(s: Symbol) -> bool:
    """Sizes and scalar arguments, and what is fixed with them: known at the call."""
    return s.kind in ("size", "scalar", "fixed")


def _definition(s: Symbol) -> Formula:
    """What holds of a symbol everywhere: its definition, and its range where that is informative."""
    me = symbol(s.name)
    if s.kind in ("loop", "derived"):
        return s.definition
    return all_of(s.definition, Atom(me - s.lo), Atom(-me + s.hi))
