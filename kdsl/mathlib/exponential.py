"""exp, exp2, expm1: reduced to 2^n * f(r) with |r| <= ln(2)/2, a polynomial, 2^n made of bits.

Adding 1.5 * 2^23 (f32) or 1.5 * 2^52 (f64) rounds to an integer and leaves it in the low bits of the sum.
ln 2 is subtracted in two parts, the first with trailing zeros so that n times it is exact with and
without contraction. The scale 2^n is applied in two halves, so that results at both ends of the range
(denormals too) are rounded once.
"""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from kdsl.dtypes import f32, f64, u32, u64
from kdsl.lang import bitcast, where

ROUND_F32 = 12582912.0
ROUND_F64 = 6755399441055744.0


def power_of_two_f32(shifted):
    """2^n for n in [-126, 127], given as n + ROUND_F32."""
    return bitcast((bitcast(shifted, u32) << 23) + 0x3F800000, f32)


def power_of_two_f64(shifted):
    """2^n for n in [-1022, 1023], given as n + ROUND_F64."""
    return bitcast((bitcast(shifted, u64) << 52) + 0x3FF0000000000000, f64)


def scaled_f32(y, shifted):
    """y * 2^n for n in [-252, 254], given as n + ROUND_F32."""
    n = bitcast(shifted, u32)
    half = n >> 1
    return y * bitcast((half << 23) + 0x3F800000, f32) * bitcast(((n - half) << 23) + 0x3F800000, f32)


def scaled_f64(y, shifted):
    """y * 2^n for n in [-2044, 2046], given as n + ROUND_F64."""
    n = bitcast(shifted, u64)
    half = n >> 1
    low = bitcast((half << 52) + 0x3FF0000000000000, f64)
    return y * low * bitcast(((n - half) << 52) + 0x3FF0000000000000, f64)


def less_ln2_f32(x, n):
    """x - n * ln(2) for |n| <= 2^12."""
    return x - n * 0.693359375 + n * 2.12194440e-4


def less_ln2_f64(x, n):
    """x - n * ln(2) for |n| <= 2^20."""
    return x - n * 0.69314718060195446014 + n * 4.2009150726810847292e-11


def exp_of_reduced_f32(r):
    """e^r for |r| <= 0.3473; the polynomial's relative error is 2^-28.1."""
    return expm1_of_reduced_f32(r) + 1.0


def expm1_of_reduced_f32(r):
    """e^r - 1 for |r| <= 0.3473; the polynomial's relative error is 2^-26."""
    q = 0.00138328515 * r + 0.00836903695
    q = q * r + 0.0416681133
    q = q * r + 0.166665167
    q = q * r + 0.49999994
    return r * r * q + r


def exp_of_reduced_f64(r):
    """e^r for |r| <= 0.3473; the polynomial's relative error is 2^-57.9."""
    q = 2.5040692204988779e-8 * r + 2.7631010232000261e-7
    q = q * r + 2.7557522820153087e-6
    q = q * r + 2.4801491479946566e-5
    q = q * r + 0.00019841269536571466
    q = q * r + 0.0013888888944975405
    q = q * r + 0.0083333333334837164
    q = q * r + 0.041666666666525548
    q = q * r + 0.16666666666666424
    q = q * r + 0.50000000000000111
    return r * r * q + r + 1.0


def exp2_of_reduced_f32(r):
    """2^r for |r| <= 0.5; the polynomial's relative error is 2^-26.4."""
    q = 0.000155419883 * r + 0.00133852509
    q = q * r + 0.0096180141
    q = q * r + 0.0555037893
    q = q * r + 0.240226507
    q = q * r + 0.693147182
    return q * r + 1.0


def exp2_of_reduced_f64(r):
    """2^r for |r| <= 0.5; the polynomial's relative error is 2^-53.5, from its first coefficient."""
    q = 2.8959993139641919e-11 * r + 4.4498105568567363e-10
    q = q * r + 7.0523279091877858e-9
    q = q * r + 1.0178001792626958e-7
    q = q * r + 1.3215492879267327e-6
    q = q * r + 1.5252734147405769e-5
    q = q * r + 0.00015403530388604709
    q = q * r + 0.00133335581460186
    q = q * r + 0.0096181291076301873
    q = q * r + 0.055504108664823373
    q = q * r + 0.24022650695910069
    q = q * r + 0.69314718055994529
    return q * r + 1.0


def exp_f32(x):
    x = where(x > 89.0, 89.0, where(x < -104.0, -104.0, x))
    shifted = x * 1.44269504 + ROUND_F32
    r = less_ln2_f32(x, shifted - ROUND_F32)
    return scaled_f32(exp_of_reduced_f32(r), shifted)


def exp_f64(x):
    x = where(x > 710.0, 710.0, where(x < -746.0, -746.0, x))
    shifted = x * 1.4426950408889634074 + ROUND_F64
    r = less_ln2_f64(x, shifted - ROUND_F64)
    return scaled_f64(exp_of_reduced_f64(r), shifted)


def exp2_f32(x):
    x = where(x > 129.0, 129.0, where(x < -151.0, -151.0, x))
    shifted = x + ROUND_F32
    return scaled_f32(exp2_of_reduced_f32(x - (shifted - ROUND_F32)), shifted)


def exp2_f64(x):
    x = where(x > 1025.0, 1025.0, where(x < -1076.0, -1076.0, x))
    shifted = x + ROUND_F64
    return scaled_f64(exp2_of_reduced_f64(x - (shifted - ROUND_F64)), shifted)


def expm1_f32(x):
    c = where(x > 89.0, 89.0, where(x < -18.0, -18.0, x))
    shifted = c * 1.44269504 + ROUND_F32
    n = shifted - ROUND_F32
    # r and what its rounding lost
    high = c - n * 0.693359375
    r = high + n * 2.12194440e-4
    lost = (high - r) + n * 2.12194440e-4
    # (e^r - 1 - r) / r^2, error 2^-31 relative to e^r - 1
    q = 0.000196647248 * r + 0.00139350188
    q = q * r + 0.0083336439
    q = q * r + 0.0416664667
    q = q * r + 0.166666657
    q = q * r + 0.5
    y = r + (r * r * q + lost)
    # (e^r - 1 + 1 - 2^-n) * 2^n
    rest = 1.0 - where(n > 30.0, 0.0, power_of_two_f32(ROUND_F32 - n))
    return where(x == 0.0, x, scaled_f32(y + rest, shifted))


def expm1_f64(x):
    c = where(x > 710.0, 710.0, where(x < -38.0, -38.0, x))
    shifted = c * 1.4426950408889634074 + ROUND_F64
    n = shifted - ROUND_F64
    high = c - n * 0.69314718060195446014
    r = high + n * 4.2009150726810847292e-11
    lost = (high - r) + n * 4.2009150726810847292e-11
    # (e^r - 1 - r) / r^2, error 2^-63 relative to e^r - 1
    q = 1.7890906154948011e-10 * r + 2.092812118149194e-9
    q = q * r + 2.5045821929717072e-8
    q = q * r + 2.7557232854800379e-7
    q = q * r + 2.7557327314637471e-6
    q = q * r + 2.4801587369562621e-5
    q = q * r + 0.00019841269836543606
    q = q * r + 0.0013888888888864102
    q = q * r + 0.008333333333334518
    q = q * r + 0.041666666666666699
    q = q * r + 0.16666666666666666
    q = q * r + 0.5
    y = r + (r * r * q + lost)
    rest = 1.0 - where(n > 60.0, 0.0, power_of_two_f64(ROUND_F64 - n))
    return where(x == 0.0, x, scaled_f64(y + rest, shifted))
