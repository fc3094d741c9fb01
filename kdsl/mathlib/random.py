"""random_bits, uniform: the counter-based generator Threefry-2x32 with 20 rounds.

The key is the seed, the counter is i, each as two 32-bit words (low word first); the first output word is
the result. Only 32-bit additions, rotations and exclusive ors.

Source: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False

from kdsl.dtypes import f32, u32


def _mix(x0, x1, amount):
    """One round: (x0 + x1, x1 rotated left by `amount`, exclusive or the sum)."""
    total = x0 + x1
    return total, ((x1 << amount) | (x1 >> (32 - amount))) ^ total


def _rounds_a(x0, x1):
    a0, a1 = _mix(x0, x1, 13)
    b0, b1 = _mix(a0, a1, 15)
    c0, c1 = _mix(b0, b1, 26)
    return _mix(c0, c1, 6)


def _rounds_b(x0, x1):
    a0, a1 = _mix(x0, x1, 17)
    b0, b1 = _mix(a0, a1, 29)
    c0, c1 = _mix(b0, b1, 16)
    return _mix(c0, c1, 24)


def threefry(k0, k1, c0, c1):
    """Both output words for the key (k0, k1) and the counter (c0, c1), all u32."""
    k2 = k0 ^ k1 ^ 0x1BD11BDA
    p0, p1 = _rounds_a(c0 + k0, c1 + k1)
    q0, q1 = _rounds_b(p0 + k1, p1 + k2 + 1)
    r0, r1 = _rounds_a(q0 + k2, q1 + k0 + 2)
    s0, s1 = _rounds_b(r0 + k0, r1 + k1 + 3)
    t0, t1 = _rounds_a(s0 + k1, s1 + k2 + 4)
    return t0 + k2, t1 + k0 + 5


def random_bits_u64(seed, i):
    word, _ = threefry(u32(seed), u32(seed >> 32), u32(i), u32(i >> 32))
    return word


def uniform_u64(seed, i):
    return f32(random_bits_u64(seed, i) >> 8) * 5.9604644775390625e-08
