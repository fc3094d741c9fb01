"""sin, cos, tan.

Arguments of ordinary size lose a multiple of pi (tan: pi/2) in parts, each short enough that its product
with the multiple is exact with and without contraction. For larger ones see `reduction`.
"""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from math import inf, nan

from kdsl.dtypes import f32, f64, i32, i64, u32, u64
from kdsl.lang import bitcast, copysign, where
from kdsl.mathlib.exponential import ROUND_F32, ROUND_F64
from kdsl.mathlib.reduction import turns_f32, turns_f64

FAST_F32 = 12000.0
FAST_F64 = 1.6e6


def _less_pi_f32(x, n):
    """x - n * pi for |n| <= 4096 in steps of 1/2."""
    r = x - n * 3.140625
    r = r - n * 0.000967502593994140625
    r = r - n * 1.5099067240953445435e-7
    r = r - n * 5.1265658385091228411e-12
    return r - n * 1.22464685e-16


def _sin_near_f32(x):
    shifted = x * 0.318309886 + ROUND_F32
    r = _less_pi_f32(x, shifted - ROUND_F32)
    return bitcast(bitcast(r, u32) ^ (bitcast(shifted, u32) << 31), f32)


def _cos_near_f32(x):
    shifted = (x * 0.318309886 + 0.5) + ROUND_F32
    r = _less_pi_f32(x, (shifted - ROUND_F32) - 0.5)
    return bitcast(bitcast(r, u32) ^ (bitcast(shifted, u32) << 31), f32)


def _angle_f32(high, low):
    """2 pi times the signed 64-bit fraction of a turn, as an exact large part and the rest."""
    top = i32(high + 0x8000) >> 16
    middle = ((i32(high) - (top << 16)) << 15) | i32(low >> 17)
    large = f32(top)
    rest = f32(middle) * 4.46447168e-14 + f32(i32(low & 0x1FFFF)) * 3.40612158e-19
    return large * 0.000095844268798828125, rest + large * 2.95304440e-8


def _folded_f32(high, low):
    """The angle r in [-pi/2, pi/2] with sin(r) = sin(2 pi (high + low / 2^32) / 2^32), to 2^-64 of a turn."""
    far = u32(i32(high ^ (high << 1)) >> 31)
    large, rest = _angle_f32(high ^ (far & 0x7FFFFFFF), low ^ far)
    return large + rest


def _sin_far_f32(x):
    high, low = turns_f32(x)
    return bitcast(bitcast(_folded_f32(high, low), u32) ^ (bitcast(x, u32) & 0x80000000), f32)


def _cos_far_f32(x):
    high, low = turns_f32(x)
    return _folded_f32(high + 0x40000000, low)


def _sin_of_reduced_f32(r):
    """sin(r) on |r| <= pi/2 * 1.001; relative error 2^-31."""
    z = r * r
    p = -2.55042121e-8 * z + 2.76270771e-6
    p = p * z - 0.000198430935
    p = p * z + 0.00833335053
    p = p * z - 0.166666672
    return z * p * r + r


def sin_f32(x):
    r = where(abs(x) <= FAST_F32, _sin_near_f32(x), _sin_far_f32(x))
    return where(x == 0.0, x, where(abs(x) < inf, _sin_of_reduced_f32(r), nan))


def cos_f32(x):
    r = where(abs(x) <= FAST_F32, _cos_near_f32(x), _cos_far_f32(x))
    return where(abs(x) < inf, _sin_of_reduced_f32(r), nan)


def _less_pi_f64(x, n):
    """x - n * pi for |n| <= 2^19 in steps of 1/2, rounded once."""
    first = x - n * 3.1415926534682512283
    second = first - n * 1.2154201012607931953e-10
    lost = ((first - second) - n * 1.2154201012607931953e-10) - n * 4.0445324974223329116e-21
    return second + (lost - n * 1.695685532073779914e-31)


def _sin_near_f64(x):
    shifted = x * 0.31830988618379067154 + ROUND_F64
    r = _less_pi_f64(x, shifted - ROUND_F64)
    return bitcast(bitcast(r, u64) ^ (bitcast(shifted, u64) << 63), f64)


def _cos_near_f64(x):
    shifted = (x * 0.31830988618379067154 + 0.5) + ROUND_F64
    r = _less_pi_f64(x, (shifted - ROUND_F64) - 0.5)
    return bitcast(bitcast(r, u64) ^ (bitcast(shifted, u64) << 63), f64)


def _angle_f64(high, low):
    """2 pi times the signed 128-bit fraction of a turn, as an exact large part and the rest."""
    top = i64(high + 0x2000000000) >> 38
    middle = ((i64(high) - (top << 38)) << 26) | i64(low >> 38)
    rest = f64(middle) * 5.0755166710712829073e-27 + f64(low & 0x3FFFFFFFFF) * 1.8464622084398007818e-38
    large = f64(top)
    return large * 9.3626757902143253887e-8, rest - large * 8.2904503429932092478e-16


def _folded_f64(high, low):
    """The angle r in [-pi/2, pi/2] with sin(r) = sin(2 pi (high + low / 2^64) / 2^64)."""
    far = ((high ^ (high << 1)) >> 63) != 0
    borrow = where(low == 0, u64(0), u64(1))
    mirrored = where(far, 0x8000000000000000 - high - borrow, high)
    large, rest = _angle_f64(mirrored, where(far, 0 - low, low))
    return large + rest


def _sin_far_f64(x):
    high, low = turns_f64(x)
    return _folded_f64(high, low)


def _cos_far_f64(x):
    high, low = turns_f64(x)
    return _folded_f64(high + 0x4000000000000000, low)


def _sin_of_reduced_f64(r):
    """sin(r) on |r| <= pi/2 * 1.001, beyond pi/4 by the cosine of the complement.

    Relative errors of the polynomials 2^-56.9 (sine) and 2^-59.6 (cosine).
    """
    a = abs(r)
    near = a < 0.78539816339744830962
    w = where(near, a, (1.570796326794896558 - a) + 6.1232339957367658861e-17)
    z = w * w
    s = 1.5895905102786163e-10 * z - 2.5050742317380675e-8
    s = s * z + 2.7557313587713224e-6
    s = s * z - 0.00019841269829495915
    s = s * z + 0.0083333333333220055
    s = s * z - 0.1666666666666663
    c = -1.1359449833700798e-11 * z + 2.0875719583154443e-9
    c = c * z - 2.7557314326232133e-7
    c = c * z + 2.4801587289395723e-5
    c = c * z - 0.0013888888888873992
    c = c * z + 0.041666666666666602
    return copysign(where(near, w * z * s + w, 1.0 - (0.5 * z - z * z * c)), r)


def sin_f64(x):
    a = abs(x)
    r = where(a <= FAST_F64, _sin_near_f64(x), _sin_far_f64(x))
    return where(x == 0.0, x, where(a < inf, _sin_of_reduced_f64(r), nan))


def cos_f64(x):
    a = abs(x)
    r = where(a <= FAST_F64, _cos_near_f64(x), _cos_far_f64(x))
    return where(a < inf, _sin_of_reduced_f64(r), nan)


def tan_f32(x):
    a = abs(x)
    # x = n * pi/2 + r + lost
    shifted = x * 0.636619772 + ROUND_F32
    n = shifted - ROUND_F32
    first = (x - n * 1.5703125) - n * 0.0004837512969970703125
    second = first - n * 7.5495336204767227173e-8
    tail = ((first - second) - n * 7.5495336204767227173e-8) - n * 2.5632829192545614205e-12
    tail = tail - n * 6.12323426e-17
    # The turn less the nearest multiple of a quarter
    high, low = turns_f32(x)
    large, rest = _angle_f32(u32(i32(high << 2) >> 2), low)
    sign = copysign(1.0, x)
    slow = a > FAST_F32
    first = where(slow, large * sign, second)
    tail = where(slow, rest * sign, tail)
    r = first + tail
    lost = (first - r) + tail
    odd = where(slow, (high + 0x20000000) >> 30, bitcast(shifted, u32)) & 1
    # (tan(r) / r - 1) / r^2 on |r| <= pi/4 * 1.001, error 2^-29.5
    z = r * r
    p = 0.00438044127 * z + 8.37304178e-5
    p = p * z + 0.0108377766
    p = p * z + 0.0212827567
    p = p * z + 0.0540594459
    p = p * z + 0.133326724
    p = p * z + 0.333333492
    t = r + (r * z * p + lost)
    return where(x == 0.0, x, where(a < inf, where(odd == 0, t, -1.0 / t), nan))


def tan_f64(x):
    a = abs(x)
    # x = n * pi/2 + r + lost
    shifted = x * 0.63661977236758134308 + ROUND_F64
    n = shifted - ROUND_F64
    first = x - n * 1.5707963267341256142
    second = first - n * 6.0771005063039659766e-11
    tail = ((first - second) - n * 6.0771005063039659766e-11) - n * 2.0222662487111664558e-21
    tail = tail - n * 8.47842766036889957e-32
    # The turn less the nearest multiple of a quarter
    high, low = turns_f64(x)
    large, rest = _angle_f64(u64(i64(high << 2) >> 2), low)
    slow = a > FAST_F64
    first = where(slow, large, second)
    tail = where(slow, rest, tail)
    r = first + tail
    lost = (first - r) + tail
    odd = where(slow, (high + 0x2000000000000000) >> 62, bitcast(shifted, u64)) & 1
    # (tan(r) / r - 1) / r^2 on |r| <= pi/4 * 1.001, error 2^-57.3
    z = r * r
    p = 9.7590872230711925e-6 * z - 2.4094043545294246e-5
    p = p * z + 4.827212906869337e-5
    p = p * z - 2.5197271863257698e-5
    p = p * z + 6.687625082083997e-5
    p = p * z + 8.3749001637031874e-5
    p = p * z + 0.00024367671025620516
    p = p * z + 0.00058888542173316958
    p = p * z + 0.0014560413922139852
    p = p * z + 0.0035921014611371492
    p = p * z + 0.0088632378673576158
    p = p * z + 0.021869488402686595
    p = p * z + 0.053968253972781093
    p = p * z + 0.13333333333325564
    p = p * z + 0.33333333333333381
    t = r + (r * z * p + lost * (1.0 + z))
    return where(x == 0.0, x, where(a < inf, where(odd == 0, t, -1.0 / t), nan))
