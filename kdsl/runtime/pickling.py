"""Kernels pickled by value: the text of the function and what it captures."""

from __future__ import annotations

import ast
import hashlib
import importlib
import linecache
import types
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kdsl.frontend_ast.source import KernelSource, lookup
from kdsl.ir.params import Options
from kdsl.source import syntax_tree

State = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Module:
    """A captured module, by name."""

    name: str


def reduce_source(source: KernelSource) -> State:
    """What `rebuild_source` needs, picklable if the captured values are."""
    fn = source.fn
    annotations: dict[str, Any] = {p.name: p.annotation for p in source.params if p.annotation is not None}
    if source.returns is not None:
        annotations["return"] = source.returns
    about = (fn.__name__, fn.__qualname__, fn.__module__, fn.__doc__)
    defaults = (fn.__defaults__, fn.__kwdefaults__)
    captured = dict(_captured(source))
    return source.kind, source.name, source.options, source.text, about, defaults, annotations, captured


def rebuild_source(
    kind: Any,
    name: str,
    options: Options,
    text: str,
    about: tuple[Any, ...],
    defaults: tuple[Any, Any],
    annotations: dict[str, Any],
    captured: dict[str, Any],
) -> KernelSource:
    """The source that `reduce_source` took apart; `linecache` knows its text under a name of its own."""
    filename = f"<kdsl {name} {hashlib.sha256(text.encode()).hexdigest()[:8]}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    indented = text[:1] in " \t"
    tree = syntax_tree("if 1:\n" + text if indented else text)
    if indented:
        assert isinstance(tree.body[0], ast.If)
        tree.body = tree.body[0].body
        ast.increment_lineno(tree, -1)
    node = tree.body[0]
    assert isinstance(node, ast.FunctionDef)
    plain(node)
    scope = {n: importlib.import_module(v.name) if isinstance(v, Module) else v for n, v in captured.items()}
    exec(compile(tree, filename, "exec"), scope)
    fn = scope[node.name]
    assert isinstance(fn, types.FunctionType)
    fn.__name__, fn.__qualname__, fn.__module__, fn.__doc__ = about
    fn.__defaults__, fn.__kwdefaults__ = defaults
    fn.__annotations__ = annotations
    source = KernelSource(fn, kind, name, options)
    source.text = text  # with its decorators, which were not run again
    return source


def plain(node: ast.FunctionDef) -> None:
    """Takes off, in place, what is evaluated when the `def` runs: decorators, annotations, defaults."""
    node.decorator_list = []
    node.returns = None
    a = node.args
    for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs):
        arg.annotation = None
    a.defaults = []
    a.kw_defaults = [None for _ in a.kw_defaults]


def _captured(source: KernelSource) -> Iterator[tuple[str, Any]]:
    """The names that the function reads from outside, with their values."""
    local = set(source.fn.__code__.co_varnames)
    names = {n.id for n in ast.walk(source.node) if isinstance(n, ast.Name)}
    for name in sorted(names - local):
        try:
            value = lookup(source, name, {})
        except KeyError:
            continue
        if name not in source.fn.__globals__ and name not in source.fn.__code__.co_freevars:
            continue  # a built-in function
        yield name, Module(value.__name__) if isinstance(value, types.ModuleType) else value
