"""Arithmetic on scalars: one method for each kind of operation, on ids.

What is emitted, for `x, y` of an element type `t`:

    i8 x + y            IAdd; then sign-extended from 8 bits (integers of up to 32 bits live in 32)
    i32 x // y          SDiv; minus 1 where the remainder is not 0 and has not the divisor's sign
    f32 x + y           FAdd, decorated NoContraction
    bf16 x + y          FAdd of f32; then rounded to bf16 by integer operations
    min(x, y)           FOrdLessThan y x; Select y x

Operations that SPIR-V leaves undefined, or that drivers do in their own ways, are never emitted: remainders
of negative numbers, shifts by the width, conversions out of range, minima of NaN. NoContraction keeps drivers
from rewriting: without it `x - x` may become 0. Divisors given here are not 0.
"""

from __future__ import annotations

from collections.abc import Callable

from kdsl.backends.spirv import halves, software
from kdsl.backends.spirv.module import Code, bits_of
from kdsl.backends.spirv.opcodes import Glsl
from kdsl.dtypes import DType, f32

_INT_OPS = {"+": "IAdd", "-": "ISub", "*": "IMul", "&": "BitwiseAnd", "|": "BitwiseOr", "^": "BitwiseXor"}
_BOOL_OPS = {
    "+": "LogicalOr", "*": "LogicalAnd", "&": "LogicalAnd", "|": "LogicalOr", "^": "LogicalNotEqual",
    "min": "LogicalAnd", "max": "LogicalOr",
}  # fmt: skip
_FLOAT_OPS = {"+": "FAdd", "-": "FSub", "*": "FMul", "/": "FDiv"}
_INT_COMPARE = {"<": "LessThan", "<=": "LessThanEqual", ">": "GreaterThan", ">=": "GreaterThanEqual"}
_FLOAT_COMPARE = {
    "==": "FOrdEqual", "!=": "FUnordNotEqual", "<": "FOrdLessThan", "<=": "FOrdLessThanEqual",
    ">": "FOrdGreaterThan", ">=": "FOrdGreaterThanEqual",
}  # fmt: skip
_ROUNDINGS = {"floor": Glsl.Floor, "ceil": Glsl.Ceil, "trunc": Glsl.Trunc, "round": Glsl.RoundEven}


def kind_of(t: DType) -> str:
    """The type in which values of `t` are computed."""
    if t.kind == "bool":
        return "bool"
    return f"{'f' if t.is_float else 'i'}{max(32, t.bits)}"


class Arith:
    """Emits operations into `code`.

    `contract`: a product and a sum around it may become one operation. `fastmath`: floats may be rewritten.
    `exact_division`: the device's division and square root are correctly rounded, or need not be.
    `fma_through_f64`: its f64 is exact enough to fuse products and sums of f32.
    """

    def __init__(
        self,
        code: Code,
        *,
        contract: bool = False,
        fastmath: bool = False,
        exact_division: bool = True,
        fma_through_f64: bool = False,
    ) -> None:
        self.code = code
        self.contract = contract
        self.fastmath = fastmath
        self.exact_division = exact_division
        self.fma_through_f64 = fma_through_f64

    # -- short forms

    def const(self, base: str, value: bool | int | float) -> int:
        """A constant."""
        return self.code.module.constant(base, value)

    def op(self, name: str, base: str, *operands: int) -> int:
        """A pure instruction, folded where it is one of integers and constants."""
        if base[0] == "i":
            folded = self._folded(name, base, operands)
            if folded is not None:
                return folded
        return self.code.pure(name, base, *operands)

    def flop(self, name: str, base: str, *operands: int, free: bool = False) -> int:
        """An instruction on floats, not to be rewritten (unless `free`, where contraction is)."""
        exact = not (self.fastmath or (free and self.contract))
        return self.code.pure(name, base, *operands, exact=exact)

    def glsl(self, instruction: Glsl, base: str, *operands: int) -> int:
        """An instruction of the extended set."""
        return self.code.pure("ExtInst", base, self.code.module.glsl(), instruction, *operands)

    def pick(self, base: str, cond: int, a: int, b: int) -> int:
        """`a if cond else b`, both computed."""
        return a if a == b else self.op("Select", base, cond, a, b)

    def _folded(self, name: str, base: str, operands: tuple[int, ...]) -> int | None:
        """The result where constants make it plain."""
        number = self.code.module.number
        if len(operands) != 2:
            return None
        x, y = number(operands[0]), number(operands[1])
        if x is not None and y is not None and name in _FOLD:
            return self.const(base, _FOLD[name](x, y))
        if y == 0 and name in _NEUTRAL_0:
            return operands[0]
        if x == 0 and name in ("IAdd", "BitwiseOr"):
            return operands[1]
        if name == "IMul":
            if y == 1 or x == 0:
                return operands[0]
            if x == 1 or y == 0:
                return operands[1]
        return None

    # -- two operands

    def binary(self, op: str, t: DType, x: int, y: int, *, free: bool = False) -> int:
        """`x op y`. `free`: it is one of a product and a sum around it."""
        if t.kind == "bool":
            return self.code.pure(_BOOL_OPS[op], "bool", x, y)
        if t.is_float:
            return self._float_binary(op, t, x, y, free)
        base = kind_of(t)
        if op in _INT_OPS:
            result = self.op(_INT_OPS[op], base, x, y)
            return self.wrapped(t, result) if op in "+-*" else result
        match op:
            case "//" | "%":
                return self.wrapped(t, self._floor(op, t, x, y))
            case "<<" | ">>":
                return self._shift(op, t, x, y)
            case "min" | "max":
                return self.pick(base, self.compare("<" if op == "min" else ">", t, y, x), y, x)
        raise AssertionError(f"no operator {op} on {t}")

    def wrapped(self, t: DType, x: int) -> int:
        """An integer of 32 bits as one of `t`, which has no more."""
        if t.bits >= 32:
            return x
        if t.kind == "uint":
            return self.op("BitwiseAnd", "i32", x, self.const("i32", t.max))
        by = self.const("i32", 32 - t.bits)
        return self.op("ShiftRightArithmetic", "i32", self.op("ShiftLeftLogical", "i32", x, by), by)

    def _float_binary(self, op: str, t: DType, x: int, y: int, free: bool) -> int:
        base = kind_of(t)
        if op == "/" and not self.exact_division:
            return self.rounded(t, self.function(software.divide(self.code.module, base), base, x, y))
        if op in _FLOAT_OPS:
            return self.rounded(t, self.flop(_FLOAT_OPS[op], base, x, y, free=free and t.bits > 16))
        match op:
            case "min":
                return self.pick(base, self.compare("<", t, y, x), y, x)
            case "max":
                return self.pick(base, self.compare(">", t, y, x), y, x)
            case "//":
                return self.rounded(t, self._float_divmod(t, x, y)[0])
            case "%":
                return self.rounded(t, self._float_divmod(t, x, y)[1])
        raise AssertionError(f"no operator {op} on {t}")

    def _floor(self, op: str, t: DType, x: int, y: int) -> int:
        """`x // y` or `x % y`; 32 bits hold every quotient of shorter types."""
        base = kind_of(t)
        if t.kind == "uint":
            return self.op("UDiv" if op == "//" else "UMod", base, x, y)
        d = self.code.module.number(y)
        if d is not None and d > 0 and d & (d - 1) == 0:
            if op == "%":
                return self.op("BitwiseAnd", base, x, self.const(base, d - 1))
            return self.op("ShiftRightArithmetic", base, x, self.const(base, d.bit_length() - 1))
        zero, minus_one = self.const(base, 0), self.const(base, -1)
        negate = None
        divisor = y
        if d is None and t.bits >= 32:
            negate = self.compare("==", t, y, minus_one)
            divisor = self.pick(base, negate, self.const(base, 1), y)
        elif d == -1:
            return self.op("ISub", base, zero, x) if op == "//" else zero
        quotient = self.op("SDiv", base, x, divisor)
        rest = self.op("ISub", base, x, self.op("IMul", base, quotient, divisor))
        if d is not None:
            wrong = self.compare("<" if d > 0 else ">", t, rest, zero)
        else:
            other = self.compare("<", t, self.op("BitwiseXor", base, rest, divisor), zero)
            wrong = self.op("LogicalAnd", "bool", self.compare("!=", t, rest, zero), other)
        if op == "%":
            return self.op("IAdd", base, rest, self.pick(base, wrong, divisor, zero))
        floored = self.op("IAdd", base, quotient, self.pick(base, wrong, minus_one, zero))
        return floored if negate is None else self.pick(base, negate, self.op("ISub", base, zero, x), floored)

    def divide_positive(self, op: str, base: str, x: int, y: int) -> int:
        """`x // y` or `x % y` for `x >= 0` and `y > 0`."""
        d = self.code.module.number(y)
        if d is not None and d & (d - 1) == 0:
            if op == "%":
                return self.op("BitwiseAnd", base, x, self.const(base, d - 1))
            return self.op("ShiftRightLogical", base, x, self.const(base, d.bit_length() - 1))
        return self.op("UDiv" if op == "//" else "UMod", base, x, y)

    def _shift(self, op: str, t: DType, x: int, y: int) -> int:
        base = kind_of(t)
        inside = self.op("ULessThan", "bool", y, self.const(base, t.bits))
        n = self.code.module.number(y)
        if op == ">>" and t.kind == "int":
            last = self.const(base, t.bits - 1)
            amount = self.pick(base, inside, y, last) if n is None else y if 0 <= n < t.bits else last
            return self.op("ShiftRightArithmetic", base, x, amount)
        zero = self.const(base, 0)
        if n is not None and not 0 <= n < t.bits:
            return zero
        amount = self.op("BitwiseAnd", base, y, self.const(base, bits_of(base) - 1))
        shifted = self.op("ShiftLeftLogical" if op == "<<" else "ShiftRightLogical", base, x, amount)
        if op == "<<":
            shifted = self.wrapped(t, shifted)
        return shifted if n is not None else self.pick(base, inside, shifted, zero)

    def _float_divmod(self, t: DType, x: int, y: int) -> tuple[int, int]:
        """(x // y, x % y) exactly as NumPy's `npy_divmod` rounds them.

        Source: numpy/_core/src/npymath/npy_math_internal.h.src.
        """
        base = kind_of(t)
        zero, one, half = (self.const(base, v) for v in (0.0, 1.0, 0.5))
        strict = Arith(self.code, exact_division=self.exact_division)

        def both(a: int, b: int) -> int:
            return self.op("LogicalAnd", "bool", a, b)

        wide = f32 if base == "f32" else t
        rest = self.function(software.fmod(self.code.module, base), base, x, y)
        quotient = strict.binary("/", wide, strict.flop("FSub", base, x, rest), y)
        exact = strict.compare("==", wide, rest, zero)
        y_below = strict.compare("<", wide, y, zero)
        differ = self.op("LogicalNotEqual", "bool", y_below, strict.compare("<", wide, rest, zero))
        moved = self.pick(base, differ, strict.flop("FAdd", base, rest, y), rest)
        mod = self.pick(base, exact, self.copysign(base, zero, y), moved)
        lower = both(self.op("LogicalNot", "bool", exact), differ)
        div = self.pick(base, lower, strict.flop("FSub", base, quotient, one), quotient)
        floor = self.glsl(Glsl.Floor, base, div)
        short = strict.compare(">", wide, strict.flop("FSub", base, div, floor), half)
        rounded = self.pick(base, short, strict.flop("FAdd", base, floor, one), floor)
        plain = strict.binary("/", wide, x, y)
        tiny = self.copysign(base, zero, plain)
        nearly = self.pick(base, strict.compare("==", wide, div, zero), tiny, rounded)
        y_zero = strict.compare("==", wide, y, zero)
        return self.pick(base, y_zero, plain, nearly), self.pick(base, y_zero, rest, mod)

    def compare(self, op: str, t: DType, x: int, y: int) -> int:
        """`x op y` as a bool."""
        if t.is_float:
            return self.code.pure(_FLOAT_COMPARE[op], "bool", x, y, exact=not self.fastmath)
        if t.kind == "bool":
            if op in ("==", "!="):
                return self.op("LogicalEqual" if op == "==" else "LogicalNotEqual", "bool", x, y)
            if op in (">", ">="):
                x, y = y, x
            small = self.op("LogicalNot", "bool", x)
            return self.op("LogicalAnd" if op in ("<", ">") else "LogicalOr", "bool", small, y)
        if op in ("==", "!="):
            return self.op("IEqual" if op == "==" else "INotEqual", "bool", x, y)
        return self.op(("S" if t.kind == "int" else "U") + _INT_COMPARE[op], "bool", x, y)

    # -- one operand

    def unary(self, op: str, t: DType, x: int) -> int:
        """`-x`, `~x`, `not x`."""
        if t.kind == "bool":
            return self.op("LogicalNot", "bool", x)
        base = kind_of(t)
        if t.is_float:
            return self.flop("FNegate", base, x)
        if op == "-":
            return self.wrapped(t, self.op("ISub", base, self.const(base, 0), x))
        return self.wrapped(t, self.op("Not", base, x))

    def bits(self, base: str, x: int) -> int:
        """The bits of a float as an integer."""
        return self.op("Bitcast", f"i{base[1:]}", x)

    def copysign(self, base: str, x: int, sign: int) -> int:
        """`x` with the sign of another float."""
        whole = f"i{base[1:]}"
        top = 1 << (bits_of(base) - 1)
        size = self.op("BitwiseAnd", whole, self.bits(base, x), self.const(whole, top - 1))
        mark = self.op("BitwiseAnd", whole, self.bits(base, sign), self.const(whole, top))
        return self.op("Bitcast", base, self.op("BitwiseOr", whole, size, mark))

    def magnitude(self, base: str, x: int) -> int:
        """The bits of a float's absolute value."""
        whole = f"i{base[1:]}"
        return self.op(
            "BitwiseAnd", whole, self.bits(base, x), self.const(whole, (1 << (bits_of(base) - 1)) - 1)
        )

    def call(self, fn: str, t: DType, args: list[int], result: DType) -> int:
        """A primitive of `ir.builtins` but `within` on arguments of type `t`."""
        base, x = kind_of(t), args[0]
        infinity = 0x7F800000 if base == "f32" else 0x7FF << 52
        match fn:
            case "abs" if t.is_float:
                return self.op("Bitcast", base, self.magnitude(base, x))
            case "abs":
                if t.kind != "int":
                    return x
                return self.pick(base, self.compare("<", t, x, self.const(base, 0)), self.unary("-", t, x), x)
            case "floor" | "ceil" | "trunc" | "round":
                return self.glsl(_ROUNDINGS[fn], base, x)
            case "sqrt":
                if self.exact_division:
                    return self.rounded(t, self.glsl(Glsl.Sqrt, base, x))
                return self.rounded(t, self.function(software.square_root(self.code.module, base), base, x))
            case "fma":
                fma = software.fma(self.code.module, base, through_f64=self.fma_through_f64)
                return self.rounded(t, self.function(fma, base, *args))
            case "copysign":
                return self.copysign(base, x, args[1])
            case "isnan":
                return self._bits_compare("UGreaterThan", base, x, infinity)
            case "isinf":
                return self._bits_compare("IEqual", base, x, infinity)
            case "isfinite":
                return self._bits_compare("ULessThan", base, x, infinity)
            case "minimum" | "maximum":
                return self._propagating(fn, t, x, args[1])
            case "fmod":
                return self.function(software.fmod(self.code.module, base), base, x, args[1])
            case "ipow":
                return self.wrapped(t, self._power(t, x, args[1]))
            case "bitcast":
                return self._bitcast(t, x, result)
        raise AssertionError(f"{fn} is no primitive (math functions are expanded before)")

    def _bits_compare(self, op: str, base: str, x: int, than: int) -> int:
        return self.op(op, "bool", self.magnitude(base, x), self.const(f"i{base[1:]}", than))

    def _propagating(self, fn: str, t: DType, x: int, y: int) -> int:
        """np.minimum, np.maximum: NaN when either is NaN; -0.0 is below 0.0."""
        if not t.is_float:
            return self.binary("min" if fn == "minimum" else "max", t, x, y)
        base, whole = kind_of(t), f"i{max(32, t.bits)}"
        # Of equal floats the bits differ for zeros alone.
        join = "BitwiseOr" if fn == "minimum" else "BitwiseAnd"
        same = self.op("Bitcast", base, self.op(join, whole, self.bits(base, x), self.bits(base, y)))
        first = self.compare("<" if fn == "minimum" else ">", t, x, y)
        second = self.compare("<" if fn == "minimum" else ">", t, y, x)
        number = self.pick(base, first, x, self.pick(base, second, y, same))
        y_nan = self.call("isnan", t, [y], t)
        number = self.pick(base, y_nan, y, number)
        return self.pick(base, self.call("isnan", t, [x], t), x, number)

    def _power(self, t: DType, x: int, exponent: int) -> int:
        """By squaring, in 32 or 64 bits; an exponent is not negative."""
        base = kind_of(t)
        n = self.code.module.number(exponent)
        if n is None or not 0 <= n <= 64:
            return self.function(software.power(self.code.module, base), base, x, exponent)
        result = self.const(base, 1)
        while n:
            if n & 1:
                result = self.op("IMul", base, result, x)
            n >>= 1
            if n:
                x = self.op("IMul", base, x, x)
        return result

    def function(self, function: int, base: str, *args: int) -> int:
        """A call of a function of the module."""
        return self.code.value("FunctionCall", base, function, *args)

    # -- conversion

    def _bitcast(self, t: DType, x: int, result: DType) -> int:
        if t.bits >= 32 and result.bits >= 32:
            return x if t.is_float == result.is_float else self.op("Bitcast", kind_of(result), x)
        bits = self.to_bits(t, x)
        return self.from_bits(result, bits)

    def to_bits(self, t: DType, x: int) -> int:
        """A value of a type of 8 or 16 bits as an i32 that holds those bits (and others above)."""
        if t.kind == "bool":
            return self.pick("i32", x, self.const("i32", 1), self.const("i32", 0))
        if t.name == "bf16":
            return halves.bits_of_bf16(self, x)
        return halves.bits_of_f16(self, x) if t.is_float else x

    def from_bits(self, t: DType, x: int) -> int:
        """The value of the low 8 or 16 bits of an i32."""
        if t.kind == "bool":
            low = self.op("BitwiseAnd", "i32", x, self.const("i32", 0xFF))
            return self.op("INotEqual", "bool", low, self.const("i32", 0))
        if t.name == "bf16":
            return halves.bf16_of_bits(self, x)
        if t.is_float:
            return halves.f16_of_bits(self, self.op("BitwiseAnd", "i32", x, self.const("i32", 0xFFFF)))
        return self.wrapped(t, x)

    def rounded(self, t: DType, x: int) -> int:
        """A float rounded to the nearest f16 or bf16 (ties to even); other types are exact already."""
        if t.name == "bf16":
            return halves.round_bf16(self, x)
        return halves.round_f16(self, x) if t.name == "f16" else x

    def cast(self, x: int, source: DType, target: DType) -> int:
        """`x` converted as `nodes.Cast` says."""
        from_kind, to_kind = kind_of(source), kind_of(target)
        if source == target:
            return x
        if target.kind == "bool":
            return self.compare("!=", source, x, self.const(from_kind, 0))
        if source.kind == "bool":
            return self.pick(to_kind, x, self.const(to_kind, 1), self.const(to_kind, 0))
        if source.is_float and target.is_float:
            return self._float_to_float(x, source, target)
        if source.is_float:
            return self._float_to_int(x, source, target)
        if target.is_float:
            return self._int_to_float(x, source, target)
        if target.bits == 64:
            return x if source.bits == 64 else self.widened(x, signed=source.kind == "int")
        low = self.op("UConvert", "i32", x) if source.bits == 64 else x
        keeps = source.bits < target.bits and source.kind == "uint"
        keeps = keeps or (source.kind == target.kind and source.bits <= target.bits)
        return low if keeps else self.wrapped(target, low)

    def widened(self, x: int, *, signed: bool) -> int:
        """An i32 as an i64."""
        n = self.code.module.number(x)
        if n is not None:
            return self.const("i64", n if signed else n & 0xFFFFFFFF)
        return self.op("SConvert" if signed else "UConvert", "i64", x)

    def narrowed(self, x: int) -> int:
        """The low 32 bits of an i64."""
        n = self.code.module.number(x)
        return self.const("i32", n) if n is not None else self.op("UConvert", "i32", x)

    def _float_to_float(self, x: int, source: DType, target: DType) -> int:
        if source.bits < 64 and target.bits < 64:
            return self.rounded(target, x) if target.bits == 16 else x
        if target.bits == 64:
            return self.flop("FConvert", "f64", x)
        if target.bits == 32:
            return self.flop("FConvert", "f32", x)
        return self.rounded(target, halves.truncate_to_odd(self, x))

    def _float_to_int(self, x: int, source: DType, target: DType) -> int:
        """Truncates and saturates; NaN gives 0."""
        base, whole = kind_of(source), kind_of(target)
        low, high = self.const(base, float(target.min)), self.const(base, float(target.max + 1))
        from_low = self.compare(">=", source, x, low)
        below_high = self.compare("<", source, x, high)
        inside = self.op("LogicalAnd", "bool", from_low, below_high)
        safe = self.pick(base, inside, x, self.const(base, 0.0))
        number = self.op("ConvertFToS" if target.kind == "int" else "ConvertFToU", whole, safe)
        least, most = self.const(whole, target.min), self.const(whole, target.max)
        number = self.pick(whole, self.compare("<", source, x, low), least, number)
        return self.pick(whole, self.compare(">=", source, x, high), most, number)

    def _int_to_float(self, x: int, source: DType, target: DType) -> int:
        """The nearest float. bf16 has the range of f32 but not its digits: it takes care to round once."""
        if target.name == "bf16" and source.bits >= 32:
            x = halves.keep_24_bits(self, x, source)
        convert = "ConvertSToF" if source.kind == "int" else "ConvertUToF"
        return self.rounded(target, self.op(convert, kind_of(target), x))


_FOLD: dict[str, Callable[[int, int], int]] = {
    "IAdd": int.__add__,
    "ISub": int.__sub__,
    "IMul": int.__mul__,
    "BitwiseAnd": int.__and__,
    "BitwiseOr": int.__or__,
    "BitwiseXor": int.__xor__,
}
_NEUTRAL_0 = ("IAdd", "ISub", "BitwiseOr", "BitwiseXor", "ShiftLeftLogical", "ShiftRightLogical",
              "ShiftRightArithmetic")  # fmt: skip
