"""A counterexample at small sizes, where a proof over all sizes failed because of products or divisions.

With a number for the size, `i // N` and `i % N` are affine, and the analysis is exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product

from kdsl.analysis.program import Program
from kdsl.analysis.verdict import Unproved, Verdict, Violation
from kdsl.dtypes import i64
from kdsl.ir.nodes import Body, Compare, Condition, Const, Expr, Func, Var
from kdsl.ir.walk import map_stmt, substitute

Fixed = Callable[[Func], Func]
"""Gives a function with numbers for some sizes."""

SMALL = (2, 3, 1, 5)
"""Sizes to try."""

TRIES = 9


def examined(found: Verdict, program: Program, ask: Callable[[Fixed], Verdict]) -> Verdict:
    """`found`, or the violation that `ask` finds at some small sizes where it is not proved."""
    if not isinstance(found, Unproved):
        return found
    names = _multiplied(program)
    for sizes in list(product(SMALL, repeat=len(names)))[: TRIES if names else 0]:
        verdict = ask(partial(fixed, dict(zip(names, sizes))))
        if isinstance(verdict, Violation):
            return verdict
    return found


def _multiplied(program: Program) -> list[str]:
    """Sizes with numbers for which no other is divided by, or multiplied by, a size."""
    values = program.values
    used = values.closure(n for d in values.divisions.values() for n in d.divisor.names())
    names = [s for s in program.func.sizes if s in used]
    for product_ in values.limits:
        for m in product_.terms:
            factors = [values.closure((n,)) for n in m] if len(m) > 1 else []
            free = [f for f in factors if not f & set(names)]
            names += [s for f in free[1:] for s in program.func.sizes if s in f and s not in names]
            if len(free) > 1 and free[0] & free[1]:
                names += [s for s in program.func.sizes if s in free[0] and s not in names]
    return names


def fixed(sizes: dict[str, int], func: Func) -> Func:
    """`func` for calls with these `sizes`; statements keep their ids."""
    numbers: dict[str, Expr] = {name: Const(value, i64) for name, value in sizes.items()}

    def on_body(body: Body) -> Body:
        return tuple([map_stmt(s, lambda e: substitute(e, numbers), on_body) for s in body])

    conditions = [replace(c, expr=substitute(c.expr, numbers)) for c in func.conditions]
    conditions += [Condition(Compare("==", Var(n, i64), e), f"{n} is fixed") for n, e in numbers.items()]
    return replace(func, body=on_body(func.body), conditions=tuple(conditions))
