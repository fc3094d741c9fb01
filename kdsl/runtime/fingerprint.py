"""A kernel's identity without building its IR: text, annotations, captured values, signature, target, tools.

Two calls with equal fingerprints build the same IR (but for places in the source), so a warm start goes from
the fingerprint to the code. Captured objects whose meaning is not plain give no fingerprint.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import sys
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kdsl.dtypes import ArrayType, DType, Size, TypeVar, constexpr
from kdsl.frontend_ast.signature import ConstArg, Signature
from kdsl.frontend_ast.source import MISSING, KernelSource, lookup
from kdsl.runtime.cache import SCHEMA, DiskCache
from kdsl.target import Target

_TOOLS = ("llvmlite", "islpy")


class NotPlain(Exception):
    """A captured object that a fingerprint cannot stand for."""


def quick_key(
    source: KernelSource, signature: Signature, target: Target, variant: str, cache: DiskCache
) -> str | None:
    """The name of the cache record for this request; None when something captured is not plain."""
    try:
        parts = [*_source(source, ()), *(_argument(a) for a in signature)]
    except NotPlain:
        return None
    parts += [target.fingerprint, variant, *environment(cache)]
    return "call-" + hashlib.sha256("\0".join(parts).encode()).hexdigest()


def environment(cache: DiskCache | None) -> tuple[str, ...]:
    """What all compiled code depends on: the format, kdsl's own sources, Python and the tools."""
    return str(SCHEMA), sources_digest(cache), toolchain()


def _argument(a: Any) -> str:
    if isinstance(a, ConstArg):
        return f"const {_value(a.value, ())}"
    return repr(a)


def _source(source: KernelSource, above: tuple[KernelSource, ...]) -> Iterator[str]:
    """All that decides what `source` means; `above` are the functions that lead to it."""
    if source in above:
        raise NotPlain
    yield from (source.kind, source.name, repr(source.options), source.text)
    for p in source.params:
        yield f"{p.name}: {_value(p.annotation, ())}"
        if above and p.default is not MISSING:
            yield f"= {_value(p.default, ())}"
    yield f"-> {_value(source.returns, ())}"
    for name, attributes in sorted(_captured(source)):
        try:
            value = lookup(source, name, {})
            for attribute in attributes:
                if not isinstance(value, types.ModuleType):
                    break
                value = getattr(value, attribute)
        except (KeyError, AttributeError):
            raise NotPlain from None
        yield f"{name} {attributes} {_value(value, (*above, source))}"


def _captured(source: KernelSource) -> set[tuple[str, tuple[str, ...]]]:
    """What the body reads from outside: (name, attributes that follow), as in `math.pi`."""
    local = set(source.fn.__code__.co_varnames)
    out: set[tuple[str, tuple[str, ...]]] = set()

    def visit(node: ast.AST) -> None:
        attributes: list[str] = []
        inner = node
        while isinstance(inner, ast.Attribute):
            attributes.insert(0, inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            if inner.id not in local:
                out.add((inner.id, tuple(attributes)))
            return
        if isinstance(inner, ast.AnnAssign) and isinstance(inner.annotation, ast.Constant):
            raise NotPlain  # an annotation in quotes: names in it would be missed
        for child in ast.iter_child_nodes(inner):
            visit(child)

    for statement in source.node.body:
        visit(statement)
    return out


def _value(value: Any, above: tuple[KernelSource, ...]) -> str:
    """A text that stands for `value` and its type."""
    match value:
        case None | bool() | int() | float() | str() | np.generic() | DType() | Size() | ArrayType():
            dtype = value.dtype if isinstance(value, ArrayType) else None
            choices = _value(dtype, above) if isinstance(dtype, TypeVar) else ""
            return f"{type(value).__name__} {value!r} {choices}"
        case TypeVar():
            return f"typevar {value.name} {value.choices}"
        case tuple():
            return f"({', '.join(_value(item, above) for item in value)})"
        case types.ModuleType():
            return f"module {value.__name__}"
        case np.ufunc() | np.dtype():
            return f"numpy {value!r}"
        case types.BuiltinFunctionType():
            return f"built-in {value.__module__}.{value.__name__}"
        case _ if value is constexpr or value is Ellipsis:
            return repr(value)
        case type() if issubclass(value, (np.generic, int, float)):
            return f"type {value.__module__}.{value.__qualname__}"
        case _ if value is range or value is np.where:
            return value.__name__
        case _:
            builtin, source = (getattr(value, f"__kdsl_{what}__", None) for what in ("builtin", "source"))
            if isinstance(builtin, str):
                return f"language {builtin}"
            if isinstance(source, KernelSource):
                return "[" + "\0".join(_source(source, above)) + "]"
            raise NotPlain


# ------------------------------------------------------------- tools and sources


@cache
def toolchain() -> str:
    """Python, NumPy's version and the version of each tool, found without importing the tools."""
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
