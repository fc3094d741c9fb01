"""log, log2, log10, log1p: x = 2^n * (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), read from the bits."""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from math import inf, nan

from kdsl.dtypes import f32, f64, i32, i64, u32, u64
from kdsl.lang import bitcast, where


def split_f32(x):
    """(n, f) with x = 2^n * (1 + f), for finite x > 0."""
    tiny = x < 1.17549435e-38
    bits = bitcast(where(tiny, x * 8388608.0, x), i32)
    exponent = (bits - 0x3F3504F3) >> 23
    n = f32(exponent)
    return where(tiny, n - 23.0, n), bitcast(bits - (exponent << 23), f32) - 1.0


def split_f64(x):
    """(n, f) with x = 2^n * (1 + f), for finite x > 0."""
    tiny = x < 2.2250738585072014e-308
    bits = bitcast(where(tiny, x * 4503599627370496.0, x), i64)
    exponent = (bits - 0x3FE6A09E667F3BCD) >> 52
    n = f64(exponent)
    return where(tiny, n - 52.0, n), bitcast(bits - (exponent << 52), f64) - 1.0


def tail_f32(f):
    """log(1 + f) - f; error 2^-28.9 relative to log(1 + f)."""
    p = 0.0537543558 * f - 0.109383456
    p = p * f + 0.121035837
    p = p * f - 0.125460297
    p = p * f + 0.142098442
    p = p * f - 0.166595474
    p = p * f + 0.200022191
    p = p * f - 0.250001639
    p = p * f + 0.333333135
    return f * f * (p * f - 0.5)


def tail_f64(f):
    """log(1 + f) - f = s * (f^2 / 2 + z * R(z)) - f^2 / 2 with s = f / (2 + f), z = s^2; R's error is 2^-58.

    Source: Sun's fdlibm, e_log.c.
    """
    s = f / (f + 2.0)
    z = s * s
    p = 0.14797533461512805 * z + 0.15313900504895725
    p = p * z + 0.18183569853982418
    p = p * z + 0.22222198473655955
    p = p * z + 0.28571428743286315
    p = p * z + 0.3999999999941099
    p = p * z + 0.66666666666667351
    half = 0.5 * f * f
    return s * (half + z * p) - half


def high_f32(x):
    """The upper 12 significant bits of x."""
    return bitcast(bitcast(x, u32) & 0xFFFFF000, f32)


def high_f64(x):
    """The upper 26 significant bits of x."""
    return bitcast(bitcast(x, u64) & 0xFFFFFFFFF8000000, f64)


def log_f32(x):
    n, f = split_f32(x)
    y = n * 0.693359375 + (f + (tail_f32(f) - n * 2.12194440e-4))
    return where(x < 0.0, nan, where(x == 0.0, -inf, where(x < inf, y, x)))


def log_f64(x):
    n, f = split_f64(x)
    y = n * 0.69314718060195446014 + (f + (tail_f64(f) - n * 4.2009150726810847292e-11))
    return where(x < 0.0, nan, where(x == 0.0, -inf, where(x < inf, y, x)))


def log2_f32(x):
    n, f = split_f32(x)
    # log2(e) = 1 + 0.44...: f itself is exact, so only the small terms are rounded early
    y = n + (f + (f * 0.442695041 + tail_f32(f) * 1.44269504))
    return where(x < 0.0, nan, where(x == 0.0, -inf, where(x < inf, y, x)))


def log2_f64(x):
    n, f = split_f64(x)
    y = n + (f + (f * 0.44269504088896340736 + tail_f64(f) * 1.4426950408889634074))
    return where(x < 0.0, nan, where(x == 0.0, -inf, where(x < inf, y, x)))


def log10_f32(x):
    n, f = split_f32(x)
    # Products of the high parts are exact
    high = high_f32(f)
    rest = (f - high) * 0.434326171875 + (f * -3.16899717e-5 + tail_f32(f) * 0.434294482)
    y = n * 0.301025390625 + (high * 0.434326171875 + (rest + n * 4.60503898e-6))
    return where(x < 0.0, nan, where(x == 0.0, -inf, where(x < inf, y, x)))


def log10_f64(x):
    n, f = split_f64(x)
    high = high_f64(f)
    rest = (f - high) * 0.43429448455572128296 + (
        f * -2.6524694553078554561e-9 + tail_f64(f) * 0.43429448190325182765
    )
    y = n * 0.30102999566588550806 + (high * 0.43429448455572128296 + (rest - n * 1.9043128467164275411e-12))
    return where(x < 0.0, nan, where(x == 0.0, -inf, where(x < inf, y, x)))


def log1p_f32(x):
    u = x + 1.0
    n, f = split_f32(u)
    # What the sum lost, relative to u; near 0 nothing is, as x is used directly
    lost = where(x > 1.0, 1.0 - (u - x), x - (u - 1.0)) / u
    near = n == 0.0
    f = where(near, x, f)
    y = n * 0.693359375 + (f + (tail_f32(f) + (where(near, 0.0, lost) - n * 2.12194440e-4)))
    y = where(x == 0.0, x, where(x < inf, y, x))
    return where(x < -1.0, nan, where(x == -1.0, -inf, y))


def log1p_f64(x):
    u = x + 1.0
    n, f = split_f64(u)
    lost = where(x > 1.0, 1.0 - (u - x), x - (u - 1.0)) / u
    near = n == 0.0
    f = where(near, x, f)
    y = n * 0.69314718060195446014 + (
        f + (tail_f64(f) + (where(near, 0.0, lost) - n * 4.2009150726810847292e-11))
    )
    y = where(x == 0.0, x, where(x < inf, y, x))
    return where(x < -1.0, nan, where(x == -1.0, -inf, y))
