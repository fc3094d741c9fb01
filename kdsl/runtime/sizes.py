"""The size symbols of a call, from the shapes of its arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kdsl.dtypes import Size
from kdsl.errors import ArgumentError
from kdsl.ir.binding import Bind, BindingPlan, Match
from kdsl.ir.params import Param
from kdsl.source import Loc

Shape = tuple[int, ...]


def bind_sizes(
    kernel: str, params: Sequence[Param], plan: BindingPlan, shapes: Mapping[int, Shape]
) -> dict[str, int]:
    """The value of each symbol; `shapes` maps an array parameter's number to its argument's shape.

    Raises ArgumentError where shapes and annotations contradict each other.
    """
    sizes: dict[str, int] = {}
    origin: dict[str, str] = {}
    for step in plan.steps:
        p = params[step.param]
        extent = shapes[step.param][step.dim]
        place = f"{p.name}.shape[{step.dim}]"
        match step:
            case Bind():
                value, rest = divmod(extent - step.rest.evaluate(sizes), step.coefficient)
                if rest or value < 0:
                    expr = step.rest + Size({step.size: step.coefficient})
                    raise ArgumentError(
                        "K0406",
                        f"{place} is {extent}, but no {step.size} >= 0 makes {expr} that",
                        loc=p.loc,
                        label=_known(expr, sizes, origin),
                        help=f"pass `{p.name}` with a dimension {step.dim} of the form {expr}",
                    )
                sizes[step.size] = value
                origin[step.size] = (
                    place if step.coefficient == 1 and step.rest == 0 else f"{place} = {extent}"
                )
            case Match(expr=expr):
                wanted = expr.evaluate(sizes)
                if wanted != extent:
                    raise _mismatch(kernel, p.name, p.loc, place, extent, expr, wanted, sizes, origin)
    return sizes


def _mismatch(
    kernel: str,
    name: str,
    loc: Loc | None,
    place: str,
    extent: int,
    expr: Size,
    wanted: int,
    sizes: Mapping[str, int],
    origin: Mapping[str, str],
) -> ArgumentError:
    symbol = expr.symbol
    if symbol is not None:
        title = f"{symbol} is {wanted} from {origin[symbol]} but {extent} from {place}"
        return ArgumentError(
            "K0406",
            title,
            loc=loc,
            help=f"{symbol} is one size in all of {kernel}: pass arrays that agree in it",
        )
    return ArgumentError(
        "K0406",
        f"{place} is {extent}, expected {wanted}" + (f" = {expr}" if expr.terms else ""),
        loc=loc,
        label=_known(expr, sizes, origin),
        help=f"pass `{name}` with {wanted} elements in that dimension",
    )


def _known(expr: Size, sizes: Mapping[str, int], origin: Mapping[str, str]) -> str:
    """Where the symbols of `expr` that are bound already come from."""
    return ", ".join(f"{s} is {sizes[s]} from {origin[s]}" for s in expr.terms if s in sizes)
