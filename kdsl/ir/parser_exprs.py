"""The parser's lower half: places in the text, scope, and expressions."""

from __future__ import annotations

import ast
import linecache
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from kdsl.dtypes import ALL, DType, bool_, f32, i64, u32, u64
from kdsl.errors import CompileError
from kdsl.ir.builtins import TABLE
from kdsl.ir.nodes import (
    Binary,
    BinaryOp,
    Call,
    Cast,
    Compare,
    CompareOp,
    Const,
    Expr,
    Let,
    Load,
    Logic,
    Select,
    Unary,
    UnaryOp,
    Var,
)
from kdsl.ir.numbers import round_float
from kdsl.source import Loc

NO_FILE = "<ir>"

TYPES = {t.name: t for t in ALL}
_BINARY: dict[type[ast.operator], BinaryOp] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>",
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], CompareOp] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], UnaryOp] = {ast.USub: "-", ast.Invert: "~", ast.Not: "not"}


@dataclass(frozen=True, slots=True)
class Buffer:
    """What the scope knows of a buffer."""

    dtype: DType


def _literal(node: ast.AST) -> int | float | None:
    """The value of a number, possibly with a minus sign; None for anything else."""
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if (
            not isinstance(value, bool)
        ):
            return -value
        case _:
            return None


@dataclass(slots=True)
class ExprParser:
    """Reads expressions of `text`. With a `filename`, nodes carry their places in that file."""

    text: str
    filename: str
    lines: list[str] = field(init=False)
    scope: dict[str, DType | Buffer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lines = self.text.split("\n")

    # -------------------------------------------------------------- places

    def column(self, line: int, offset: int) -> int:
        """Characters before a UTF-8 offset."""
        if not 1 <= line <= len(self.lines):
            return 0
        return len(self.lines[line - 1].encode(errors="replace")[:offset].decode(errors="replace"))

    def place(self, node: ast.AST, filename: str) -> Loc:
        line, end = getattr(node, "lineno", 1), getattr(node, "end_lineno", None) or 0
        start = self.column(line, getattr(node, "col_offset", 0))
        return Loc(filename, line, start, end, self.column(end, getattr(node, "end_col_offset", None) or 0))

    def loc(self, node: ast.AST) -> Loc | None:
        return self.place(node, self.filename) if self.filename else None

    def fail_at(self, where: int | Loc, title: str) -> NoReturn:
        if not self.filename:  # the message is made at once, so one entry serves all texts
            lines = [line + "\n" for line in self.lines]
            linecache.cache[NO_FILE] = len(self.text), None, lines, NO_FILE
        loc = where if isinstance(where, Loc) else Loc(self.filename or NO_FILE, where)
        raise CompileError(
            "K0190", title, loc=loc, help="the text must be as kdsl prints it: see `print_func`"
        )

    def fail(self, node: ast.AST, title: str) -> NoReturn:
        self.fail_at(self.place(node, self.filename or NO_FILE), title)

    def bind(self, name: str, meaning: DType | Buffer, node: ast.AST) -> None:
        if name in self.scope:
            self.fail(node, f"the name `{name}` is bound twice")
        self.scope[name] = meaning

    @contextmanager
    def inside(self, name: str, meaning: DType, node: ast.AST) -> Iterator[None]:
        self.bind(name, meaning, node)
        yield
        del self.scope[name]

    # --------------------------------------------------------- expressions

    def name(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Name):
            self.fail(node, "a name is needed here")
        return node.id

    def string(self, node: ast.expr) -> str:
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            self.fail(node, "a string is needed here")
        return node.value

    def buffer(self, node: ast.AST, name: str) -> Buffer:
        found = self.scope.get(name)
        if not isinstance(found, Buffer):
            self.fail(node, f"`{name}` is {'not bound' if found is None else 'no buffer'} here")
        return found

    def access(self, node: ast.expr) -> Load:
        """A place in a buffer, as the Load of it."""
        match node:
            case ast.Name(id=name):
                return Load(name, (), self.buffer(node, name).dtype, loc=self.loc(node))
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                dtype = self.buffer(node, name).dtype
                dims, checked = self.indices(index.elts if isinstance(index, ast.Tuple) else [index])
                return Load(name, dims, dtype, checked, loc=self.loc(node))
            case _:
                self.fail(node, "this is no place in a buffer")

    def indices(self, nodes: Sequence[ast.expr]) -> tuple[tuple[Expr, ...], tuple[int, ...]]:
        index, checked = [], []
        for d, node in enumerate(nodes):
            match node:
                case ast.Call(func=ast.Name(id="check"), args=[inner], keywords=[]):
                    index.append(self.expr(inner, i64))
                    checked.append(d)
                case _:
                    index.append(self.expr(node, i64))
        return tuple(index), tuple(checked)

    def number(self, node: ast.expr, value: int | float, dtype: DType | None) -> Const:
        if dtype is None:
            self.fail(node, "the type of this number is not clear here")
        if dtype.is_float and isinstance(value, float):
            rounded = round_float(value, dtype)
            if math.isfinite(rounded):
                return Const(rounded, dtype, loc=self.loc(node))
        if dtype.is_int and isinstance(value, int) and dtype.min <= value <= dtype.max:
            return Const(value, dtype, loc=self.loc(node))
        self.fail(node, f"this number is no {dtype}")

    def group(self, nodes: Sequence[ast.expr], dtype: DType | None) -> list[Expr]:
        """Operands of one type: when it is not known, the first one that is not a number tells it."""
        if dtype is not None:
            return [self.expr(n, dtype) for n in nodes]
        teller = next((i for i, n in enumerate(nodes) if _literal(n) is None), 0)
        told = self.expr(nodes[teller], None)
        return [told if i == teller else self.expr(n, told.dtype) for i, n in enumerate(nodes)]

    def expr(self, node: ast.expr, dtype: DType | None) -> Expr:
        """An expression; `dtype` is the type that its place tells, None when it tells none."""
        value = _literal(node)
        if value is not None:
            return self.number(node, value, dtype)
        loc = self.loc(node)
        match node:
            case ast.Constant(value=bool() as truth):
                return Const(truth, bool_, loc=loc)
            case ast.Name(id=name):
                found = self.scope.get(name)
                return Var(name, found, loc=loc) if isinstance(found, DType) else self.access(node)
            case ast.Subscript():
                return self.access(node)
            case ast.Attribute() | ast.UnaryOp(op=ast.USub(), operand=ast.Attribute(attr="inf")):
                return self.special(node)
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return Unary(_UNARY[type(op)], self.expr(operand, dtype), loc=loc)
            case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _BINARY:
                a, b = self.group((left, right), dtype)
                return Binary(_BINARY[type(operator)], a, b, loc=loc)
            case ast.Compare(left=left, ops=[comparison], comparators=[right]) if (
                type(comparison) in _COMPARE
            ):
                a, b = self.group((left, right), None)
                return Compare(_COMPARE[type(comparison)], a, b, loc=loc)
            case ast.BoolOp(op=logic, values=[first, *others]):
                e = self.expr(first, bool_)
                for other in others:
                    e = Logic(
                        "and" if isinstance(logic, ast.And) else "or", e, self.expr(other, bool_), loc=loc
                    )
                return e
            case ast.IfExp(test=test, body=body, orelse=orelse):
                cond = self.expr(test, bool_)
                a, b = self.group((body, orelse), dtype)
                return Select(cond, a, b, loc=loc)
            case ast.Call(func=ast.Name(id=fn), args=args, keywords=[]):
                return self.call(node, fn, args, dtype)
            case _:
                self.fail(node, "this is no expression of the IR")

    def special(self, node: ast.Attribute | ast.UnaryOp) -> Const:
        """`f32.inf`, `-f32.inf`, `f32.nan`."""
        sign = 1.0 if isinstance(node, ast.Attribute) else -1.0
        match node if isinstance(node, ast.Attribute) else node.operand:
            case ast.Attribute(value=ast.Name(id=name), attr="inf" | "nan" as attr) if (
                name in TYPES and TYPES[name].is_float
            ):
                return Const(sign * math.inf if attr == "inf" else math.nan, TYPES[name], loc=self.loc(node))
            case _:
                self.fail(node, "this is no constant")

    def call(self, node: ast.Call, fn: str, args: list[ast.expr], dtype: DType | None) -> Expr:
        loc = self.loc(node)
        match fn, args:
            case _, [ast.Constant(value="inf")] if fn in TYPES and TYPES[fn].is_float:
                return Const(math.inf, TYPES[fn], loc=loc)
            case _, [arg] if fn in TYPES:
                value = _literal(arg)
                if value is not None:
                    return self.number(arg, value, TYPES[fn])
                return Cast(self.expr(arg, None), TYPES[fn], loc=loc)
            case "min" | "max", [a, b]:
                x, y = self.group((a, b), dtype)
                return Binary("min" if fn == "min" else "max", x, y, loc=loc)
            case "let", [_, _, _, *_] if len(args) % 2:
                return self.let(args, dtype)
            case "bitcast", [ast.Name(id=name), arg] if name in TYPES:
                return Call(fn, (self.expr(arg, None),), TYPES[name], loc=loc)
        row = TABLE.get(fn)
        if row is None or len(args) != row.arity or fn == "bitcast":
            self.fail(node, f"`{fn}` with {len(args)} arguments is no function of the IR")
        match row.rule:
            case "any" if fn == "within":
                return Call(fn, tuple(self.expr(a, i64) for a in args), i64, loc=loc)
            case "any":
                result = u32 if fn == "random_bits" else f32
                return Call(fn, tuple(self.expr(a, u64) for a in args), result, loc=loc)
            case "float->bool":
                return Call(fn, tuple(self.group(args, None)), bool_, loc=loc)
            case _:
                operands = self.group(args, dtype)
                return Call(fn, tuple(operands), operands[0].dtype, loc=loc)

    def let(self, args: list[ast.expr], dtype: DType | None) -> Expr:
        *pairs, last = args
        links = []
        for name_node, value in zip(pairs[::2], pairs[1::2]):
            name, e = self.name(name_node), self.expr(value, None)
            self.bind(name, e.dtype, name_node)
            links.append((name, e, self.loc(name_node)))
        body = self.expr(last, dtype)
        for name, e, loc in reversed(links):
            del self.scope[name]
            body = Let(name, e, body, loc=loc)
        return body
