"""A counterexample at small sizes, where a proof over all sizes failed because of divisions by sizes.

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
    values = program.values
    if not isinstance(found, Unproved) or not values.divisions:
        return found
    divisors = values.closure(n for d in values.divisions.values() for n in d.divisor.names())
    names = [s for s in program.func.sizes if s in divisors]
    for sizes in list(product(SMALL, repeat=len(names)))[: TRIES if names else 0]:
        verdict = ask(partial(fixed, dict(zip(names, sizes))))
        if isinstance(verdict, Violation):
            return verdict
    return found


def fixed(sizes: dict[str, int], func: Func) -> Func:
    """`func` for calls with these `sizes`; statements keep their ids."""
    numbers: dict[str, Expr] = {name: Const(value, i64) for name, value in sizes.items()}

    def on_body(body: Body) -> Body:
        return tuple([map_stmt(s, lambda e: substitute(e, numbers), on_body) for s in body])

    conditions = [replace(c, expr=substitute(c.expr, numbers)) for c in func.conditions]
    conditions += [Condition(Compare("==", Var(n, i64), e), f"{n} is fixed") for n, e in numbers.items()]
    return replace(func, body=on_body(func.body), conditions=tuple(conditions))
