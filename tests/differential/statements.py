"""Random statements, written line by line."""

from __future__ import annotations

import math

from kdsl.dtypes import DType, bf16, bool_, i32
from tests.differential.expressions import Expressions
from tests.differential.model import FLOATS, INTS, LARGE, STORED, Array, E, Scope


class Statements(Expressions):
    """Draws statements for a scope; each method appends to `lines`."""

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
        inlined = "callee(" in line or "reduce(" in line
        loops = sum(2 if "grid(" in above else 1 for above in self._loops_above(depth))
        self.nest = max(self.nest, loops + inlined)

    def _loops_above(self, depth: int) -> list[str]:
        """The heads of the loops around a line that was just added with this indentation."""
        out, indent = [], 4 * depth + 1
        for line in reversed(self.lines):
            own = len(line) - len(line.lstrip())
            if own < indent:
                indent = own
                if line.lstrip().startswith(("for ", "while ")):
                    out.append(line)
        return out

    def statement(self, scope: Scope, depth: int) -> None:
        nested = depth >= 4
        kinds = ["store", "store", "local"]
        if not nested:
            kinds += ["for", "for", "for", "if", "while", "grid", "moving"]
        kinds += ["assign", "accumulate", "accumulate", "swap", "array"]
        if scope.breakable:
            kinds += ["leave"]
        if self.callee is not None:
            kinds += ["call"]
        kinds += ["slice", "counter", "reduction", "either", "exchange"]
        if depth == 1:
            kinds = ["for", "for", "for", "grid", "local", "array", "if", "while", "slice", "counter"]
            kinds += ["reduction", "either", "moving"] + ["call"] * (self.callee is not None)
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
        scope.counters[name] = LARGE * LARGE

    def _reduction(self, scope: Scope, depth: int) -> None:
        """A weak local that takes the type of what is added to it."""
        vectors = [a for a in scope.arrays.values() if a.dims in (("N",), ("M",)) and a.dtype != bool_]
        source = self.pick(vectors)
        target = self.target(scope)
        name = self.name("r")
        var = "ijklmnop"[len(scope.loops)]
        literal = "0" if source.dtype.is_int else "0.0"
        op = self.pick(("+=", "-=", "max", "min", "*="))
        if source.dtype == bf16 or (op == "*=" and source.dtype.is_float and not self.strict):
            op = "max"
        if op in ("max", "min"):
            literal = f"{source.dtype}({literal})"  # else the type would depend on the values
        self.emit(depth, f"{name} = {'1' + literal[1:] if op == '*=' else literal}")
        self.emit(depth, f"for {var} in range({source.dims[0]}):")
        element = f"{source.name}[{var}]"
        inner = scope.inner()
        inner.loops[var] = source.dims
        place = self.indices(scope, target)
        at = depth + 1
        if self.chance(30):
            self.emit(at, f"if {self.condition(inner, 1)}:")
            at += 1
        folded = f"= {op}({name}, {element})" if op in ("max", "min") else f"{op} {element}"
        self.emit(at, f"{name} {folded}")
        bound = math.inf if self.strict else STORED * LARGE
        e = E(name, source.dtype, bound=bound if source.dtype.is_float else math.inf)
        if target.accumulator or target.dtype == bool_:
            scope.scalars[name + "v"] = target.dtype if target.dtype != bool_ else i32
            self.emit(depth, f"{name}v = {self.cast(e, scope.scalars[name + 'v'])}")
        else:
            self.emit(depth, f"{target.name}[{place}] = {self.cast(e, target.dtype)}")

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
        dims = self.pick((("N",), ("M",), ("3",), ("N", "M"), ("M", "3")))
        shape = "(" + ", ".join(dims) + ("," if len(dims) == 1 else "") + ")"
        fill = self.pick(("zeros", "full", "empty"))
        value = f", {self.literal(dtype)}" if fill == "full" else ""
        self.emit(depth, f"{name} = kdsl.{fill}({shape}{value}, {dtype})")
        if fill == "empty":
            inner, at = scope.inner(), depth
            for dim in dims:
                var = "ijklmnop"[len(inner.loops)]
                self.emit(at, f"for {var} in range({dim}):")
                inner.loops[var] = (dim,)
                at += 1
            indices = ", ".join(list(inner.loops)[-len(dims) :])
            self.emit(at, f"{name}[{indices}] = {self.cast(self.expr(inner, 2), dtype)}")
        scope.arrays[name] = Array(name, dtype, dims)

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
        """Element-wise assignment to a vector, or a part of one, from others of its length (maybe itself)."""
        parts = self.pick(((":", ":", "::-1"), ("1:", ":-1", ":0:-1"), ("::2",)))
        vectors: dict[str, list[tuple[str, str, str, DType]]] = {"N": [], "M": []}
        for a in scope.arrays.values():
            if a.accumulator or a.name == "IDX":
                continue
            if len(a.dims) == 1 and a.dims[0] in vectors:
                vectors[a.dims[0]].append((a.name, "", "", a.dtype))
            elif len(a.dims) == 2:
                for v, dims in scope.loops.items():
                    if dims == (a.dims[0],) and a.dims[1] in vectors:
                        vectors[a.dims[1]].append((a.name, f"{v}, ", "", a.dtype))
                    if dims == (a.dims[1],) and a.dims[0] in vectors:
                        vectors[a.dims[0]].append((a.name, "", f", {v}", a.dtype))

        def view(name: str, before: str, after: str) -> str:
            return f"{name}[{before}{self.pick(parts)}{after}]"

        dim = self.pick(("N", "M"))
        *place, dtype = self.pick(vectors[dim])
        target = view(*place)
        same = [v[:3] for v in vectors[dim] if v[3] == dtype]
        if dtype.is_int and self.chance(40):
            self.emit(depth, f"{target} {self.pick('+-*^')}= {self.pick((view(*self.pick(same)), '3'))}")
            return
        source = view(*self.pick(same))
        if dtype.is_int and self.chance(60):
            source = f"{source} {self.pick('+-*^')} {self.pick((view(*self.pick(same)), '3'))}"
        elif dtype.is_float and self.strict and self.chance(60):
            source = f"{source} {self.pick('+-*')} {self.pick((view(*self.pick(same)), '0.5'))}"
        self.emit(depth, f"{target} = {source}")

    def _either(self, scope: Scope, depth: int) -> None:
        """A local that both branches set."""
        dtype, name = self.pick((*INTS, *FLOATS)), self.name("y")
        self.emit(depth, f"if {self.condition(scope, 1)}:")
        self.emit(depth + 1, f"{name} = {self.cast(self.expr(scope, 2), dtype)}")
        self.emit(depth, "else:")
        self.emit(depth + 1, f"{name} = {self.cast(self.expr(scope, 2), dtype)}")
        scope.scalars[name] = dtype

    def _exchange(self, scope: Scope, depth: int) -> None:
        """Scalars assigned at once: all values are those from before."""
        dtype, a, b = self.pick((*INTS, *FLOATS)), self.name("z"), self.name("z")
        first, second = (self.cast(self.expr(scope, 1), dtype) for _ in range(2))
        self.emit(depth, f"{a}, {b} = {first}, {second}")
        scope.scalars[a] = scope.scalars[b] = dtype
        self.emit(depth, f"{a}, {b} = {b}, {self.cast(self.expr(scope, 1), dtype)}")

    def _moving(self, scope: Scope, depth: int) -> None:
        """A loop whose body changes the variable that was its bound: the bound was read once."""
        name, var = self.name("b"), "ijklmnop"[len(scope.loops)]
        self.emit(depth, f"{name} = {self.pick(('min(3, N)', '2', 'min(M, 3)'))}")
        self.emit(depth, f"for {var} in range({name}):")
        self.emit(depth + 1, f"{name} {self.pick(('+= 1', '= 0', '-= 1'))}")
        inner = scope.inner(breakable=True)
        inner.loops[var] = ()
        scope.counters[name] = inner.counters[name] = 8
        self.block(inner, depth + 1)
