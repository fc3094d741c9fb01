"""erf: an odd polynomial up to 1, then 1 - exp(q(|x|)) with a polynomial q for log(erfc)."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from kdsl.lang import copysign, where
from kdsl.mathlib.exponential import (
    ROUND_F32,
    ROUND_F64,
    exp_of_reduced_f32,
    exp_of_reduced_f64,
    less_ln2_f32,
    less_ln2_f64,
    power_of_two_f32,
    power_of_two_f64,
)


def erf_f32(x):
    a = abs(x)
    c = where(a > 3.95, 3.95, a)
    # log(erfc(c)) on [0.98, 3.95]; error 2^-29.6 relative to erf
    q = 0.000188791295 * c - 0.00297215744
    q = q * c + 0.0219394471
    q = q * c - 0.10332565
    q = q * c - 0.637884617
    q = q * c - 1.12725079
    q = q * c - 0.00030052982
    shifted = q * 1.44269504 + ROUND_F32
    large = 1.0 - exp_of_reduced_f32(less_ln2_f32(q, shifted - ROUND_F32)) * power_of_two_f32(shifted)
    # erf(x) / x - 1 on |x| <= 1, error 2^-29.4
    z = x * x
    p = 7.80706469e-5 * z - 0.000799787813
    p = p * z + 0.00518716313
    p = p * z - 0.0268533472
    p = p * z + 0.112835787
    p = p * z - 0.37612626
    p = p * z + 0.128379166
    return where(a < 1.0, x * p + x, copysign(large, x))


def erf_f64(x):
    a = abs(x)
    c = where(a > 5.95, 5.95, a)
    # log(erfc(c)) on [1, 5.95]; error 2^-56 relative to erf
    q = -4.9465760796666734e-12 * c + 2.0519607021102711e-10
    q = q * c - 3.9469127884223492e-9
    q = q * c + 4.656382424854314e-8
    q = q * c - 3.7438590190250356e-7
    q = q * c + 2.1417699391726201e-6
    q = q * c - 8.6931449155041585e-6
    q = q * c + 2.2908293953141418e-5
    q = q * c - 2.048876235168053e-5
    q = q * c - 0.00013459697781562991
    q = q * c + 0.00076991337571960116
    q = q * c - 0.0019150221319736717
    q = q * c + 0.00040972722117203157
    q = q * c + 0.01899084678509623
    q = q * c - 0.10270380240994173
    q = q * c - 0.63664349194489156
    q = q * c - 1.12837412097282
    q = q * c - 4.9946567779002578e-7
    shifted = q * 1.4426950408889634074 + ROUND_F64
    large = 1.0 - exp_of_reduced_f64(less_ln2_f64(q, shifted - ROUND_F64)) * power_of_two_f64(shifted)
    # erf(x) / x - 1 on |x| <= 1, error 2^-56.3
    z = x * x
    p = 5.9452986269662641e-11 * z - 1.1365687950503935e-9
    p = p * z + 1.4657885564442721e-8
    p = p * z - 1.635002607607837e-7
    p = p * z + 1.6460972897577923e-6
    p = p * z - 1.4925593511906156e-5
    p = p * z + 0.00012055331037108107
    p = p * z - 0.00085483269787479347
    p = p * z + 0.0052239776247809677
    p = p * z - 0.026866170645072907
    p = p * z + 0.11283791670954857
    p = p * z - 0.37612638903183748
    p = p * z + 0.12837916709551259
    return where(a < 1.0, x * p + x, copysign(large, x))
