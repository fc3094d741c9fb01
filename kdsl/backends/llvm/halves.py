"""f16 and bf16 through f32: rounding, and conversion to and from the bits in memory.

bf16 is done by integer operations everywhere (AVX512-BF16's instruction flushes denormals). f16 uses the
conversion instructions of F16C where the target has them, else the branch-free integer algorithms of
M. Dukhan's FP16 library (https://github.com/Maratyszcza/FP16), so that no library call remains.
"""

from __future__ import annotations

from kdsl.backends.llvm.builder import Emitter


def round_bf16(b: Emitter, x: str) -> str:
    """The bf16 nearest to a float, ties to even, as a float; a NaN stays one."""
    bits = b.value(f"bitcast float {x} to i32")
    odd = b.value(f"and i32 {b.value(f'lshr i32 {bits}, 16')}, 1")
    up = b.value(f"add i32 {b.value(f'add i32 {bits}, {odd}')}, 32767")
    nan = b.value(f"fcmp uno float {x}, {x}")
    chosen = b.value(f"select i1 {nan}, i32 {b.value(f'or i32 {bits}, 4194304')}, i32 {up}")
    return b.value(f"bitcast i32 {b.value(f'and i32 {chosen}, -65536')} to float")


def bits_of_bf16(b: Emitter, x: str) -> str:
    """The i16 of a float that is a bf16."""
    bits = b.value(f"bitcast float {x} to i32")
    return b.value(f"trunc i32 {b.value(f'lshr i32 {bits}, 16')} to i16")


def bf16_of_bits(b: Emitter, x: str) -> str:
    """The float of a bf16's i16."""
    wide = b.value(f"zext i16 {x} to i32")
    return b.value(f"bitcast i32 {b.value(f'shl i32 {wide}, 16')} to float")


def round_f16(b: Emitter, x: str, *, hardware: bool) -> str:
    """The f16 nearest to a float, ties to even, as a float."""
    if hardware:
        return b.value(f"fpext half {b.value(f'fptrunc float {x} to half')} to float")
    return f16_of_bits(b, bits_of_f16(b, x, hardware=False), hardware=False)


def bits_of_f16(b: Emitter, x: str, *, hardware: bool) -> str:
    """The i16 of a float, rounded to f16."""
    if hardware:
        return b.value(f"bitcast half {b.value(f'fptrunc float {x} to half')} to i16")
    return b.value(f"call i16 @{b.module.helper('kdsl.f32_to_f16', lambda: _TO_F16)}(float {x})")


def f16_of_bits(b: Emitter, x: str, *, hardware: bool) -> str:
    """The float of an f16's i16."""
    if hardware:
        return b.value(f"fpext half {b.value(f'bitcast i16 {x} to half')} to float")
    return b.value(f"call float @{b.module.helper('kdsl.f16_to_f32', lambda: _FROM_F16)}(i16 {x})")


def truncate_to_odd(b: Emitter, x: str) -> str:
    """A double as the float that is nearest below in magnitude, its last bit set when inexact.

    Rounding that to f16 then gives the same as rounding the double at once (S. Boldo, G. Melquiond,
    "When double rounding is odd", 2005).
    """
    near = b.value(f"fptrunc double {x} to float")
    back = b.value(f"fpext float {near} to double")
    inexact = b.value(f"fcmp one double {back}, {x}")
    too_far = b.value(
        f"fcmp ogt double {b.call('double', 'llvm.fabs.f64', ('double', back))}, "
        f"{b.call('double', 'llvm.fabs.f64', ('double', x))}"
    )
    bits = b.value(f"bitcast float {near} to i32")
    lower = b.value(f"sub i32 {bits}, {b.value(f'zext i1 {too_far} to i32')}")
    odd = b.value(f"or i32 {lower}, {b.value(f'zext i1 {inexact} to i32')}")
    return b.value(f"bitcast i32 {odd} to float")


def keep_53_bits(b: Emitter, x: str, *, signed: bool) -> str:
    """An i64 that a double holds exactly and that rounds to the same bf16: large ones are rounded to odd."""
    cut = b.value(f"and i64 {x}, -2048")
    inexact = b.value(f"icmp ne i64 {cut}, {x}")
    odd = b.value(f"or i64 {cut}, {b.value(f'select i1 {inexact}, i64 2048, i64 0')}")
    magnitude = b.call("i64", "llvm.abs.i64", ("i64", x), ("i1", "false")) if signed else x
    small = b.value(f"icmp ult i64 {magnitude}, {1 << 53}")
    return b.value(f"select i1 {small}, i64 {x}, i64 {odd}")


_TO_F16 = """define internal i16 @kdsl.f32_to_f16(float %x) alwaysinline #0 {
  %w = bitcast float %x to i32
  %magnitude = and i32 %w, 2147483647
  %abs = bitcast i32 %magnitude to float
  %large = fmul float %abs, 0x46F0000000000000
  %base0 = fmul float %large, 0x3910000000000000
  %w2 = shl i32 %w, 1
  %top = and i32 %w2, -16777216
  %small = icmp ult i32 %top, 1895825408
  %bias = select i1 %small, i32 1895825408, i32 %top
  %half = lshr i32 %bias, 1
  %offset = add i32 %half, 125829120
  %add = bitcast i32 %offset to float
  %base = fadd float %add, %base0
  %bits = bitcast float %base to i32
  %e = lshr i32 %bits, 13
  %exponent = and i32 %e, 31744
  %mantissa = and i32 %bits, 4095
  %number = add i32 %exponent, %mantissa
  %nan = icmp ugt i32 %w2, -16777216
  %value = select i1 %nan, i32 32256, i32 %number
  %s = lshr i32 %w, 16
  %sign = and i32 %s, 32768
  %all = or i32 %sign, %value
  %result = trunc i32 %all to i16
  ret i16 %result
}
"""

_FROM_F16 = """define internal float @kdsl.f16_to_f32(i16 %h) alwaysinline #0 {
  %wide = zext i16 %h to i32
  %w = shl i32 %wide, 16
  %sign = and i32 %w, -2147483648
  %w2 = shl i32 %w, 1
  %shifted = lshr i32 %w2, 4
  %offset = add i32 %shifted, 1879048192
  %scaled = bitcast i32 %offset to float
  %normal = fmul float %scaled, 0x38F0000000000000
  %low = lshr i32 %w2, 17
  %magic = or i32 %low, 1056964608
  %biased = bitcast i32 %magic to float
  %denormal = fsub float %biased, 0x3FE0000000000000
  %is_denormal = icmp ult i32 %w2, 134217728
  %chosen = select i1 %is_denormal, float %denormal, float %normal
  %bits = bitcast float %chosen to i32
  %all = or i32 %sign, %bits
  %result = bitcast i32 %all to float
  ret float %result
}
"""
