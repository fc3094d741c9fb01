"""Reads the printer's text back: `parse_func(print_func(f)) == f` for every verified `f`.

Text is read by `ast`; a number without a type takes it from its place, as `printer` says. What is read is
verified. Whatever is wrong with a text is a `CompileError` (K0190) with the line.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast, get_args

from kdsl.dtypes import DType, Size, bool_, i64
from kdsl.ir import instructions
from kdsl.ir.nodes import (
    Accumulate,
    AccumulateOp,
    Alloc,
    ArrayParam,
    Assert,
    Atomic,
    AtomicOp,
    Barrier,
    Binary,
    Body,
    Break,
    Condition,
    Const,
    Continue,
    Func,
    If,
    Load,
    Loop,
    Mark,
    MarkKind,
    Memory,
    Options,
    Param,
    Prefetch,
    Print,
    Return,
    ScalarParam,
    Stmt,
    Store,
    While,
)
from kdsl.ir.parser_exprs import TYPES, Buffer, ExprParser
from kdsl.ir.printer import default_sizes, stored_buffers
from kdsl.ir.verify import InvalidIR, verify
from kdsl.source import Loc, syntax_tree


def parse_func(text: str, filename: str = "") -> Func:
    """The verified `Func` that `text` describes. With a `filename` its nodes carry places in that file."""
    parser = _Parser(text, filename)
    try:
        tree = syntax_tree(text)
    except SyntaxError as e:
        parser.fail_at(e.lineno or 1, f"the IR is no Python syntax: {e.msg}")
    except (RecursionError, MemoryError):
        parser.fail_at(1, "the IR is nested too deep")
    except (ValueError, OverflowError) as e:
        parser.fail_at(1, f"the IR cannot be read: {e}")
    try:
        func = parser.module(tree)
        verify(func)
    except RecursionError:
        parser.fail_at(1, "the IR is nested too deep")
    except InvalidIR as e:
        parser.fail_at(parser.lines_of.get(e.stmt.id, 1) if e.stmt else 1, f"invalid IR: {e.rule}")
    return func


_ATOMIC: dict[str, AtomicOp] = {"atomic_add": "+", "atomic_min": "min", "atomic_max": "max"}
_MEMORIES: dict[str, Memory] = {m: m for m in get_args(Memory)}
_MARKS: dict[str, MarkKind] = {m: m for m in get_args(MarkKind)}


def _called(node: ast.AST | None) -> str:
    """The name of the function that `node` calls by name, else ""."""
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return name
        case _:
            return ""


@dataclass(slots=True)
class _Parser(ExprParser):
    lines_of: dict[int, int] = field(default_factory=dict)
    """The line of each statement, by id."""

    # -------------------------------------------------------------- header

    def module(self, tree: ast.Module) -> Func:
        match tree.body:
            case [ast.FunctionDef() as node]:
                return self.function(node)
            case _:
                self.fail_at(1, "the IR is not one function")

    def function(self, node: ast.FunctionDef) -> Func:
        a = node.args
        if a.posonlyargs or a.kwonlyargs or a.vararg or a.kwarg or a.defaults or node.returns:
            self.fail(node, "parameters are plain names with a type")
        params = [self.param(arg) for arg in a.args]
        options, sizes = Options(), default_sizes(params)
        for d in node.decorator_list:
            match d:
                case ast.Call(func=ast.Name(id="options"), args=[]):
                    options = self.options(d)
                case ast.Call(func=ast.Name(id="sizes"), args=args, keywords=[]):
                    sizes = tuple(self.name(arg) for arg in args)
                case _:
                    self.fail(d, "unknown decorator")
        for name in sizes:
            self.bind(name, i64, node)
        for p, arg in zip(params, a.args):
            self.bind(p.name, p.dtype if isinstance(p, ScalarParam) else Buffer(p.dtype), arg)
        statements = list(node.body)
        conditions = []
        while statements and (condition := self.condition(statements[0])):
            conditions.append(condition)
            statements.pop(0)
        body = self.body(statements)
        stored = stored_buffers(body)
        return Func(
            node.name,
            tuple(self.with_written(p, stored) for p in params),
            body,
            sizes,
            tuple(conditions),
            options,
            loc=self.loc(node),
        )

    @staticmethod
    def with_written(p: Param, stored: set[str]) -> Param:
        if isinstance(p, ScalarParam) or p.name not in stored:
            return p
        return ArrayParam(p.name, p.dtype, p.shape, p.contiguous, True, p.result, loc=p.loc)

    def options(self, node: ast.Call) -> Options:
        flags = {"strict": False, "fastmath": False, "unchecked": False}
        aliases: tuple[str, ...] = ()
        for k in node.keywords:
            match k:
                case ast.keyword(arg="may_alias", value=ast.Tuple(elts=elts)):
                    aliases = tuple(self.string(e) for e in elts)
                case ast.keyword(arg=str() as flag, value=ast.Constant(value=True)) if flag in flags:
                    flags[flag] = True
                case _:
                    self.fail(node, "unknown option")
        return Options(**flags, may_alias=aliases)

    def param(self, arg: ast.arg) -> Param:
        match arg.annotation:
            case ast.Name(id=name) if name in TYPES:
                return ScalarParam(arg.arg, TYPES[name], loc=self.loc(arg))
            case ast.BinOp(left=array, op=ast.MatMult(), right=marks):
                words = self.string(marks).split(" ")
            case None:
                self.fail(arg, f"the parameter `{arg.arg}` has no type")
            case array:
                words = []
        if set(words) - {"strided", "written", "result"}:
            self.fail(arg, f"the parameter `{arg.arg}` has an unknown property")
        dtype, dims = self.array_type(array)
        result = "result" in words
        return ArrayParam(
            arg.arg,
            dtype,
            tuple(self.size(d) for d in dims or ()),
            "strided" not in words,
            result or "written" in words,
            result,
            loc=self.loc(arg),
        )

    def array_type(self, node: ast.expr) -> tuple[DType, list[ast.expr] | None]:
        """The type and dimensions of `f32[M, 4]`; None for `f32`."""
        match node:
            case ast.Name(id=name) if name in TYPES:
                return TYPES[name], None
            case ast.Subscript(value=ast.Name(id=name), slice=dims) if name in TYPES:
                return TYPES[name], dims.elts if isinstance(dims, ast.Tuple) else [dims]
            case _:
                self.fail(node, "this is no type")

    def size(self, node: ast.expr) -> Size:
        match node:
            case ast.Name(id=name):
                return Size({name: 1})
            case ast.Constant(value=int() as value) if not isinstance(value, bool):
                return Size({}, value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.size(operand)
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self.size(left) + self.size(right)
            case ast.BinOp(left=left, op=ast.Sub(), right=right):
                return self.size(left) - self.size(right)
            case ast.BinOp(left=left, op=ast.Mult(), right=right):
                factor, other = self.size(left), self.size(right)
                if not factor.terms:
                    return other * factor.const
        self.fail(node, "a dimension is affine in the sizes")

    def condition(self, node: ast.stmt) -> Condition | None:
        match node:
            case ast.Expr(value=ast.Call(func=ast.Name(id="require"), args=[expr, title], keywords=[])):
                return Condition(self.expr(expr, bool_), self.string(title), loc=self.loc(node))
            case _:
                return None

    # ---------------------------------------------------------- statements

    def body(self, nodes: Sequence[ast.stmt]) -> Body:
        body = []
        for node in nodes:
            if not isinstance(node, ast.Pass):
                s = self.stmt(node)
                self.lines_of[s.id] = node.lineno
                body.append(s)
        for s in body:
            if isinstance(s, Alloc):
                del self.scope[s.name]
        return tuple(body)

    def stmt(self, node: ast.stmt) -> Stmt:
        loc = self.loc(node)
        match node:
            case ast.For(target=target, iter=iterator, body=body, orelse=[]):
                return self.loop(node, self.name(target), iterator, body)
            case ast.While(test=test, body=body, orelse=[]):
                return While(self.expr(test, bool_), self.body(body), loc=loc)
            case ast.If(test=test, body=body, orelse=orelse):
                return If(self.expr(test, bool_), self.body(body), self.body(orelse), loc=loc)
            case ast.Break():
                return Break(loc=loc)
            case ast.Continue():
                return Continue(loc=loc)
            case ast.Return(value=None):
                return Return(loc=loc)
            case ast.AnnAssign(target=target, annotation=annotation, value=None):
                return self.alloc(node, self.name(target), annotation)
            case ast.Assign(targets=[target], value=value):
                return self.assign(node, target, value)
            case ast.AugAssign(target=target, op=ast.Add() | ast.Mult() as op, value=value):
                at = self.access(target)
                sign: AccumulateOp = "+" if isinstance(op, ast.Add) else "*"
                return self.accumulate(sign, at, value, loc)
            case ast.Assert(test=test, msg=ast.expr() as message):
                return Assert(self.expr(test, bool_), self.string(message), loc=loc)
            case ast.Expr(value=ast.Call() as call) if _called(call) in _ATOMIC:
                return self.atomic(node, call, "")
            case ast.Expr(value=ast.Call(func=ast.Name(id="prefetch"), args=[place], keywords=[])):
                at = self.access(place)
                return Prefetch(at.buffer, at.index, loc=loc)
            case ast.Expr(value=ast.Call(func=ast.Name(id="barrier"), args=[], keywords=[])):
                return Barrier(loc=loc)
            case ast.Expr(value=ast.Call() as call) if _called(call) == "print":
                return self.print(node, call)
            case _:
                self.fail(node, "this is no statement of the IR")

    def loop(self, node: ast.stmt, var: str, iterator: ast.expr, body: list[ast.stmt]) -> Loop:
        mark = None
        match iterator:
            case ast.Call(func=ast.Name(id=kind), args=[inner, *axes], keywords=keywords) if kind in _MARKS:
                axis = self.string(axes[0]) if axes else ""
                instruction = None
                if kind == "tensorize":
                    instruction, axis = instructions.find(axis), ""
                    if instruction is None:
                        self.fail(iterator, "no instruction of this name is known here")
                match keywords:
                    case []:
                        unsafe = False
                    case [ast.keyword(arg="unsafe", value=ast.Constant(value=True))]:
                        unsafe = True
                    case _:
                        self.fail(iterator, "this is no mark of a loop")
                mark = Mark(_MARKS[kind], axis, unsafe, instruction)
            case inner:
                axes = []
        match inner:
            case ast.Call(func=ast.Name(id="range"), args=[_, *_] as bounds, keywords=[]) if (
                len(bounds) <= 3 and len(axes) <= 1
            ):
                values = [self.expr(b, i64) for b in bounds]
            case _:
                self.fail(iterator, "a loop runs over `range`")
        lo = values[0] if len(values) > 1 else Const(0, i64, loc=self.loc(inner))
        hi = values[min(1, len(values) - 1)]
        step = values[2] if len(values) > 2 else Const(1, i64, loc=self.loc(inner))
        with self.inside(var, i64, node):
            return Loop(var, lo, hi, step, self.body(body), mark, loc=self.loc(node))

    def alloc(self, node: ast.stmt, name: str, annotation: ast.expr) -> Alloc:
        memory: Memory = "auto"
        if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.MatMult):
            found = _MEMORIES.get(self.string(annotation.right))
            if found is None:
                self.fail(annotation, "unknown memory")
            memory, annotation = found, annotation.left
        dtype, dims = self.array_type(annotation)
        shape = tuple(self.expr(d, i64) for d in dims or ())
        self.bind(name, Buffer(dtype), node)
        return Alloc(name, dtype, shape, memory, loc=self.loc(node))

    def assign(self, node: ast.stmt, target: ast.expr, value: ast.expr) -> Stmt:
        loc = self.loc(node)
        match value:
            case ast.Call() if _called(value) in _ATOMIC:
                return self.atomic(node, value, self.name(target))
            case ast.Call(func=ast.Name(id="store"), args=[inner], keywords=[]):
                at = self.access(target)
                return Store(at.buffer, at.index, self.expr(inner, at.type), at.checked, loc=loc)
        at = self.access(target)
        match value:
            case ast.Call(func=ast.Name(id="min" | "max" as name), args=[old, ast.Call() as new]) if (
                _called(new) == "together" and self.expr(old, at.type) == at
            ):
                return self.accumulate(cast(AccumulateOp, name), at, new, loc)
        match self.expr(value, at.type):
            case Binary(op="min" | "max" as op, a=Load() as cell, b=term) if cell == at:
                return Accumulate(op, at.buffer, at.index, term, at.checked, loc=loc)
            case e:
                return Store(at.buffer, at.index, e, at.checked, loc=loc)

    def accumulate(self, op: AccumulateOp, at: Load, value: ast.expr, loc: Loc | None) -> Accumulate:
        match value:
            case ast.Call(func=ast.Name(id="together"), args=[inner], keywords=[]):
                together, value = True, inner
            case _:
                together = False
        term = self.expr(value, at.type)
        return Accumulate(op, at.buffer, at.index, term, at.checked, together, loc=loc)

    def atomic(self, node: ast.stmt, call: ast.Call, old: str) -> Atomic:
        match call:
            case ast.Call(func=ast.Name(id=fn), args=[ast.Name(id=buffer), index, value], keywords=[]):
                dims = index.elts if isinstance(index, ast.Tuple) else [index]
                indices, checked = self.indices(dims)
                dtype = self.buffer(call, buffer).dtype
                e = self.expr(value, dtype)
                return Atomic(_ATOMIC[fn], buffer, indices, e, old, checked, loc=self.loc(node))
            case _:
                self.fail(node, "an atomic takes an array, an index and a value")

    def print(self, node: ast.stmt, call: ast.Call) -> Print:
        words = {"sep": " ", "end": "\n"}
        for k in call.keywords:
            if k.arg not in words:
                self.fail(node, "`print` takes `sep` and `end`")
            words[k.arg] = self.string(k.value)
        items = [
            a.value if isinstance(a, ast.Constant) and isinstance(a.value, str) else self.expr(a, None)
            for a in call.args
        ]
        return Print(tuple(items), words["sep"], words["end"], loc=self.loc(node))
