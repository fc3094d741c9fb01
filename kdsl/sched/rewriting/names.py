"""Names of loops and statements in schedules: `"j"`, the copy `"j@1"`, a statement by text or index."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from kdsl.ir.nodes import Body, Loop, Stmt
from kdsl.ir.printer import print_head, print_stmt
from kdsl.sched.rewriting.tree import Place, places

if TYPE_CHECKING:
    from kdsl.sched.edit import Edit


def resolve(edit: Edit, name: str) -> tuple[Place, ...]:
    """The loops that `name` names, in program order; at least one, or refused."""
    stem, at, number = name.partition("@")
    everything = tuple(places(edit.func))
    found = tuple(p for p in everything if p.loop.var == stem)
    if not found:
        known = list(dict.fromkeys(p.loop.var for p in everything))
        close = difflib.get_close_matches(stem, known, n=1, cutoff=0.5)
        listed = ", ".join(f"`{k}`" for k in known)
        raise edit.refused(
            "K0304",
            f"there is no loop `{stem}`",
            label="" if close else "in this kernel",
            notes=[f"the loops are {listed}"] if known else ["this kernel has no loops"],
            help=f'did you mean "{close[0]}"?' if close else "name a loop by its variable",
        )
    if not at:
        return found
    if not number.isdecimal() or int(number) >= len(found):
        last = len(found) - 1
        raise edit.refused(
            "K0304",
            f'there is no loop "{name}"',
            found[0].loop,
            label=f"`{stem}` has {len(found)} {'copy' if len(found) == 1 else 'copies'}",
            help=f'copies count from 0: "{stem}@{last}" is the last one',
        )
    return (found[int(number)],)


def copy_name(edit: Edit, loop: Loop) -> str:
    """The name of one loop: `"j"`, or `"j@1"` where there are several."""
    copies = [p.loop.id for p in places(edit.func) if p.loop.var == loop.var]
    return loop.var if len(copies) == 1 else f"{loop.var}@{copies.index(loop.id)}"


def header(loop: Loop) -> str:
    """`for i in range(N)`, as printed, without the colon."""
    return print_head(loop).rstrip(":")


def statement_index(edit: Edit, loop: Loop, body: Body, stmt: str | int) -> int:
    """The position in `body` of the statement that `stmt` names: by its text as printed, or by its index."""
    if isinstance(stmt, int):
        if not -len(body) <= stmt < len(body):
            raise edit.refused(
                "K0304",
                f"the body of `{loop.var}` has no statement {stmt}",
                loop,
                label=f"its body has {len(body)} {'statement' if len(body) == 1 else 'statements'}",
                help=f"statements count from 0: {len(body) - 1} is the last one",
            )
        return stmt % len(body)
    wanted = _plain(stmt)
    texts = [_plain(print_head(s)) for s in body]
    hits = [
        n for n, (t, s) in enumerate(zip(texts, body)) if wanted in (t, t.rstrip(":"), _plain(print_stmt(s)))
    ]
    if len(hits) == 1:
        return hits[0]
    if hits:
        raise edit.refused(
            "K0305",
            f"`{stmt}` stands {len(hits)} times in the body of `{loop.var}`",
            loop,
            help=f"name it by its index in the body: {hits[0]} or {hits[1]}",
        )
    close = difflib.get_close_matches(wanted, texts, n=1, cutoff=0.3)
    raise edit.refused(
        "K0304",
        f"there is no statement `{stmt}` in the body of `{loop.var}`",
        loop,
        help=f"did you mean `{close[0]}`?" if close else "name it by its text as printed, or by its index",
    )


def _plain(text: str) -> str:
    return " ".join(text.split())


def shown(s: Stmt) -> str:
    """A statement in a message: its first line."""
    return print_head(s).rstrip(":").split("\n", 1)[0]
