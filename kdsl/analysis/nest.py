"""Bounds of loops in another order, by isl's AST generator.

for i in range(N):               for j in range(N):
    for j in range(i, N):   ->       for i in range(min(N, j + 1)):
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kdsl.analysis.answers import Question
from kdsl.analysis.conditions import from_ast
from kdsl.dtypes import DType, i64
from kdsl.ir.nodes import Binary, Const, Expr, Var
from kdsl.ir.printer import print_expr
from kdsl.ir.walk import substitute

Bounds = tuple[Expr, Expr]

MAX_OPERATIONS = 400_000
"""isl's own count; about 50 ms."""


def reordered_bounds(
    loops: Sequence[tuple[str, Expr, Expr]], order: Sequence[str], sizes: Sequence[str]
) -> list[Bounds] | None:
    """`lo` and `hi` for each variable of `order`, for loops (variable, lo, hi) of step 1, outermost first.

    The new loops run exactly the same points. None when the bounds are not affine, or when one range a
    loop is not enough.
    """
    question = Question(
        "bounds", repr([(name, print_expr(lo), print_expr(hi)) for name, lo, hi in loops]),
        repr(list(order)), repr(sorted(sizes)),
    )  # fmt: skip
    known = question.recall()
    if known is None:
        bounds = _reordered(loops, order, sizes)
        known = [] if bounds is None else [[_to_json(lo), _to_json(hi)] for lo, hi in bounds]
        question.keep(known)
    return [(_from_json(lo), _from_json(hi)) for lo, hi in known] or None


def _reordered(
    loops: Sequence[tuple[str, Expr, Expr]], order: Sequence[str], sizes: Sequence[str]
) -> list[Bounds] | None:
    import islpy as isl

    # isl knows all names by numbers, so that none is one of its keywords.
    alias = {name: f"d{n}" for n, name in enumerate(order)}
    wanted = _constraints(loops, alias)
    if wanted is None:
        return None
    free = [name for name in alias if name not in order]
    dims = ", ".join(alias[name] for name in order)
    params = f"[{', '.join(alias[name] for name in free)}] -> "
    known = " and ".join(f"{alias[name]} >= 0" for name in free if name in sizes) or "true"
    context = isl.Context()
    context.set_max_operations(MAX_OPERATIONS)
    try:
        found = _generated(isl, context, params, dims, wanted, known)
        bounds = _named(found, alias)
        again = _constraints([(name, lo, hi) for name, (lo, hi) in zip(order, bounds)], dict(alias))
        if len(bounds) != len(order) or again is None:
            return None
        # isl's ifs are left out: the loops must run the same points without them.
        same = isl.Set.read_from_str(context, f"{params}{{ [{dims}] : ({again}) and {known} }}")
        points = isl.Set.read_from_str(context, f"{params}{{ [{dims}] : ({wanted}) and {known} }}")
        return bounds if same.is_equal(points) else None
    except isl.Error as e:
        if "maximal number of operations" not in str(e):
            raise
        return None


def _to_json(e: Expr) -> Any:
    """A bound as data: the sums, quotients, minima and maxima that isl makes."""
    match e:
        case Const(value=value):
            return int(value)
        case Var(name=name):
            return name
        case Binary(op=op, a=a, b=b):
            return [op, _to_json(a), _to_json(b)]
        case _:
            raise AssertionError(f"isl gives no {type(e).__name__}")


def _from_json(data: Any) -> Expr:
    if isinstance(data, list):
        op, a, b = data
        return Binary(op, _from_json(a), _from_json(b))
    return Const(data, i64) if isinstance(data, int) else Var(data, i64)


def _generated(isl: Any, context: Any, params: str, dims: str, wanted: str, known: str) -> list[Bounds]:
    """The loops, over isl's names, that visit the points in order."""
    points = isl.Set.read_from_str(context, f"{params}{{ [{dims}] : ({wanted}) and {known} }}")
    names = dims.split(", ")
    ids = isl.IdList.alloc(context, len(names))
    for name in names:
        ids = ids.add(isl.Id.read_from_str(context, name))
    # "atomic": one loop for each dimension, even where separate ones would need fewer tests.
    options = f"{params}{{ [{dims}] -> atomic[x] : 0 <= x < {len(names)} }}"
    build = isl.AstBuild.from_context(isl.Set.read_from_str(context, f"{params}{{ : {known} }}"))
    build = build.set_iterators(ids).set_options(isl.UnionMap.read_from_str(context, options))
    identity = points.set_tuple_name("S").identity().reset_tuple_id(isl.dim_type.out)
    return _read(build.node_from_schedule_map(isl.UnionMap.from_map(identity)))


def _named(bounds: list[Bounds], alias: dict[str, str]) -> list[Bounds]:
    """`bounds` over the names of which isl knows aliases."""
    back: dict[str, Expr] = {a: Var(name, i64) for name, a in alias.items()}
    return [(substitute(lo, back), substitute(hi, back)) for lo, hi in bounds]


class _Weak(dict[str, DType]):
    """All names are i64."""

    def __missing__(self, name: str) -> DType:
        return i64


def _constraints(loops: Sequence[tuple[str, Expr, Expr]], alias: dict[str, str]) -> str | None:
    """The points of the loops in isl's notation; None when a bound is not affine."""
    out = []
    for name, lo, hi in loops:
        below = [_text(e, alias) for e in _operands(lo, "max")]
        above = [_text(e, alias) for e in _operands(hi, "min")]
        if None in below or None in above:
            return None
        out += [f"{e} <= {alias[name]}" for e in below] + [f"{alias[name]} < {e}" for e in above]
    return " and ".join(out)


def _read(node: Any) -> list[Bounds]:
    """The bounds in a chain of loops, outermost first; shorter when the chain does not go on."""
    found: list[Bounds] = []
    while True:
        kind = node.get_type().name
        if kind == "if_" and not node.if_has_else():
            node = node.if_get_then()
            continue
        if kind != "for_":
            return found
        lo = from_ast(node.for_get_init(), _Weak())
        if node.for_is_degenerate():
            found.append((lo, _next(lo)))
        else:
            step = node.for_get_inc()
            if step.get_type().name != "int" or int(step.int_get_val().to_python()) != 1:
                return found
            cond = node.for_get_cond()
            hi = from_ast(cond.op_get_arg(1), _Weak())
            found.append((lo, _next(hi) if cond.op_get_type().name == "le" else hi))
        node = node.for_get_body()


def _next(e: Expr) -> Expr:
    """`e + 1`, inside `min` and `max`."""
    match e:
        case Binary(op="min" | "max" as op):
            return Binary(op, _next(e.a), _next(e.b))
        case Binary(op="-", b=Const(value=1)):
            return e.a
        case Binary(op="+" | "-" as op, b=Const(value=value)):
            return Binary(op, e.a, Const(int(value) + (1 if op == "+" else -1), i64))
        case Const(value=value):
            return Const(int(value) + 1, i64)
        case _:
            return Binary("+", e, Const(1, i64))


def _operands(e: Expr, op: str) -> list[Expr]:
    if isinstance(e, Binary) and e.op == op:
        return [*_operands(e.a, op), *_operands(e.b, op)]
    return [e]


def _text(e: Expr, alias: dict[str, str]) -> str | None:
    """An affine expression in isl's notation; None when it is not one. New variables get an alias."""
    match e:
        case Const(value=value):
            return str(int(value))
        case Var(name=name, type=t) if t == i64:
            return alias.setdefault(name, f"d{len(alias)}")
        case Binary(op="+" | "-" | "*" as op, a=x, b=y):
            a, b = _text(x, alias), _text(y, alias)
            if a is None or b is None or (op == "*" and not (isinstance(x, Const) or isinstance(y, Const))):
                return None
            return f"({a} {op} {b})"
        case Binary(op="//" | "%" as op, a=x, b=Const(value=divisor)) if divisor > 0:
            a = _text(x, alias)
            if a is None:
                return None
            return f"floor(({a}) / {int(divisor)})" if op == "//" else f"(({a}) mod {int(divisor)})"
        case _:
            return None
