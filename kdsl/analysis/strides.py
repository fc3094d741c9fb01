"""`A[i * N + j]` as the cell (i, j): subscripts that multiply by sizes become several affine ones.

With a stride s, a subscript is s * q + r. When 0 <= r < s is proved for every use of the array, two
subscripts are equal just when their q and r are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from kdsl.analysis.affine import Form, Formula, Monomial, conjuncts, formula_names
from kdsl.analysis.polyhedra import is_param
from kdsl.analysis.program import Leaf, Program, Use, is_plain
from kdsl.analysis.ranges import Facts, prove
from kdsl.analysis.values import Values

RANK = 6
"""Arrays are split into no more dimensions than this."""


def delinearised(program: Program) -> Program:
    """`program` with the subscripts split of those arrays for which that is proved."""
    values = program.values
    found: dict[str, list[Use]] = {}
    for leaf in program.leaves:
        for use in leaf.uses:
            found.setdefault(use.buffer.key, []).append(use)
    split: dict[str, dict[Use, tuple[Form, ...]]] = {}
    for key, uses in found.items():
        if not all(f.is_affine for use in uses for f in use.index):
            indices = _Splitter(values).split({use: use.index for use in uses})
            if indices is not None:
                split[key] = indices
    if not split:
        return program
    return replace(program, leaves=tuple([_rebuilt(values, leaf, split) for leaf in program.leaves]))


def _rebuilt(values: Values, leaf: Leaf, split: dict[str, dict[Use, tuple[Form, ...]]]) -> Leaf:
    uses = []
    for use in leaf.uses:
        indices = split.get(use.buffer.key)
        if indices is not None:
            index = indices[use]
            known = all(is_plain(values, f.names()) for f in index)
            certain = known and leaf.exact and all(is_plain(values, formula_names(f)) for f in use.context)
            use = replace(use, index=index, whole=use.index, exact=certain, exact_cell=known)
        uses.append(use)
    return replace(leaf, uses=tuple(uses))


class _Splitter:
    def __init__(self, values: Values) -> None:
        self.values = values
        self._facts: dict[tuple[Formula, ...], Facts] = {}

    def split(self, indices: dict[Use, tuple[Form, ...]]) -> dict[Use, tuple[Form, ...]] | None:
        """The affine subscripts of each use; None when that is not proved."""
        while True:
            forms = list(indices.values())
            rank = len(forms[0])
            at = next((n for n in range(rank) for index in forms if not index[n].is_affine), None)
            if at is None:
                return indices
            if rank == RANK:
                return None
            stride = self.stride(index[at] for index in forms)
            if stride is None:
                return None
            for use, index in indices.items():
                parts = self.parts(index[at], stride, use)
                if parts is None:
                    return None
                indices = {**indices, use: (*index[:at], *parts, *index[at + 1 :])}

    def stride(self, forms: Iterable[Form]) -> Monomial | None:
        """The longest product of parameters that multiplies something."""
        best: Monomial = ()
        for form in forms:
            for m in form.terms:
                factors = tuple([n for n in m if is_param(self.values.symbols[n])])
                if len(factors) == len(m):
                    factors = factors[:-1]
                if len(m) > 1 and len(factors) > len(best):
                    best = factors
        return best or None

    def parts(self, form: Form, stride: Monomial, use: Use) -> tuple[Form, Form] | None:
        """(q, r) of one subscript."""
        quotient: dict[Monomial, int] = {}
        rest: dict[Monomial, int] = {}
        for m, c in form.terms.items():
            left = list(m)
            for factor in stride:
                if factor not in left:
                    rest[m] = c
                    break
                left.remove(factor)
            else:
                quotient[tuple(left)] = c
        q, r = Form(quotient), Form(rest)
        facts = self.facts(use.context)
        inside = prove(r, facts) and prove(Form({stride: 1}) - 1 - r, facts)
        return (q, r) if inside else None

    def facts(self, context: tuple[Formula, ...]) -> Facts:
        if context not in self._facts:
            self._facts[context] = Facts(self.values).extend([f for c in context for f in conjuncts(c)])
        return self._facts[context]
