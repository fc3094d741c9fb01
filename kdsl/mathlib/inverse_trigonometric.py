"""asin, acos, atan, atan2: odd polynomials on a reduced argument; pi / 2 is added in two parts."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from math import inf

from kdsl.dtypes import i32, i64
from kdsl.lang import bitcast, copysign, sqrt, where


def _asin_tail_f32(z):
    """asin(s) / s - 1 for z = s^2 <= 1/4, error 2^-27.6."""
    p = 0.0421591587 * z + 0.0241842698
    p = p * z + 0.0454692207
    p = p * z + 0.0749530941
    p = p * z + 0.166667521
    return z * p


def _asin_tail_f64(z):
    """asin(s) / s - 1 for z = s^2 <= 1/4, error 2^-59."""
    p = 0.032629095096916444 * z - 0.020999859210781617
    p = p * z + 0.021708044825013251
    p = p * z + 0.0037061464449337192
    p = p * z + 0.010780327459950941
    p = p * z + 0.011398897766630466
    p = p * z + 0.013980822485530918
    p = p * z + 0.017351611834514818
    p = p * z + 0.022372214998787394
    p = p * z + 0.030381942707339599
    p = p * z + 0.044642857174622227
    p = p * z + 0.074999999999707884
    p = p * z + 0.1666666666666676
    return z * p


def asin_f32(x):
    a = abs(x)
    near = a < 0.5
    # Beyond 1/2: pi / 2 - 2 asin(s), s = sqrt((1 - a) / 2); pi / 4 is taken from 2 s exactly
    z = where(near, a * a, (1.0 - a) * 0.5)
    s = where(near, a, sqrt(z))
    p = s * _asin_tail_f32(z)
    far = 0.785398185 - ((2.0 * p + 4.37113900e-8) - (0.785398185 - 2.0 * s))
    return copysign(where(near, s + p, far), x)


def asin_f64(x):
    a = abs(x)
    near = a < 0.5
    z = where(near, a * a, (1.0 - a) * 0.5)
    s = where(near, a, sqrt(z))
    p = s * _asin_tail_f64(z)
    far = 0.785398163397448279 - ((2.0 * p - 6.1232339957367658861e-17) - (0.785398163397448279 - 2.0 * s))
    return copysign(where(near, s + p, far), x)


def acos_f32(x):
    a = abs(x)
    near = a < 0.5
    z = where(near, a * a, (1.0 - a) * 0.5)
    s = where(near, x, sqrt(z))
    p = s * _asin_tail_f32(z)
    right = 1.57079637 - (s + (p + 4.37113900e-8))
    return where(near, right, where(x > 0.0, 2.0 * (s + p), 2.0 * right))


def acos_f64(x):
    a = abs(x)
    near = a < 0.5
    z = where(near, a * a, (1.0 - a) * 0.5)
    s = where(near, x, sqrt(z))
    p = s * _asin_tail_f64(z)
    right = 1.570796326794896558 - (s + (p - 6.1232339957367658861e-17))
    return where(near, right, where(x > 0.0, 2.0 * (s + p), 2.0 * right))


def _atan_of_ratio_f32(q):
    """atan(q) for 0 <= q <= 1; the polynomial's relative error is 2^-28.5."""
    z = q * q
    p = -0.00178227574 * z + 0.0108668944
    p = p * z - 0.031094715
    p = p * z + 0.0578800067
    p = p * z - 0.08399266
    p = p * z + 0.10950876
    p = p * z - 0.142640159
    p = p * z + 0.199985296
    p = p * z - 0.333332986
    return q * z * p + q


def _atan_of_ratio_f64(q):
    """atan(q) for 0 <= q <= 1; the polynomial's relative error is 2^-56.5."""
    z = q * q
    p = 5.6753963024504812e-6 * z - 7.0940934151511673e-5
    p = p * z + 0.0004223049335604628
    p = p * z - 0.0015998668635032744
    p = p * z + 0.0043573734590701251
    p = p * z - 0.0091643091117418005
    p = p * z + 0.015672284317013965
    p = p * z - 0.022767918370594775
    p = p * z + 0.029275245455436364
    p = p * z - 0.034650651863356037
    p = p * z + 0.039096736836608706
    p = p * z - 0.04319892236149999
    p = p * z + 0.047549311870802011
    p = p * z - 0.052617726599650014
    p = p * z + 0.058821379176303701
    p = p * z - 0.066666411866128344
    p = p * z + 0.076923054578048822
    p = p * z - 0.09090908951951733
    p = p * z + 0.1111111110534912
    p = p * z - 0.14285714285569445
    p = p * z + 0.1999999999999813
    p = p * z - 0.33333333333333326
    return q * z * p + q


def atan_f32(x):
    a = abs(x)
    y = _atan_of_ratio_f32(where(a > 1.0, 1.0 / a, a))
    return copysign(where(a > 1.0, 1.57079637 - (y + 4.37113900e-8), y), x)


def atan_f64(x):
    a = abs(x)
    y = _atan_of_ratio_f64(where(a > 1.0, 1.0 / a, a))
    return copysign(where(a > 1.0, 1.570796326794896558 - (y - 6.1232339957367658861e-17), y), x)


def atan2_f32(y, x):
    ax = abs(x)
    ay = abs(y)
    steep = ay > ax
    low = where(steep, ax, ay)
    high = where(steep, ay, ax)
    # 0 / 0 counts as 0, inf / inf as 1
    q = where(high == 0.0, low, where((low == inf) & (high == inf), 1.0, low / high))
    r = _atan_of_ratio_f32(q)
    left = bitcast(x, i32) < 0
    r = where(steep ^ left, -r, r)
    r = where(steep, 1.57079637 + (r - 4.37113900e-8), where(left, 3.14159274 + (r - 8.74227800e-8), r))
    return copysign(r, y)


def atan2_f64(y, x):
    ax = abs(x)
    ay = abs(y)
    steep = ay > ax
    low = where(steep, ax, ay)
    high = where(steep, ay, ax)
    q = where(high == 0.0, low, where((low == inf) & (high == inf), 1.0, low / high))
    r = _atan_of_ratio_f64(q)
    left = bitcast(x, i64) < 0
    r = where(steep ^ left, -r, r)
    near = where(left, 3.141592653589793116 + (r + 1.2246467991473531772e-16), r)
    return copysign(where(steep, 1.570796326794896558 + (r + 6.1232339957367658861e-17), near), y)
