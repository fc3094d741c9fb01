"""Angles of any size as a fraction of a turn, exactly, in integer arithmetic.

x = m * 2^e with an integer m, so x / (2 pi) modulo 1 needs only a window of the bits of 1 / (2 pi): those
before it give whole turns, those behind it are too small. The window is cut out by selects between constant
words, one bit of the word index a step, so no table is read.

Source: M. Payne, R. Hanek, "Radian reduction for trigonometric functions", SIGNUM Newsletter 18 (1983).
"""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from kdsl.dtypes import u32, u64
from kdsl.lang import bitcast, where


def turns_f32(x):
    """|x| / (2 pi) modulo 1, times 2^64, as (high, low) u32 words; |x| >= 1, error below 2^-7.

    inf and nan give any value.
    """
    bits = bitcast(x, u32)
    m = (bits & 0x7FFFFF) | 0x800000
    # The words are 1 / (2 pi) behind 23 zeros; the window starts at bit (exponent of m) + 23.
    start = ((bits >> 23) & 0xFF) - 127
    one = (start & 32) != 0
    two = (start & 64) != 0
    a0 = where(
        two,
        where(one, u32(0x13ABE8FA), u32(0x220A94FE)),
        where(one, u32(0x7CC1B727), u32(0x00000051)),
    )
    a1 = where(
        two,
        where(one, u32(0x9A6EE06D), u32(0x13ABE8FA)),
        where(one, u32(0x220A94FE), u32(0x7CC1B727)),
    )
    a2 = where(
        two,
        where(one, u32(0xB14ACC9E), u32(0x9A6EE06D)),
        where(one, u32(0x13ABE8FA), u32(0x220A94FE)),
    )
    a3 = where(
        two,
        where(one, u32(0x21C820FF), u32(0xB14ACC9E)),
        where(one, u32(0x9A6EE06D), u32(0x13ABE8FA)),
    )
    shift = start & 31
    back = 31 - shift
    w0 = (a0 << shift) | ((a1 >> 1) >> back)
    w1 = (a1 << shift) | ((a2 >> 1) >> back)
    w2 = (a2 << shift) | ((a3 >> 1) >> back)
    carried = u32((u64(m) * u64(w2)) >> 32)
    low = m * w1 + carried
    high = m * w0 + u32((u64(m) * u64(w1)) >> 32) + where(low < carried, u32(1), u32(0))
    return high, low


def _high_product(m, w):
    """The upper 64 bits of m * w for m < 2^53."""
    m_low = m & 0xFFFFFFFF
    m_high = m >> 32
    w_low = w & 0xFFFFFFFF
    w_high = w >> 32
    cross = m_low * w_high
    middle = ((m_low * w_low) >> 32) + (cross & 0xFFFFFFFF) + m_high * w_low
    return m_high * w_high + (cross >> 32) + (middle >> 32)


def turns_f64(x):
    """x / (2 pi) modulo 1, times 2^128, as (high, low) u64 words; |x| >= 4096, error below 2^-10.

    inf and nan give any value.
    """
    bits = bitcast(x, u64)
    m = (bits & 0xFFFFFFFFFFFFF) | 0x10000000000000
    # Word 0 stands before the point. The window starts at bit (exponent of m) + 64.
    start = ((bits >> 52) & 0x7FF) - 1011
    one = (start & 64) != 0
    two = (start & 128) != 0
    four = (start & 256) != 0
    eight = (start & 512) != 0
    sixteen = start >= 1024
    # 1 / (2 pi) = 0 . 28BE60DB9391054A 7F09D5F47D4D3770 36D8A5664F10E410 ...
    a0 = where(eight, u64(0xBA208D7D4BAED121), u64(0x0000000000000000))
    a1 = where(eight, u64(0x3A671C09AD17DF90), u64(0x28BE60DB9391054A))
    a2 = where(eight, u64(0x4E64758E60D4CE7D), u64(0x7F09D5F47D4D3770))
    a3 = where(eight, u64(0x272117E2EF7E4A0E), u64(0x36D8A5664F10E410))
    a4 = where(eight, u64(0xC7FE25FFF7816603), u64(0x7F9458EAF7AEF158))
    a5 = where(eight, u64(0xFBCBC462D6829B47), u64(0x6DC91B8E909374B8))
    a6 = where(eight, u64(0xDB4D9FB3C9F2C26D), u64(0x01924BBA82746487))
    a7 = where(eight, u64(0xD3D18FD9A797FA8B), u64(0x3F877AC72C4A69CF))
    a8 = where(eight, u64(0x5D49EEB1FAF97C5E), u64(0xBA208D7D4BAED121))
    a9 = where(eight, u64(0xCF41CE7DE294A4BA), u64(0x3A671C09AD17DF90))
    a10 = where(eight, u64(0x9AFED7EC47E35742), u64(0x4E64758E60D4CE7D))
    b0 = where(four, a4, a0)
    b1 = where(four, a5, a1)
    b2 = where(four, a6, a2)
    b3 = where(four, a7, a3)
    b4 = where(four, a8, a4)
    b5 = where(four, a9, a5)
    b6 = where(four, a10, a6)
    c0 = where(two, b2, b0)
    c1 = where(two, b3, b1)
    c2 = where(two, b4, b2)
    c3 = where(two, b5, b3)
    c4 = where(two, b6, b4)
    d0 = where(one, c1, c0)
    d1 = where(one, c2, c1)
    d2 = where(one, c3, c2)
    d3 = where(one, c4, c3)
    d0 = where(sixteen, u64(0x5D49EEB1FAF97C5E), d0)
    d1 = where(sixteen, u64(0xCF41CE7DE294A4BA), d1)
    d2 = where(sixteen, u64(0x9AFED7EC47E35742), d2)
    d3 = where(sixteen, u64(0x1580CC11BF1EDAEA), d3)
    shift = start & 63
    back = 63 - shift
    w0 = (d0 << shift) | ((d1 >> 1) >> back)
    w1 = (d1 << shift) | ((d2 >> 1) >> back)
    w2 = (d2 << shift) | ((d3 >> 1) >> back)
    carried = _high_product(m, w2)
    low = m * w1 + carried
    high = m * w0 + _high_product(m, w1) + where(low < carried, u64(1), u64(0))
    negative = x < 0.0
    borrow = where(low == 0, u64(0), u64(1))
    return where(negative, 0 - high - borrow, high), where(negative, 0 - low, low)
