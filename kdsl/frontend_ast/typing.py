"""Typed expressions: core expressions to IR, with NumPy 2's promotion."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from kdsl.dtypes import DType, bool_, i64, u8, u64
from kdsl.errors import CompileError
from kdsl.frontend_ast import core
from kdsl.frontend_ast.types import (
    BOOL,
    WEAK_BOOL,
    WEAK_FLOAT,
    WEAK_INT,
    Ty,
    TypeRefusal,
    arithmetic,
    join,
    number,
    of_python,
)
from kdsl.frontend_ast.webs import Webs
from kdsl.ir import nodes as ir
from kdsl.ir.builtins import TABLE, float_of
from kdsl.ir.numbers import int_to_float, round_float, wrap
from kdsl.source import Loc

Typed = tuple[ir.Expr, Ty]

_SMALL_POWER = 16


class Unready(Exception):
    """An operand's type is not known yet."""


class Names:
    """Final names: each given once."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self._next: dict[str, int] = {}

    def fresh(self, wish: str) -> str:
        """`wish`, or the first of `wish_1`, `wish_2`, ... that is free."""
        name, n = wish, self._next.get(wish, 0)
        while name in self.taken:
            n += 1
            name = f"{wish}_{n}"
        self.taken.add(name)
        self._next[wish] = n
        return name

    def forget(self, taken: set[str]) -> None:
        """Goes back to a set of taken names."""
        self.taken = taken
        self._next.clear()


class Typist:
    """Types expressions. The tables of types and names by `id` are filled from outside, as they are found."""

    def __init__(self, webs: Webs, names: Names) -> None:
        self.webs = webs
        self.names = names
        self.web_types: dict[int, Ty] = {}
        self.web_names: dict[int, str] = {}
        self.lets: dict[int, Typed] = {}
        self.loop_names: dict[int, str] = {}
        self.buffer_names: dict[int, str] = {}
        self.like_types: dict[int, DType] = {}
        self.read_param: Callable[[core.Param], Typed] = lambda p: (
            ir.Var(p.name, p.dtype),
            Ty(p.dtype, p.weak),
        )

    # ---- expressions

    def expr(self, e: core.Expr) -> Typed:
        """`e` as IR and its type. Raises CompileError, and Unready while types are still being found."""
        match e:
            case core.Num():
                ty = of_python(e.value) if e.dtype is None else Ty(e.dtype)
                return ir.Const(e.value, ty.dtype, loc=e.loc), ty
            case core.SizeVar():
                return ir.Var(e.name, i64, loc=e.loc), WEAK_INT
            case core.LoopRef():
                return ir.Var(self.loop_names.get(id(e.loop), e.loop.name), i64, loc=e.loc), WEAK_INT
            case core.Ref():
                return self._ref(e)
            case core.Load():
                dtype = self.dtype(e.buffer.dtype)
                index = tuple(self.index(i) for i in e.index)
                name = self.buffer_names.get(id(e.buffer), e.buffer.name)
                return ir.Load(name, index, dtype, loc=e.loc), Ty(dtype)
            case core.Un():
                return self._unary(e)
            case core.Bin():
                return self.binary(e.op, self.expr(e.a), self.expr(e.b), e.loc)
            case core.Cmp():
                return self.compare(e.op, self.expr(e.a), self.expr(e.b), e.loc)
            case core.Logic():
                return self._logic(e)
            case core.Pick():
                cond = self.cond(e.cond)
                a, b = self.expr(e.a), self.expr(e.b)
                ty = join(a[1], b[1])
                return ir.Select(
                    cond, self.convert(a, ty.dtype, e.loc), self.convert(b, ty.dtype, e.loc), loc=e.loc
                ), ty
            case core.Cast():
                return self._cast(e)
            case core.Fn():
                return self._fn(e)
            case core.Let():
                value, ty = self.expr(e.value)
                name = self.names.fresh(e.var.name)
                value = self.convert((value, ty), ty.dtype, e.loc)
                self.lets[id(e.var)] = (ir.Var(name, ty.dtype, loc=e.loc), ty)
                body, body_ty = self.expr(e.body)
                return ir.Let(name, value, body, loc=e.loc), body_ty

    def _ref(self, e: core.Ref) -> Typed:
        if e.var.let:
            found = self.lets[id(e.var)]
            return found
        web = self.webs.of_ref[id(e)]
        if web.param is not None:
            return self.read_param(web.param)
        ty = self.web_types.get(id(web))
        if ty is None:
            raise Unready
        return ir.Load(self.web_names.get(id(web), e.var.name), (), ty.dtype, loc=e.loc), ty

    def dtype(self, dtype: DType | core.Like) -> DType:
        """A dtype, or that of an expression."""
        if isinstance(dtype, DType):
            return dtype
        known = self.like_types.get(id(dtype))
        if known is None:
            known = self.expr(dtype.x)[1].dtype
        return known

    def index(self, e: core.Expr) -> ir.Expr:
        """An array index as i64."""
        x, ty = self.expr(e)
        if ty.dtype.is_float or ty.dtype == bool_:
            what = "a float" if ty.dtype.is_float else "a bool"
            raise CompileError(
                "K0251",
                f"an index must be an integer, not {what}",
                loc=e.loc,
                label=f"this is {_the(ty)}",
                help="write int(...) around it, or use `//` instead of `/`",
            )
        return self.convert((x, ty), i64, e.loc)

    def cond(self, e: core.Expr) -> ir.Expr:
        """A condition as bool_: numbers are true when they are not zero."""
        if isinstance(e, core.Logic):
            return ir.Logic("and" if e.op == "and" else "or", self.cond(e.a), self.cond(e.b), loc=e.loc)
        return self._truth(self.expr(e), e.loc)

    def _truth(self, v: Typed, loc: Loc | None) -> ir.Expr:
        x, ty = v
        if ty.dtype == bool_:
            return x
        if isinstance(x, ir.Const):
            return ir.Const(bool(x.value), bool_, loc=loc)
        zero = ir.Const(0.0 if ty.dtype.is_float else 0, ty.dtype, loc=loc)
        return ir.Compare("!=", self.convert(v, ty.dtype, loc), zero, loc=loc)

    # ---- conversions

    def convert(self, v: Typed, to: DType, loc: Loc | None) -> ir.Expr:
        """`v` in dtype `to`. A Python int that does not fit an integer type is refused."""
        x, ty = v
        if isinstance(x, ir.Const):
            return self._constant(x, ty, to, loc)
        if x.dtype == to:
            return x
        return ir.Cast(x, to, loc=x.loc or loc)

    def _constant(self, x: ir.Const, ty: Ty, to: DType, loc: Loc | None) -> ir.Expr:
        value, at = x.value, x.loc or loc
        if to.is_float:
            try:
                rounded = (
                    round_float(float(value), to) if isinstance(value, float) else int_to_float(value, to)
                )
            except OverflowError:
                raise CompileError(
                    "K0252",
                    f"{value} does not fit into {to}",
                    loc=at,
                    help="use kdsl.inf, or a smaller number",
                ) from None
            return ir.Const(rounded, to, loc=at)
        if to == bool_:
            return ir.Const(bool(value), bool_, loc=at)
        if isinstance(value, float):
            return ir.Cast(ir.Const(value, ty.dtype, loc=at), to, loc=at)
        if not to.min <= value <= to.max:
            if not ty.weak:
                return ir.Const(wrap(int(value), to), to, loc=at)
            way = (
                "write kdsl.u64(...)"
                if to == i64 and value <= u64.max
                else f"write kdsl.{to}({value}) to wrap it, or use a wider type"
            )
            raise CompileError(
                "K0252",
                f"{value} does not fit into {to}",
                loc=at,
                label=f"{to} goes from {to.min} to {to.max}",
                help=way,
            )
        return ir.Const(int(value), to, loc=at)

    # ---- operators

    def _refuse(self, op: str, tys: tuple[Ty, ...], why: str, help: str, loc: Loc | None) -> NoReturn:
        shown = " and ".join(str(t) for t in tys)
        raise CompileError("K0253", f"`{op}` cannot be used on {shown}", loc=loc, label=why, help=help)

    def binary(self, op: str, a: Typed, b: Typed, loc: Loc | None) -> Typed:
        """`a op b` for a Python operator, `min` or `max`."""
        try:
            ty = arithmetic(op, a[1], b[1])
        except TypeRefusal as refusal:
            self._refuse(op, (a[1], b[1]), refusal.why, refusal.help, loc)
        if op == "**":
            return self._power(a, b, ty, loc)
        x, y = self.convert(a, ty.dtype, loc), self.convert(b, ty.dtype, loc)
        match op:
            case "min" | "max" if ty.dtype == bool_:
                return ir.Binary("&" if op == "min" else "|", x, y, loc=loc), ty
            case "+" | "-" | "*" | "/" | "//" | "%" | "&" | "|" | "^" | "<<" | ">>" | "min" | "max":
                return ir.Binary(op, x, y, loc=loc), ty
            case _:
                raise AssertionError(f"unknown operator {op}")

    def _power(self, a: Typed, b: Typed, ty: Ty, loc: Loc | None) -> Typed:
        exponent = b[0].value if isinstance(b[0], ir.Const) else None
        whole = (
            exponent is not None and not isinstance(exponent, bool) and exponent == int(exponent)
            if (exponent is not None and exponent == exponent and abs(exponent) < 1e9)
            else False
        )
        if whole and exponent is not None:
            n = int(exponent)
            if 0 <= n <= _SMALL_POWER:
                return self._multiplied(self.convert(a, ty.dtype, loc), n, ty, loc), ty
            if n < 0 and not ty.dtype.is_float:
                if not ty.weak:
                    self._refuse(
                        "**",
                        (a[1], b[1]),
                        "NumPy refuses negative powers of integers",
                        "convert first: f64(x)",
                        loc,
                    )
                ty = WEAK_FLOAT
            if n == -1:
                one = ir.Const(1.0, ty.dtype, loc=loc)
                return ir.Binary("/", one, self.convert(a, ty.dtype, loc), loc=loc), ty
        x = self.convert(a, ty.dtype, loc)
        if exponent == 0.5:
            return self._square_root(x, ty.dtype, loc), ty
        y = self.convert(b, ty.dtype, loc)
        return ir.Call("pow" if ty.dtype.is_float else "ipow", (x, y), ty.dtype, loc=loc), ty

    def _square_root(self, x: ir.Expr, dtype: DType, loc: Loc | None) -> ir.Expr:
        """`x ** 0.5`: as the square root, but 0 for -0 and infinity for -infinity (C99's `pow`)."""
        name = self.names.fresh("base")
        base = ir.Var(name, dtype, loc=loc)
        root = ir.Call(
            "sqrt", (ir.Binary("+", base, ir.Const(0.0, dtype, loc=loc), loc=loc),), dtype, loc=loc
        )
        lowest = ir.Compare("==", base, ir.Const(float("-inf"), dtype, loc=loc), loc=loc)
        chosen = ir.Select(lowest, ir.Const(float("inf"), dtype, loc=loc), root, loc=loc)
        return ir.Let(name, x, chosen, loc=loc)

    def _multiplied(self, x: ir.Expr, n: int, ty: Ty, loc: Loc | None) -> ir.Expr:
        """`x ** n` by squaring: x is evaluated once."""
        if n == 0:
            one = ir.Const(1.0 if ty.dtype.is_float else 1, ty.dtype, loc=loc)
            if isinstance(x, (ir.Const, ir.Var)):
                return one
            return ir.Let(self.names.fresh("base"), x, one, loc=loc)  # `x` may fault
        if n == 1:
            return x
        if isinstance(x, ir.Const):
            return ir.Call(
                "pow" if ty.dtype.is_float else "ipow",
                (x, ir.Const(n if not ty.dtype.is_float else float(n), ty.dtype)),
                ty.dtype,
                loc=loc,
            )
        if not (isinstance(x, ir.Var) or (isinstance(x, ir.Load) and not x.index)):
            name = self.names.fresh("base")
            body = self._multiplied(ir.Var(name, ty.dtype, loc=loc), n, ty, loc)
            return ir.Let(name, x, body, loc=loc)
        if n == 2:
            return ir.Binary("*", x, x, loc=loc)
        if n == 3:
            return ir.Binary("*", ir.Binary("*", x, x, loc=loc), x, loc=loc)
        half = self.names.fresh("square")
        inner = self._multiplied(ir.Var(half, ty.dtype, loc=loc), n // 2, ty, loc)
        if n % 2:
            inner = ir.Binary("*", inner, x, loc=loc)
        return ir.Let(half, ir.Binary("*", x, x, loc=loc), inner, loc=loc)

    def _unary(self, e: core.Un) -> Typed:
        if e.op == "not":
            x = self.cond(e.x)
            ty = self.expr(e.x)[1]
            return ir.Unary("not", x, loc=e.loc), WEAK_BOOL if ty.weak or ty.dtype != bool_ else BOOL
        x, ty = self.expr(e.x)
        if ty == BOOL:
            if e.op == "~":
                return ir.Unary("not", x, loc=e.loc), BOOL
            self._refuse(
                e.op,
                (ty,),
                f"NumPy has no `{e.op}` for bools",
                "write `not x`, or convert first: i32(x)",
                e.loc,
            )
        ty = number(ty)
        x = self.convert((x, self.expr(e.x)[1]), ty.dtype, e.loc)
        if e.op == "+":
            return x, ty
        if e.op == "~":
            if ty.dtype.is_float:
                self._refuse(
                    "~", (ty,), "bit operations are for integers and bools", "convert first: i32(x)", e.loc
                )
            return ir.Unary("~", x, loc=e.loc), ty
        return ir.Unary("-", x, loc=e.loc), ty

    def compare(self, op: ir.CompareOp, a: Typed, b: Typed, loc: Loc | None) -> Typed:
        """A comparison, exact between integers of any types."""
        ta, tb = a[1], b[1]
        result = WEAK_BOOL if ta.weak and tb.weak else BOOL
        if ta.dtype.is_float or tb.dtype.is_float:
            ty = join(ta, tb)
            return self._compare(op, a, b, ty.dtype, loc), result
        if ta.dtype == bool_ and tb.dtype == bool_:
            return self._compare(op, a, b, bool_ if op in ("==", "!=") else u8, loc), result
        for x, y, sign in ((a, b, op), (b, a, _MIRROR[op])):
            if isinstance(y[0], ir.Const) and y[1].weak:
                folded = self._compare_constant(sign, x, y[0], loc)
                if folded is not None:
                    return folded, result
        if u64 in (ta.dtype, tb.dtype) and ta.dtype != tb.dtype and "int" in (ta.dtype.kind, tb.dtype.kind):
            return self._compare_u64(op, a, b, loc), result
        ty = join(ta, tb)
        if ta.weak != tb.weak:
            strong = tb if ta.weak else ta
            return self._compare(op, a, b, u64 if strong.dtype == u64 else i64, loc), result
        return self._compare(op, a, b, ty.dtype, loc), result

    def _compare(self, op: ir.CompareOp, a: Typed, b: Typed, dtype: DType, loc: Loc | None) -> ir.Expr:
        x, y = self.convert(a, dtype, loc), self.convert(b, dtype, loc)
        return ir.Compare(op, x, y, loc=loc)

    def _compare_constant(self, op: ir.CompareOp, x: Typed, c: ir.Const, loc: Loc | None) -> ir.Expr | None:
        """`x op c` for a Python int: in x's own type when c fits it, else decided by the ranges.

        The decided one is still a comparison of `x`, whose evaluation may fault.
        """
        dtype = x[1].dtype
        value = int(c.value)
        if dtype == bool_:
            return self._compare(op, x, (c, WEAK_INT), i64, loc) if i64.min <= value <= i64.max else None
        if dtype.min <= value <= dtype.max:
            return self._compare(op, x, (c, WEAK_INT), dtype, loc)
        above = value > dtype.max
        known = {"==": False, "!=": True, "<": above, "<=": above, ">": not above, ">=": not above}[op]
        lowest = ir.Const(dtype.min, dtype, loc=loc)
        return ir.Compare(">=" if known else "<", self.convert(x, dtype, loc), lowest, loc=loc)

    def _compare_u64(self, op: ir.CompareOp, a: Typed, b: Typed, loc: Loc | None) -> ir.Expr:
        """u64 against a signed type: a negative number is less than any u64."""
        if a[1].dtype != u64:
            return self._compare_u64(_MIRROR[op], b, a, loc)
        signed = self.convert(b, i64, loc)
        as_unsigned = ir.Cast(signed, u64, loc=loc)
        zero = ir.Const(0, i64, loc=loc)
        inner = ir.Compare(op, self.convert(a, u64, loc), as_unsigned, loc=loc)
        # Not Logic: both operands are evaluated, whatever the sign.
        if op in ("!=", ">", ">="):
            return ir.Binary("|", ir.Compare("<", signed, zero, loc=loc), inner, loc=loc)
        return ir.Binary("&", ir.Compare(">=", signed, zero, loc=loc), inner, loc=loc)

    def _logic(self, e: core.Logic) -> Typed:
        """`and` / `or`: on bools themselves, on numbers the operand that decides."""
        a, b = self.expr(e.a), self.expr(e.b)
        ty = join(a[1], b[1])
        if ty.dtype == bool_:
            return ir.Logic("and" if e.op == "and" else "or", a[0], b[0], loc=e.loc), ty
        name = self.names.fresh("first")
        first: Typed = (ir.Var(name, a[1].dtype, loc=e.loc), a[1])
        x, y = self.convert(first, ty.dtype, e.loc), self.convert(b, ty.dtype, e.loc)
        test = self._truth(first, e.loc)
        chosen = ir.Select(test, y, x, loc=e.loc) if e.op == "and" else ir.Select(test, x, y, loc=e.loc)
        return ir.Let(name, self.convert(a, a[1].dtype, e.loc), chosen, loc=e.loc), ty

    def _cast(self, e: core.Cast) -> Typed:
        x, ty = self.expr(e.x)
        if e.to == "index":
            return self.index(e.x), WEAK_INT
        if isinstance(e.to, str):
            target = {"int": WEAK_INT, "float": WEAK_FLOAT, "bool": WEAK_BOOL}[e.to]
            return self.cast((x, ty), target.dtype, e.loc), target
        dtype = self.dtype(e.to)
        return self.cast((x, ty), dtype, e.loc), Ty(dtype)

    def cast(self, v: Typed, to: DType, loc: Loc | None) -> ir.Expr:
        """An explicit cast: everything converts to everything."""
        x, ty = v
        if to == bool_:
            return self._truth(v, loc)
        if isinstance(x, ir.Const) and ty.weak and not isinstance(x.value, float) and to.is_int:
            return ir.Const(wrap(int(x.value), to), to, loc=loc)
        return self.convert(v, to, loc)

    # ---- functions

    def _fn(self, e: core.Fn) -> Typed:
        if e.name == "within":
            return ir.Call("within", tuple(map(self.index, e.args)), i64, loc=e.loc), WEAK_INT
        args = [self.expr(a) for a in e.args]
        match e.name:
            case "bitcast":
                assert e.dtype is not None
                x = self.convert(args[0], args[0][1].dtype, e.loc)
                if x.dtype.bits != e.dtype.bits or bool_ in (x.dtype, e.dtype):
                    raise CompileError(
                        "K0254",
                        f"the bits of {_the(args[0][1])} cannot be read as {e.dtype}",
                        loc=e.loc,
                        label=f"{x.dtype} has {x.dtype.bits} bits, {e.dtype} has {e.dtype.bits}",
                        help="cast to a type of the same width first",
                    )
                return ir.Call("bitcast", (x,), e.dtype, loc=e.loc), Ty(e.dtype)
            case "random_bits" | "uniform":
                assert e.dtype is not None
                for (_, ty), a in zip(args, e.args):
                    if ty.dtype.is_float:
                        raise CompileError(
                            "K0255",
                            f"`{e.name}` needs integers",
                            loc=a.loc,
                            label=f"this is {_the(ty)}",
                            help="write int(...)",
                        )
                return ir.Call(e.name, tuple(self.cast(a, u64, e.loc) for a in args), e.dtype, loc=e.loc), Ty(
                    e.dtype
                )
            case "py.round":
                x, ty = args[0]
                if not ty.dtype.is_float:
                    return x, ty
                return ir.Call("round", (x,), ty.dtype, loc=e.loc), ty
            case _:
                return self._row(e, args)

    def _row(self, e: core.Fn, args: list[Typed]) -> Typed:
        row = TABLE[e.name]
        ty = args[0][1]
        for _, other in args[1:]:
            ty = join(ty, other)
        if row.rule == "float->bool":
            result = WEAK_BOOL if ty.weak else BOOL
            if not ty.dtype.is_float:
                return ir.Const(e.name == "isfinite", bool_, loc=e.loc), result
            x = self.convert(args[0], ty.dtype, e.loc)
            return ir.Call(e.name, (x,), bool_, loc=e.loc), result
        if row.rule == "float" and not ty.dtype.is_float:
            if e.name in ("floor", "ceil", "trunc", "round") and not ty.weak:
                return args[0]
            ty = WEAK_FLOAT if ty.weak else Ty(float_of(ty.dtype))
        if row.rule == "number":
            ty = number(ty)
            if ty.dtype == bool_:
                if e.name == "abs":
                    return args[0]
                x, y = (self.convert(a, bool_, e.loc) for a in args)
                return ir.Binary("&" if e.name == "minimum" else "|", x, y, loc=e.loc), ty
        return ir.Call(e.name, tuple(self.convert(a, ty.dtype, e.loc) for a in args), ty.dtype, loc=e.loc), ty


_MIRROR: dict[ir.CompareOp, ir.CompareOp] = {
    "==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<=",
}  # fmt: skip


def _the(ty: Ty) -> str:
    return f"a Python {ty}" if ty.weak else f"{'an' if ty.dtype.name[0] in 'i' else 'a'} {ty}"
