"""Answers of the legality engine: None (legal), a `Violation` with a witness, or `Unproved` with a reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
