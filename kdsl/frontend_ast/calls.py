"""Calls of the language's own functions: casts, math, local arrays, atomics."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any, Literal

from kdsl.dtypes import DType, TypeVar, f32, u32
from kdsl.frontend_ast import core, facts
from kdsl.frontend_ast.exprs import Expressions, as_num, python_value
from kdsl.frontend_ast.frames import EXPR, Array, Method, Static, Tuple, Value, View
from kdsl.frontend_ast.scope import Function
from kdsl.ir.builtins import TABLE
from kdsl.source import Loc

_ATOMIC: dict[str, Literal["+", "min", "max"]] = {"atomic_add": "+", "atomic_min": "min", "atomic_max": "max"}
_LOOPS = ("py.range", "grid", "static_range")


class Calls(Expressions):
    """`call` elaborates any call expression."""

    def inline(self, callee: Any, node: ast.Call, want: bool) -> Value | None:
        raise AssertionError("defined in Inlining")

    def call(self, node: ast.Call) -> Value:
        value = self.call_any(node, True)
        if value is None:
            self.error(
                "K0222",
                f"`{ast.unparse(node.func)}` gives no value",
                node,
                help="call it on a line of its own, or give it a result annotation and a `return`",
            )
        return value

    def call_any(self, node: ast.Call, want: bool) -> Value | None:
        """A call; None when it has no result. `want`: the result is used."""
        hint, self.hint = self.hint, ""
        fn = self.expr(node.func)
        match fn:
            case Static(value=Function() as f):
                self.hint = hint
                return self._function(f.name, node)
            case Static(value=DType() as dtype):
                return self._cast(dtype, node)
            case Static(value=core.Like() as like):
                return self._cast(like, node)
            case Method():
                return self._method(fn, node)
            case Static() if hasattr(fn.value, "__kdsl_source__") or callable(fn.value):
                self.hint = hint
                return self.inline(fn.value, node, want)
            case _:
                self.error(
                    "K0205", f"{self.describe(fn)} cannot be called", node, help="call kernels and functions"
                )

    # ---- arguments

    def arguments(
        self, node: ast.Call, names: tuple[str, ...], least: int, shown: str
    ) -> list[ast.expr | None]:
        """The argument of each name; the first `least` must be given."""
        given: list[ast.expr | None] = [None] * len(names)
        if len(node.args) > len(names):
            self.error(
                "K0208",
                f"`{shown}` takes {_count(least, len(names))}, not {len(node.args)}",
                node,
                help=f"write {shown}({', '.join(names)})",
            )
        given[: len(node.args)] = node.args
        for k in node.keywords:
            if k.arg is None or k.arg not in names or given[names.index(k.arg)] is not None:
                self.error(
                    "K0208",
                    f"`{shown}` has no further argument `{k.arg}`",
                    node,
                    help=f"write {shown}({', '.join(names)})",
                )
            given[names.index(k.arg)] = k.value
        for n in range(least):
            if given[n] is None:
                self.error(
                    "K0208",
                    f"`{shown}` needs the argument `{names[n]}`",
                    node,
                    help=f"write {shown}({', '.join(names)})",
                )
        return given

    def values(self, nodes: list[ast.expr]) -> list[Value]:
        """The values of expressions, evaluated from left to right."""
        return self.operands([lambda e=e: self.expr(e) for e in nodes])  # type: ignore[misc]

    def plain(self, node: ast.Call, low: int, high: int, shown: str) -> list[Value]:
        """The values of positional arguments, between `low` and `high` of them."""
        if node.keywords or not low <= len(node.args) <= high:
            self.error(
                "K0208",
                f"`{shown}` takes {_count(low, high)}",
                node,
                label=f"{len(node.args) + len(node.keywords)} given",
                help=f"write {shown}({', '.join(['x', 'y', 'z'][:low])})",
            )
        return self.values(node.args)

    # ---- functions by name

    def _function(self, name: str, node: ast.Call) -> Value | None:
        shown = ast.unparse(node.func)
        loc = self.loc(node)
        if name in _LOOPS:
            self.error(
                "K0113",
                f"`{shown}` can only be looped over",
                node,
                help=f"write `for i in {ast.unparse(node)}:`",
            )
        if name in _ATOMIC:
            old = core.Variable("old", loc, checked=False)
            self.atomic(node, _ATOMIC[name], old)
            return core.Ref(old, loc)
        if name in ("empty", "zeros", "full"):
            return self._local_array(name, node)
        match name:
            case "py.print":
                self._print(node)
                return None
            case "py.len":
                return self._len(self.plain(node, 1, 1, shown)[0], node)
            case "py.divmod":
                a, b = (self.frozen(self.scalar(v, node)) for v in self.plain(node, 2, 2, shown))
                return Tuple((self.fold("//", a, b, loc), self.fold("%", a, b, loc)))
            case "py.min" | "py.max":
                return self._min_max(name[3:], self.plain(node, 1, 64, shown), node)
            case "py.pow" | "np.power" | "pow":
                base, exponent = self.plain(node, 2, 2, shown)
                return self.binary("**", base, exponent, node)
            case "py.round":
                return self._round(node)
            case "py.int" | "py.float" | "py.bool":
                to: Any = name[3:]
                x = self.plain(node, 1, 1, shown)[0]
                if to == "float" and isinstance(x, Static) and x.value in ("inf", "-inf", "nan"):
                    return core.Num(float(str(x.value)), loc=loc)
                return self.elementwise([x], lambda v: self.cast(to, v[0], loc), node)
            case "py.abs" | "abs":
                x = self.plain(node, 1, 1, shown)[0]
                return self.elementwise([x], lambda v: self._abs(v[0], loc), node)
            case "math.floor" | "math.ceil" | "math.trunc":
                x = self.plain(node, 1, 1, shown)[0]
                fn = name[5:]
                return self.elementwise(
                    [x], lambda v: core.Cast(core.Fn(fn, (v[0],), loc=loc), "int", loc), node
                )
            case "np.square":
                x = self.plain(node, 1, 1, shown)[0]
                return self.binary("**", x, core.Num(2, loc=loc), node)
            case "np.reciprocal":
                return self.binary("/", core.Num(1.0, loc=loc), self.plain(node, 1, 1, shown)[0], node)
            case "np.logical_not":
                x = self.plain(node, 1, 1, shown)[0]
                return self.elementwise([x], lambda v: core.Un("not", v[0], loc), node)
            case "where":
                args = self.plain(node, 3, 3, shown)
                return self.elementwise(args, lambda v: self._where(v[0], v[1], v[2], loc), node)
            case "bitcast":
                return self._bitcast(node)
            case "random_bits" | "uniform":
                seed, i = (self.scalar(v, node) for v in self.plain(node, 2, 2, shown))
                return core.Fn(name, (seed, i), u32 if name == "random_bits" else f32, loc)
            case _:
                return self._builtin(name, node)

    def _builtin(self, name: str, node: ast.Call) -> Value:
        row = TABLE.get(name)
        assert row is not None, f"lang has `{name}`, which the front end does not know"
        loc = self.loc(node)
        args = self.plain(node, row.arity, row.arity, ast.unparse(node.func))
        return self.elementwise(args, lambda v: core.Fn(name, tuple(v), loc=loc), node)

    def _where(self, cond: core.Expr, a: core.Expr, b: core.Expr, loc: Loc | None) -> core.Expr:
        """`where`: both operands are evaluated, so what can fault is computed before the choice."""
        lets: list[tuple[core.Variable, core.Expr]] = []
        operands = [cond, a, b]
        for n, e in enumerate(operands):
            if facts.can_fault(e):
                var = core.Variable("operand", e.loc, fixed=True, checked=False, let=True)
                lets.append((var, e))
                operands[n] = core.Ref(var, e.loc)
        cond, a, b = operands
        if isinstance(cond, core.Num):
            chosen = a if cond.value else b
        else:
            chosen = core.Pick(cond, a, b, loc)
        for var, e in reversed(lets):
            chosen = core.Let(var, e, chosen, loc)
        return chosen

    def cast(self, to: core.CastTo, x: core.Expr, loc: Loc | None) -> core.Expr:
        """A cast, done now for constants where it loses nothing but bits."""
        if isinstance(x, core.Num):
            value = python_value(x)
            try:
                match to:
                    case DType():
                        if not (to.is_int and isinstance(x.value, float)):
                            return as_num(to(value), loc) or core.Cast(x, to, loc)
                    case "int":
                        return core.Num(int(value), loc=loc)
                    case "float":
                        return core.Num(float(value), loc=loc)
                    case "bool":
                        return core.Num(bool(value), loc=loc)
                    case _:
                        pass
            except (OverflowError, ValueError, TypeError):
                return core.Cast(x, to, loc)
        return core.Cast(x, to, loc)

    def _cast(self, to: core.CastTo, node: ast.Call) -> Value:
        shown = ast.unparse(node.func)
        x = self.plain(node, 1, 1, shown)[0]
        loc = self.loc(node)
        return self.elementwise([x], lambda v: self.cast(to, v[0], loc), node)

    def _method(self, method: Method, node: ast.Call) -> Value:
        array = method.array
        assert isinstance(array, View)
        if method.name == "reshape":
            return self.reshape(array, self.values(node.args), node)
        if method.name == "transpose":
            self.plain(node, 0, 0, ast.unparse(node.func))
            place = array.place
            return View.of(
                array.buffer, array.shape[::-1], lambda index: place(index[::-1]), ast.unparse(node)
            )
        to = self.dtype(node.args[0] if node.args else node, "astype")
        return self.elementwise([array], lambda v: self.cast(to, v[0], self.loc(node)), node)

    def _abs(self, x: core.Expr, loc: Loc | None) -> core.Expr:
        if isinstance(x, core.Num):
            return as_num(abs(python_value(x)), loc) or core.Fn("abs", (x,), loc=loc)
        return core.Fn("abs", (x,), loc=loc)

    def _len(self, x: Value, node: ast.Call) -> Value:
        if isinstance(x, Tuple):
            return core.Num(len(x.items), loc=self.loc(node))
        if isinstance(x, Array) and x.shape:
            return facts.length(x.shape[0])
        self.error("K0210", f"{self.describe(x)} has no length", node, help="len() is for arrays and tuples")

    def _min_max(self, op: str, values: list[Value], node: ast.Call) -> Value:
        if len(values) == 1 and isinstance(values[0], Tuple):
            values = list(values[0].items)
        if len(values) < 2:
            self.error(
                "K0208",
                f"`{op}` needs two values or more",
                node,
                help=f"loop over the elements: m = {op}(m, A[i])",
            )
        total = values[0]
        for v in values[1:]:
            total = self.binary(op, total, v, node)
        return total

    def _round(self, node: ast.Call) -> Value:
        if len(node.args) != 1 or node.keywords:
            self.error(
                "K0208",
                "`round` takes one value here",
                node,
                help="round(x) gives an int; for digits write round(x * 100) / 100",
            )
        x = self.scalar_expr(node.args[0])
        loc = self.loc(node)
        if isinstance(x, core.Num) and x.value == x.value and abs(x.value) != float("inf"):
            return core.Num(round(x.value), loc=loc)
        return core.Cast(core.Fn("py.round", (x,), loc=loc), "int", loc)

    def _bitcast(self, node: ast.Call) -> Value:
        x_node, dtype_node = self.arguments(node, ("x", "dtype"), 2, ast.unparse(node.func))
        assert x_node is not None and dtype_node is not None
        x = self.expr(x_node)
        dtype = self.dtype(dtype_node, "bitcast")
        if not isinstance(dtype, DType):
            self.error(
                "K0209", "the type of a bitcast must be known here", dtype_node, help="write the type: u32"
            )
        loc = self.loc(node)
        return self.elementwise([x], lambda v: core.Fn("bitcast", (v[0],), dtype, loc), node)

    def dtype(self, node: ast.expr, what: str) -> DType | core.Like:
        """The type that an argument names."""
        value = self.expr(node)
        match value:
            case Static(value=DType() | core.Like() as dtype):
                return dtype
            case Static(value=TypeVar() as var):
                self.error(
                    "K0209",
                    f"`{var.name}` is not bound to a type here",
                    node,
                    help="annotate an argument with it",
                )
            case Static(value=Function(name="py.int" | "py.float" | "py.bool" as name)):
                known = {"py.int": "i64", "py.float": "f64", "py.bool": "bool_"}[name]
                self.error("K0209", f"`{name[3:]}` is not a kdsl type", node, help=f"write kdsl.{known}")
            case _:
                self.error(
                    "K0209",
                    f"`{what}` needs a type here, not {self.describe(value)}",
                    node,
                    help="write f32, i64, ...",
                )

    # ---- local arrays

    def _local_array(self, kind: str, node: ast.Call) -> View:
        shown = ast.unparse(node.func)
        hint, self.hint = self.hint or "local", ""
        names = ("shape", "value", "dtype") if kind == "full" else ("shape", "dtype")
        given = self.arguments(node, names, len(names), shown)
        loc = self.loc(node)
        shape_node, dtype_node = given[0], given[-1]
        assert shape_node is not None and dtype_node is not None
        shape_value = self.expr(shape_node)
        items = shape_value.items if isinstance(shape_value, Tuple) else (shape_value,)
        extents = []
        for item in items:
            e = self.scalar(item, shape_node, "an extent")
            if isinstance(e, core.Num) and (not isinstance(e.value, int) or e.value < 0):
                self.error(
                    "K0220",
                    f"{e.value} cannot be the extent of an array",
                    shape_node,
                    help="use an integer >= 0",
                )
            extents.append(e)
        shape = self.local_shape(extents, self.loc(shape_node))
        dtype = self.dtype(dtype_node, shown)
        value: core.Expr | None = None
        if kind == "zeros":
            value = core.Num(0, loc=loc)
        elif kind == "full":
            assert given[1] is not None
            value = self.frozen(self.scalar_expr(given[1]))
        view = self.new_array(hint, dtype, shape, loc)
        if value is not None:
            fill = value
            buffer = view.buffer
            self.out.append(self.nest(f"{hint}_", shape, lambda i: core.Store(buffer, i, fill, loc=loc), loc))
        return view

    def new_array(
        self, name: str, dtype: DType | core.Like, shape: tuple[core.Expr, ...], loc: Loc | None
    ) -> View:
        """A local array; where `name` is a result that is returned as it is, the result itself."""
        result = self.frame.result_locals.get(name)
        if (
            result is not None
            and result.buffer.dtype == dtype
            and len(shape) == len(result.shape)
            and all(facts.poly(a) == facts.poly(b) for a, b in zip(shape, result.shape))
        ):
            return result
        buffer = core.Buffer(name, dtype, shape, loc=loc)
        self.out.append(core.Alloc(buffer, loc))
        return View.of(buffer, shape, lambda index: index, name, whole=True)

    # ---- effects

    def atomic(self, node: ast.Call, op: Literal["+", "min", "max"], old: core.Variable | None) -> None:
        """`atomic_add(A, index, value)`; the old value goes to `old`."""
        shown = ast.unparse(node.func)
        array_node, index_node, value_node = self.arguments(node, ("array", "index", "value"), 3, shown)
        assert array_node is not None and index_node is not None and value_node is not None
        array, index, value = self.values([array_node, index_node, value_node])
        if not isinstance(array, View):
            self.error(
                "K0210",
                f"`{shown}` needs an array, not {self.describe(array)}",
                array_node,
                help=f"name the array first: {shown}(A, i, value)",
            )
        items = index.items if isinstance(index, Tuple) else (index,)
        if len(items) != len(array.shape):
            self.error(
                "K0215",
                f"`{array.text}` has {len(array.shape)} dimensions but is indexed with {len(items)}",
                index_node,
                help="give a tuple with one index for each dimension",
            )
        elements = [self._element(array, d, v, index_node) for d, v in enumerate(items)]
        places = self.tested(array, elements, array_node)
        self.out.append(
            core.Atomic(
                op, array.buffer, array.place(places), self.scalar(value, value_node), old, self.loc(node)
            )
        )

    def atomic_statement(self, node: ast.Call) -> bool:
        """Elaborates `node` when it is an atomic whose old value is not used."""
        fn = node.func
        if not isinstance(fn, (ast.Name, ast.Attribute)):
            return False
        value = self.expr(fn)
        if isinstance(value, Static) and isinstance(value.value, Function) and value.value.name in _ATOMIC:
            self.atomic(node, _ATOMIC[value.value.name], None)
            return True
        return False

    def _print(self, node: ast.Call) -> None:
        ends = {"sep": " ", "end": "\n"}
        for k in node.keywords:
            if (
                k.arg not in ends
                or not isinstance(k.value, ast.Constant)
                or not isinstance(k.value.value, str)
            ):
                self.error(
                    "K0114",
                    "`print` takes constant `sep` and `end` only",
                    node,
                    help='write print(a, b, sep=", ")',
                )
            ends[k.arg] = k.value.value
        groups: list[list[Callable[[], Value]]] = []
        texts = any(isinstance(a, ast.JoinedStr) for a in node.args)
        for arg in node.args:
            parts = arg.values if isinstance(arg, ast.JoinedStr) else [arg]
            group: list[Callable[[], Value]] = []
            for part in parts:
                if isinstance(part, ast.FormattedValue):
                    if part.format_spec is not None or part.conversion != -1:
                        self.error(
                            "K0114",
                            "formats cannot be used in a kernel's print",
                            arg,
                            help="print the plain value: {x}",
                        )
                    group.append(lambda e=part.value: self.expr(e))  # type: ignore[misc]
                else:
                    group.append(lambda e=part: self.expr(e))  # type: ignore[misc]
            groups.append(group)
        values = self.operands([make for group in groups for make in group])
        items: list[str | core.Expr] = []
        at = 0
        for number, group in enumerate(groups):
            if texts and number:
                items.append(ends["sep"])
            for value in values[at : at + len(group)]:
                if isinstance(value, Static) and isinstance(value.value, str):
                    items.append(value.value)
                elif isinstance(value, EXPR):
                    items.append(value)
                else:
                    self.error(
                        "K0114",
                        f"{self.describe(value)} cannot be printed from a kernel",
                        node,
                        help="print numbers and text",
                    )
            at += len(group)
        self.out.append(core.Print(tuple(items), "" if texts else ends["sep"], ends["end"], self.loc(node)))


def _count(low: int, high: int) -> str:
    if low == high:
        return f"{low} argument{'s' * (low != 1)}"
    return f"{low} to {high} arguments"
