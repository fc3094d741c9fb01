"""A loop nest as people read it: the text of the IR with short comments, and what changes between two nests.

    for i_o in range((M + 5) // 6):
        B_s: f32[512, 64] @ "local"             # 128 KiB
        ...
    for i_i in unroll(range(6)):                # i_i@1

A comment gives what the line does not tell: the bytes of a local array, and by which name a step means this
copy of a loop alone.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from kdsl.ir.nodes import Alloc, Const, Func, Loop, Stmt
from kdsl.ir.printer import func_lines
from kdsl.ir.walk import stmts

COLUMN = 48
"""Comments stand at this column, or behind longer lines."""


@dataclass(frozen=True, slots=True)
class NestLine:
    """A line of a nest, its comment, and the statement that begins there."""

    text: str
    comment: str = ""
    stmt: Stmt | None = None

    def __str__(self) -> str:
        return f"{self.text:{COLUMN - 2}}  # {self.comment}" if self.comment else self.text


def nest_lines(func: Func) -> list[NestLine]:
    """The lines of a function."""
    names = copy_names(func)
    return [NestLine(line.text, _comment(line.stmt, names), line.stmt) for line in func_lines(func)]


def nest_text(func: Func) -> str:
    """The lines as text, which the IR's parser reads."""
    return "\n".join(map(str, nest_lines(func)))


def copy_names(func: Func) -> dict[int, str]:
    """By the loop's id, the name by which steps mean it alone: `j`, or `j@1` where there are several."""
    loops = [s for s in stmts(func.body) if isinstance(s, Loop)]
    many = Counter(s.var for s in loops)
    seen: Counter[str] = Counter()
    out = {}
    for s in loops:
        out[s.id] = f"{s.var}@{seen[s.var]}" if many[s.var] > 1 else s.var
        seen[s.var] += 1
    return out


COMMENT_BYTES = 1024
"""Smaller arrays are told by their shape."""


def _comment(s: Stmt | None, names: dict[int, str]) -> str:
    match s:
        case Loop() if not names[s.id].endswith("@0") and names[s.id] != s.var:
            return names[s.id]
        case Alloc() if s.shape and all(isinstance(e, Const) for e in s.shape):
            count = s.dtype.bytes
            for e in s.shape:
                count *= max(0, int(e.value)) if isinstance(e, Const) else 0
            return bytes_text(count) if count >= COMMENT_BYTES else ""
        case _:
            return ""


def bytes_text(count: float) -> str:
    """A number of bytes with a unit."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.4g} {unit}"


Sign = Literal[" ", "-", "+"]


def changes(before: Sequence[str], after: Sequence[str]) -> Iterator[tuple[Sign, str]]:
    """The lines of both texts: kept, gone, new. To stand deeper than before is no change."""
    old, new = [line.strip() for line in before], [line.strip() for line in after]
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    for tag, i0, i1, j0, j1 in matcher.get_opcodes():
        if tag == "equal":
            for line in after[j0:j1]:
                yield " ", line
            continue
        for line in before[i0:i1]:
            yield "-", line
        for line in after[j0:j1]:
            yield "+", line


def shortened(lines: Sequence[tuple[Sign, str]], around: int = 1) -> Iterator[tuple[Sign, str]]:
    """Changed lines, so many lines `around` them, and `...` for what is left out."""
    near = {k for n, (sign, _) in enumerate(lines) if sign != " " for k in range(n - around, n + around + 1)}
    left_out = False
    for n, (sign, line) in enumerate(lines):
        if n in near:
            yield sign, line
            left_out = False
        elif not left_out:
            yield " ", line[: len(line) - len(line.lstrip())] + "..."
            left_out = True
