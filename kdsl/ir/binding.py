"""How a call's shapes give the size symbols: one plan, read by the run time and by compiled entries.

Each dimension of each array argument is either solved for one symbol or compared with known ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from kdsl.dtypes import Size
from kdsl.ir.params import ArrayParam, Param


@dataclass(frozen=True, slots=True)
class Bind:
    """`size = (shape[dim] - rest) / coefficient` of parameter number `param`; must divide, and be >= 0.

    `rest` uses symbols bound by earlier steps only. For a bare symbol `rest` is 0 and `coefficient` 1.
    """

    size: str
    param: int
    dim: int
    rest: Size
    coefficient: int


@dataclass(frozen=True, slots=True)
class Match:
    """`shape[dim]` of parameter number `param` must equal `expr`, whose symbols earlier steps bind."""

    param: int
    dim: int
    expr: Size


@dataclass(frozen=True, slots=True)
class BindingPlan:
    """`steps` in order; `unsolved` lists the symbols that no argument's shape determines."""

    steps: tuple[Bind | Match, ...]
    unsolved: tuple[str, ...]


def binding_plan(params: tuple[Param, ...], sizes: tuple[str, ...]) -> BindingPlan:
    """The plan for these parameters: bare symbols are bound first, in call order. Results bind nothing."""
    dims = [
        (number, dim, expr)
        for number, p in enumerate(params)
        if isinstance(p, ArrayParam) and not p.result
        for dim, expr in enumerate(p.shape)
    ]
    steps: list[Bind | Match] = []
    known: set[str] = set()
    left = []
    for number, dim, expr in dims:
        name = expr.symbol
        if name is not None and name not in known:
            steps.append(Bind(name, number, dim, Size({}), 1))
            known.add(name)
        else:
            left.append((number, dim, expr))
    progress = True
    while progress:
        progress = False
        for entry in list(left):
            number, dim, expr = entry
            unknown = [s for s in expr.terms if s not in known]
            if len(unknown) > 1:
                continue
            if unknown:
                coefficient = expr.terms[unknown[0]]
                rest = expr - Size({unknown[0]: coefficient})
                steps.append(Bind(unknown[0], number, dim, rest, coefficient))
                known.add(unknown[0])
            else:
                steps.append(Match(number, dim, expr))
            left.remove(entry)
            progress = True
    return BindingPlan(tuple(steps), tuple(s for s in sizes if s not in known))
