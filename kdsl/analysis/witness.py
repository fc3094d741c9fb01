"""The smallest counterexample, and how it reads.

Smallest: least sum of sizes (absolute values of scalar arguments included), then least sizes, then least
iterations, compared from the outside in.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from kdsl.analysis.program import Leaf, Use
from kdsl.analysis.relations import Relations
from kdsl.analysis.verdict import Violation, ViolationKind
from kdsl.ir.nodes import Accumulate, Atomic
from kdsl.source import Loc


@dataclass(frozen=True, slots=True)
class Point:
    """One member of a relation: parameters by name, then the values of its two tuples."""

    sizes: dict[str, int]
    first: tuple[int, ...]
    second: tuple[int, ...]


def smallest(relations: Relations, pairs: Any) -> Point:
    """The smallest member of the map `pairs`, which has one. Sizes are bounded below, iterations too."""
    isl, symbols = relations.isl, relations.values.symbols
    params = [n for n in relations.polyhedra.params if symbols[n].kind != "fixed"]
    split = pairs.dim(isl.dim_type.in_)
    members = pairs.wrap().flatten()
    for n, name in enumerate(params):
        at = members.find_dim_by_name(isl.dim_type.param, name)
        if at < 0:
            members = members.insert_dims(isl.dim_type.set, n, 1)
        else:
            members = members.move_dims(isl.dim_type.set, n, isl.dim_type.param, at, 1)
    # In front: the sum, and the absolute values of parameters that may be negative.
    signed = [n for n, name in enumerate(params) if symbols[name].lo < 0]
    front, count = 1 + len(signed), members.dim(isl.dim_type.set)
    space = isl.Space.alloc(relations.polyhedra.context, 0, count, front + count)
    local = isl.LocalSpace.from_space(space)
    ranked = isl.BasicMap.universe(space)
    for n in range(count):
        ranked = ranked.equate(isl.dim_type.in_, n, isl.dim_type.out, front + n)

    def constrain(terms: dict[int, int], equality: bool) -> None:
        nonlocal ranked
        make = isl.Constraint.alloc_equality if equality else isl.Constraint.alloc_inequality
        constraint = make(local)
        for at, c in terms.items():
            constraint = constraint.set_coefficient_val(isl.dim_type.out, at, c)
        ranked = ranked.add_constraint(constraint)

    total = {0: -1}
    for n in range(len(params)):
        if n in signed:
            size = 1 + signed.index(n)
            constrain({size: 1, front + n: 1}, False)
            constrain({size: 1, front + n: -1}, False)
            total[size] = 1
        else:
            constrain({front + n: 1}, False)
            total[front + n] = 1
    constrain(total, True)
    members = members.apply(isl.Map.from_basic_map(ranked))
    # Piece by piece and one dimension after the other: isl goes wrong on unions with empty pieces.
    pieces = [piece.to_set() for piece in members.get_basic_sets()]
    values: list[int] = []
    for n in range(front + count):
        pieces = [piece for piece in pieces if not piece.is_empty()]
        values.append(min([int(piece.dim_min_val(n).to_python()) for piece in pieces]))
        pieces = [piece.fix_val(isl.dim_type.set, n, values[-1]) for piece in pieces]
    rest = values[front:]
    found = rest[len(params) :]
    return Point(dict(zip(params, rest)), tuple(found[:split]), tuple(found[split:]))


def at_point(relations: Relations, relation: Any, sizes: dict[str, int], dims: tuple[int, ...]) -> Any:
    """The image under `relation` of one iteration at given sizes."""
    isl = relations.isl
    for name, value in sizes.items():
        at = relation.find_dim_by_name(isl.dim_type.param, name)
        if at >= 0:
            relation = relation.fix_val(isl.dim_type.param, at, value)
    for n, value in enumerate(dims):
        relation = relation.fix_val(isl.dim_type.in_, n, value)
    return relation.range()


def cell_of(
    relations: Relations, point: Point, source: tuple[Leaf, Use], target: tuple[Leaf, Use]
) -> tuple[int, ...]:
    """The subscripts (without hidden ones) of a cell in which the two uses of `point` meet."""
    isl = relations.isl
    first = at_point(relations, relations.cells(*source), point.sizes, point.first)
    second = at_point(relations, relations.cells(*target), point.sizes, point.second)
    found = first.intersect(second).sample_point()
    hidden = len(source[1].buffer.hidden)
    leaf, use = source
    env = {**point.sizes, **{d.name: v for d, v in zip(leaf.dims, point.first)}}
    if use.whole and all(f.names() <= env.keys() for f in use.whole):
        return tuple([sum(c * prod([env[n] for n in m]) for m, c in f.terms.items()) for f in use.whole])
    return tuple(
        int(found.get_coordinate_val(isl.dim_type.set, n).to_python())
        for n in range(hidden, hidden + len(source[1].index))
    )


def kind_of(first: Use, second: Use) -> ViolationKind:
    """The kind of the dependence from `first` to `second`."""
    if first.mode == "read":
        return "anti"
    return "flow" if second.mode == "read" else "output"


def violation(
    relations: Relations,
    point: Point,
    source: tuple[Leaf, Use],
    target: tuple[Leaf, Use],
    shown: int,
    reordered: bool,
) -> Violation:
    """The dependence at `point` as a counterexample. The text leaves out the first `shown` loops."""
    (leaf, first), (other, second) = source, target
    cell = cell_of(relations, point, source, target)
    kind = kind_of(first, second)
    what = cell_text(first.buffer.name, cell)
    a, b = iterations(leaf, point.first), iterations(other, point.second)
    left, right = spelled(leaf, point.first, shown), spelled(other, point.second, shown)
    sizes = sizes_text(point.sizes)
    if reordered:
        text = _reordered(leaf, other, first, second, left, right, what)
    elif first.buffer.dtype is None:
        text = _virtual(first, second, left, right)
    elif kind == "output":
        text = f"iterations {left} and {right} both write {what}"
    elif kind == "flow":
        text = f"iteration {left} writes {what}, which iteration {right} reads"
    else:
        text = f"iteration {left} reads {what}, which iteration {right} writes"
    return Violation(
        kind, first.loc, second.loc, dict(point.sizes), a, b, first.buffer.name, cell, text + sizes
    )


def _virtual(first: Use, second: Use, left: str, right: str) -> str:
    if first.buffer.name == "print":
        return f"iterations {left} and {right} both print"
    if first.mode == "read":
        return f"iteration {right} may leave the loop that iteration {left} is in"
    return f"iteration {left} may end the loop before iteration {right}"


def _reordered(a: Leaf, b: Leaf, first: Use, second: Use, left: str, right: str, what: str) -> str:
    verbs = {"read": "reads", "write": "writes", "update": "updates"}
    if first.buffer.dtype is None:
        what = {"print": "the output"}.get(first.buffer.name, "the flow of control")
    left, right = (f" at {left}" if left else ""), (f" at {right}" if right else "")
    source, target = place(a, first.loc), place(b, second.loc)
    other = "" if a is b and source == target else f"{target or 'another statement'} "
    done, then = verbs[first.mode], verbs[second.mode]
    source = source or "the statement"
    return f"{source} {done} {what}{left}, then {other}{then} it{right}; the new order is the reverse"


def place(leaf: Leaf, loc: Loc | None) -> str:
    """`line 6`, or "" where no place is known."""
    loc = loc or leaf.stmt.loc
    return f"line {loc.line}" if loc else ""


def missing(relations: Relations, kind: ViolationKind, point: Point, leaf: Leaf) -> Violation:
    """An instance of `leaf` (in `point.first`) that runs too seldom or too often."""
    says = {
        "lost": "would no longer run",
        "added": "would run, but does not in the original",
        "doubled": "would run twice",
    }[kind]
    at = spelled(leaf, point.first, 0)
    name = type(leaf.stmt).__name__.lower()
    if isinstance(leaf.stmt, (Accumulate, Atomic)):
        name = "update"
    who = f"the {name}" + (f" of {place(leaf, None)}" if place(leaf, None) else "")
    text = f"{who}{f' at {at}' if at else ''} {says}{sizes_text(point.sizes)}"
    where = iterations(leaf, point.first)
    return Violation(kind, leaf.stmt.loc, leaf.stmt.loc, dict(point.sizes), where, where, "", (), text)


def iterations(leaf: Leaf, values: tuple[int, ...]) -> dict[str, int]:
    """The loop variables of the source at one instance."""
    return {d.var: v for d, v in zip(leaf.dims, values) if d.var}


def spelled(leaf: Leaf, values: tuple[int, ...], skip: int) -> str:
    """`i=0, j=1`, without the first `skip` loops."""
    pairs = list(zip(leaf.dims, values))[skip:]
    return ", ".join(f"{d.var}={v}" for d, v in pairs if d.var)


def cell_text(name: str, cell: tuple[int, ...]) -> str:
    """`C[0, 0]`; a scalar by its name."""
    return f"{name}[{', '.join(map(str, cell))}]" if cell else name


def sizes_text(sizes: dict[str, int]) -> str:
    """` (M=1, N=2)`."""
    return f" ({', '.join(f'{k}={v}' for k, v in sizes.items())})" if sizes else ""
