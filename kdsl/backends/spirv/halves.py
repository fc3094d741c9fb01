"""f16 and bf16 through f32: rounding, and conversion to and from the bits in memory, by integer operations.

Drivers may flush denormals or round otherwise in their own conversions. Source for going through f32:
S. Boldo, G. Melquiond, "When double rounding is odd", 2005.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdsl.dtypes import DType, f64

if TYPE_CHECKING:
    from kdsl.backends.spirv.arith import Arith


def round_bf16(a: Arith, x: int) -> int:
    """The bf16 nearest to a float, ties to even, as a float; a NaN stays one."""
    bits = a.bits("f32", x)
    odd = a.op(
        "BitwiseAnd", "i32", a.op("ShiftRightLogical", "i32", bits, a.const("i32", 16)), a.const("i32", 1)
    )
    up = a.op("IAdd", "i32", a.op("IAdd", "i32", bits, odd), a.const("i32", 0x7FFF))
    nan = a.op("UGreaterThan", "bool", a.magnitude("f32", x), a.const("i32", 0x7F800000))
    chosen = a.pick("i32", nan, a.op("BitwiseOr", "i32", bits, a.const("i32", 1 << 22)), up)
    return a.op("Bitcast", "f32", a.op("BitwiseAnd", "i32", chosen, a.const("i32", -65536)))


def bits_of_bf16(a: Arith, x: int) -> int:
    """The 16 bits of a float that is a bf16."""
    return a.op("ShiftRightLogical", "i32", a.bits("f32", x), a.const("i32", 16))


def bf16_of_bits(a: Arith, x: int) -> int:
    """The float of a bf16's 16 bits; what stands above them does not matter."""
    return a.op("Bitcast", "f32", a.op("ShiftLeftLogical", "i32", x, a.const("i32", 16)))


def round_f16(a: Arith, x: int) -> int:
    """The f16 nearest to a float, ties to even, as a float."""
    return f16_of_bits(a, bits_of_f16(a, x))


def bits_of_f16(a: Arith, x: int) -> int:
    """The 16 bits of a float, rounded to f16."""
    size = a.magnitude("f32", x)
    sign = a.op(
        "ShiftRightLogical", "i32", a.op("BitwiseXor", "i32", a.bits("f32", x), size), a.const("i32", 16)
    )
    odd = a.op(
        "BitwiseAnd", "i32", a.op("ShiftRightLogical", "i32", size, a.const("i32", 13)), a.const("i32", 1)
    )
    up = a.op("IAdd", "i32", a.op("IAdd", "i32", size, odd), a.const("i32", 0xFFF - (112 << 23)))
    normal = a.op("ShiftRightLogical", "i32", up, a.const("i32", 13))
    # Below the normal numbers: the last bit of 0.5 + x is that of a denormal, and the sum rounds to it.
    half = a.const("f32", 0.5)
    total = a.code.pure("FAdd", "f32", a.op("Bitcast", "f32", size), half, exact=True)
    small = a.op("ISub", "i32", a.bits("f32", total), a.const("i32", 0x3F000000))
    number = a.pick("i32", a.op("ULessThan", "bool", size, a.const("i32", 0x38800000)), small, normal)
    large = a.op("UGreaterThanEqual", "bool", size, a.const("i32", 0x47800000))
    nan = a.op("UGreaterThan", "bool", size, a.const("i32", 0x7F800000))
    special = a.pick("i32", nan, a.const("i32", 0x7E00), a.const("i32", 0x7C00))
    return a.op("BitwiseOr", "i32", sign, a.pick("i32", large, special, number))


def f16_of_bits(a: Arith, x: int) -> int:
    """The float of an f16's 16 bits; there is nothing above them."""
    size = a.op("BitwiseAnd", "i32", x, a.const("i32", 0x7FFF))
    sign = a.op("ShiftLeftLogical", "i32", a.op("BitwiseXor", "i32", x, size), a.const("i32", 16))
    wide = a.op("ShiftLeftLogical", "i32", size, a.const("i32", 13))
    normal = a.op("IAdd", "i32", wide, a.const("i32", 112 << 23))
    special = a.op("BitwiseOr", "i32", wide, a.const("i32", 0x7F800000))
    number = a.op("ConvertUToF", "f32", size)
    scaled = a.code.pure("FMul", "f32", number, a.const("f32", 2.0**-24), exact=True)
    bits = a.pick(
        "i32", a.op("ULessThan", "bool", size, a.const("i32", 0x400)), a.bits("f32", scaled), normal
    )
    bits = a.pick("i32", a.op("UGreaterThanEqual", "bool", size, a.const("i32", 0x7C00)), special, bits)
    return a.op("Bitcast", "f32", a.op("BitwiseOr", "i32", sign, bits))


def truncate_to_odd(a: Arith, x: int) -> int:
    """A double as the float that is nearest below in magnitude, its last bit set when inexact.

    Rounding that to f16 or bf16 then gives the same as rounding the double at once.
    """
    near = a.code.pure("FConvert", "f32", x, exact=True)
    back = a.code.pure("FConvert", "f64", near, exact=True)
    less = a.op("UGreaterThan", "bool", a.magnitude("f64", back), a.magnitude("f64", x))
    number = a.compare("==", f64, x, x)
    inexact = a.op(
        "LogicalAnd", "bool", number, a.op("INotEqual", "bool", a.bits("f64", back), a.bits("f64", x))
    )
    too_far = a.op("LogicalAnd", "bool", number, less)
    one, zero = a.const("i32", 1), a.const("i32", 0)
    lower = a.op("ISub", "i32", a.bits("f32", near), a.pick("i32", too_far, one, zero))
    return a.op("Bitcast", "f32", a.op("BitwiseOr", "i32", lower, a.pick("i32", inexact, one, zero)))


def keep_24_bits(a: Arith, x: int, t: DType) -> int:
    """An integer of 32 or 64 bits that f32 holds exactly and that rounds to the same bf16.

    Ranges of magnitudes lose so many bits that 24 remain, the last of them set when others were.
    """
    whole = f"i{t.bits}"
    negative = None
    size = x
    if t.kind == "int":
        negative = a.op("SLessThan", "bool", x, a.const(whole, 0))
        size = a.pick(whole, negative, a.op("ISub", whole, a.const(whole, 0), x), x)
    result = size
    ranges = ((24, 8),) if t.bits == 32 else ((24, 15), (39, 30), (54, 40))
    for first, cut in ranges:
        mask = (1 << t.bits) - (1 << cut)
        kept = a.op("BitwiseAnd", whole, size, a.const(whole, mask))
        inexact = a.op("INotEqual", "bool", kept, size)
        sticky = a.pick(whole, inexact, a.const(whole, 1 << cut), a.const(whole, 0))
        odd = a.op("BitwiseOr", whole, kept, sticky)
        here = a.op("UGreaterThanEqual", "bool", size, a.const(whole, 1 << first))
        result = a.pick(whole, here, odd, result)
    if negative is None:
        return result
    return a.pick(whole, negative, a.op("ISub", whole, a.const(whole, 0), result), result)
