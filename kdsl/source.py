"""Where a piece of IR came from: a range of the user's Python source, how it is read and how to show it.

A `Loc` rides on every IR node and reaches every error. Lines are 1-based, columns are
0-based and count characters, as in `ast` (after conversion from UTF-8 offsets).
"""

from __future__ import annotations

import ast
import linecache
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Loc:
    """The range `[line:col, end_line:end_col)` of the file `filename`."""

    filename: str
    line: int
    col: int = 0
    end_line: int = 0
    end_col: int = 0

    def __str__(self) -> str:
        return f"{display_name(self.filename)}:{self.line}"

    def text(self) -> str:
        """The first source line of the range, without its line end (empty when the source is gone)."""
        return linecache.getline(self.filename, self.line).rstrip("\r\n")


def syntax_tree(text: str, mode: str = "exec") -> Any:
    """`ast.parse`, in several threads at once.

    CPython 3.11 and 3.12 count the depth of a tree in one place for all threads, and say SystemError when
    they switch at the wrong moment (an object's finaliser that runs meanwhile is enough).
    """
    for _ in range(ATTEMPTS - 1):
        try:
            return ast.parse(text, mode=mode)
        except SystemError:
            continue
    return ast.parse(text, mode=mode)


def display_name(filename: str) -> str:
    """The file's last component: messages stay the same wherever the project lies."""
    return filename if filename.startswith("<") else PurePath(filename).name


def excerpt(loc: Loc, label: str = "") -> list[str]:
    """The source line of `loc` with carets under the range and `label` behind them.

    ```
    13 |         for k in range(K):
       |             ^ the label
    ```
    Only the first line of a range over several lines is shown. Tabs are kept, so that the
    carets line up in any viewer.
    """
    text = loc.text()
    gutter = str(loc.line)
    blank = " " * len(gutter)
    if not text:
        return [f"{gutter} | (source not available)"] + ([f"{blank} | {label}"] if label else [])
    end = loc.end_col if loc.end_line == loc.line and loc.end_col > loc.col else len(text)
    lead = "".join("\t" if c == "\t" else " " for c in text[: loc.col])
    carets = "^" * max(1, min(end, len(text)) - loc.col)
    return [f"{gutter} | {text}".rstrip(), f"{blank} | {lead}{carets} {label}".rstrip()]
