"""pow, rsqrt, cbrt, hypot.

pow is 2^(y * log2|x|) with the logarithm in two parts. High parts are cut to half the significant bits by a
mask, so that products of two of them are exact with and without contraction. log2(m) is
c * s * (3 + s^2 + r(s^2)), s = (m - 1) / (m + 1), c = 2 / (3 ln 2), as in Sun's fdlibm, e_pow.c.
"""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from math import inf, nan

from kdsl.dtypes import f32, f64, i32, i64
from kdsl.lang import bitcast, copysign, floor, isnan, sqrt, where
from kdsl.mathlib.exponential import (
    ROUND_F32,
    ROUND_F64,
    exp2_of_reduced_f32,
    exp2_of_reduced_f64,
    power_of_two_f32,
    power_of_two_f64,
    scaled_f32,
    scaled_f64,
)
from kdsl.mathlib.logarithm import high_f32, high_f64


def _log2_f32(a):
    """log2(a) as a high part with half the bits and a low part, for finite a > 0."""
    tiny = a < 1.17549435e-38
    bits = bitcast(where(tiny, a * 16777216.0, a), i32)
    exponent = (bits - 0x3F3504F3) >> 23
    m = bitcast(bits - (exponent << 23), f32)
    n = f32(exponent)
    n = where(tiny, n - 24.0, n)
    f = m - 1.0
    inverse = 1.0 / (m + 1.0)
    s = f * inverse
    s_high = high_f32(s)
    d_high = high_f32(m + 1.0)
    d_low = m - (d_high - 1.0)
    s_low = ((f - s_high * d_high) - s_high * d_low) * inverse
    # 3 * (atanh(s) / s - 1 - z / 3) / z^2 for z = s^2, error 2^-38 relative to 3
    z = s * s
    r = 0.292020887 * z + 0.332775027
    r = r * z + 0.428578109
    r = r * z + 0.599999964
    r = z * z * r + s_low * (s_high + s)
    t_high = high_f32(s_high * s_high + 3.0 + r)
    t_low = r - ((t_high - 3.0) - s_high * s_high)
    v = s_low * t_high + t_low * s
    p_high = high_f32(s_high * t_high + v)
    p_low = v - (p_high - s_high * t_high)
    rest = p_high * -0.000117368574 + p_low * 0.961796694
    log_high = high_f32(p_high * 0.9619140625 + rest + n)
    return log_high, rest - ((log_high - n) - p_high * 0.9619140625)


def _with_special_cases(power, a, x, y):
    """x ** y by C99's table, given power = a ** y for a = |x| where that is finite and not 0."""
    # |x| is 0 or infinite
    edge = (a == 0.0) | (a == inf)
    zero = edge & ((a == 0.0) ^ (y < 0.0))
    p = where(zero, 0.0, where(edge, inf, power))
    half = y * 0.5
    whole = floor(y) == y
    odd = whole & (floor(half) != half)
    p = where(odd, copysign(p, x), p)
    p = where((x < 0.0) & (a < inf) & (floor(y) != y), nan, p)
    p = where(isnan(x) | isnan(y), nan, p)
    return where((x == 1.0) | (y == 0.0), 1.0, p)


def pow_f32(x, y):
    a = abs(x)
    log_high, log_low = _log2_f32(a)
    # Beyond these the power is 0, 1 or infinite already
    c = where(y > 68719476736.0, 68719476736.0, where(y < -68719476736.0, -68719476736.0, y))
    c_high = high_f32(c)
    low = (c - c_high) * log_high + c * log_low
    e = c_high * log_high + low
    shifted = e + ROUND_F32
    n = shifted - ROUND_F32
    r = (c_high * log_high - n) + low
    power = scaled_f32(exp2_of_reduced_f32(r), shifted)
    power = where(e > 130.0, inf, where(e < -152.0, 0.0, power))
    return _with_special_cases(power, a, x, y)


def _log2_f64(a):
    """log2(a) as a high part with half the bits and a low part, for finite a > 0."""
    tiny = a < 2.2250738585072014e-308
    bits = bitcast(where(tiny, a * 18014398509481984.0, a), i64)
    exponent = (bits - 0x3FE6A09E667F3BCD) >> 52
    m = bitcast(bits - (exponent << 52), f64)
    n = f64(exponent)
    n = where(tiny, n - 54.0, n)
    f = m - 1.0
    inverse = 1.0 / (m + 1.0)
    s = f * inverse
    s_high = high_f64(s)
    d_high = high_f64(m + 1.0)
    d_low = m - (d_high - 1.0)
    s_low = ((f - s_high * d_high) - s_high * d_low) * inverse
    # 3 * (atanh(s) / s - 1 - z / 3) / z^2 for z = s^2, error 2^-66 relative to 3
    z = s * s
    r = 0.16520371962347541 * z + 0.15634301206368542
    r = r * z + 0.17653013836661527
    r = r * z + 0.19999860555714413
    r = r * z + 0.23076925131632958
    r = r * z + 0.27272727253859314
    r = r * z + 0.33333333333435999
    r = r * z + 0.42857142857142561
    r = r * z + 0.59999999999999998
    r = z * z * r + s_low * (s_high + s)
    t_high = high_f64(s_high * s_high + 3.0 + r)
    t_low = r - ((t_high - 3.0) - s_high * s_high)
    v = s_low * t_high + t_low * s
    p_high = high_f64(s_high * t_high + v)
    p_low = v - (p_high - s_high * t_high)
    rest = p_high * -7.028461650952758546e-9 + p_low * 0.96179669392597560491
    log_high = high_f64(p_high * 0.96179670095443725586 + rest + n)
    return log_high, rest - ((log_high - n) - p_high * 0.96179670095443725586)


def pow_f64(x, y):
    a = abs(x)
    log_high, log_low = _log2_f64(a)
    # Beyond these the power is 0, 1 or infinite already
    c = where(
        y > 1180591620717411303424.0,
        1180591620717411303424.0,
        where(y < -1180591620717411303424.0, -1180591620717411303424.0, y),
    )
    c_high = high_f64(c)
    low = (c - c_high) * log_high + c * log_low
    e = c_high * log_high + low
    shifted = e + ROUND_F64
    n = shifted - ROUND_F64
    r = (c_high * log_high - n) + low
    power = scaled_f64(exp2_of_reduced_f64(r), shifted)
    power = where(e > 1026.0, inf, where(e < -1077.0, 0.0, power))
    return _with_special_cases(power, a, x, y)


def rsqrt_f32(x):
    return 1.0 / sqrt(x)


def rsqrt_f64(x):
    return 1.0 / sqrt(x)


def cbrt_f32(x):
    a = abs(x)
    tiny = a < 1.17549435e-38
    bits = bitcast(where(tiny, a * 16777216.0, a), i32)
    exponent = (bits >> 23) - 127
    # exponent = 3 * third + rest, rest 0, 1 or 2
    shifted = (f32(exponent) - 1.0) * 0.333333343 + ROUND_F32
    rest = exponent - 3 * (bitcast(shifted, i32) - 0x4B400000)
    m = bitcast((bits & 0x7FFFFF) | 0x3F800000, f32)
    # cbrt(m) on [1, 2], relative error 2^-13.7; one step of Halley's method
    y = 0.0231047478 * m - 0.162968129
    y = y * m + 0.587111771
    y = y * m + 0.552824736
    y = where(rest == 0, y, where(rest == 1, y * 1.25992105, y * 1.58740105))
    v = where(rest == 0, m, where(rest == 1, m * 2.0, m * 4.0))
    cube = y * y * y
    y = y - y * ((cube - v) / (cube + cube + v))
    y = y * power_of_two_f32(shifted)
    y = where(tiny, y * 0.00390625, y)
    return where(x == 0.0, x, where(a < inf, copysign(y, x), x))


def cbrt_f64(x):
    a = abs(x)
    tiny = a < 2.2250738585072014e-308
    bits = bitcast(where(tiny, a * 18014398509481984.0, a), i64)
    exponent = (bits >> 52) - 1023
    shifted = (f64(exponent) - 1.0) * 0.33333333333333331 + ROUND_F64
    rest = exponent - 3 * (bitcast(shifted, i64) - 0x4338000000000000)
    m = bitcast((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000, f64)
    # cbrt(m) on [1, 2], relative error 2^-22.5; one step of Halley's method
    y = -0.0028596477843189786 * m + 0.03090426211628975
    y = y * m - 0.14447107502600937
    y = y * m + 0.38536370039452028
    y = y * m - 0.6661774607582438
    y = y * m + 0.95009895254712529
    y = y * m + 0.44714143979444898
    y = where(rest == 0, y, where(rest == 1, y * 1.2599210498948731648, y * 1.5874010519681994748))
    v = where(rest == 0, m, where(rest == 1, m * 2.0, m * 4.0))
    cube = y * y * y
    y = y - y * ((cube - v) / (cube + cube + v))
    y = y * power_of_two_f64(shifted)
    y = where(tiny, y * 3.814697265625e-06, y)
    return where(x == 0.0, x, where(a < inf, copysign(y, x), x))


def hypot_f32(x, y):
    a = abs(x)
    b = abs(y)
    top = where(a < b, b, a)
    # Scaled by powers of two, so that the squares stay in range
    big = top > 1.15e18
    small = top < 1e-12
    a = where(big, a * 8.4703295e-22, where(small, a * 1.2676506e30, a))
    b = where(big, b * 8.4703295e-22, where(small, b * 1.2676506e30, b))
    r = sqrt(a * a + b * b)
    r = where(big, r * 1.1805916e21, where(small, r * 7.8886091e-31, r))
    return where((a == inf) | (b == inf), inf, r)


def hypot_f64(x, y):
    a = abs(x)
    b = abs(y)
    top = where(a < b, b, a)
    big = top > 1e150
    small = top < 1e-120
    a = where(big, a * 7.458340731200207e-155, where(small, a * 4.149515568880993e180, a))
    b = where(big, b * 7.458340731200207e-155, where(small, b * 4.149515568880993e180, b))
    r = sqrt(a * a + b * b)
    r = where(big, r * 1.3407807929942597e154, where(small, r * 2.409919865102884e-181, r))
    return where((a == inf) | (b == inf), inf, r)
