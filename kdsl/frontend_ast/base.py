"""State and small services of elaboration: errors, output, temporaries, facts about sizes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import NoReturn

from kdsl.dtypes import DType, Size
from kdsl.errors import CompileError
from kdsl.frontend_ast import core, facts
from kdsl.frontend_ast.frames import EXPR, Array, Frame, Method, Static, Tuple, Value, View
from kdsl.source import Loc


class Base:
    """Elaborates one kernel. `out` is the body that grows; `frame` the running function.

    `certain`: the point that is being elaborated runs in every call, so that a condition on sizes may be
    tested before it.
    """

    def __init__(self, frame: Frame, plain_functions: bool = False) -> None:
        self.frame = frame
        self.frames = [frame]
        self.program = core.Program()
        self.out: core.Body = self.program.body
        self.certain = True
        self.plain_functions = plain_functions
        self.hint = ""
        self.may_alias: tuple[str, ...] = ()

    # ---- errors

    def loc(self, node: ast.AST) -> Loc:
        return self.frame.source.origin.loc(node)

    def error(
        self,
        code: str,
        title: str,
        at: ast.AST | Loc | None,
        *,
        label: str = "",
        notes: Sequence[str | tuple[Loc, str]] = (),
        help: str = "",
    ) -> NoReturn:
        loc = self.loc(at) if isinstance(at, ast.AST) else at
        raise CompileError(code, title, loc=loc, label=label, notes=notes, help=help)

    # ---- to be given by the layers above

    def expr(self, node: ast.expr) -> Value:
        raise AssertionError("defined in Expressions")

    # ---- values

    def describe(self, value: Value) -> str:
        """What a value is, in a user's words."""
        match value:
            case View():
                return f"an array of rank {len(value.shape)}"
            case Array():
                return "an array expression"
            case Tuple():
                return "a tuple"
            case Method():
                return f"the method `{value.name}`"
            case Static(value=str()):
                return "a string"
            case Static(value=None):
                return "None"
            case Static(value=DType()):
                return "a type"
            case Static():
                name = getattr(value.value, "__name__", None) or getattr(value.value, "name", None)
                return f"`{name}`" if name else f"a {type(value.value).__name__}"
            case _:
                return "a number"

    def scalar(self, value: Value, node: ast.AST | Loc | None, what: str = "a number") -> core.Expr:
        """`value` as a scalar expression; anything else is the user's error."""
        if isinstance(value, EXPR):
            return value
        if isinstance(value, View) and not value.shape:
            return value.elem(())
        help = ""
        if isinstance(value, View):
            help = f"take one element: {value.text or 'A'}[{', '.join('ijklmnop'[: len(value.shape)])}]"
        elif isinstance(value, Static) and isinstance(value.value, str):
            help = "text can only be printed, or explain an assertion; use a number"
        elif isinstance(value, Array):
            help = "take one element of each array in it: A[i]"
        self.error("K0210", f"{what} is needed here, not {self.describe(value)}", node, help=help)

    def scalar_expr(self, node: ast.expr, what: str = "a number") -> core.Expr:
        return self.scalar(self.expr(node), node, what)

    # ---- output

    def temp(self, value: core.Expr, name: str = "t", loc: Loc | None = None) -> core.Ref:
        """A read of a new variable that holds `value` from here on."""
        var = core.Variable(name, loc or value.loc, fixed=True, checked=False)
        self.out.append(core.Assign(var, value, loc=loc or value.loc))
        return core.Ref(var, value.loc)

    def frozen(self, e: core.Expr, name: str = "t") -> core.Expr:
        """`e`, or a temporary when its value could change while it is still needed."""
        return e if facts.stable(e) else self.temp(e, name)

    def captured(self, make: Callable[[], core.Expr]) -> tuple[core.Body, core.Expr]:
        """The statements and the value that `make` gives, without emitting the statements."""
        outer, self.out = self.out, []
        try:
            value = make()
            return self.out, value
        finally:
            self.out = outer

    def in_body(self, make: Callable[[], None]) -> core.Body:
        """The statements that `make` emits, as a nested body that does not certainly run."""
        outer, self.out = self.out, []
        certain, self.certain = self.certain, False
        try:
            make()
            return self.out
        finally:
            self.out, self.certain = outer, certain

    def lazy(self, make: Callable[[], core.Expr]) -> tuple[core.Body, core.Expr]:
        """As `captured`, for an operand that may not be evaluated. Plain temporaries become `Let`s."""
        certain, self.certain = self.certain, False
        body, value = self.captured(make)
        self.certain = certain
        if body and all(isinstance(s, core.Assign) and s.var.fixed and not s.var.checked for s in body):
            for s in reversed(body):
                assert isinstance(s, core.Assign)
                s.var.let = True
                value = core.Let(s.var, s.value, value, s.loc)
            return [], value
        return body, value

    def operands(self, makes: Sequence[Callable[[], Value]]) -> list[Value]:
        """The values in order; one is saved when a later one's statements could change it."""
        values: list[Value] = []
        for make in makes:
            mark = len(self.out)
            value = make()
            if len(self.out) > mark:
                added = self.out[mark:]
                del self.out[mark:]
                for at, earlier in enumerate(values):
                    if isinstance(earlier, EXPR) and not facts.stable(earlier):
                        values[at] = self.temp(earlier)
                self.out.extend(added)
            values.append(value)
        return values

    # ---- sizes

    def size(self, size: Size, loc: Loc | None = None) -> core.Expr:
        """A size, affine in the frame's symbols, as an expression."""
        total: core.Expr = core.Num(size.const, loc=loc)
        first = True
        for name, coefficient in size.terms.items():
            symbol = self.frame.symbols.get(name)
            if symbol is None:
                self.error(
                    "K0211",
                    f"size `{name}` is not known in `{self.frame.source.name}`",
                    loc or self.frame.source.loc,
                    label="no array argument has it in its shape",
                    help=f"use it in an annotation, such as A: f32[{name}], "
                    "or pass the number as an argument",
                )
            term = facts.mul(core.Num(coefficient, loc=loc), symbol) if coefficient != 1 else symbol
            if first:
                total, first = term, False
            elif coefficient < 0:
                total = facts.sub(total, facts.mul(core.Num(-coefficient, loc=loc), symbol))
            else:
                total = facts.add(total, term)
        if not first and size.const:
            if size.const < 0:
                return core.Bin("-", total, core.Num(-size.const, loc=loc), loc)
            return core.Bin("+", total, core.Num(size.const, loc=loc), loc)
        return total

    def require_equal(
        self, a: core.Expr, b: core.Expr, title: str, loc: Loc | None, code: str, help: str = ""
    ) -> None:
        """Sees to it that `a == b`: proved, refused, tested at the call, or tested here."""
        a, b = facts.raw_length(a), facts.raw_length(b)
        difference = facts.constant(core.Bin("-", a, b))
        if difference == 0:
            return
        if difference is not None:
            x, y = facts.constant(a), facts.constant(b)
            label = f"{x} and {y}" if x is not None and y is not None else f"they differ by {abs(difference)}"
            self.error(code, title, loc, label=label, help=help)
        self.require(core.Cmp("==", a, b, loc), title, loc)

    def require(self, cond: core.Expr, title: str, loc: Loc | None) -> None:
        """A condition that the call must meet; an assertion here when it may not run or depends on data."""
        if self.certain and isinstance(cond, core.Cmp) and facts.is_shape(cond.a) and facts.is_shape(cond.b):
            self.program.checks.append(core.Check(cond, title, loc))
        else:
            self.out.append(core.Assert(cond, title, loc))
