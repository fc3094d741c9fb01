"""The rules for loops bound to axes of a GPU, for schedules and for lowering alike.

for i in bind(..., "grid.x"):          # work-groups: outermost, each axis once on a path
    for k in range(K):                 # the whole work-group
        for j in bind(range(64), "block.x"):   # invocations: a constant number of them
            ...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

from kdsl.analysis.accesses import breaks
from kdsl.analysis.linear import extent
from kdsl.ir.nodes import Accumulate, Barrier, Body, Continue, If, Loop, Return, Stmt
from kdsl.ir.printer import print_head
from kdsl.ir.walk import stmt_bodies, stmts
from kdsl.source import Loc
from kdsl.target import Limits

AXES = ("x", "y", "z")

Rule = Literal["nesting", "extent", "limit", "exit"]


@dataclass(frozen=True, slots=True)
class Misbound:
    """A loop that is bound against a rule: what is wrong, where, why, and the way out."""

    rule: Rule
    title: str
    loop: Loop
    label: str
    help: str
    notes: tuple[tuple[Loc, str], ...] = ()


def axis_of(s: Stmt) -> str:
    """ "grid.x", "block.y" and so on for a loop that is bound, else ""."""
    return s.mark.axis if isinstance(s, Loop) and s.mark is not None and s.mark.kind == "bind" else ""


def is_grid(s: Stmt) -> bool:
    """Whether `s` is a loop over work-groups."""
    return axis_of(s).startswith("grid")


def is_block(s: Stmt) -> bool:
    """Whether `s` is a loop over the invocations of a work-group."""
    return axis_of(s).startswith("block")


def has_grid(s: Stmt) -> bool:
    """Whether `s` is, or holds, a loop over work-groups."""
    return any(map(is_grid, stmts((s,))))


def has_block(s: Stmt) -> bool:
    """Whether `s` is, or holds, a loop over the invocations of a work-group."""
    return any(map(is_block, stmts((s,))))


def meeting(s: Stmt) -> Accumulate | None:
    """What the invocations of a work-group do together in a nest; None for others."""
    while isinstance(s, Loop) and is_block(s) and len(s.body) == 1:
        s = s.body[0]
    return s if isinstance(s, Accumulate) and s.together else None


def waits(s: Stmt) -> bool:
    """Whether the invocations of a work-group meet in `s` itself."""
    return isinstance(s, Barrier) or (isinstance(s, Accumulate) and s.together)


def misbound(body: Body, limits: Limits, device: str = "") -> Misbound | None:
    """The first loop of `body` that breaks a rule on a device with these limits; None when all is well."""
    return next(_misbound(body, (), limits, device), None)


def _misbound(body: Body, above: tuple[Loop, ...], limits: Limits, device: str) -> Iterator[Misbound]:
    for s in body:
        inside = above
        if isinstance(s, Loop) and axis_of(s):
            yield from _alone(s, above, limits, device)
            inside = (*above, s)
        for inner in stmt_bodies(s):
            yield from _misbound(inner, inside, limits, device)
        if isinstance(s, Loop) and is_block(s) and not any(map(is_block, above)):
            yield from _together(s, limits, device)


def _alone(s: Loop, above: tuple[Loop, ...], limits: Limits, device: str) -> Iterator[Misbound]:
    axis, text = axis_of(s), print_head(s).rstrip(":")
    for outer in above:
        notes = ((outer.loc, f"the loop `{outer.var}` is bound to it"),) if outer.loc else ()
        if axis_of(outer) == axis:
            yield Misbound(
                "nesting",
                f"the loops `{outer.var}` and `{s.var}`, one in the other, are both bound to {axis}",
                s,
                f"{axis} has an iteration of `{outer.var}` already",
                f"bind `{s.var}` to another axis, or collapse the two loops",
                notes,
            )
        elif is_grid(s) and is_block(outer):
            yield Misbound(
                "nesting",
                f"the loop `{s.var}` over work-groups stands inside of `{outer.var}`,"
                " a loop over invocations of one",
                s,
                f"`{text}`",
                f'move it out first: s.reorder("{s.var}", "{outer.var}")',
                notes,
            )
    if leaves(s):
        yield Misbound(
            "exit",
            f"the loop `{s.var}` is bound to {axis}, and an iteration of it may end the loop",
            s,
            "left from inside",
            "write the condition as an `if` around the rest of the body",
        )
    if not is_block(s):
        return
    count = extent(s)
    if count is None:
        yield Misbound(
            "extent",
            f"the loop `{s.var}` is bound to {axis}, and its number of iterations is not a constant",
            s,
            f"`{text}`",
            f'split it, and bind the inner loop: s.split("{s.var}", 64).bind("{s.var}_i", "{axis}")',
        )
        return
    most = limits.block[AXES.index(axis[-1])]
    if count > most:
        yield Misbound(
            "limit",
            f"the loop `{s.var}` has {count} iterations, but {axis} has at most {most}{_on(device)}",
            s,
            f"`{text}`",
            f'split it, and bind the inner loop: s.split("{s.var}", {most})',
        )


def leaves(loop: Loop) -> bool:
    """Whether an iteration of `loop` may end it, or end early."""
    return breaks(loop.body) or _continues(loop.body) or any(isinstance(s, Return) for s in stmts(loop.body))


def escapes(body: Body) -> bool:
    """Whether `body` leaves or continues a loop around it, or ends the kernel."""
    return breaks(body) or _continues(body) or any(isinstance(s, Return) for s in stmts(body))


def _continues(body: Body) -> bool:
    return any(
        isinstance(s, Continue) or (isinstance(s, If) and (_continues(s.then) or _continues(s.orelse)))
        for s in body
    )


def _together(s: Loop, limits: Limits, device: str) -> Iterator[Misbound]:
    """The invocations that the loops of one nest need together."""
    sizes = block_sizes((s,))
    total = prod(sizes.values())
    if total > limits.invocations:
        shape = " x ".join(map(str, sizes.values()))
        yield Misbound(
            "limit",
            f"a work-group would have {shape} = {total} invocations,"
            f" but has at most {limits.invocations}{_on(device)}",
            s,
            f"`{print_head(s).rstrip(':')}`",
            "bind shorter loops: give each invocation more elements",
        )


def block_sizes(body: Body) -> dict[str, int]:
    """For each axis of work-groups that loops of `body` are bound to, in order, the longest such loop."""
    found: dict[str, int] = {}
    for s in stmts(body):
        if isinstance(s, Loop) and is_block(s):
            found[axis_of(s)] = max(found.get(axis_of(s), 1), extent(s) or 1)
    return {a: found[a] for a in sorted(found)}


def _on(device: str) -> str:
    return f" on {device}" if device else " here"
