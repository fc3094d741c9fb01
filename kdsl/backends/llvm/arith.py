"""Arithmetic on scalars, or on vectors (`wide.py`): one method for each kind of operation, on LLVM values.

What is emitted, for `x, y` of an element type `t`:

    i32 x + y           add i32 x, y
    i32 x // y          sdiv, srem; minus 1 where the remainder is not 0 and has not the divisor's sign
    f32 x + y           fadd contract float x, y            (strict: no flag; fastmath: fast)
    bf16 x + y          fadd float x, y; then rounded to bf16 by integer operations
    f16 x + y           fadd float x, y; fptrunc to half; fpext (without F16C: by integer operations)
    min(x, y)           fcmp olt y, x; select y, x

A divisor given here is not 0: the caller has tested it.
"""

from __future__ import annotations

from kdsl.backends.llvm import halves
from kdsl.backends.llvm.builder import Emitter
from kdsl.backends.llvm.types import literal, memory_type, value_type
from kdsl.dtypes import DType, f64, i64, u64

_INT_OPS = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor"}
_BOOL_OPS = {"+": "or", "*": "and", "&": "and", "|": "or", "^": "xor", "min": "and", "max": "or"}
_FLOAT_OPS = {"+": "fadd", "-": "fsub", "*": "fmul", "/": "fdiv"}
_INT_COMPARE = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
_FLOAT_COMPARE = {"==": "oeq", "!=": "une", "<": "olt", "<=": "ole", ">": "ogt", ">=": "oge"}
_ROUNDINGS = {"floor": "floor", "ceil": "ceil", "trunc": "trunc", "round": "rint"}


class Arith:
    """Emits operations into `b`. `flags` are the fast-math flags of float arithmetic ("contract ")."""

    def __init__(self, b: Emitter, features: frozenset[str], *, strict: bool, fastmath: bool) -> None:
        self.b = b
        self.features = features
        self.strict = strict
        self.hardware_f16 = "+f16c" in features
        self.fastmath = fastmath
        self.flags = "" if strict else "fast " if fastmath else "contract "
        self.inline_flags = "" if strict else "contract "

    def over(self, b: Emitter) -> Arith:
        """The same arithmetic, emitted into `b`."""
        return Arith(b, self.features, strict=self.strict, fastmath=self.fastmath)

    # -- two operands

    def binary(self, op: str, t: DType, x: str, y: str) -> str:
        """`x op y`; division and remainder of integers need a divisor other than 0."""
        if t.kind == "bool":
            return self.b.value(f"{_BOOL_OPS[op]} i1 {x}, {y}")
        if t.is_float:
            return self._float_binary(op, t, x, y)
        if op in _INT_OPS:
            return self.b.value(f"{_INT_OPS[op]} i{t.bits} {x}, {y}")
        match op:
            case "//":
                return self._int_floordiv(t, x, y)
            case "%":
                return self._int_mod(t, x, y)
            case "<<" | ">>":
                return self._shift(op, t, x, y)
            case "min" | "max":
                sign = "s" if t.kind == "int" else "u"
                ty = f"i{t.bits}"
                return self.b.call(ty, f"llvm.{sign}{op}.{ty}", (ty, x), (ty, y))
        raise AssertionError(f"no operator {op} on {t}")

    def _float_binary(self, op: str, t: DType, x: str, y: str) -> str:
        ty = value_type(t)
        if op in _FLOAT_OPS:
            flags = self.flags if t.bits > 16 else ""
            return self.rounded(t, self.b.value(f"{_FLOAT_OPS[op]} {flags}{ty} {x}, {y}"))
        match op:
            case "min":
                return self._select_by(ty, "olt", y, x)
            case "max":
                return self._select_by(ty, "ogt", y, x)
            case "//":
                return self.rounded(t, self._float_divmod(ty, x, y)[0])
            case "%":
                return self.rounded(t, self._float_divmod(ty, x, y)[1])
        raise AssertionError(f"no operator {op} on {t}")

    def _select_by(self, ty: str, relation: str, a: str, b: str) -> str:
        """`a if a relation b else b`."""
        flags = "nnan nsz " if self.fastmath else ""
        test = self.b.value(f"fcmp {flags}{relation} {ty} {a}, {b}")
        return self.b.value(f"select {flags}i1 {test}, {ty} {a}, {ty} {b}")

    def _int_floordiv(self, t: DType, x: str, y: str) -> str:
        b, ty = self.b, f"i{t.bits}"
        if t.kind == "uint":
            return b.value(f"udiv {ty} {x}, {y}")
        if (d := _constant(y)) is not None and d > 0:
            if d & (d - 1) == 0:
                return b.value(f"ashr {ty} {x}, {d.bit_length() - 1}")
            quotient, rest = b.value(f"sdiv {ty} {x}, {y}"), b.value(f"srem {ty} {x}, {y}")
            return b.value(f"add {ty} {quotient}, {self._sign_mask(ty, t.bits, rest)}")
        divisor, negate = self._no_overflow_divisor(ty, y)
        quotient, rest = b.value(f"sdiv {ty} {x}, {divisor}"), b.value(f"srem {ty} {x}, {divisor}")
        down = b.value(f"sext i1 {self._signs_differ(ty, rest, divisor)} to {ty}")
        floored = b.value(f"add {ty} {quotient}, {down}")
        return b.value(f"select i1 {negate}, {ty} {b.value(f'sub {ty} 0, {x}')}, {ty} {floored}")

    def _int_mod(self, t: DType, x: str, y: str) -> str:
        b, ty = self.b, f"i{t.bits}"
        if t.kind == "uint":
            return b.value(f"urem {ty} {x}, {y}")
        if (d := _constant(y)) is not None and d > 0:
            if d & (d - 1) == 0:
                return b.value(f"and {ty} {x}, {d - 1}")
            rest = b.value(f"srem {ty} {x}, {y}")
            wrap = b.value(f"and {ty} {self._sign_mask(ty, t.bits, rest)}, {y}")
            return b.value(f"add {ty} {rest}, {wrap}")
        divisor, _ = self._no_overflow_divisor(ty, y)
        rest = b.value(f"srem {ty} {x}, {divisor}")
        wrap = b.value(f"select i1 {self._signs_differ(ty, rest, divisor)}, {ty} {divisor}, {ty} 0")
        return b.value(f"add {ty} {rest}, {wrap}")

    def _no_overflow_divisor(self, ty: str, y: str) -> tuple[str, str]:
        """A divisor that cannot overflow (1 in place of -1), and whether it was -1."""
        negate = self.b.value(f"icmp eq {ty} {y}, -1")
        return self.b.value(f"select i1 {negate}, {ty} 1, {ty} {y}"), negate

    def _sign_mask(self, ty: str, bits: int, x: str) -> str:
        """-1 where x < 0, else 0."""
        return self.b.value(f"ashr {ty} {x}, {bits - 1}")

    def _signs_differ(self, ty: str, rest: str, divisor: str) -> str:
        """Whether the remainder is not 0 and its sign is not the divisor's."""
        b = self.b
        nonzero = b.value(f"icmp ne {ty} {rest}, 0")
        other = b.value(f"icmp slt {ty} {b.value(f'xor {ty} {rest}, {divisor}')}, 0")
        return b.value(f"and i1 {nonzero}, {other}")

    def _shift(self, op: str, t: DType, x: str, y: str) -> str:
        b, ty = self.b, f"i{t.bits}"
        inside = b.value(f"icmp ult {ty} {y}, {t.bits}")
        if op == ">>" and t.kind == "int":
            amount = b.value(f"select i1 {inside}, {ty} {y}, {ty} {t.bits - 1}")
            return b.value(f"ashr {ty} {x}, {amount}")
        shifted = b.value(f"{'shl' if op == '<<' else 'lshr'} {ty} {x}, {y}")
        return b.value(f"select i1 {inside}, {ty} {shifted}, {ty} 0")

    def _float_divmod(self, ty: str, x: str, y: str) -> tuple[str, str]:
        """(x // y, x % y) exactly as NumPy's `npy_divmod` rounds them, so never contracted.

        Source: numpy/_core/src/npymath/npy_math_internal.h.src.
        """
        b = self.b
        suffix = "f32" if ty == "float" else "f64"
        zero, one, half = literal(0.0, f64), literal(1.0, f64), literal(0.5, f64)
        rest = b.value(f"frem {ty} {x}, {y}")
        quotient = b.value(f"fdiv {ty} {b.value(f'fsub {ty} {x}, {rest}')}, {y}")
        exact = b.value(f"fcmp oeq {ty} {rest}, {zero}")
        y_below = b.value(f"fcmp olt {ty} {y}, {zero}")
        rest_below = b.value(f"fcmp olt {ty} {rest}, {zero}")
        differ = b.value(f"xor i1 {y_below}, {rest_below}")
        moved = b.value(f"select i1 {differ}, {ty} {b.value(f'fadd {ty} {rest}, {y}')}, {ty} {rest}")
        signed_zero = b.call(ty, f"llvm.copysign.{suffix}", (ty, zero), (ty, y))
        mod = b.value(f"select i1 {exact}, {ty} {signed_zero}, {ty} {moved}")
        less = b.value(f"fsub {ty} {quotient}, {one}")
        lower = b.value(f"select i1 {b.value(f'xor i1 {exact}, true')}, i1 {differ}, i1 false")
        div = b.value(f"select i1 {lower}, {ty} {less}, {ty} {quotient}")
        floor = b.call(ty, f"llvm.floor.{suffix}", (ty, div))
        short = b.value(f"fcmp ogt {ty} {b.value(f'fsub {ty} {div}, {floor}')}, {half}")
        up = b.value(f"fadd {ty} {floor}, {one}")
        rounded = b.value(f"select i1 {short}, {ty} {up}, {ty} {floor}")
        plain = b.value(f"fdiv {ty} {x}, {y}")
        tiny = b.call(ty, f"llvm.copysign.{suffix}", (ty, zero), (ty, plain))
        div_zero = b.value(f"fcmp oeq {ty} {div}, {zero}")
        nearly = b.value(f"select i1 {div_zero}, {ty} {tiny}, {ty} {rounded}")
        y_zero = b.value(f"fcmp oeq {ty} {y}, {zero}")
        return b.value(f"select i1 {y_zero}, {ty} {plain}, {ty} {nearly}"), b.value(
            f"select i1 {y_zero}, {ty} {rest}, {ty} {mod}"
        )

    def overflowing(self, op: str, x: str, y: str) -> tuple[str, str]:
        """`x op y` for `+ - *` on i64, and whether it fits."""
        b, name = self.b, f"llvm.s{_INT_OPS[op]}.with.overflow.i64"
        pair = b.call("{ i64, i1 }", name, ("i64", x), ("i64", y))
        result = b.value(f"extractvalue {{ i64, i1 }} {pair}, 0")
        over = b.value(f"extractvalue {{ i64, i1 }} {pair}, 1")
        return result, b.value(f"xor i1 {over}, true")

    def compare(self, op: str, t: DType, x: str, y: str) -> str:
        """`x op y` as an i1. In fastmath the result is frozen: a NaN may not make a branch undefined."""
        if t.is_float:
            test = self.b.value(f"fcmp {_FLOAT_COMPARE[op]} {value_type(t)} {x}, {y}")
            return self.b.value(f"freeze i1 {test}") if self.fastmath else test
        relation = _INT_COMPARE[op]
        if op not in ("==", "!="):
            relation = ("s" if t.kind == "int" else "u") + relation
        return self.b.value(f"icmp {relation} {value_type(t)} {x}, {y}")

    # -- one operand

    def unary(self, op: str, t: DType, x: str) -> str:
        """`-x`, `~x`, `not x`."""
        if t.kind == "bool":
            assert op in ("not", "~")
            return self.b.value(f"xor i1 {x}, true")
        if t.is_float:
            assert op == "-"
            return self.b.value(f"fneg {value_type(t)} {x}")
        return self.b.value(f"sub i{t.bits} 0, {x}" if op == "-" else f"xor i{t.bits} {x}, -1")

    def call(self, fn: str, t: DType, args: list[str], result: DType) -> str:
        """A primitive of `ir.builtins` but `ipow` on arguments of type `t`."""
        b, ty = self.b, value_type(t)
        suffix = "f64" if t.bits == 64 else "f32"
        x = args[0]
        match fn:
            case "abs" if t.is_float:
                return b.call(ty, f"llvm.fabs.{suffix}", (ty, x))
            case "abs":
                return x if t.kind != "int" else b.call(ty, f"llvm.abs.{ty}", (ty, x), ("i1", "false"))
            case "floor" | "ceil" | "trunc" | "round":
                return b.call(ty, f"llvm.{_ROUNDINGS[fn]}.{suffix}", (ty, x))
            case "sqrt":
                return self.rounded(t, b.call(ty, f"llvm.sqrt.{suffix}", (ty, x)))
            case "fma":
                return self.rounded(t, b.call(ty, f"llvm.fma.{suffix}", *[(ty, a) for a in args]))
            case "copysign":
                return b.call(ty, f"llvm.copysign.{suffix}", *[(ty, a) for a in args])
            case "isnan":
                return b.value(f"fcmp uno {ty} {x}, {x}")
            case "isinf" | "isfinite":
                magnitude = b.call(ty, f"llvm.fabs.{suffix}", (ty, x))
                return b.value(
                    f"fcmp {'oeq' if fn == 'isinf' else 'olt'} {ty} {magnitude}, 0x7FF0000000000000"
                )
            case "minimum" | "maximum":
                return self._propagating(fn, t, x, args[1])
            case "fmod":
                return b.value(f"frem {ty} {x}, {args[1]}")
            case "bitcast":
                return self._bitcast(t, x, result)
        raise AssertionError(f"{fn} is no primitive (math functions are expanded before)")

    def _propagating(self, fn: str, t: DType, x: str, y: str) -> str:
        """np.minimum, np.maximum: NaN when either is NaN; -0.0 is below 0.0."""
        if not t.is_float:
            return self.binary("min" if fn == "minimum" else "max", t, x, y)
        ty = value_type(t)
        if self.fastmath:
            return self._select_by(ty, "olt" if fn == "minimum" else "ogt", x, y)
        return self.b.call(ty, f"llvm.{fn}.{'f64' if t.bits == 64 else 'f32'}", (ty, x), (ty, y))

    def _bitcast(self, t: DType, x: str, result: DType) -> str:
        stored = self.to_memory(t, x)
        source, target = memory_type(t), memory_type(result)
        return self.from_memory(
            result, stored if source == target else self.b.value(f"bitcast {source} {stored} to {target}")
        )

    def power(self, t: DType, x: str, exponent: str) -> str:
        """Integer power by squaring, wrapping; the exponent is >= 0."""
        ty = f"i{t.bits}"
        if (n := _constant(exponent)) is not None and 0 < n <= 64:
            result = ""
            while n:
                if n & 1:
                    result = self.b.value(f"mul {ty} {result}, {x}") if result else x
                n >>= 1
                if n:
                    x = self.b.value(f"mul {ty} {x}, {x}")
            return result
        name = self.b.module.helper(f"kdsl.ipow.{ty}", lambda: _ipow_text(ty))
        return self.b.value(f"call {ty} @{name}({ty} {x}, {ty} {exponent})")

    # -- conversion

    def cast(self, x: str, source: DType, target: DType) -> str:
        """`x` converted as `nodes.Cast` says."""
        b = self.b
        from_type, to_type = value_type(source), value_type(target)
        if source == target:
            return x
        if target.kind == "bool":
            if source.is_float:
                return b.value(f"fcmp une {from_type} {x}, {literal(0.0, f64)}")
            return b.value(f"icmp ne {from_type} {x}, 0")
        if source.is_float and target.is_float:
            return self._float_to_float(x, source, target)
        if source.is_float:
            if self.fastmath:
                x = b.value(f"freeze {from_type} {x}")
            fn = "fptosi" if target.kind == "int" else "fptoui"
            return b.call(
                to_type, f"llvm.{fn}.sat.{to_type}.{'f64' if source.bits == 64 else 'f32'}", (from_type, x)
            )
        if target.is_float:
            return self._int_to_float(x, source, target)
        if source.kind != "bool" and target.bits == source.bits:
            return x
        if source.kind != "bool" and target.bits < source.bits:
            return b.value(f"trunc {from_type} {x} to {to_type}")
        return b.value(f"{'sext' if source.kind == 'int' else 'zext'} {from_type} {x} to {to_type}")

    def _float_to_float(self, x: str, source: DType, target: DType) -> str:
        b = self.b
        if source.bits < 64 and target.bits < 64:
            return self.rounded(target, x) if target.bits == 16 else x
        if target.bits == 64:
            return b.value(f"fpext float {x} to double")
        if target.bits == 32:
            return b.value(f"fptrunc double {x} to float")
        return self.rounded(target, halves.truncate_to_odd(b, x))

    def _int_to_float(self, x: str, source: DType, target: DType) -> str:
        """The nearest float. bf16 has the range of f32 but not its digits: it takes care to round once."""
        convert = "sitofp" if source.kind == "int" else "uitofp"
        if target.name != "bf16" or source.bits < 32:
            result = self.b.value(f"{convert} {value_type(source)} {x} to {value_type(target)}")
            return self.rounded(target, result)
        if source.bits == 64:
            x = halves.keep_53_bits(self.b, x, signed=source.kind == "int")
        wide = self.b.value(f"{convert} {value_type(source)} {x} to double")
        return self._float_to_float(wide, f64, target)

    def rounded(self, t: DType, x: str) -> str:
        """A float rounded to the nearest f16 or bf16 (ties to even); other types are exact already."""
        if t.name == "bf16":
            return halves.round_bf16(self.b, x)
        if t.name == "f16":
            return halves.round_f16(self.b, x, hardware=self.hardware_f16)
        return x

    def to_memory(self, t: DType, x: str) -> str:
        """A value in the form that memory holds."""
        if t.kind == "bool":
            return self.b.value(f"zext i1 {x} to i8")
        if t.name == "bf16":
            return halves.bits_of_bf16(self.b, x)
        if t.name == "f16":
            return halves.bits_of_f16(self.b, x, hardware=self.hardware_f16)
        return x

    def from_memory(self, t: DType, x: str) -> str:
        """The value of what memory holds."""
        if t.kind == "bool":
            return self.b.value(f"icmp ne i8 {x}, 0")
        if t.name == "bf16":
            return halves.bf16_of_bits(self.b, x)
        if t.name == "f16":
            return halves.f16_of_bits(self.b, x, hardware=self.hardware_f16)
        return x

    def widened(self, t: DType, x: str) -> str:
        """The 8 bytes that stand for a value in a print buffer: f64, i64 or u64."""
        if t.is_float:
            return self.b.value(f"bitcast double {self.cast(x, t, f64)} to i64")
        return self.cast(x, t, i64 if t.kind == "int" else u64)


def _constant(text: str) -> int | None:
    """The number when `text` is a literal."""
    return int(text) if text.lstrip("-").isdigit() else None


def _ipow_text(ty: str) -> str:
    return f"""define internal {ty} @kdsl.ipow.{ty}({ty} %x, {ty} %n) #0 {{
entry:
  br label %loop
loop:
  %base = phi {ty} [ %x, %entry ], [ %square, %loop ]
  %left = phi {ty} [ %n, %entry ], [ %half, %loop ]
  %sofar = phi {ty} [ 1, %entry ], [ %next, %loop ]
  %odd = trunc {ty} %left to i1
  %times = mul {ty} %sofar, %base
  %next = select i1 %odd, {ty} %times, {ty} %sofar
  %square = mul {ty} %base, %base
  %half = lshr {ty} %left, 1
  %more = icmp ne {ty} %half, 0
  br i1 %more, label %loop, label %done
done:
  ret {ty} %next
}}
"""
