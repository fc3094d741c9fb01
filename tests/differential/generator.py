"""Random kernels as source text, and arguments for them.

A program runs in one of two regimes, in which every float result is determined to the last bit:

- `strict`: any floats (infinities and NaN too) under `@kdsl.kernel(strict=True)`. Programs with `math`
  functions are compared between the interpreter and compiled code only: Python's are NumPy's.
- `exact`: floats hold integers small enough that every operation is exact, so that contraction changes
  nothing; each expression carries a bound on its magnitude.

What Python and NumPy leave open is not generated: weak integers beyond 64 bits, operands whose dtype depends
on a value (`min`, `max` and conditional expressions of mixed types are cast), floats cast out of range.
"""

from __future__ import annotations

from kdsl.dtypes import DType, bool_, i8, i32, i64, u8, u64
from tests.differential.model import FLOATS, INTS, LARGE, Array, E, Scope, Source
from tests.differential.statements import Statements


class Generator(Statements):
    """Draws a program through `pick(options)`; earlier options are the simpler ones."""

    def program(self) -> Source:
        self.strict = self.chance(40)
        self.returns = self.pick((*INTS, *FLOATS)) if self.chance(30) else None
        params: list[Array | tuple[str, DType]] = []
        scope = Scope()
        for name, dims in (
            ("A", ("N", "M")),
            ("X", ("N",)),
            ("Y", ("M",)),
            ("B", ("M", "N")),
            ("Z", ("N", "M")),
        ):
            dtype = self.pick((*INTS, *FLOATS, bool_))
            accumulator = name == "Z" and dtype.is_float and not self.strict
            array = Array(name, dtype, dims, accumulator)
            params.append(array)
            scope.arrays[name] = array
        index = Array("IDX", self.pick((i64, i32, u8, i8, u64)), ("N",))
        params.append(index)
        scope.arrays["IDX"] = index
        for name in ("s", "t"):
            dtype = self.pick((*INTS, *FLOATS))
            params.append((name, dtype))
            scope.scalars[name] = dtype
        head = self._helpers()
        body_start = len(self.lines)
        self.block(scope, 1, top=True)
        body = self.lines[body_start:]
        if scope.arrays["Z"].dtype != bool_ and not any("Z[" in line for line in body):
            body.append("    for i in range(N):")
            body.append("        for j in range(M):")
            value = self.pick([n for n, d in scope.scalars.items() if n in "st"])
            z = scope.arrays["Z"].dtype
            convert = value if scope.scalars[value].is_int or z.is_float else f"f64({value} * 0)"
            body.append(
                f"            Z[i, j] = {z}({convert})"
                if z.is_float or convert == value
                else "            pass"
            )
        result = ""
        if self.returns is not None:
            value = self.pick(list(scope.scalars))
            dtype = scope.scalars[value]
            body.append(f"    return {self.cast(E(value, dtype, bound=self.stored(dtype)), self.returns)}")
            result = f" -> {self.returns}"
        shown = []
        for p in params:
            name, annotation = p if isinstance(p, tuple) else (p.name, f"{p.dtype}[{', '.join(p.dims)}]")
            bare = name in ("X", "Y", "s", "t") and self.chance(15)  # A gives N and M
            shown.append(name if bare else f"{name}: {annotation}")
        text = [
            *head,
            "@kdsl.kernel(strict=True)" if self.strict else "@kdsl.kernel",
            f"def program({', '.join(shown)}){result}:",
            *body,
            "",
        ]
        if self.nest <= 2 and self.chance(40):
            n, m = self.pick(((LARGE, 3), (2, LARGE), (40, 33)))
        else:
            n, m = self.extents()
        layout = self.pick(("contiguous",) * 5 + ("transposed", "reversed", "spaced"))
        return Source(
            "\n".join(text),
            tuple(params),
            self.strict,
            n,
            m,
            self.pick(range(1000)),
            self.chance(8),
            layout,
            self.math,
        )

    def extents(self) -> tuple[int, int]:
        return self.pick((3, 1, 2, 5, 6, 4, 2, 3, 0)), self.pick((4, 1, 2, 3, 6, 5, 4, 2, 0))

    def _helpers(self) -> list[str]:
        out: list[str] = []
        if self.chance(30):
            a, b, r = (self.pick((*INTS, *FLOATS)) for _ in range(3))
            scope = Scope(scalars={"a": a, "b": b})
            value = self.cast(self.expr(scope, 2), r)
            out += ["@kdsl.func", f"def helper(a: {a}, b: {b}) -> {r}:"]
            if self.chance(30):
                early = self.cast(self.expr(scope, 1), r)
                out += [f"    if {self.condition(scope, 1)}:", f"        return {early}"]
            if self.chance(30):
                out += [f"    x = {self.cast(self.expr(scope, 1), a)}"]
                scope.scalars["x"] = a
                scope.loops["k"] = ()
                early = self.cast(self.expr(scope, 1), r)
                out += ["    for k in range(3):", f"        x = {self.cast(self.expr(scope, 2), a)}"]
                out += [f"        if {self.condition(scope, 1)}:", f"            return {early}"]
                del scope.loops["k"]
                value = self.cast(self.expr(scope, 2), r)
            out += [f"    return {value}", ""]
            self.helper = ("helper", (a, b), r)
        if self.chance(20):
            dtype = self.pick((*INTS, *FLOATS))
            scope = Scope(scalars={"a": dtype})
            scope.arrays["v"] = Array("v", dtype, ("K",))
            scope.loops["k"] = ("K",)
            self.sizes["K"] = 6
            value = self.cast(self.expr(scope, 2), dtype)
            out += [
                "@kdsl.kernel",
                f"def callee(v: {dtype}[K], a: {dtype}):",
                "    for k in range(K):",
                *(
                    [f"        if {self.condition(scope, 1)}:", "            return"]
                    if self.chance(30)
                    else []
                ),
                f"        v[k] = {value}",
                "",
            ]
            self.callee = dtype
        if self.chance(20):
            dtype, result = self.pick((*INTS, *FLOATS)), self.pick((*INTS, *FLOATS))
            scope = Scope(scalars={"r": result}, loops={"k": ("K",)})
            scope.arrays["v"] = Array("v", dtype, ("K",))
            out += ["@kdsl.kernel", f"def reduce(v: {dtype}[K]) -> {result}:"]
            out += [f"    r = {result}({self.literal(result)})", "    for k in range(K):"]
            if self.chance(40):
                out += [f"        if {self.condition(scope, 1)}:"]
                out += [f"            {self.pick(('continue', 'break', 'return r'))}"]
            out += [f"        r = {self.cast(self.expr(scope, 2), result)}", "    return r", ""]
            self.reducer = dtype, result
        return out
