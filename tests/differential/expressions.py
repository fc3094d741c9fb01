"""Random expressions, conditions and indices, typed as NEP 50 types them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from kdsl.dtypes import DType, bf16, bool_, f64, i64, promote
from tests.differential.model import EXACT, FLOATS, INTS, LARGE, STORED, Array, E, Pick, Scope, V


class Expressions:
    """Draws expressions through `pick(options)`; earlier options are the simpler ones."""

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self.lines: list[str] = []
        self.budget = 10
        self.fresh = 0
        self.strict = False
        self.sizes = {"N": 6, "M": 6}
        self.helper: tuple[str, tuple[DType, DType], DType] | None = None
        self.callee: DType | None = None
        self.reducer: tuple[DType, DType] | None = None
        self.returns: DType | None = None
        self.math = False
        self.nest = 0

    def pick(self, options: Sequence[V]) -> V:
        return self._pick(options)  # type: ignore[no-any-return]

    def chance(self, percent: int) -> bool:
        return self.pick(range(100)) >= 100 - percent

    def name(self, stem: str) -> str:
        self.fresh += 1
        return f"{stem}{self.fresh}"

    # ------------------------------------------------------------ places

    def target(self, scope: Scope) -> Array:
        ours = [a for a in scope.arrays.values() if a.name != "IDX"]
        return self.pick([a for a in ours if a.name == "Z"] + ours)

    def indices(self, scope: Scope, array: Array) -> str:
        return ", ".join(self.index(scope, dim) for dim in array.dims)

    def index(self, scope: Scope, dim: str) -> str:
        inside = [v for v, dims in scope.loops.items() if dim in dims]
        nonzero = bool(inside) or dim.isdigit()
        if inside and not self.chance(40):
            return self.pick(inside)
        if inside:
            v = self.pick(inside)
            kind = self.pick(("reverse", "modulo", "clamp", "data", "next", "modulo_data"))
            match kind:
                case "reverse":
                    return f"{dim} - 1 - {v}"
                case "modulo":
                    w = self.pick(list(scope.loops))
                    return f"({v} + {w} + {self.pick((1, 2, 7))}) % {dim}"
                case "clamp":
                    return self.pick((f"min({v} + 1, {dim} - 1)", f"max({v} - 1, 0)"))
                case "next" if self.chance(15):
                    return self.pick((f"{v} + 1", f"{v} - 1"))
                case "data" if "IDX" in scope.arrays and "N" in scope.loops.get(v, ()):
                    return f"IDX[{v}]"
                case "modulo_data":
                    e = self.integer(scope, 1)
                    return f"i64({e.text}) % {dim}"
                case _:
                    return v
        if nonzero:
            return str(self.pick((0, int(dim) - 1, -1)))
        if self.chance(70):
            return self.pick(("0", "-1"))
        return "1" if self.chance(30) else "0"

    # ------------------------------------------------------------ expressions

    def literal(self, dtype: DType) -> str:
        if dtype.is_float:
            return self.pick(
                ("1.0", "0.0", "-2.0", "3.0") if not self.strict else ("1.0", "0.1", "-2.5", "1e3")
            )
        options = [1, 0, 2, 3, 5, dtype.max]
        if dtype.min < 0:
            options += [-1, -3, dtype.min]
        return str(self.pick(options))

    def leaves(self, scope: Scope) -> list[E]:
        out = [E(n, d, bound=self.stored(d)) for n, d in scope.scalars.items()]
        out += [E(v, "wint", -1, LARGE + 1) for v in scope.loops]
        out += [E(c, "wint", 0, limit) for c, limit in scope.counters.items()]
        return out

    def stored(self, dtype: DType) -> float:
        return STORED if dtype.is_float and not self.strict else math.inf

    def leaf(self, scope: Scope) -> E:
        kind = self.pick(("read", "read", "name", "name", "literal", "size"))
        arrays = [a for a in scope.arrays.values() if not a.accumulator and a.dtype != bool_]
        if kind == "read" and arrays:
            return self.read(scope, self.pick(arrays))
        names = self.leaves(scope)
        if kind == "name" and names:
            return self.pick(names)
        if kind == "size" and self.sizes:
            return E(self.pick(("N", "M")), "wint", 0, LARGE) if "A" in scope.arrays else E("2", "wint", 2, 2)
        return self.weak_literal()

    def weak_literal(self) -> E:
        if self.chance(30):
            value = self.pick((1.0, 2.0, -3.0, 0.0) if not self.strict else (0.5, 1.0, 0.1, -1e3, 3.0))
            return E(repr(value), "wfloat", bound=abs(value) if not self.strict else math.inf)
        number = self.pick((1, 2, 3, 0, 5, -1, -7, 100))
        return E(str(number) if number >= 0 else f"({number})", "wint", number, number)

    def read(self, scope: Scope, array: Array) -> E:
        return E(f"{array.name}[{self.indices(scope, array)}]", array.dtype, bound=self.stored(array.dtype))

    def expr(self, scope: Scope, depth: int) -> E:
        if depth <= 0:
            return self.leaf(scope)
        kinds = ["leaf", "binary", "binary", "binary", "unary", "cast", "choose", "minmax", "shift", "bits"]
        kinds += ["floor", "bool", "power"]
        if self.strict:
            kinds += ["divide", "function"]
        if self.helper is not None and "A" in scope.arrays:
            kinds += ["helper"]
        if self.reducer is not None and "A" in scope.arrays:
            kinds += ["reduce"]
        made = getattr(self, "_e_" + self.pick(kinds))(scope, depth)
        return made if isinstance(made, E) else self.leaf(scope)

    def integer(self, scope: Scope, depth: int) -> E:
        for _ in range(3):
            e = self.expr(scope, depth)
            if e.is_int:
                return e
        return self.pick([e for e in self.leaves(scope) if e.is_int] or [E("2", "wint", 2, 2)])

    def expr_of(self, scope: Scope, depth: int, dtype: DType) -> E:
        """An expression that combines with `dtype` to `dtype` again."""
        e = self.expr(scope, depth)
        if self.joined(E("", dtype), e) == dtype:
            return e
        return E(self.cast(e, dtype), dtype, bound=self.stored(dtype))

    def small_float(self, scope: Scope, dtype: DType) -> str:
        """A float of at most STORED."""
        return self.cast(self.expr(scope, 2), dtype)

    def cast(self, e: E, dtype: DType) -> str:
        """`e` as a value of `dtype`, in range, with the variables' bound in the exact regime."""
        if dtype == bool_:
            return e.text if e.is_bool else f"({e.text}) != 0"
        if dtype.is_float:
            if self.strict or e.mag <= STORED:
                return e.text if e.type == dtype else f"{dtype}({e.text})"
            wide = e.text if e.is_float else f"f64({e.text})"
            return f"{dtype}(min(max({wide}, -{STORED}), {STORED}))"
        if e.is_float:
            if self.strict:
                e = E(f"f64({e.text})", f64)
                wide = f"i64(kdsl.where(abs({e.text}) < 1000.0, {e.text}, 7.0))"
            else:
                wide = f"i64({e.text})"
            return wide if dtype == i64 else f"{dtype}({wide})"
        return e.text if e.type == dtype else f"{dtype}({e.text})"

    def joined(self, a: E, b: E) -> DType | Literal["wint", "wfloat"] | None:
        """The type of `a op b`; None for what is not generated."""
        if isinstance(a.type, DType) and isinstance(b.type, DType):
            return None if a.type == b.type == bool_ else promote(a.type, b.type)
        if not isinstance(a.type, DType) and not isinstance(b.type, DType):
            return "wfloat" if "wfloat" in (a.type, b.type) else "wint"
        weak, strong = (b, a) if isinstance(a.type, DType) else (a, b)
        assert isinstance(strong.type, DType)
        if strong.type == bool_:
            return None
        if weak.type == "wfloat":
            if strong.type == bf16:  # ml_dtypes gives f32 for scalars and bf16 for arrays
                return None
            return strong.type if strong.type.is_float else f64
        if strong.type.is_float:
            return strong.type
        return strong.type if strong.type.min <= weak.low and weak.high <= strong.type.max else None

    def exact(self, result: DType | Literal["wint", "wfloat"], *magnitudes: float) -> bool:
        """Whether numbers up to these magnitudes are exact in `result` (in the exact regime, for floats)."""
        if result == "wint" or (isinstance(result, DType) and not result.is_float) or self.strict:
            return True
        limit = EXACT[result.name if isinstance(result, DType) else "f64"]
        return all(m <= limit for m in magnitudes)

    def _e_leaf(self, scope: Scope, depth: int) -> E:
        return self.leaf(scope)

    def _e_binary(self, scope: Scope, depth: int) -> E | None:
        a, b = self.expr(scope, depth - 1), self.expr(scope, depth - 1)
        op = self.pick(("+", "-", "*"))
        if bool_ in (a.type, b.type) and op == "-":
            op = "+"
        return self.arithmetic(a, op, b)

    def arithmetic(self, a: E, op: str, b: E) -> E | None:
        result = self.joined(a, b)
        if result is None:
            return None
        text = f"({a.text} {op} {b.text})"
        if result == "wint":
            ends = [
                x + y if op == "+" else x - y if op == "-" else x * y
                for x in (a.low, a.high)
                for y in (b.low, b.high)
            ]
            return E(text, result, min(ends), max(ends)) if max(map(abs, ends)) < 2**40 else None
        bound = a.mag * b.mag if op == "*" else a.mag + b.mag
        if not self.exact(result, a.mag, b.mag, bound):
            return None
        return E(text, result, bound=bound if self.is_float_type(result) and not self.strict else math.inf)

    def is_float_type(self, t: DType | Literal["wint", "wfloat"]) -> bool:
        return t == "wfloat" or (isinstance(t, DType) and t.is_float)

    def _e_unary(self, scope: Scope, depth: int) -> E | None:
        e = self.expr(scope, depth - 1)
        if e.is_bool:
            return None
        op = self.pick(("-", "abs", "~", "+"))
        if op == "~":
            if not e.is_int:
                return None
            return E(f"(~{e.text})", e.type, -e.high - 1, -e.low - 1)
        if op == "abs":
            return E(f"abs({e.text})", e.type, 0, int(e.mag) if e.type == "wint" else 0, bound=e.bound)
        if op == "+":
            return E(f"(+{e.text})", e.type, e.low, e.high, e.bound)
        return E(f"(-{e.text})", e.type, -e.high, -e.low, e.bound)

    def _e_cast(self, scope: Scope, depth: int) -> E:
        dtype = self.pick((*INTS, *FLOATS))
        return E(self.cast(self.expr(scope, depth - 1), dtype), dtype, bound=self.stored(dtype))

    def _e_choose(self, scope: Scope, depth: int) -> E:
        """Both branches are cast to one type: in Python the type would depend on the condition."""
        dtype = self.pick((*INTS, *FLOATS))
        a, b = (self.cast(self.expr(scope, depth - 1), dtype) for _ in range(2))
        return E(f"({a} if {self.condition(scope, depth - 1)} else {b})", dtype, bound=self.stored(dtype))

    def _e_minmax(self, scope: Scope, depth: int) -> E:
        dtype = self.pick((*INTS, *FLOATS))
        a, b = (self.cast(self.expr(scope, depth - 1), dtype) for _ in range(2))
        fn = self.pick(("min", "max", "kdsl.minimum", "kdsl.maximum"))
        return E(f"{fn}({a}, {b})", dtype, bound=self.stored(dtype))

    def _e_shift(self, scope: Scope, depth: int) -> E | None:
        a = self.integer(scope, depth - 1)
        amount = self.pick((1, 3, 7, 31, 63, 64))
        op = self.pick(("<<", ">>"))
        if a.type == "wint":
            if op == "<<":
                amount = self.pick((1, 2))
            low, high = (
                (a.low << amount, a.high << amount) if op == "<<" else (a.low >> amount, a.high >> amount)
            )
            return E(f"({a.text} {op} {amount})", "wint", low, high)
        if self.chance(30):
            assert isinstance(a.type, DType)
            b = self.integer(scope, depth - 1)
            if b.type == a.type:
                return E(f"({a.text} {op} {b.text})", a.type)
        return E(f"({a.text} {op} {amount})", a.type)

    def _e_bits(self, scope: Scope, depth: int) -> E | None:
        a, b = self.integer(scope, depth - 1), self.integer(scope, depth - 1)
        result = self.joined(a, b)
        if result is None or self.is_float_type(result):
            return None
        text = f"({a.text} {self.pick(('&', '|', '^'))} {b.text})"
        if result == "wint":
            top = 1 << max(int(a.mag), int(b.mag)).bit_length()
            return E(text, "wint", -top, top)
        return E(text, result)

    def _e_floor(self, scope: Scope, depth: int) -> E | None:
        """`//` and `%` by something that is not 0."""
        a = self.expr(scope, depth - 1)
        op = self.pick(("%", "//"))
        if a.is_bool:
            return None
        if a.is_float:
            if self.strict:
                b = self.expr(scope, depth - 1)
                result = (
                    self.joined(a, b) if not b.is_bool and b.type != "wint" and b.type != "wfloat" else None
                )
                if a.type == "wfloat" or result is None or not self.is_float_type(result):
                    return None
                return E(f"({a.text} {op} {b.text})", result)
            if a.type in ("wfloat", bf16):
                return None
            return E(f"({a.text} {op} {self.pick(('3.0', '2.0', '(-5.0)'))})", a.type, bound=a.bound + 5)
        if isinstance(a.type, DType) and self.chance(30):
            b = self.integer(scope, depth - 1)
            if isinstance(b.type, DType):
                result = self.joined(a, b)
                if result is not None and not self.is_float_type(result):
                    return E(f"({a.text} {op} ({b.text} | 1))", result)
        if a.type == "wint" and scope.loops and self.chance(30):
            reach = max(int(a.mag) + 1, LARGE + 3)
            return E(f"({a.text} {op} ({self.pick(list(scope.loops))} + 2))", "wint", -reach, reach)
        signed = a.type == "wint" or (isinstance(a.type, DType) and a.type.min < 0)
        divisor = self.pick((3, 2, 7, -1, -3) if signed else (3, 2, 7))
        shown = str(divisor) if divisor > 0 else f"({divisor})"
        if a.type == "wint":
            reach = max(int(a.mag) + 1, 7)
            return E(f"({a.text} {op} {shown})", "wint", -reach, reach)
        return E(f"({a.text} {op} {shown})", a.type)

    def _e_bool(self, scope: Scope, depth: int) -> E:
        """A truth value as a number of a type, or itself."""
        condition = self.condition(scope, depth - 1)
        if self.chance(50):
            dtype = self.pick((*INTS, *FLOATS))
            return E(f"{dtype}({condition})", dtype, bound=1)
        return E(f"({condition})", bool_, bound=1)

    def _e_power(self, scope: Scope, depth: int) -> E | None:
        a = self.expr(scope, depth - 1)
        if not isinstance(a.type, DType) or not a.type.is_int:
            return None
        return E(f"({a.text} ** {self.pick((2, 3, 0, 1))})", a.type)

    def _e_divide(self, scope: Scope, depth: int) -> E | None:
        """True division with at least one operand of a type (weak ones raise for 0)."""
        a, b = self.expr(scope, depth - 1), self.expr(scope, depth - 1)
        if a.is_bool or b.is_bool or not isinstance(b.type, DType):
            return None
        result = self.joined(a, b)
        if result is None:
            return None
        return E(f"({a.text} / {b.text})", result if self.is_float_type(result) else f64)

    def _e_function(self, scope: Scope, depth: int) -> E | None:
        a = self.expr(scope, depth - 1)
        if not isinstance(a.type, DType) or not a.type.is_float:
            return None
        fns = ["kdsl.sqrt", "kdsl.floor", "kdsl.ceil", "kdsl.trunc", "kdsl.round", "abs", "copysign", "fma"]
        fn = self.pick((*fns, "math"))
        if fn in ("copysign", "fma"):
            more = [self.cast(self.expr(scope, 0), a.type) for _ in range(2 if fn == "fma" else 1)]
            return E(f"kdsl.{fn}({', '.join([a.text, *more])})", a.type)
        if fn == "math":
            self.math = True
            fn = "kdsl." + self.pick(("exp", "log", "sin", "tanh", "cos", "erf", "exp2", "log1p"))
        return E(f"{fn}({a.text})", a.type)

    def _e_helper(self, scope: Scope, depth: int) -> E:
        assert self.helper is not None
        name, (a, b), result = self.helper
        first, second = self.cast(self.expr(scope, depth - 1), a), self.cast(self.expr(scope, depth - 1), b)
        return E(f"{name}({first}, {second})", result, bound=self.stored(result))

    def _e_reduce(self, scope: Scope, depth: int) -> E | None:
        """A kernel with a result, called on a vector or a row or column."""
        assert self.reducer is not None
        dtype, result = self.reducer
        views = []
        for a in scope.arrays.values():
            if a.dtype != dtype or a.accumulator or a.name == "IDX":
                continue
            if len(a.dims) == 1:
                views += [a.name, f"{a.name}[::-1]"]
            for v, dims in scope.loops.items():
                if len(a.dims) == 2 and dims == (a.dims[0],):
                    views.append(f"{a.name}[{v}, :]")
                if len(a.dims) == 2 and dims == (a.dims[1],):
                    views.append(f"{a.name}[:, {v}]")
        return E(f"reduce({self.pick(views)})", result, bound=self.stored(result)) if views else None

    def condition(self, scope: Scope, depth: int) -> str:
        kind = self.pick(
            ("compare", "compare", "compare", "truth", "not", "and", "or", "chain", "read", "nan")
        )
        if depth > 0 and kind in ("and", "or"):
            return f"({self.condition(scope, depth - 1)} {kind} {self.condition(scope, depth - 1)})"
        if depth > 0 and kind == "not":
            return f"(not {self.condition(scope, depth - 1)})"
        if kind == "truth":
            return f"({self.integer(scope, depth - 1).text} & 1 == 1)"
        if kind == "nan" and self.strict:
            e = self.expr(scope, depth - 1)
            if isinstance(e.type, DType) and e.type.is_float:
                return f"{self.pick(('kdsl.isnan', 'kdsl.isinf', 'kdsl.isfinite'))}({e.text})"
        flags = [a for a in scope.arrays.values() if a.dtype == bool_]
        if kind == "read" and flags:
            array = self.pick(flags)
            return f"{array.name}[{self.indices(scope, array)}]"
        op = self.pick(("<", "==", ">=", "!=", ">", "<="))
        a, b = self.expr(scope, max(depth - 1, 0)), self.expr(scope, 0)
        if self.pick((0, 0, 0, 1)) and isinstance(a.type, DType) and a.is_int:
            return f"({a.text} {op} {self.pick((300, -1, 70000, 2**31, -(2**31) - 1))})"
        if kind == "chain":
            c = self.expr(scope, 0)
            return f"({c.text} {self.pick(('<', '<='))} {a.text} {op} {b.text})"
        return f"({a.text} {op} {b.text})"
