"""Random kernels as source text, and arguments for them.

A program runs in one of two regimes, in which every float result is determined to the last bit:

- `strict`: any floats (infinities and NaN too) under `@kdsl.kernel(strict=True)`, without math functions.
- `exact`: floats hold integers small enough that every operation is exact, so that contraction changes
  nothing; each expression carries a bound on its magnitude.

What Python and NumPy leave open is not generated: weak integers beyond 64 bits, operands whose dtype depends
on a value (`min`, `max` and conditional expressions of mixed types are cast), floats cast out of range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from kdsl.dtypes import DType, bool_, f16, f32, f64, i8, i16, i32, i64, promote, u8, u16, u32, u64

V = TypeVar("V")
Pick = Callable[[Sequence[Any]], Any]

INTS = (i32, i64, u8, i8, u32, i16, u16, u64)
FLOATS = (f32, f64, f16)
STORED = 64  # bound on floats in variables in the exact regime
EXACT = {"f16": 2**11, "f32": 2**24, "f64": 2**53}


@dataclass(frozen=True)
class E:
    """An expression: text, type, range of a weak integer, bound on the magnitude of a number."""

    text: str
    type: DType | Literal["wint", "wfloat"]
    low: int = 0
    high: int = 0

    bound: float = math.inf

    @property
    def mag(self) -> float:
        if self.type == "wint":
            return max(abs(self.low), abs(self.high))
        if isinstance(self.type, DType) and not self.type.is_float:
            return min(self.bound, max(self.type.max, -self.type.min))
        return self.bound

    @property
    def is_float(self) -> bool:
        return self.type == "wfloat" or (isinstance(self.type, DType) and self.type.is_float)

    @property
    def is_int(self) -> bool:
        return self.type == "wint" or (isinstance(self.type, DType) and self.type.is_int)

    @property
    def is_bool(self) -> bool:
        return self.type == bool_


@dataclass(frozen=True)
class Array:
    """`accumulator`: written by `+=` only and never read (floats of the exact regime)."""

    name: str
    dtype: DType
    dims: tuple[str, ...]
    accumulator: bool = False


@dataclass
class Scope:
    """What a statement can name: loop variables with the sizes that bound them, scalars, arrays."""

    loops: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scalars: dict[str, DType] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    breakable: bool = False

    def inner(self, **changes: Any) -> Scope:
        new = Scope(
            dict(self.loops), dict(self.scalars), dict(self.counters), dict(self.arrays), self.breakable
        )
        for key, value in changes.items():
            setattr(new, key, value)
        return new


@dataclass(frozen=True)
class Source:
    """A generated program: its text, the parameters of `program`, and the values for a call."""

    text: str
    params: tuple[Array | tuple[str, DType], ...]
    strict: bool
    n: int
    m: int
    seed: int
    bad_index: bool

    def arguments(self) -> list[Any]:
        """Arrays and scalars for a call, made from the seed."""
        rng = np.random.default_rng(self.seed)
        extent = {"N": self.n, "M": self.m}
        out: list[Any] = []
        for p in self.params:
            if isinstance(p, tuple):
                out.append(self._numbers(rng, p[1], ())[()])
            elif p.name == "IDX":
                indices = rng.integers(0, max(1, min(self.n, self.m)), self.n)
                if self.bad_index and self.n:
                    indices[rng.integers(self.n)] = rng.choice([-1, self.n, 100])
                out.append(indices.astype(p.dtype.np))
            else:
                out.append(self._numbers(rng, p.dtype, tuple(extent[d] for d in p.dims)))
        return out

    def _numbers(self, rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Any:
        if dtype == bool_:
            return rng.integers(0, 2, shape).astype(bool)
        if dtype.is_int:
            wide = rng.integers(dtype.min, dtype.max, shape, dtype=dtype.np, endpoint=True)
            small = rng.integers(0 if dtype.min == 0 else -4, 5, shape).astype(dtype.np)
            edge = rng.choice(np.array([dtype.min, dtype.max], dtype.np), shape)
            return np.select([rng.random(shape) < 0.7, rng.random(shape) < 0.6], [small, wide], edge)
        if not self.strict:
            return rng.integers(-8, 9, shape).astype(dtype.np)
        plain = rng.normal(0, 3, shape)
        special = rng.choice([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-42, 6e4, 1e-310, 0.5, -2.5], shape)
        with np.errstate(over="ignore"):
            return np.where(rng.random(shape) < 0.85, plain, special).astype(dtype.np)


class Generator:
    """Draws a program through `pick(options)`; earlier options are the simpler ones."""

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self.lines: list[str] = []
        self.budget = 10
        self.fresh = 0
        self.strict = False
        self.sizes = {"N": 6, "M": 6}
        self.helper: tuple[str, tuple[DType, DType], DType] | None = None
        self.callee: DType | None = None
        self.returns: DType | None = None

    def pick(self, options: Sequence[V]) -> V:
        return self._pick(options)  # type: ignore[no-any-return]

    def chance(self, percent: int) -> bool:
        return self.pick(range(100)) >= 100 - percent

    def name(self, stem: str) -> str:
        self.fresh += 1
        return f"{stem}{self.fresh}"

    # ------------------------------------------------------------ the program

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
            shown.append(
                f"{p[0]}: {p[1]}" if isinstance(p, tuple) else f"{p.name}: {p.dtype}[{', '.join(p.dims)}]"
            )
        text = [
            *head,
            "@kdsl.kernel(strict=True)" if self.strict else "@kdsl.kernel",
            f"def program({', '.join(shown)}){result}:",
            *body,
            "",
        ]
        n, m = self.pick((3, 1, 2, 5, 6, 4, 2, 3, 0)), self.pick((4, 1, 2, 3, 6, 5, 4, 2, 0))
        return Source(
            "\n".join(text), tuple(params), self.strict, n, m, self.pick(range(1000)), self.chance(8)
        )

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
        return out

    # ------------------------------------------------------------ statements

    def block(self, scope: Scope, depth: int, top: bool = False) -> None:
        """Statements with an indentation of `depth`."""
        before = len(self.lines)
        for _ in range(self.pick((1, 2, 3, 4) if top else (1, 2, 3))):
            if self.budget <= 0:
                break
            self.budget -= 1
            self.statement(scope, depth)
        if len(self.lines) == before:
            self.emit(depth, "pass")

    def emit(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def statement(self, scope: Scope, depth: int) -> None:
        nested = depth >= 4
        kinds = ["store", "store", "local"]
        if not nested:
            kinds += ["for", "for", "for", "if", "while", "grid"]
        kinds += ["assign", "accumulate", "accumulate", "swap", "array"]
        if scope.breakable:
            kinds += ["leave"]
        if self.callee is not None:
            kinds += ["call"]
        kinds += ["slice", "counter"]
        if depth == 1:
            kinds = ["for", "for", "for", "grid", "local", "array", "if", "while", "slice", "call", "counter"]
            if self.callee is None:
                kinds.remove("call")
        getattr(self, "_" + self.pick(kinds))(scope, depth)

    def _for(self, scope: Scope, depth: int) -> None:
        var = "ijklmnop"[len(scope.loops)]
        dim = self.pick(("N", "M"))
        outer = [v for v, dims in scope.loops.items() if dims == (dim,)]
        kind = self.pick(("full", "full", "part", "down", "step", "triangle", "data", "static", "offset"))
        dims: tuple[str, ...] = (dim,)
        match kind:
            case "part":
                spec = f"range(1, {dim})"
            case "down":
                spec = f"range({dim} - 1, -1, -1)"
            case "step":
                step = self.pick((2, 3, -2))
                spec = f"range(0, {dim}, {step})" if step > 0 else f"range({dim} - 1, -1, {step})"
            case "triangle" if outer:
                v = self.pick(outer)
                spec = self.pick(
                    (f"range({v})", f"range({v} + 1)", f"range({v}, {dim})", f"range({v} + 1, {dim})")
                )
            case "data":
                count = self.small(scope)
                spec = f"range(min({count}, {dim}))"
            case "static":
                spec, dims = f"kdsl.static_range({self.pick((3, 2, 1))})", ("3",)
            case "offset":
                spec, dims = f"range(-1, {dim} + 1)", ()
            case _:
                spec = f"range({dim})"
        self.emit(depth, f"for {var} in {spec}:")
        inner = scope.inner(breakable=kind != "static")
        inner.loops[var] = dims
        self.block(inner, depth + 1)

    def small(self, scope: Scope) -> str:
        """A weak integer of 0 to 3 that depends on data."""
        source = self.integer(scope, 1)
        return f"i64({source.text}) % {self.pick((3, 4, 2))}"

    def _grid(self, scope: Scope, depth: int) -> None:
        a, b = "ijklmnop"[len(scope.loops)], "ijklmnop"[len(scope.loops) + 1]
        self.emit(depth, f"for {a}, {b} in kdsl.grid(N, M):")
        inner = scope.inner(breakable=False)
        inner.loops[a], inner.loops[b] = ("N",), ("M",)
        self.block(inner, depth + 1)

    def _if(self, scope: Scope, depth: int) -> None:
        self.emit(depth, f"if {self.condition(scope, 2)}:")
        self.block(scope.inner(), depth + 1)
        if self.chance(25):
            self.emit(depth, f"elif {self.condition(scope, 2)}:")
            self.block(scope.inner(), depth + 1)
        if self.chance(50):
            self.emit(depth, "else:")
            self.block(scope.inner(), depth + 1)

    def _while(self, scope: Scope, depth: int) -> None:
        var = self.name("w")
        limit = self.pick((3, 2, 4))
        self.emit(depth, f"{var} = 0")
        more = f" and {self.condition(scope, 1)}" if self.chance(50) else ""
        self.emit(depth, f"while {var} < {limit}{more}:")
        self.emit(depth + 1, f"{var} += 1")
        inner = scope.inner(breakable=True)
        inner.counters[var] = limit
        self.block(inner, depth + 1)

    def _leave(self, scope: Scope, depth: int) -> None:
        self.emit(depth, f"if {self.condition(scope, 1)}:")
        if self.chance(15):
            value = self.pick(list(scope.scalars))
            dtype = scope.scalars[value]
            e = E(value, dtype, bound=self.stored(dtype))
            self.emit(depth + 1, f"return {self.cast(e, self.returns)}" if self.returns else "return")
        else:
            self.emit(depth + 1, self.pick(("break", "continue")))

    def _local(self, scope: Scope, depth: int) -> None:
        dtype = self.pick((*INTS, *FLOATS))
        name = self.name("x")
        self.emit(depth, f"{name} = {self.cast(self.expr(scope, 2), dtype)}")
        scope.scalars[name] = dtype

    def _counter(self, scope: Scope, depth: int) -> None:
        """A weak integer local that counts what a small loop does."""
        name = self.name("n")
        var = "ijklmnop"[len(scope.loops)]
        self.emit(depth, f"{name} = 0")
        self.emit(depth, f"for {var} in range({self.pick(('N', 'M', '5'))}):")
        inner = scope.inner()
        inner.loops[var] = ()
        self.emit(depth + 1, f"if {self.condition(inner, 1)}:")
        self.emit(depth + 2, f"{name} += {self.pick(('1', var, '2'))}")
        scope.counters[name] = 30

    def _assign(self, scope: Scope, depth: int) -> None:
        names = [n for n in scope.scalars if n not in ("a", "b")]
        if not names:
            return self._store(scope, depth)
        name = self.pick(names)
        dtype = scope.scalars[name]
        if dtype.is_int and self.chance(50):
            op = self.pick(("+", "-", "*", "^", "|", "&"))
            e = self.expr_of(scope, 2, dtype)
            self.emit(depth, f"{name} {op}= {e.text}")
        else:
            self.emit(depth, f"{name} = {self.cast(self.expr(scope, 3), dtype)}")
        return None

    def _store(self, scope: Scope, depth: int) -> None:
        array = self.target(scope)
        place = f"{array.name}[{self.indices(scope, array)}]"
        e = self.expr(scope, 3)
        if array.accumulator:
            self.emit(depth, f"{place} += {self.small_float(scope, array.dtype)}")
        elif self._stores_as_it_is(array.dtype, e):
            self.emit(depth, f"{place} = {e.text}")
        else:
            self.emit(depth, f"{place} = {self.cast(e, array.dtype)}")

    def _stores_as_it_is(self, dtype: DType, e: E) -> bool:
        """Whether NumPy's assignment of `e` is defined, so that no cast need be written."""
        if dtype == bool_:
            return e.is_bool
        if e.type == "wint":
            return dtype.is_float or (dtype.min <= e.low and e.high <= dtype.max)
        if e.is_float:
            return dtype.is_float and (self.strict or e.mag <= STORED)
        return dtype.is_int or self.strict or e.mag <= STORED

    def _accumulate(self, scope: Scope, depth: int) -> None:
        array = self.target(scope)
        place = f"{array.name}[{self.indices(scope, array)}]"
        if array.dtype == bool_:
            self.emit(depth, f"{place} {self.pick(('|', '&', '^'))}= {self.condition(scope, 1)}")
        elif array.accumulator:
            op = self.pick(("+", "-"))
            self.emit(depth, f"{place} {op}= {self.small_float(scope, array.dtype)}")
        elif array.dtype.is_int:
            op = self.pick(("+", "-", "*", "min", "max", "|", "^"))
            e = self.expr_of(scope, 2, array.dtype)
            if op in ("min", "max"):
                self.emit(depth, f"{place} = {op}({place}, {self.cast(e, array.dtype)})")
            else:
                self.emit(depth, f"{place} {op}= {e.text}")
        elif self.strict:
            op = self.pick(("+", "-", "*", "/", "min", "max"))
            e = self.cast(self.expr(scope, 2), array.dtype)
            self.emit(
                depth, f"{place} = {op}({place}, {e})" if op in ("min", "max") else f"{place} {op}= {e}"
            )
        else:
            op = self.pick(("min", "max"))
            self.emit(depth, f"{place} = {op}({place}, {self.cast(self.expr(scope, 2), array.dtype)})")

    def _swap(self, scope: Scope, depth: int) -> None:
        array = self.target(scope)
        if array.accumulator:
            return self._store(scope, depth)
        a, b = self.indices(scope, array), self.indices(scope, array)
        self.emit(depth, f"{array.name}[{a}], {array.name}[{b}] = {array.name}[{b}], {array.name}[{a}]")
        return None

    def _array(self, scope: Scope, depth: int) -> None:
        dtype = self.pick((*INTS, *FLOATS))
        name = self.name("L")
        extent = self.pick(("N", "M", "3"))
        fill = self.pick(("zeros", "full", "empty"))
        if fill == "full":
            literal = self.literal(dtype)
            self.emit(depth, f"{name} = kdsl.full(({extent},), {literal}, {dtype})")
        else:
            self.emit(depth, f"{name} = kdsl.{fill}(({extent},), {dtype})")
        if fill == "empty":
            var = "ijklmnop"[len(scope.loops)]
            self.emit(depth, f"for {var} in range({extent}):")
            inner = scope.inner()
            inner.loops[var] = (extent,)
            self.emit(depth + 1, f"{name}[{var}] = {self.cast(self.expr(inner, 2), dtype)}")
        scope.arrays[name] = Array(name, dtype, (extent,))

    def _call(self, scope: Scope, depth: int) -> None:
        choices = []
        for a in scope.arrays.values():
            if a.dtype != self.callee or a.accumulator or a.name == "IDX":
                continue
            if len(a.dims) == 1:
                choices.append(a.name)
            else:
                for v, dims in scope.loops.items():
                    if dims == (a.dims[0],):
                        choices.append(f"{a.name}[{v}, :]")
                        choices.append(f"{a.name}[{v}, 1:]")
                    if dims == (a.dims[1],):
                        choices.append(f"{a.name}[:, {v}]")
        if not choices:
            return self._local(scope, depth)
        assert self.callee is not None
        self.emit(depth, f"callee({self.pick(choices)}, {self.cast(self.expr(scope, 1), self.callee)})")
        return None

    def _slice(self, scope: Scope, depth: int) -> None:
        """Element-wise assignment to a whole vector from another of its length."""
        vectors: dict[str, list[tuple[str, DType]]] = {"N": [], "M": []}
        for a in scope.arrays.values():
            if a.accumulator or a.name == "IDX":
                continue
            if len(a.dims) == 1 and a.dims[0] in vectors:
                vectors[a.dims[0]].append((f"{a.name}[:]", a.dtype))
            elif len(a.dims) == 2:
                for v, dims in scope.loops.items():
                    if dims == (a.dims[0],):
                        vectors[a.dims[1]].append((f"{a.name}[{v}, :]", a.dtype))
        dim = self.pick(("N", "M"))
        target, dtype = self.pick(vectors[dim])
        same = [t for t, d in vectors[dim] if d == dtype]
        source = self.pick(same)
        if dtype.is_int and self.chance(60):
            source = f"{source} {self.pick(('+', '-', '*', '^'))} {self.pick([*same, '3'])}"
        elif dtype.is_float and self.strict and self.chance(60):
            source = f"{source} {self.pick(('+', '-', '*'))} {self.pick([*same, '0.5'])}"
        self.emit(depth, f"{target} = {source}")

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
        out += [E(v, "wint", -1, 7) for v in scope.loops]
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
            return E(self.pick(("N", "M")), "wint", 0, 6) if "A" in scope.arrays else E("2", "wint", 2, 2)
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
            if a.type == "wfloat":
                return None
            return E(f"({a.text} {op} {self.pick(('3.0', '2.0', '(-5.0)'))})", a.type, bound=a.bound + 5)
        if isinstance(a.type, DType) and self.chance(30):
            b = self.integer(scope, depth - 1)
            if isinstance(b.type, DType):
                result = self.joined(a, b)
                if result is not None and not self.is_float_type(result):
                    return E(f"({a.text} {op} ({b.text} | 1))", result)
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
        fn = self.pick(("kdsl.sqrt", "kdsl.floor", "kdsl.ceil", "kdsl.trunc", "kdsl.round", "abs"))
        return E(f"{fn}({a.text})", a.type)

    def _e_helper(self, scope: Scope, depth: int) -> E:
        assert self.helper is not None
        name, (a, b), result = self.helper
        first, second = self.cast(self.expr(scope, depth - 1), a), self.cast(self.expr(scope, depth - 1), b)
        return E(f"{name}({first}, {second})", result, bound=self.stored(result))

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
