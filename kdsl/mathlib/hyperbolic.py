"""sinh, cosh, tanh: odd polynomials near 0, exponentials elsewhere."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from kdsl.lang import copysign, where
from kdsl.mathlib.exponential import (
    ROUND_F32,
    ROUND_F64,
    exp_of_reduced_f32,
    exp_of_reduced_f64,
    expm1_of_reduced_f32,
    less_ln2_f32,
    less_ln2_f64,
    power_of_two_f32,
    power_of_two_f64,
    scaled_f32,
    scaled_f64,
)


def _half_exp_f32(a):
    """e^a / 2 for a >= 0; infinite only where sinh and cosh are."""
    c = where(a > 90.0, 90.0, a)
    shifted = c * 1.44269504 + ROUND_F32
    return scaled_f32(exp_of_reduced_f32(less_ln2_f32(c, shifted - ROUND_F32)), shifted - 1.0)


def _half_exp_f64(a):
    """e^a / 2 for a >= 0; infinite only where sinh and cosh are."""
    c = where(a > 711.0, 711.0, a)
    shifted = c * 1.4426950408889634074 + ROUND_F64
    return scaled_f64(exp_of_reduced_f64(less_ln2_f64(c, shifted - ROUND_F64)), shifted - 1.0)


def cosh_f32(x):
    e = _half_exp_f32(abs(x))
    return e + 0.25 / e


def cosh_f64(x):
    e = _half_exp_f64(abs(x))
    return e + 0.25 / e


def sinh_f32(x):
    a = abs(x)
    e = _half_exp_f32(a)
    # (sinh(a) / a - 1) / a^2 on a <= 1, error 2^-31.6
    z = a * a
    p = 2.782195e-6 * z + 0.00019842897
    p = p * z + 0.00833331048
    p = p * z + 0.166666672
    return copysign(where(a < 1.0, a * z * p + a, e - 0.25 / e), x)


def sinh_f64(x):
    a = abs(x)
    e = _half_exp_f64(a)
    # (sinh(a) / a - 1) / a^2 on a <= 1, error 2^-56.8 from its first coefficient
    z = a * a
    p = 2.8482328156155202e-15 * z + 7.6464829039866139e-13
    p = p * z + 1.6059050601118556e-10
    p = p * z + 2.5052108346510299e-8
    p = p * z + 2.7557319224116285e-6
    p = p * z + 0.000198412698412696
    p = p * z + 0.0083333333333333332
    p = p * z + 0.16666666666666666
    return copysign(where(a < 1.0, a * z * p + a, e - 0.25 / e), x)


def tanh_f32(x):
    a = abs(x)
    # (1 - e^-2a) / (1 + e^-2a); beyond 10 the result is 1
    c = where(a > 10.0, -20.0, -2.0 * a)
    shifted = c * 1.44269504 + ROUND_F32
    r = less_ln2_f32(c, shifted - ROUND_F32)
    scale = power_of_two_f32(shifted)
    # e^-2a - 1 with its leading digits kept when a is small: 2^n * (e^r - 1) + (2^n - 1)
    less = expm1_of_reduced_f32(r) * scale + (scale - 1.0)
    return copysign(less / (less + 2.0), x)


def tanh_f64(x):
    a = abs(x)
    c = where(a > 22.0, 44.0, a + a)
    shifted = c * 1.4426950408889634074 + ROUND_F64
    e = exp_of_reduced_f64(less_ln2_f64(c, shifted - ROUND_F64)) * power_of_two_f64(shifted)
    # (tanh(a) / a - 1) / a^2 on a <= 0.625, error 2^-57
    z = a * a
    p = 6.0424830917017269e-6 * z - 3.0187255789457172e-5
    p = p * z + 9.1558448720473057e-5
    p = p * z - 0.00023701175242479662
    p = p * z + 0.00058945180748750162
    p = p * z - 0.0014557259502425068
    p = p * z + 0.0035921140002488391
    p = p * z - 0.0088632343126209788
    p = p * z + 0.021869488468718459
    p = p * z - 0.053968253966059032
    p = p * z + 0.13333333333329744
    p = p * z - 0.33333333333333315
    return copysign(where(a < 0.625, a * z * p + a, 1.0 - 2.0 / (e + 1.0)), x)
