"""Python expressions to values."""

from __future__ import annotations

import ast
import operator
import types
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from kdsl.dtypes import DType, Size, TypeVar
from kdsl.errors import CompileError
from kdsl.frontend_ast import core, facts, scope
from kdsl.frontend_ast.frames import EXPR, Array, Binding, Method, Poison, Static, Tuple, Value, View
from kdsl.frontend_ast.views import Views
from kdsl.ir.nodes import CompareOp
from kdsl.source import Loc

BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%", ast.Pow: "**",
    ast.BitAnd: "&", ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>",
}  # fmt: skip
_COMPARE: dict[type[ast.cmpop], CompareOp] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], str] = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~", ast.Not: "not"}
_FOLD: dict[str, Callable[..., Any]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "//": operator.floordiv,
    "%": operator.mod, "**": operator.pow, "&": operator.and_, "|": operator.or_, "^": operator.xor,
    "<<": operator.lshift, ">>": operator.rshift, "==": operator.eq, "!=": operator.ne, "<": operator.lt,
    "<=": operator.le, ">": operator.gt, ">=": operator.ge, "min": min, "max": max,
}  # fmt: skip
_FOLD_UNARY: dict[str, Callable[..., Any]] = {
    "-": operator.neg, "+": operator.pos, "~": operator.invert, "not": operator.not_,
}  # fmt: skip


class Expressions(Views):
    """`expr` elaborates any expression."""

    def call(self, node: ast.Call) -> Value:
        raise AssertionError("defined in Calls")

    def expr(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant():
                return self._constant(node)
            case ast.Name():
                return self.name(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.BinOp():
                a, b = self.operands([lambda: self.expr(node.left), lambda: self.expr(node.right)])
                return self.binary(BINARY[type(node.op)], a, b, node)
            case ast.UnaryOp():
                return self._unary(_UNARY[type(node.op)], self.expr(node.operand), node)
            case ast.BoolOp():
                return self._bool_op(node)
            case ast.Compare():
                return self._compare(node)
            case ast.IfExp():
                return self._conditional(node)
            case ast.Subscript():
                base = self.expr(node.value)
                if isinstance(base, Static) and isinstance(base.value, (DType, TypeVar)):
                    self.error(
                        "K0214",
                        "an array type cannot be used as a value",
                        node,
                        help="write it as an annotation",
                    )
                return self.subscript(base, node)
            case ast.Call():
                return self.call(node)
            case ast.Tuple():
                return Tuple(tuple(self.operands([lambda e=e: self.expr(e) for e in node.elts])))  # type: ignore[misc]
            case ast.JoinedStr():
                self.error(
                    "K0221", "an f-string can only be printed", node, help="use it as an argument of `print`"
                )
            case _:
                self.error(
                    "K0110",
                    f"`{ast.unparse(node)}` cannot be used in a kernel",
                    node,
                    help="kernels have numbers, arrays, arithmetic, comparisons and calls",
                )

    # ---- atoms

    def _constant(self, node: ast.Constant) -> Value:
        value = node.value
        if isinstance(value, (bool, int, float)):
            return core.Num(value, loc=self.loc(node))
        return Static(value)

    def name(self, node: ast.Name) -> Value:
        """The value of a name: local, else of the enclosing scope."""
        binding = self.frame.env.get(node.id)
        loc = self.loc(node)
        if binding is not None:
            return self.read(node.id, binding, loc)
        if node.id in self.frame.counts:
            self.error(
                "K0202",
                f"`{node.id}` is used before it has a value",
                node,
                label="it is assigned in this function, but not on the way here",
                help=f"assign `{node.id}` before this line",
            )
        try:
            found = scope.lookup(self.frame.source, node.id, self.frame.overrides)
        except KeyError:
            source = self.frame.source
            near = scope.nearest(
                node.id, [*self.frame.env, *source.fn.__code__.co_freevars, *source.fn.__globals__]
            )
            self.error(
                "K0201",
                f"`{node.id}` is not defined",
                node,
                label=f"did you mean `{near}`?" if near else "",
                help=f"write `{near}`"
                if near
                else "pass it as an argument, or define it before the kernel is called",
            )
        return self.outside(found, node)

    def read(self, name: str, binding: Binding, loc: Loc) -> Value:
        """What a bound name stands for here."""
        match binding.value:
            case core.Variable() as var:
                return core.Ref(var, loc)
            case core.LoopVar() as loop:
                return core.LoopRef(loop, loc)
            case Poison() as poison:
                notes = [(poison.loc, "set here")] if poison.loc is not None else []
                way = f"set `{name}` on every path before this line"
                if poison.differs:
                    way = "use two names, or copy the elements into one local array on each path"
                self.error("K0203", f"`{name}` {poison.why}", loc, notes=notes, help=way)
            case _:
                return binding.value

    def outside(self, found: Any, node: ast.expr) -> Value:
        """An object of the enclosing scope as a value."""
        loc = self.loc(node)
        if isinstance(found, TypeVar):
            bound = self.frame.types.get(found.name)
            if isinstance(bound, DType):
                return Static(bound)
            return Static(bound if bound is not None else found)
        try:
            return scope.wrap(found, lambda s: self.read_size(s, loc), self.plain_functions, loc)
        except scope.Unknown as unknown:
            self.error("K0204", unknown.title, node, help=unknown.help)

    def read_size(self, size: Size, loc: Loc | None) -> core.Expr:
        """A size as a number: a slice whose start lies beyond its end has 0 elements."""
        found = self.size(size, loc)
        return facts.length(found) if size.symbol is not None else found

    def _attribute(self, node: ast.Attribute) -> Value:
        base = self.expr(node.value)
        match base:
            case View():
                value = self.array_attribute(base, node.attr, node)
                if value is not None:
                    return value
                if node.attr in ("reshape", "astype", "transpose"):
                    return Method(base, node.attr)
            case Static(value=types.ModuleType() as module):
                if not hasattr(module, node.attr):
                    near = scope.nearest(node.attr, dir(module))
                    self.error(
                        "K0201",
                        f"module `{module.__name__}` has no `{node.attr}`",
                        node,
                        label=f"did you mean `{near}`?" if near else "",
                        help=f"write `{ast.unparse(node.value)}.{near}`"
                        if near
                        else "see the list of functions in the docs",
                    )
                return self.outside(getattr(module, node.attr), node)
            case Static(value=DType() as dtype) if node.attr in ("min", "max", "bits", "bytes"):
                return core.Num(getattr(dtype, node.attr), loc=self.loc(node))
            case _:
                pass
        help = ""
        if isinstance(base, Array):
            help = "arrays have .shape, .size, .ndim, .dtype, .T and .reshape(...)"
        self.error("K0205", f"{self.describe(base)} has no attribute `{node.attr}`", node, help=help)

    # ---- operators

    def binary(self, op: str, a: Value, b: Value, node: ast.AST) -> Value:
        """`a op b` on scalars or arrays, folded when both are constants."""
        for v in (a, b):
            if not isinstance(v, (Array, *EXPR)):
                self.error(
                    "K0206",
                    f"`{op}` has no meaning for {self.describe(v)}",
                    node,
                    help="operators work on numbers and arrays",
                )
        loc = self.loc(node)
        return self.elementwise([a, b], lambda x: self.fold(op, x[0], x[1], loc), node)

    def fold(self, op: str, a: core.Expr, b: core.Expr, loc: Loc | None) -> core.Expr:
        """`Bin(op, a, b)`, computed now for two constants when Python has an answer."""
        if isinstance(a, core.Num) and isinstance(b, core.Num):
            if _huge(op, a, b):
                self.too_wide(f"`{op}` of these constants", loc)
            known = _folded(_FOLD[op], loc, a, b)
            if known is not None:
                return known
        return core.Bin(op, a, b, loc)

    def too_wide(self, what: str, loc: Loc | None) -> NoReturn:
        """Refuses a constant of more than `scope.MOST_BITS` bits."""
        raise CompileError(
            "K0252",
            f"{what} has more than {scope.MOST_BITS} bits",
            loc=loc,
            help="integers of a kernel have 64 bits: use a float, or reduce it outside",
        )

    def _unary(self, op: str, x: Value, node: ast.UnaryOp) -> Value:
        loc = self.loc(node)
        if op == "not":
            if isinstance(x, Static):
                return core.Num(not x.value, loc=loc)
            e = self.scalar(x, node.operand)
            return core.Num(not e.value, loc=loc) if isinstance(e, core.Num) else core.Un("not", e, loc)
        if not isinstance(x, (Array, *EXPR)):
            self.error("K0206", f"`{op}` has no meaning for {self.describe(x)}", node)

        def apply(v: list[core.Expr]) -> core.Expr:
            e = v[0]
            if isinstance(e, core.Num):
                known = _folded(_FOLD_UNARY[op], loc, e)
                if known is not None:
                    return known
            return core.Un(op, e, loc)

        return self.elementwise([x], apply, node)

    def truth(self, value: Value, node: ast.AST) -> core.Expr:
        """`value` as a condition."""
        if isinstance(value, Static) and (value.value is None or isinstance(value.value, str)):
            return core.Num(bool(value.value), loc=self.loc(node))
        return self.scalar(value, node, "a condition")

    def _bool_op(self, node: ast.BoolOp) -> Value:
        op = "and" if isinstance(node.op, ast.And) else "or"
        return self._logic(op, node.values)

    def _logic(self, op: str, nodes: list[ast.expr]) -> core.Expr:
        a = self.truth(self.expr(nodes[0]), nodes[0])
        if len(nodes) == 1:
            return a
        return self.logic(op, a, lambda: self._logic(op, nodes[1:]), self.loc(nodes[0]))

    def logic(self, op: str, a: core.Expr, make_b: Callable[[], core.Expr], loc: Loc | None) -> core.Expr:
        """`a op b` where `b` is elaborated, and run, only when needed."""
        if isinstance(a, core.Num):
            return make_b() if bool(a.value) == (op == "and") else a
        mark = len(self.out)
        body, b = self.lazy(make_b)
        assert len(self.out) == mark
        if not body:
            return core.Logic(op, a, b, loc)
        var = core.Variable("both" if op == "and" else "either", loc, checked=False)
        self.out.append(core.Assign(var, a, loc=loc))
        body.append(core.Assign(var, b, loc=loc))
        read = core.Ref(var, loc)
        cond: core.Expr = read if op == "and" else core.Un("not", read, loc)
        self.out.append(core.If(cond, body, [], loc))
        return core.Ref(var, loc)

    def _compare(self, node: ast.Compare) -> Value:
        if len(node.ops) == 1:
            a, b = self.operands([lambda: self.expr(node.left), lambda: self.expr(node.comparators[0])])
            return self._compare_two(node.ops[0], a, b, node)
        left = self.expr(node.left)
        return self._chain(node, 0, self.scalar(left, node.left))

    def _chain(self, node: ast.Compare, at: int, left: core.Expr) -> core.Expr:
        """`left op[at] c[at] op[at + 1] ...`: each operand evaluated once, later ones when needed."""
        holder: list[Value] = self.operands([lambda: left, lambda: self.expr(node.comparators[at])])
        left = self.scalar(holder[0], node)
        right = self.scalar(holder[1], node.comparators[at])
        last = at + 1 == len(node.ops)
        if last:
            return self.scalar(self._compare_two(node.ops[at], left, right, node), node)
        var: core.Variable | None = None
        if not isinstance(right, (core.Num, core.SizeVar, core.LoopRef, core.Ref)):
            var = core.Variable("middle", right.loc, fixed=True, checked=False, let=True)
            value, right = right, core.Ref(var, right.loc)
        first = self.scalar(self._compare_two(node.ops[at], left, right, node), node)
        middle = right
        body, rest = self.lazy(lambda: self._chain(node, at + 1, middle))
        if var is None:
            if not body:
                return self.logic("and", first, lambda: rest, self.loc(node))
            return self.logic("and", first, lambda: self._emit_all(body, rest), self.loc(node))
        if not body:
            return core.Let(
                var, value, self.logic("and", first, lambda: rest, self.loc(node)), self.loc(node)
            )
        var.let = False
        self.out.append(core.Assign(var, value, loc=value.loc))
        return self.logic("and", first, lambda: self._emit_all(body, rest), self.loc(node))

    def _emit_all(self, body: core.Body, value: core.Expr) -> core.Expr:
        self.out.extend(body)
        return value

    def _compare_two(self, op: ast.cmpop, a: Value, b: Value, node: ast.Compare) -> Value:
        loc = self.loc(node)
        if isinstance(a, Static) or isinstance(b, Static):
            return self._compare_static(op, a, b, node)
        if isinstance(op, (ast.Is, ast.IsNot)):
            self.error("K0207", "`is` compares objects, not numbers", node, help="write `==` or `!=`")
        if isinstance(a, Tuple) or isinstance(b, Tuple):
            self.error("K0206", "tuples cannot be compared", node, help="compare item by item")
        sign = _COMPARE[type(op)]

        def apply(v: list[core.Expr]) -> core.Expr:
            x, y = v
            if isinstance(x, core.Num) and isinstance(y, core.Num):
                known = _folded(_FOLD[sign], loc, x, y)
                if known is not None:
                    return known
            return core.Cmp(sign, x, y, loc)

        return self.elementwise([a, b], apply, node)

    def _compare_static(self, op: ast.cmpop, a: Value, b: Value, node: ast.Compare) -> Value:
        equal = isinstance(a, Static) and isinstance(b, Static) and a.value == b.value
        # A compile-time number and a compile-time object differ, as in Python (`BLOCK == "auto"`).
        known = all(isinstance(v, (Static, core.Num)) for v in (a, b))
        none = any(isinstance(v, Static) and v.value is None for v in (a, b))
        if known or none:
            if isinstance(op, (ast.Eq, ast.Is)):
                return core.Num(equal, loc=self.loc(node))
            if isinstance(op, (ast.NotEq, ast.IsNot)):
                return core.Num(not equal, loc=self.loc(node))
        self.error(
            "K0206",
            f"{self.describe(a)} cannot be compared with {self.describe(b)}",
            node,
            help="compare numbers with numbers, types with types",
        )

    def _conditional(self, node: ast.IfExp) -> Value:
        cond = self.truth(self.expr(node.test), node.test)
        if isinstance(cond, core.Num):
            return self.expr(node.body if cond.value else node.orelse)
        loc = self.loc(node)
        then, a = self.lazy(lambda: self.scalar_expr(node.body))
        orelse, b = self.lazy(lambda: self.scalar_expr(node.orelse))
        if not then and not orelse:
            return core.Pick(cond, a, b, loc)
        var = core.Variable("chosen", loc, checked=False)
        then.append(core.Assign(var, a, loc=loc))
        orelse.append(core.Assign(var, b, loc=loc))
        self.out.append(core.If(cond, then, orelse, loc))
        return core.Ref(var, loc)


def _folded(f: Callable[..., Any], loc: Loc | None, *args: core.Num) -> core.Num | None:
    """`f` of constants as Python and NumPy compute it; None when they raise (then it happens at run time)."""
    try:
        with np.errstate(all="ignore"):
            return as_num(f(*[python_value(a) for a in args]), loc)
    except (ArithmeticError, TypeError, ValueError, MemoryError):
        return None


def _huge(op: str, a: core.Num, b: core.Num) -> bool:
    """Whether a weak integer result would be too wide; told before it is computed."""
    x, y = a.value, b.value
    if a.dtype is not None or b.dtype is not None or not (isinstance(x, int) and isinstance(y, int)):
        return False
    match op:
        case "*":
            return x.bit_length() + y.bit_length() > scope.MOST_BITS + 1
        case "**":
            return y > 0 and x not in (-1, 0, 1) and (x.bit_length() - 1) * y >= scope.MOST_BITS
        case "<<":
            return y > 0 and x != 0 and x.bit_length() + y > scope.MOST_BITS
        case "+" | "-":
            return max(x.bit_length(), y.bit_length()) > scope.MOST_BITS
        case _:
            return False


def python_value(e: core.Num) -> Any:
    """The constant as a Python or NumPy number."""
    return e.value if e.dtype is None else e.dtype(e.value)


def as_num(value: Any, loc: Loc | None) -> core.Num | None:
    """A Python or NumPy number as a constant; None for anything else (complex)."""
    if isinstance(value, np.generic):
        found = scope.wrap(value, _no_size, False, loc)
        return found if isinstance(found, core.Num) else None
    return core.Num(value, loc=loc) if isinstance(value, (bool, int, float)) else None


def _no_size(size: object) -> core.Expr:
    raise AssertionError(f"{size} is not a number")
