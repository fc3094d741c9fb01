"""What compiled code depends on, as one hash: the IR, the target, kdsl's own sources and the tools.

Source locations are not part of it: an artifact's tables refer to the n-th place of the IR it was made from,
and are resolved against the IR at hand. So an edit above a kernel neither costs a compilation nor leaves old
line numbers in messages.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from kdsl.ir.nodes import Expr, Func, Stmt
from kdsl.ir.printer import print_func
from kdsl.ir.walk import expr_children, stmt_bodies, stmt_exprs
from kdsl.runtime.cache import SCHEMA, DiskCache
from kdsl.source import Loc
from kdsl.target import Target

TABLE_SCHEMA = 1
"""Raised when the header of an entry changes its meaning."""

_TOOLS = ("llvmlite", "islpy")


@dataclass(frozen=True, slots=True)
class Places:
    """The distinct source places of a Func in the order of a walk; `pattern` says which nodes share one."""

    locs: tuple[Loc, ...]
    pattern: str

    @staticmethod
    def of(func: Func) -> Places:
        """Walks parameters, conditions and body."""
        numbers: dict[Loc, int] = {}
        pattern: list[str] = []

        def place(loc: Loc | None) -> None:
            pattern.append("-" if loc is None else str(numbers.setdefault(loc, len(numbers))))

        def expr(e: Expr) -> None:
            place(e.loc)
            for child in expr_children(e):
                expr(child)

        def stmt(s: Stmt) -> None:
            place(s.loc)
            for e in stmt_exprs(s):
                expr(e)
            for body in stmt_bodies(s):
                for nested in body:
                    stmt(nested)

        place(func.loc)
        for p in func.params:
            place(p.loc)
        for c in func.conditions:
            place(c.loc)
            expr(c.expr)
        for s in func.body:
            stmt(s)
        return Places(tuple(numbers), " ".join(pattern))

    def number(self, loc: Loc | None) -> int | None:
        """Where `loc` stands in `locs`; None for a place that is not the user's."""
        return self.locs.index(loc) if loc in self.locs else None

    def loc(self, number: int | None) -> Loc | None:
        """The place with this number."""
        return None if number is None else self.locs[number]


def code_key(func: Func, places: Places, target: Target, cache: DiskCache | None, variant: str) -> str:
    """The cache key of `func`, as the front end built it, on `target`; `variant`: what else is asked for."""
    parts = (
        f"{SCHEMA}.{TABLE_SCHEMA}",
        print_func(func),
        repr(func.options),
        places.pattern,
        target.fingerprint,
        variant,
        sources_digest(cache),
        toolchain(),
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@cache
def toolchain() -> str:
    """Python, NumPy's ABI and the version of each tool, found without importing the tools."""
    parts = [sys.implementation.cache_tag or "", np.__version__, str(sys.maxsize), sys.platform]
    for tool in _TOOLS:
        spec = importlib.util.find_spec(tool)
        if spec is not None and spec.origin is not None:
            module = Path(spec.origin)
            candidates = (module.with_name("_version.py"), module.with_name("version.py"), module)
            path = next(p for p in candidates if p.exists())
            parts.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return " ".join(parts)


@cache
def sources_digest(cache: DiskCache | None) -> str:
    """A hash of the text of kdsl's own modules; `cache` remembers it for their (path, time, size)."""
    root = Path(__file__).parents[1]
    files = sorted(_own_files(str(root)))
    stamp = hashlib.sha256(repr(files).encode()).hexdigest()
    known = cache.load(f"sources-{stamp}") if cache is not None else None
    if known is not None:
        return str(known.header["digest"])
    digest = hashlib.sha256()
    for path, _, _ in files:
        digest.update(f"{Path(path).relative_to(root)}\0".encode() + Path(path).read_bytes() + b"\0")
    if cache is not None:
        cache.store(f"sources-{stamp}", {"digest": digest.hexdigest()})
    return digest.hexdigest()


def _own_files(folder: str) -> list[tuple[str, int, int]]:
    """(path, modification time in ns, size) of each module below `folder`."""
    out = []
    with os.scandir(folder) as found:
        for entry in found:
            if entry.is_dir():
                out += _own_files(entry.path)
            elif entry.name.endswith(".py"):
                status = entry.stat()
                out.append((entry.path, status.st_mtime_ns, status.st_size))
    return out
