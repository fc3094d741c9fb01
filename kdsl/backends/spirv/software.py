"""Operations that devices do not have, or not exactly, as functions in the module, on 32 or 64 bit words.

A float is taken apart into its sign, an exponent field `e` (1 for denormals) and an integer mantissa `m` of
M = 24 or 53 bits: it is m * 2**(e - B), B = 150 or 1075. What is put together is rounded to nearest even.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdsl.backends.spirv.module import Code, Module, bits_of
from kdsl.backends.spirv.opcodes import Glsl

if TYPE_CHECKING:
    from kdsl.backends.spirv.arith import Arith

Pair = tuple[int, int]
"""The high and the low word of a number of twice as many bits."""


def _function(
    m: Module, name: str, kind: str, count: int, build: Callable[[Words, Sequence[int]], int]
) -> int:
    """The function `name` of `count` operands of type `kind`; `build` gives its result."""

    def make(module: Module, id: int) -> None:
        parameters = [module.new() for _ in range(count)]
        code = Code(module).start()
        result = build(Words.of(code, kind), parameters)
        code.end("ReturnValue", result)
        code.finish(id, kind, tuple([(p, kind) for p in parameters]))

    return m.helper(f"{name}.{kind}", make)


def _nothing(values: Sequence[int], again: int, end: int) -> None:
    """The body of a loop whose work is all in its step."""


def power(m: Module, kind: str) -> int:
    """`x ** n` of integers, wrapping, for n taken as unsigned."""

    def build(w: Words, p: Sequence[int]) -> int:
        a = w.a
        one, zero = a.const(kind, 1), a.const(kind, 0)

        def step(v: Sequence[int]) -> Sequence[int]:
            base, left, so_far = v
            odd = a.op("INotEqual", "bool", a.op("BitwiseAnd", kind, left, one), zero)
            times = a.op("IMul", kind, so_far, base)
            half = a.op("ShiftRightLogical", kind, left, one)
            return a.op("IMul", kind, base, base), half, a.pick(kind, odd, times, so_far)

        def more(v: Sequence[int]) -> int:
            return a.op("INotEqual", "bool", v[1], zero)

        return a.code.loop((kind, kind, kind), (p[0], p[1], one), more, _nothing, step)[2]

    return _function(m, "power", kind, 2, build)


def fmod(m: Module, kind: str) -> int:
    """C's `fmod`: the mantissas are divided, as many bits at a time as a word has to spare."""

    def build(w: Words, p: Sequence[int]) -> int:
        a, code = w.a, w.a.code
        x, y = w.apart(p[0]), w.apart(p[1])

        def divided() -> int:
            rest = w.op("UMod", x.m, y.m)

            def step(v: Sequence[int]) -> Sequence[int]:
                n = w.smaller(v[1], a.const("i32", w.bits - w.m))
                shifted = w.op("ShiftLeftLogical", v[0], w.word(n))
                return w.op("UMod", shifted, y.m), w.count("ISub", v[1], n)

            def more(v: Sequence[int]) -> int:
                return a.op("SGreaterThan", "bool", v[1], a.const("i32", 0))

            kinds = (w.whole, "i32")
            rest = code.loop(kinds, (rest, w.count("ISub", x.e, y.e)), more, _nothing, step)[0]
            return a.op("Bitcast", kind, w.op("BitwiseOr", x.sign, w.exact(rest, y.e)))

        def special() -> int:
            small = a.op("ULessThan", "bool", x.size, y.size)
            bad = w.either(
                a.op("UGreaterThanEqual", "bool", x.size, w.infinity),
                a.op("UGreaterThan", "bool", y.size, w.infinity),
                a.op("IEqual", "bool", y.size, w.const(0)),
            )
            nan = a.op("Bitcast", kind, w.quiet)
            return a.pick(kind, bad, nan, a.pick(kind, small, p[0], nan))

        plain = w.all(
            a.op("ULessThan", "bool", x.size, w.infinity),
            a.op("ULessThan", "bool", y.size, w.infinity),
            a.op("INotEqual", "bool", y.size, w.const(0)),
            a.op("UGreaterThanEqual", "bool", x.size, y.size),
        )
        return code.choose(plain, kind, divided, special)

    return _function(m, "fmod", kind, 2, build)


def fma(m: Module, kind: str, *, through_f64: bool = False) -> int:
    """`x * y + z` rounded once. `through_f64`: the device has f64 with denormals, and f32 goes through it."""
    if through_f64 and kind == "f32":
        return _function(m, "fma", kind, 3, _fma_through_f64)

    def build(w: Words, p: Sequence[int]) -> int:
        a, code = w.a, w.a.code
        x, y, z = (w.apart(v) for v in p)
        zero = w.const(0)
        product_special = w.either(
            a.op("UGreaterThanEqual", "bool", x.size, w.infinity),
            a.op("UGreaterThanEqual", "bool", y.size, w.infinity),
            a.op("IEqual", "bool", x.size, zero),
            a.op("IEqual", "bool", y.size, zero),
            a.op("UGreaterThan", "bool", z.size, w.infinity),
        )
        sum_special = a.op("IEqual", "bool", z.size, w.infinity)

        def special() -> int:
            return a.flop("FAdd", kind, a.flop("FMul", kind, p[0], p[1]), p[2])

        def infinite() -> int:
            return p[2]

        def number() -> int:
            return code.choose(sum_special, kind, infinite, lambda: w.fused(x, y, z))

        return code.choose(product_special, kind, special, number)

    return _function(m, "fma", kind, 3, build)


def _fma_through_f64(w: Words, p: Sequence[int]) -> int:
    """The sum is rounded to odd in f64 first. Source: S. Boldo, G. Melquiond, "Emulation of a FMA", 2008."""
    a = w.a
    x, y, z = (a.flop("FConvert", "f64", v) for v in p)
    product = a.flop("FMul", "f64", x, y)
    total = a.flop("FAdd", "f64", product, z)
    back = a.flop("FSub", "f64", total, product)
    left = a.flop("FSub", "f64", product, a.flop("FSub", "f64", total, back))
    error = a.flop("FAdd", "f64", left, a.flop("FSub", "f64", z, back))
    bits = a.bits("f64", total)
    zero = a.const("f64", 0.0)
    up = a.code.pure("FOrdGreaterThan", "bool", error, zero, exact=True)
    positive = a.op("SGreaterThanEqual", "bool", bits, a.const("i64", 0))
    one, minus_one = a.const("i64", 1), a.const("i64", -1)
    away = a.pick("i64", a.op("LogicalEqual", "bool", up, positive), one, minus_one)
    even = a.op("IEqual", "bool", a.op("BitwiseAnd", "i64", bits, one), a.const("i64", 0))
    finite = a.op("ULessThan", "bool", a.magnitude("f64", total), a.const("i64", 0x7FF << 52))
    inexact = a.code.pure("FUnordNotEqual", "bool", error, zero, exact=True)
    move = a.op("LogicalAnd", "bool", a.op("LogicalAnd", "bool", even, finite), inexact)
    odd = a.pick("i64", move, a.op("IAdd", "i64", bits, away), bits)
    return a.flop("FConvert", "f32", a.op("Bitcast", "f64", odd))


def divide(m: Module, kind: str) -> int:
    """`x / y`, correctly rounded: long division of the mantissas."""

    def build(w: Words, p: Sequence[int]) -> int:
        a = w.a
        x, y = w.apart(p[0]), w.apart(p[1])
        special = w.either(
            a.op("UGreaterThanEqual", "bool", x.size, w.infinity),
            a.op("UGreaterThanEqual", "bool", y.size, w.infinity),
            a.op("IEqual", "bool", x.size, w.const(0)),
            a.op("IEqual", "bool", y.size, w.const(0)),
        )

        def number() -> int:
            n, d = w.normal(x), w.normal(y)
            quotient = w.op("UDiv", n.m, d.m)
            rest = w.op("UMod", n.m, d.m)
            left = w.m + 3
            while left:
                step = min(left, w.bits - w.m)
                shifted = w.op("ShiftLeftLogical", rest, w.const(step))
                digits = w.op("UDiv", shifted, d.m)
                quotient = w.op("BitwiseOr", w.op("ShiftLeftLogical", quotient, w.const(step)), digits)
                rest = w.op("UMod", shifted, d.m)
                left -= step
            exponent = w.count("IAdd", w.count("ISub", n.e, d.e), a.const("i32", -(w.m + 3)))
            return w.rounded(w.op("BitwiseXor", x.sign, y.sign), w.jam(quotient, rest), exponent)

        return a.code.choose(special, kind, lambda: a.flop("FDiv", kind, p[0], p[1]), number)

    return _function(m, "divide", kind, 2, build)


def square_root(m: Module, kind: str) -> int:
    """The root, correctly rounded, a bit at a time."""

    def build(w: Words, p: Sequence[int]) -> int:
        a = w.a
        x = w.apart(p[0])
        special = w.either(
            a.op("UGreaterThanEqual", "bool", x.size, w.infinity),
            a.op("IEqual", "bool", x.size, w.const(0)),
            a.op("INotEqual", "bool", x.sign, w.const(0)),
        )

        def of_special() -> int:
            keeps = a.op("IEqual", "bool", x.size, w.const(0))
            keeps = w.either(keeps, a.op("IEqual", "bool", x.sign, w.const(0)))
            return a.pick(kind, keeps, p[0], a.op("Bitcast", kind, w.quiet))

        def number() -> int:
            n = w.normal(x)
            # An even number of bits with one in the two highest, times an even power of 2.
            length = w.m + 2 + w.m % 2
            odd = w.count(
                "BitwiseAnd", w.count("IAdd", n.e, a.const("i32", w.m % 2 + w.bias)), a.const("i32", 1)
            )
            shift = w.count("ISub", a.const("i32", length - w.m), odd)
            radicand = w.op("ShiftLeftLogical", n.m, w.word(shift))
            exponent = w.count("ISub", w.count("ISub", n.e, a.const("i32", w.bias)), shift)

            def step(v: Sequence[int]) -> Sequence[int]:
                count, left, root, rest = v
                two = w.op("BitwiseAnd", w.op("ShiftRightLogical", left, w.const(length - 2)), w.const(3))
                rest = w.op("BitwiseOr", w.op("ShiftLeftLogical", rest, w.const(2)), two)
                trial = w.op("BitwiseOr", w.op("ShiftLeftLogical", root, w.const(2)), w.const(1))
                fits = a.op("UGreaterThanEqual", "bool", rest, trial)
                rest = a.pick(w.whole, fits, w.op("ISub", rest, trial), rest)
                bit = a.pick(w.whole, fits, w.const(1), w.const(0))
                root = w.op("BitwiseOr", w.op("ShiftLeftLogical", root, w.const(1)), bit)
                left = w.op("ShiftLeftLogical", left, w.const(2))
                return w.count("ISub", count, a.const("i32", 1)), left, root, rest

            def more(v: Sequence[int]) -> int:
                return a.op("INotEqual", "bool", v[0], a.const("i32", 0))

            kinds = ("i32", w.whole, w.whole, w.whole)
            start = (a.const("i32", length), radicand, w.const(0), w.const(0))
            _, _, root, rest = a.code.loop(kinds, start, more, _nothing, step)
            # `length` bits of the root, half of them behind the point.
            half = w.count("ShiftRightArithmetic", exponent, a.const("i32", 1))
            at = w.count("ISub", half, a.const("i32", length // 2))
            return w.rounded(w.const(0), w.jam(root, rest), at)

        return a.code.choose(special, kind, of_special, number)

    return _function(m, "square_root", kind, 1, build)


@dataclass(frozen=True, slots=True)
class Parts:
    """A float taken apart: sign and size are its bits, `m` its mantissa, `e` (i32) its exponent field."""

    sign: int
    size: int
    m: int
    e: int


@dataclass(frozen=True, slots=True)
class Words:
    """Arithmetic on the words of floats of type `kind`: `bits` long, with mantissas of `m` bits."""

    a: Arith
    kind: str
    whole: str
    bits: int
    m: int
    bias: int

    @staticmethod
    def of(code: Code, kind: str) -> Words:
        """Words for floats of `kind`, or of the integers `kind`."""
        from kdsl.backends.spirv.arith import Arith

        bits = bits_of(kind)
        m, bias = (24, 150) if bits == 32 else (53, 1075)
        return Words(Arith(code), kind, f"i{bits}", bits, m, bias)

    @property
    def infinity(self) -> int:
        """The bits of infinity."""
        return self.const(((1 << (self.bits - self.m)) - 1) << (self.m - 1))

    @property
    def quiet(self) -> int:
        """The bits of a NaN."""
        return self.const(((1 << (self.bits - self.m + 1)) - 1) << (self.m - 2))

    def const(self, value: int) -> int:
        return self.a.const(self.whole, value)

    def op(self, name: str, *operands: int) -> int:
        return self.a.op(name, self.whole, *operands)

    def count(self, name: str, *operands: int) -> int:
        return self.a.op(name, "i32", *operands)

    def word(self, x: int) -> int:
        """An i32 that is not negative, as a word."""
        return x if self.bits == 32 else self.a.widened(x, signed=False)

    def smaller(self, x: int, y: int) -> int:
        return self.a.pick("i32", self.a.op("SLessThan", "bool", x, y), x, y)

    def either(self, first: int, *others: int) -> int:
        for other in others:
            first = self.a.op("LogicalOr", "bool", first, other)
        return first

    def all(self, first: int, *others: int) -> int:
        for other in others:
            first = self.a.op("LogicalAnd", "bool", first, other)
        return first

    def flag(self, cond: int) -> int:
        """1 or 0."""
        return self.a.pick(self.whole, cond, self.const(1), self.const(0))

    def jam(self, x: int, lost: int) -> int:
        """`x` with its last bit set when `lost` is not 0."""
        return self.op("BitwiseOr", x, self.flag(self.a.op("INotEqual", "bool", lost, self.const(0))))

    def apart(self, x: int) -> Parts:
        """The parts of a float."""
        bits, size = self.a.bits(self.kind, x), self.a.magnitude(self.kind, x)
        field = self.op("ShiftRightLogical", size, self.const(self.m - 1))
        fraction = self.op("BitwiseAnd", size, self.const((1 << (self.m - 1)) - 1))
        normal = self.a.op("INotEqual", "bool", field, self.const(0))
        mantissa = self.op("BitwiseOr", fraction, self.const(1 << (self.m - 1)))
        e = field if self.bits == 32 else self.a.narrowed(field)
        one = self.a.const("i32", 1)
        return Parts(
            self.op("BitwiseXor", bits, size),
            size,
            self.a.pick(self.whole, normal, mantissa, fraction),
            self.a.pick("i32", normal, e, one),
        )

    def normal(self, x: Parts) -> Parts:
        """The parts with a mantissa of full length (it is not 0); the exponent may be 0 or below."""
        shift = self.count("ISub", self.leading(x.m), self.a.const("i32", self.bits - self.m))
        m = self.op("ShiftLeftLogical", x.m, self.word(shift))
        return Parts(x.sign, x.size, m, self.count("ISub", x.e, shift))

    def leading(self, x: int) -> int:
        """The number of zero bits above the highest one, an i32."""

        def of(half: int) -> int:
            top = self.a.glsl(Glsl.FindUMsb, "i32", half)
            return self.count("ISub", self.a.const("i32", 31), top)

        if self.bits == 32:
            return of(x)
        high = self.a.narrowed(self.op("ShiftRightLogical", x, self.const(32)))
        none = self.a.op("IEqual", "bool", high, self.a.const("i32", 0))
        low = self.count("IAdd", of(self.a.narrowed(x)), self.a.const("i32", 32))
        return self.a.pick("i32", none, low, of(high))

    def exact(self, m: int, e: int) -> int:
        """The bits of m * 2**(e - B) for an m of at most M bits, e >= 1."""
        shift = self.count("ISub", self.leading(m), self.a.const("i32", self.bits - self.m))
        room = self.count("ISub", e, self.a.const("i32", 1))
        shift = self.smaller(shift, room)
        shift = self.a.pick(
            "i32", self.a.op("IEqual", "bool", m, self.const(0)), self.a.const("i32", 0), shift
        )
        moved = self.op("ShiftLeftLogical", m, self.word(shift))
        # A denormal has the exponent 1 and no hidden bit: adding its bits to those of 0 gives it.
        above = self.op(
            "ShiftLeftLogical", self.word(self.count("ISub", room, shift)), self.const(self.m - 1)
        )
        return self.a.pick(
            self.whole,
            self.a.op("IEqual", "bool", m, self.const(0)),
            self.const(0),
            self.op("IAdd", above, moved),
        )

    def rounded(self, sign: int, x: int, e: int) -> int:
        """The float nearest to x * 2**e, for a word `x` that is not 0, whose last bit may stand for more."""
        a, zeros = self.a, self.leading(x)
        x = self.op("ShiftLeftLogical", x, self.word(zeros))
        spare = self.bits - self.m
        field = self.count("IAdd", self.count("ISub", e, zeros), a.const("i32", spare + self.bias))
        one = a.const("i32", 1)
        denormal = a.op("SLessThan", "bool", field, one)
        extra = a.pick("i32", denormal, self.count("ISub", one, field), a.const("i32", 0))
        # Shifts by up to the width less one, and keeps a trace of what falls off.
        extra = self.word(self.smaller(extra, a.const("i32", self.bits - 1)))
        kept = self.op("ShiftRightLogical", x, extra)
        x = self.jam(kept, self.op("BitwiseXor", self.op("ShiftLeftLogical", kept, extra), x))
        m = self.op("ShiftRightLogical", x, self.const(spare))
        rest = self.op("BitwiseAnd", x, self.const((1 << spare) - 1))
        half = self.const(1 << (spare - 1))
        tie = a.op("IEqual", "bool", rest, half)
        m_odd = a.op("INotEqual", "bool", self.op("BitwiseAnd", m, self.const(1)), self.const(0))
        up = self.either(a.op("UGreaterThan", "bool", rest, half), a.op("LogicalAnd", "bool", tie, m_odd))
        m = self.op("IAdd", m, self.flag(up))
        below = a.pick("i32", denormal, a.const("i32", 0), self.count("ISub", field, one))
        top = (1 << (self.bits - self.m)) - 1
        below = self.smaller(below, a.const("i32", top))
        bits = self.op("IAdd", self.op("ShiftLeftLogical", self.word(below), self.const(self.m - 1)), m)
        over = a.op("UGreaterThan", "bool", bits, self.infinity)
        bits = a.pick(self.whole, over, self.infinity, bits)
        return a.op("Bitcast", self.kind, self.op("BitwiseOr", sign, bits))

    # -- two words

    def times(self, x: int, y: int) -> Pair:
        """The whole product of two words, by halves."""
        half = self.const(self.bits // 2)
        mask = self.const((1 << (self.bits // 2)) - 1)

        def split(v: int) -> Pair:
            return self.op("ShiftRightLogical", v, half), self.op("BitwiseAnd", v, mask)

        (x1, x0), (y1, y0) = split(x), split(y)
        low1, low0 = split(self.op("IMul", x0, y0))
        mid1, mid0 = split(self.op("IAdd", self.op("IMul", x1, y0), low1))
        other1, other0 = split(self.op("IAdd", self.op("IMul", x0, y1), mid0))
        high = self.op("IAdd", self.op("IAdd", self.op("IMul", x1, y1), mid1), other1)
        return high, self.op("BitwiseOr", self.op("ShiftLeftLogical", other0, half), low0)

    def left(self, x: Pair, n: int) -> Pair:
        """`x << n` for a constant 0 < n < bits."""
        over = self.op("ShiftRightLogical", x[1], self.const(self.bits - n))
        high = self.op("BitwiseOr", self.op("ShiftLeftLogical", x[0], self.const(n)), over)
        return high, self.op("ShiftLeftLogical", x[1], self.const(n))

    def right(self, x: Pair, n: int) -> Pair:
        """`x >> n` for an i32 n >= 0, its last bit set when bits were lost."""
        a = self.a
        n = self.smaller(n, a.const("i32", 2 * self.bits - 1))
        far = a.op("SGreaterThanEqual", "bool", n, a.const("i32", self.bits))
        k = self.word(self.count("BitwiseAnd", n, a.const("i32", self.bits - 1)))
        high = a.pick(self.whole, far, self.const(0), x[0])
        low = a.pick(self.whole, far, x[0], x[1])
        gone = a.pick(self.whole, far, x[1], self.const(0))
        other = self.op("ISub", self.const(self.bits - 1), k)
        carried = self.op("ShiftLeftLogical", self.op("ShiftLeftLogical", high, self.const(1)), other)
        kept = self.op("ShiftRightLogical", low, k)
        lost = self.op("BitwiseXor", self.op("ShiftLeftLogical", kept, k), low)
        result = self.op("BitwiseOr", kept, carried)
        return self.op("ShiftRightLogical", high, k), self.jam(result, self.op("BitwiseOr", lost, gone))

    def sum(self, x: Pair, y: Pair) -> Pair:
        low = self.op("IAdd", x[1], y[1])
        carry = self.flag(self.a.op("ULessThan", "bool", low, x[1]))
        return self.op("IAdd", self.op("IAdd", x[0], y[0]), carry), low

    def difference(self, x: Pair, y: Pair) -> Pair:
        low = self.op("ISub", x[1], y[1])
        borrow = self.flag(self.a.op("ULessThan", "bool", x[1], y[1]))
        return self.op("ISub", self.op("ISub", x[0], y[0]), borrow), low

    def fused(self, x: Parts, y: Parts, z: Parts) -> int:
        """The float nearest to x * y + z, of which all are finite and x and y not 0.

        The highest bits of the product and of z are brought near the top of two words, then the one with the
        lower exponent is shifted down.
        """
        a, double = self.a, 2 * self.bits
        x, y, zero = self.normal(x), self.normal(y), self.const(0)
        z_zero = a.op("IEqual", "bool", z.size, zero)
        z_m = a.pick(self.whole, z_zero, self.const(1), z.m)
        n = self.normal(Parts(z.sign, z.size, z_m, z.e))
        up = double - 2 - 2 * self.m
        product = self.left(self.times(x.m, y.m), up)
        product_e = self.count("IAdd", self.count("IAdd", x.e, y.e), a.const("i32", -2 * self.bias - up))
        z_up = double - 3 - self.m
        high = self.op("ShiftLeftLogical", n.m, self.const(z_up - self.bits))
        addend = a.pick(self.whole, z_zero, zero, high), zero
        z_e = self.count("ISub", n.e, a.const("i32", self.bias + z_up))
        z_e = a.pick("i32", z_zero, product_e, z_e)
        gap = self.count("ISub", product_e, z_e)
        none = a.const("i32", 0)
        ahead = a.op("SGreaterThan", "bool", gap, none)
        addend = self.right(addend, a.pick("i32", ahead, gap, none))
        behind = a.pick("i32", ahead, none, self.count("ISub", none, gap))
        product = self.right(product, behind)
        exponent = a.pick("i32", ahead, product_e, z_e)
        sign = self.op("BitwiseXor", x.sign, y.sign)
        same = a.op("IEqual", "bool", sign, z.sign)
        less = self.either(
            a.op("ULessThan", "bool", product[0], addend[0]),
            a.op(
                "LogicalAnd",
                "bool",
                a.op("IEqual", "bool", product[0], addend[0]),
                a.op("ULessThan", "bool", product[1], addend[1]),
            ),
        )
        total, one_way = self.sum(product, addend), self.difference(product, addend)
        other_way = self.difference(addend, product)

        def chosen(n: int) -> int:
            apart = a.pick(self.whole, less, other_way[n], one_way[n])
            return a.pick(self.whole, same, total[n], apart)

        result = chosen(0), chosen(1)
        turned = a.op("LogicalAnd", "bool", less, a.op("LogicalNot", "bool", same))
        sign = a.pick(self.whole, turned, z.sign, sign)
        # Down to one word: brings the highest bit up to the top of the first.
        far = a.op("IEqual", "bool", result[0], zero)
        first = a.pick(self.whole, far, result[1], result[0])
        second = a.pick(self.whole, far, zero, result[1])
        exponent = self.count("IAdd", exponent, a.pick("i32", far, none, a.const("i32", self.bits)))
        shift = self.leading(first)
        k = self.word(self.smaller(shift, a.const("i32", self.bits - 1)))
        other = self.op("ISub", self.const(self.bits - 1), k)
        carried = self.op("ShiftRightLogical", self.op("ShiftRightLogical", second, self.const(1)), other)
        word = self.op("BitwiseOr", self.op("ShiftLeftLogical", first, k), carried)
        word = self.jam(word, self.op("ShiftLeftLogical", second, k))
        exponent = self.count("ISub", exponent, shift)
        nothing = a.op("IEqual", "bool", first, zero)
        number = self.rounded(sign, a.pick(self.whole, nothing, self.const(1), word), exponent)
        return a.pick(self.kind, nothing, a.const(self.kind, 0.0), number)
