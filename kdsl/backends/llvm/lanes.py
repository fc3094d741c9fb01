"""Expressions over the lanes of a vector loop: what varies is a vector, what does not stays a scalar.

    A[i, j] * s + B[j]      (j the lane)    %v1 = load <16 x float>, ptr %A.row, align 4
                                            %v2 = ... splat of the scalar s
                                            %v3 = fmul contract <16 x float> %v1, %v2
    x if m > 0 else A[p[j]]                 the gather runs under the mask of `not (m > 0)`; then a select

Under a mask, lanes that are off touch no memory and do not fault. What is uniform is computed all the same:
while no lane is on (`x.active` is false) it touches scratch memory only, and does not fault either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kdsl.analysis.evaluated import nonzero, unconditional_loads
from kdsl.backends.llvm import lane_access
from kdsl.backends.llvm.arith import Arith
from kdsl.backends.llvm.builder import LIKELY, Builder
from kdsl.backends.llvm.expressions import Expressions
from kdsl.backends.llvm.types import literal, value_type
from kdsl.backends.llvm.uniformity import Uniformity
from kdsl.backends.llvm.wide import WideBuilder, is_literal, operand
from kdsl.dtypes import DType, i64
from kdsl.ir.nodes import Binary, Call, Cast, Compare, Const, Expr, Let, Load, Logic, Select, Unary, Var
from kdsl.ir.walk import subexprs
from kdsl.source import Loc


@dataclass(slots=True)
class Lanes:
    """Emits expressions as vectors of `count` values. `x` emits what is uniform.

    `var` is the vector loop's variable, which grows by `step` from lane to lane; in `x.vars` it has the
    value of the first lane. `loc` is the loop's place. `values` are the vectors of what varies. `mask`: the
    lanes that are on ("": all).
    """

    x: Expressions
    count: int
    var: str
    step: int
    facts: Uniformity
    loc: Loc | None = None
    values: dict[str, str] = field(default_factory=dict)
    mask: str = ""
    wide: Arith = field(init=False)

    def __post_init__(self) -> None:
        self.wide = self.x.arith.over(WideBuilder(self.x.b, self.count))
        self.wide.flags = self.x.arith.flags

    @property
    def b(self) -> Builder:
        return self.x.b

    # -- vectors

    def vector(self, ty: str) -> str:
        """The type of `count` values of the LLVM type `ty`."""
        return f"<{self.count} x {ty}>"

    def operand(self, ty: str, value: str) -> str:
        """A value with its type; a literal stands for itself in each lane."""
        return operand(self.count, ty, value)

    def splat(self, ty: str, value: str) -> str:
        """A scalar in every lane."""
        if is_literal(value):
            return value
        first = self.b.value(f"insertelement {self.vector(ty)} poison, {ty} {value}, i64 0")
        zeros = f"<{self.count} x i32> zeroinitializer"
        return self.b.value(f"shufflevector {self.vector(ty)} {first}, {self.vector(ty)} poison, {zeros}")

    def extract(self, ty: str, value: str, lane: int | str) -> str:
        """The value in one lane."""
        if is_literal(value):
            return value
        return self.b.value(f"extractelement {self.vector(ty)} {value}, i64 {lane}")

    def numbers(self, step: int) -> str:
        """0, step, 2 * step, ... as a constant vector of i64, with its type."""
        return f"{self.vector('i64')} <{', '.join([f'i64 {n * step}' for n in range(self.count)])}>"

    # -- masks

    def any(self, mask: str) -> str:
        """Whether any lane is on in a mask."""
        bits = self.b.value(f"bitcast {self.operand('i1', mask)} to i{self.count}")
        return self.b.value(f"icmp ne i{self.count} {bits}, 0")

    def both(self, a: str, b: str) -> str:
        """Where two masks are on; "" is all lanes."""
        if not a or not b:
            return a or b
        return self.b.value(f"and {self.operand('i1', a)}, {self.operand('i1', b).split('> ', 1)[1]}")

    def inverse(self, mask: str) -> str:
        """Where a mask is off."""
        return self.b.value(f"xor {self.operand('i1', mask)}, splat (i1 true)")

    def where(self, mask: str, ty: str, a: str, b: str) -> str:
        """`a` in the lanes that are on, else `b`."""
        if not mask:
            return a
        return self.b.value(
            f"select {self.operand('i1', mask)}, {self.operand(ty, a)}, {self.operand(ty, b)}"
        )

    @contextmanager
    def under(self, test: str, *, some: bool = False) -> Iterator[None]:
        """Of the lanes that are on, those where `test` is. `some`: at least one is known to be."""
        with self.only(self.both(self.mask, test), some=some):
            yield

    @contextmanager
    def only(self, mask: str, *, some: bool) -> Iterator[None]:
        """Just the lanes of `mask`."""
        before = self.mask, self.x.active
        self.mask = mask
        self.x.active = "" if some or not mask else self.any(mask)
        yield
        self.mask, self.x.active = before

    def lane_of(self, mask: str, *, last: bool = False) -> str:
        """The first (or last) lane that is on, as an i64; some lane is."""
        lines, name = self._lane_lines(self.operand("i1", mask), last=last)
        for line in lines:
            self.b.do(line)
        return name

    def _lane_lines(self, mask: str, *, last: bool = False) -> tuple[list[str], str]:
        ty, fn = f"i{self.count}", "ctlz" if last else "cttz"
        self.b.module.declare(f"{ty} @llvm.{fn}.{ty}({ty}, i1)")
        bits, zeros, lane, wide = (self.b.fresh("%v") for _ in range(4))
        lines = [
            f"{bits} = bitcast {mask} to {ty}",
            f"{zeros} = call {ty} @llvm.{fn}.{ty}({ty} {bits}, i1 false)",
            f"{lane} = sub {ty} {self.count - 1}, {zeros}" if last else f"{lane} = add {ty} {zeros}, 0",
        ]
        if self.count == 1:
            return [], "0"
        if self.count == 64:
            return lines, lane
        convert = "zext" if self.count < 64 else "trunc"
        return [*lines, f"{wide} = {convert} {ty} {lane} to i64"], wide

    def guard(self, ok: str, code: int, *, index: str = "", extent: str = "", extents: str = "") -> None:
        """Goes on when `ok` holds in all lanes that are on; else reports for the first where it does not.

        `index` is a vector of i64, and so is `extents`; `extent` is a scalar in their place.
        """
        b = self.b
        bad = self.both(self.mask, self.inverse(ok))
        fault, go = b.fresh("fault"), b.fresh("ok")
        lines: list[str] = []
        if index:
            lines, lane = self._lane_lines(self.operand("i1", bad))
            value, second = b.fresh("%v"), b.fresh("%v")
            lines += [
                f"{value} = extractelement {self.operand('i64', index)}, i64 {lane}",
                f"store i64 {value}, ptr {b.report}, align 8",
            ]
            if extents:
                extent = b.fresh("%v")
                lines.append(f"{extent} = extractelement {self.operand('i64', extents)}, i64 {lane}")
            if extent:
                lines += [
                    f"{second} = getelementptr i8, ptr {b.report}, i64 8",
                    f"store i64 {extent}, ptr {second}, align 8",
                ]
        failed = self.any(bad)
        b.cold(fault, lines, str(code))
        b.cbr(b.value(f"xor i1 {failed}, true"), go, fault, LIKELY)
        b.block(go)

    # -- expressions

    def varies(self, e: Expr) -> bool:
        """Whether `e` may have different values in different lanes."""
        return self.facts.varies(e)

    def emit(self, e: Expr) -> str:
        """The vector of the values of `e`; a literal stands for itself in each lane."""
        if not self.varies(e):
            for x in subexprs(e):
                if isinstance(x, Load):
                    lane_access.note(self, x, None, "broadcast")
            return self.splat(value_type(e.dtype), self.x.emit(e))
        match e:
            case Var():
                return self.values[e.name]
            case Load():
                return lane_access.load(self, e)
            case Unary():
                return self.wide.unary(e.op, e.dtype, self.emit(e.x))
            case Binary():
                return self._binary(e)
            case Compare():
                return self.wide.compare(e.op, e.a.dtype, self.emit(e.a), self.emit(e.b))
            case Logic():
                return self._logic(e)
            case Select():
                return self._select(e)
            case Cast():
                return self.wide.cast(self.emit(e.x), e.x.dtype, e.type)
            case Call():
                return self._call(e)
            case Let():
                return self._let(e)
        raise AssertionError(f"unknown expression {type(e).__name__}")

    def _binary(self, e: Binary) -> str:
        if e.op in ("//", "%") and lane_access.in_rows(self, e):
            return self._in_rows(e)
        x, y = self.emit(e.a), self.emit(e.b)
        if e.op in ("//", "%") and e.dtype.is_int and not nonzero(e.b):
            ty = value_type(e.dtype)
            ok = self.b.value(f"icmp ne {self.operand(ty, y)}, zeroinitializer")
            self.guard(ok, self.x.site("zero_division", "", 0, e.loc))
            y = self.where(self.mask, ty, y, "1")
        return self.wide.binary(e.op, e.dtype, x, y)

    def _in_rows(self, e: Binary) -> str:
        """The row, or the place in it, of elements one after the other, from the first lane's.

        Where a row is as long as the vector, the lanes lie in two rows; else the small numbers are divided as
        floats, which is exact.
        """
        b, x, count = self.b, self.x, self.count
        wide, narrow, real = (self.vector(ty) for ty in ("i64", "i32", "float"))
        base, n = x.emit(e.a), x.emit(e.b)
        quotient = self.splat("i64", x.arith.binary("//", i64, base, n))
        first, length = self.splat("i64", x.arith.binary("%", i64, base, n)), self.splat("i64", n)
        at = b.value(f"add {self.operand('i64', first)}, {self.numbers(1).split('> ', 1)[1]}")
        over = b.value(f"icmp sge {wide} {at}, {self._text(length)}")
        ints = [b.value(f"trunc {self.operand('i64', v)} to {narrow}") for v in (at, length)]
        floats = [b.value(f"sitofp {narrow} {v} to {real}") for v in ints]
        rows = b.value(f"fptosi {real} {b.value(f'fdiv {real} {floats[0]}, {floats[1]}')} to {narrow}")
        long = b.value(f"icmp sge i64 {n}, {count}")
        if e.op == "//":
            one = b.value(f"zext {self.vector('i1')} {over} to {wide}")
            many = b.value(f"zext {narrow} {rows} to {wide}")
            steps = b.value(f"select i1 {long}, {wide} {one}, {wide} {many}")
            return b.value(f"add {self.operand('i64', quotient)}, {steps}")
        one = self.where(over, "i64", length, "0")
        many = b.value(f"zext {narrow} {b.value(f'mul {narrow} {rows}, {ints[1]}')} to {wide}")
        back = b.value(f"select i1 {long}, {wide} {one}, {wide} {many}")
        return b.value(f"sub {wide} {at}, {back}")

    def _text(self, value: str) -> str:
        return self.operand("i64", value).split("> ", 1)[1]

    def _call(self, e: Call) -> str:
        args = [self.emit(a) for a in e.args]
        t = e.args[0].dtype
        if e.fn == "within":
            index, extent = (self.operand("i64", a).split("> ", 1)[1] for a in args[:2])
            ty = self.vector("i64")
            above = self.b.value(f"icmp sge {ty} {index}, zeroinitializer")
            ok = self.both(above, self.b.value(f"icmp slt {ty} {index}, {extent}"))
            self.guard(ok, self.x.part_site(e), index=index, extents=extent)
            return args[0]
        if e.fn != "ipow":
            return self.wide.call(e.fn, t, args, e.type)
        exponent, ty = e.args[1], value_type(t)
        if isinstance(exponent, Const) and 0 < exponent.value <= 64:
            return self.wide.power(t, args[0], args[1])
        if t.kind == "int" and not (isinstance(exponent, Const) and exponent.value >= 0):
            ok = self.b.value(f"icmp sge {self.operand(ty, args[1])}, zeroinitializer")
            wide = self.wide.cast(args[1], t, i64)
            self.guard(ok, self.x.site("negative_power", "", 0, e.loc), index=wide)
        return self.each(ty, lambda n: self._power(t, args, n))

    def _power(self, t: DType, args: list[str], lane: int) -> str:
        x, n = (self.extract(value_type(t), a, lane) for a in args)
        return self.x.arith.power(t, x, n)

    def each(self, ty: str, value: Callable[[int], str]) -> str:
        """A vector made lane by lane."""
        result = "poison"
        for lane in range(self.count):
            one = value(lane)
            result = self.b.value(f"insertelement {self.vector(ty)} {result}, {ty} {one}, i64 {lane}")
        return result

    def _let(self, e: Let) -> str:
        ariths = (self.x.arith, self.wide)
        before = [a.flags for a in ariths]
        for a in ariths:
            a.flags = a.inline_flags
        if e.name in self.facts.varying:
            self.values[e.name] = self.emit(e.value)
            result = self.emit(e.body)
            del self.values[e.name]
        else:
            self.x.vars[e.name] = self.x.emit(e.value)
            result = self.emit(e.body)
            del self.x.vars[e.name]
        for a, flags in zip(ariths, before):
            a.flags = flags
        return result

    def _logic(self, e: Logic) -> str:
        a = self.emit(e.a)
        test = a if e.op == "and" else self.inverse(a)
        b = self._arm(e.b, test, unconditional_loads(e.a))
        return self.where(a, "i1", b, "false") if e.op == "and" else self.where(a, "i1", "true", b)

    def _select(self, e: Select) -> str:
        known = unconditional_loads(e.cond)
        ty = value_type(e.dtype)
        if not self.varies(e.cond):
            return self._uniform_select(e, known, ty)
        cond = self.emit(e.cond)
        a = self._arm(e.a, cond, known)
        b = self._arm(e.b, self.inverse(cond), known)
        return self.where(cond, ty, a, b)

    def _arm(self, e: Expr, test: str, known: frozenset[Load]) -> str:
        """`e`, which is needed only in the lanes where `test` is on."""
        if self.x.can_run_anyway(e, known):
            return self.emit(e)
        with self.under(test):
            return self.emit(e)

    def _uniform_select(self, e: Select, known: frozenset[Load], ty: str) -> str:
        b, cond = self.b, self.x.emit(e.cond)
        if self.x.can_run_anyway(e.a, known) and self.x.can_run_anyway(e.b, known):
            a, other = (self.operand(ty, self.emit(arm)) for arm in (e.a, e.b))
            return b.value(f"select i1 {cond}, {a}, {other}")
        then, orelse, end = b.fresh("then"), b.fresh("else"), b.fresh("end")
        b.cbr(cond, then, orelse)
        arms = []
        for label, arm in ((then, e.a), (orelse, e.b)):
            b.block(label)
            value = self.operand(ty, self.emit(arm)).split("> ", 1)[1]
            arms.append(f"[ {value}, %{b.label} ]")
            b.br(end)
        b.block(end)
        return b.value(f"phi {self.vector(ty)} {', '.join(arms)}")


def reduce(x: Expressions, count: int, op: str, t: DType, value: str) -> str:
    """`count` lanes combined by an associative operator, as a tree; the result is a scalar."""
    b, ty, width = x.b, value_type(t), count
    rest: list[str] = []
    text = operand(count, ty, value).split("> ", 1)[1]
    while width > 1:
        half = width // 2
        if width % 2:
            rest.append(b.value(f"extractelement <{width} x {ty}> {text}, i64 {width - 1}"))
        parts = []
        for start in (0, half):
            order = ", ".join([f"i32 {start + n}" for n in range(half)])
            source = f"<{width} x {ty}> {text}, <{width} x {ty}> poison"
            parts.append(b.value(f"shufflevector {source}, <{half} x i32> <{order}>"))
        arith = x.arith.over(WideBuilder(b, half))
        arith.flags = x.arith.flags
        text, width = arith.binary(op, t, parts[0], parts[1]), half
    result = b.value(f"extractelement <1 x {ty}> {text}, i64 0")
    for one in rest:
        result = x.arith.binary(op, t, result, one)
    return result


def identity(op: str, t: DType) -> str:
    """The literal that `op` leaves other values unchanged by: -0.0 for a float sum, infinity for `min`."""
    if t.is_float:
        return literal({"+": -0.0, "*": 1.0, "min": float("inf"), "max": float("-inf")}[op], t)
    if t.kind == "bool":
        return "false" if op == "+" else "true"
    return str({"+": 0, "*": 1, "min": t.max, "max": t.min}[op])
