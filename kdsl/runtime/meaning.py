"""The syntax tree of a kernel as `kernel.py` runs it: the same lines, with four things spelled out.

    A[-1]            ->  A[__kdsl_from_end(-1)]        constant indices may count from the end
    a // b, a % b    ->  __kdsl_floordiv(a, b)         integer division by zero raises for NumPy scalars too
    m: f32 = 0       ->  m = __kdsl_type_m(0)          a declared name keeps its type in all assignments
    m += x           ->  m = __kdsl_type_m(m + x)

Line numbers stay, so `pdb`, tracebacks and coverage show the user's file.
"""

from __future__ import annotations

import ast
import copy
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

from kdsl.dtypes import Size, constexpr
from kdsl.frontend_ast.source import KernelSource, lookup
from kdsl.runtime.pickling import plain

FROM_END, FLOORDIV, MOD, CHECK, TYPE = (
    "__kdsl_from_end",
    "__kdsl_floordiv",
    "__kdsl_mod",
    "__kdsl_check_divisor",
    "__kdsl_type_",
)


@dataclass(frozen=True, slots=True)
class Meaning:
    """`code` is the function's; `declared`: the annotation of each declared local name.

    `captured`: the names that the function reads from outside; `attributes`: those it looks up in them.
    """

    code: CodeType
    declared: dict[str, CodeType]
    captured: tuple[str, ...]
    attributes: frozenset[str]


@lru_cache(maxsize=1024)
def meaning(source: KernelSource) -> Meaning:
    """The function of `source`, spelled out."""
    node = copy.deepcopy(source.node)
    plain(node)
    spell = _Spell(source, node)
    node.body = [s for statement in node.body for s in spell.statements(statement)]
    tree = ast.Module([node], [])
    ast.fix_missing_locations(tree)
    ast.increment_lineno(tree, source.origin.line_offset)
    local = set(source.fn.__code__.co_varnames)
    names = {n.id for n in ast.walk(source.node) if isinstance(n, ast.Name)} - local
    module = compile(tree, source.origin.filename, "exec", dont_inherit=True)
    (code,) = [c for c in module.co_consts if isinstance(c, CodeType)]
    return Meaning(
        code,
        {
            name: compile(ast.Expression(annotation), source.origin.filename, "eval")
            for name, annotation in spell.declared.items()
        },
        tuple(sorted(names)),
        frozenset(n.attr for n in ast.walk(source.node) if isinstance(n, ast.Attribute)),
    )


class _Spell(ast.NodeTransformer):
    def __init__(self, source: KernelSource, node: ast.FunctionDef) -> None:
        self.source = source
        self.declared: dict[str, ast.expr] = {
            n.target.id: n.annotation
            for n in ast.walk(node)
            if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name) and n.value is not None
        }
        self.constants = _Constants(source, node)

    def statements(self, node: ast.stmt) -> list[ast.stmt]:
        made = self.visit(node)
        return made if isinstance(made, list) else [made]

    # -- declared names

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is None or not isinstance(node.target, ast.Name):
            return node
        value = self._typed(node.target.id, self.visit(node.value))
        return ast.copy_location(ast.Assign([node.target], value), node)

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | list[ast.stmt]:
        self.generic_visit(node)
        match node.targets:
            case [ast.Name(id=name)] if name in self.declared:
                return ast.copy_location(ast.Assign(node.targets, self._typed(name, node.value)), node)
        names = [n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name) and _is_store(n)]
        out: list[ast.stmt] = [node]
        for name in names:
            if name in self.declared:
                target, read = ast.Name(name, ast.Store()), ast.Name(name, ast.Load())
                after = ast.Assign([target], self._typed(name, read))
                out.append(ast.fix_missing_locations(ast.copy_location(after, node)))
        return out

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        value = self.visit(node.value)
        divides = isinstance(node.op, (ast.FloorDiv, ast.Mod))
        if isinstance(node.target, ast.Name):
            name = node.target.id
            if divides or name in self.declared:
                read = ast.copy_location(ast.Name(name, ast.Load()), node.target)
                result = self._binary(ast.copy_location(ast.BinOp(read, node.op, value), node))
                if name in self.declared:
                    result = self._typed(name, result)
                return ast.copy_location(ast.Assign([node.target], result), node)
            return ast.copy_location(ast.AugAssign(node.target, node.op, value), node)
        target = node.target
        if divides and isinstance(target, ast.Subscript):
            array = copy.deepcopy(target.value)
            value = _call(CHECK, [self.visit(array), value], node)
        return ast.copy_location(ast.AugAssign(self.visit(target), node.op, value), node)

    def _typed(self, name: str, value: ast.expr) -> ast.expr:
        return _call(TYPE + name, [value], value)

    # -- division

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        return self._binary(node)

    def _binary(self, node: ast.BinOp) -> ast.expr:
        match node.op:
            case ast.FloorDiv():
                return _call(FLOORDIV, [node.left, node.right], node)
            case ast.Mod():
                return _call(MOD, [node.left, node.right], node)
            case _:
                return node

    # -- indices

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        index = node.slice
        if isinstance(index, ast.Tuple):
            new: ast.expr = ast.copy_location(
                ast.Tuple([self._index(e) for e in index.elts], ast.Load()), index
            )
        else:
            new = self._index(index)
        return ast.copy_location(ast.Subscript(self.visit(node.value), new, node.ctx), node)

    def _index(self, e: ast.expr) -> ast.expr:
        if isinstance(e, ast.Slice):
            lower, upper = (None if b is None else self._index(b) for b in (e.lower, e.upper))
            step = None if e.step is None else self.visit(e.step)
            return ast.copy_location(ast.Slice(lower, upper, step), e)
        if isinstance(e, ast.Constant) or not self.constants.holds(e):
            made: ast.expr = self.visit(e)
            return made
        return _call(FROM_END, [self.visit(e)], e)


class _Constants:
    """Which integer expressions are known when the kernel is compiled: made of literals, captured numbers,
    constexpr parameters and variables of unrolled loops."""

    def __init__(self, source: KernelSource, node: ast.FunctionDef) -> None:
        self.source = source
        self.local = set(source.fn.__code__.co_varnames)
        self.known = {p.name for p in source.params if p.annotation is constexpr}
        stores: dict[str, int] = {}
        unrolled: dict[str, int] = {}
        for n in ast.walk(node):
            match n:
                case ast.Name(id=name, ctx=ast.Store()):
                    stores[name] = stores.get(name, 0) + 1
                case ast.For(target=ast.Name(id=name), iter=ast.Call(func=fn)) if self._unrolls(fn):
                    unrolled[name] = unrolled.get(name, 0) + 1
                case _:
                    pass
        self.known |= {name for name, count in unrolled.items() if count == stores[name]}

    def holds(self, e: ast.expr) -> bool:
        match e:
            case ast.Constant(value=int()):
                return True
            case ast.Name(id=name):
                return name in self.known or (name not in self.local and _is_number(self._captured(e)))
            case ast.Attribute():
                return _is_number(self._captured(e))
            case ast.UnaryOp(operand=x):
                return self.holds(x)
            case ast.BinOp(left=a, right=b):
                return self.holds(a) and self.holds(b)
            case _:
                return False

    def _unrolls(self, fn: ast.expr) -> bool:
        return getattr(self._captured(fn), "__kdsl_builtin__", "") == "static_range"

    def _captured(self, e: ast.expr) -> Any:
        """The object outside the function that `e` names, or None."""
        match e:
            case ast.Name(id=name) if name not in self.local:
                try:
                    return lookup(self.source, name, {})
                except KeyError:
                    return None
            case ast.Attribute(value=value, attr=attr):
                return getattr(self._captured(value), attr, None)
            case _:
                return None


def _is_number(x: Any) -> bool:
    if isinstance(x, tuple):
        return all(_is_number(item) for item in x)
    return isinstance(x, int) and not isinstance(x, Size)


def _is_store(n: ast.Name) -> bool:
    return isinstance(n.ctx, ast.Store)


def _call(name: str, args: list[ast.expr], at: ast.AST) -> ast.expr:
    function = ast.Name(name, ast.Load())
    return ast.fix_missing_locations(ast.copy_location(ast.Call(function, args, []), at))
