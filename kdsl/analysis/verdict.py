"""Answers of the legality engine: None (legal), a `Violation` with a witness, or `Unproved` with a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from kdsl.ir.nodes import Expr
from kdsl.source import Loc

ViolationKind = Literal[
    "flow",
    "anti",
    "output",
    "lost",
    "added",
    "doubled",
    "feeds",
    "unwritten",
    "elsewhere",
    "changed",
    "twice",
]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a statement of a rewritten function comes from.

    `stmt` is the id of the statement of which it runs some instances; `iters` gives each loop variable around
    that statement (by name, outermost first) as an expression over the new loop variables.
    """

    stmt: int
    iters: tuple[tuple[str, Expr], ...]


@dataclass(frozen=True, slots=True)
class Violation:
    """A counterexample: at these `sizes` (scalar arguments included) the two instances meet in one cell.

    `flow`: `first` writes what `second` reads; `anti`: reads what it writes; `output`: both write.
    `lost`, `added`, `doubled`: one instance (given twice) runs too seldom or too often; then `buffer` is
    "" and `cell` empty. For what is computed again: an element `feeds` on others, is `unwritten` or written
    `elsewhere` when it is read, is written `twice`, or an operand is `changed` meanwhile; `cell` is empty.
    Iterations are those of the loops of the source, by name, outermost first.
    `text` says it in one clause, for a label.
    """

    kind: ViolationKind
    first: Loc | None
    second: Loc | None
    sizes: dict[str, int]
    first_iter: dict[str, int]
    second_iter: dict[str, int]
    buffer: str
    cell: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Unproved:
    """Neither proved nor refuted: `reason` is a clause, `help` the way out (may be "")."""

    reason: str
    loc: Loc | None
    help: str = ""


Verdict = Violation | Unproved | None


def to_json(verdict: Violation | Unproved, places: Sequence[Loc]) -> Any:
    """A refusal as data, its lines by their number in `places`; None when one is not there."""
    match verdict:
        case Unproved(loc=loc):
            at = _numbers((loc,), places)
            return at and {"unproved": asdict(replace(verdict, loc=None)), "at": at}
        case Violation(first=first, second=second):
            at = _numbers((first, second), places)
            return at and {"violation": asdict(replace(verdict, first=None, second=None)), "at": at}


def from_json(data: Any, places: Sequence[Loc]) -> Violation | Unproved:
    """The refusal that `to_json` made into `data`."""
    at = [None if n is None else places[n] for n in data["at"]]
    if "unproved" in data:
        return replace(Unproved(**data["unproved"]), loc=at[0])
    found = data["violation"]
    return replace(Violation(**{**found, "cell": tuple(found["cell"])}), first=at[0], second=at[1])


def _numbers(locs: Sequence[Loc | None], places: Sequence[Loc]) -> list[int | None] | None:
    if any(loc is not None and loc not in places for loc in locs):
        return None
    return [None if loc is None else places.index(loc) for loc in locs]
