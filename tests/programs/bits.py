"""Integers and bits: CRC, hashes, random numbers, packing, run lengths, number theory."""

import base64
import binascii
import itertools
import math

import numpy as np

import kdsl
from kdsl import bool_, i32, i64, u8, u16, u32, u64
from tests.check import Draw, Program

N, M = kdsl.sizes("N M")
MASK64 = (1 << 64) - 1


@kdsl.kernel
def crc32(data: u8[N]) -> u32:
    table = kdsl.empty((256,), u32)
    for n in range(256):
        c = u32(n)
        for k in range(8):
            if c & 1:
                c = 0xEDB88320 ^ (c >> 1)
            else:
                c = c >> 1
        table[n] = c
    crc = u32(0xFFFFFFFF)
    for i in range(N):
        crc = (crc >> 8) ^ table[(crc ^ data[i]) & 0xFF]
    return crc ^ 0xFFFFFFFF


def crc32_oracle(data):
    return np.uint32(binascii.crc32(data.tobytes()))


@kdsl.kernel
def crc16(data: u8[N]) -> u16:
    """CRC-16/XMODEM, bit by bit."""
    crc = u16(0)
    for i in range(N):
        crc ^= u16(data[i]) << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
    return crc


def crc16_oracle(data):
    return np.uint16(binascii.crc_hqx(data.tobytes(), 0))


@kdsl.kernel
def fnv1a(data: u8[N]) -> u64:
    h = u64(0xCBF29CE484222325)
    for i in range(N):
        h ^= data[i]
        h *= 0x100000001B3
    return h


def fnv1a_oracle(data):
    h = 0xCBF29CE484222325
    for byte in data.tolist():
        h = ((h ^ byte) * 0x100000001B3) & MASK64
    return np.uint64(h)


@kdsl.kernel
def xorshift(seed: u64, out: u64[N]):
    x = seed
    for i in range(N):
        x ^= x << 13
        x ^= x >> 7
        x ^= x << 17
        out[i] = x


def xorshift_oracle(seed, out):
    x = int(seed)
    for i in range(len(out)):
        x ^= (x << 13) & MASK64
        x ^= x >> 7
        x ^= (x << 17) & MASK64
        out[i] = x


@kdsl.kernel
def pcg32(seed: u64, stream: u64, out: u32[N]):
    inc = (stream << 1) | 1
    state = (seed + inc) * 6364136223846793005 + inc
    for i in range(N):
        old = state
        state = old * 6364136223846793005 + inc
        mixed = u32(((old >> 18) ^ old) >> 27)
        rot = u32(old >> 59)
        out[i] = (mixed >> rot) | (mixed << ((-rot) & 31))


def pcg32_oracle(seed, stream, out):
    multiplier = 6364136223846793005
    inc = (int(stream) << 1 | 1) & MASK64
    state = ((int(seed) + inc) * multiplier + inc) & MASK64
    for i in range(len(out)):
        old, state = state, (state * multiplier + inc) & MASK64
        mixed, rot = (((old >> 18) ^ old) >> 27) & 0xFFFFFFFF, old >> 59
        out[i] = (mixed >> rot | mixed << (-rot & 31)) & 0xFFFFFFFF


@kdsl.kernel
def base64_encode(data: u8[3 * N], alphabet: u8[64], out: u8[4 * N]):
    for i in range(N):
        word = u32(data[3 * i]) << 16 | u32(data[3 * i + 1]) << 8 | data[3 * i + 2]
        for k in range(4):
            out[4 * i + k] = alphabet[(word >> (18 - 6 * k)) & 63]


def base64_arguments(d: Draw, n: int):
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    data = d.ints(0, 256, 3 * n, dtype=np.uint8)
    return data, np.frombuffer(alphabet, np.uint8), np.zeros(4 * n, np.uint8)


def base64_oracle(data, alphabet, out):
    out[:] = np.frombuffer(base64.b64encode(data.tobytes()), np.uint8)


@kdsl.kernel
def pack_bits(flags: bool_[8 * N], out: u8[N]):
    for i in range(N):
        byte = u8(0)
        for k in range(8):
            byte |= u8(flags[8 * i + k]) << (7 - k)
        out[i] = byte


def pack_bits_oracle(flags, out):
    out[:] = np.packbits(flags)


@kdsl.kernel
def popcount(x: u32[N], out: i32[N]):
    for i in range(N):
        v = x[i]
        n = 0
        while v:
            v &= v - 1
            n += 1
        out[i] = n


def popcount_oracle(x, out):
    out[:] = np.bitwise_count(x)


@kdsl.kernel
def run_lengths(x: u8[N], values: u8[N], counts: i32[N]) -> i64:
    """Run-length encoding; returns the number of runs."""
    runs = 0
    i = 0
    while i < N:
        j = i + 1
        while j < N and x[j] == x[i]:
            j += 1
        values[runs] = x[i]
        counts[runs] = j - i
        runs += 1
        i = j
    return runs


def run_lengths_oracle(x, values, counts):
    groups = [(value, len(list(run))) for value, run in itertools.groupby(x.tolist())]
    for n, (value, count) in enumerate(groups):
        values[n], counts[n] = value, count
    return np.int64(len(groups))


@kdsl.kernel
def run_lengths_decode(values: u8[N], counts: i32[N], out: u8[M]) -> i64:
    at = 0
    for r in range(N):
        for _ in range(counts[r]):
            out[at] = values[r]
            at += 1
    return at


def decode_oracle(values, counts, out):
    text = np.repeat(values, counts)
    out[: len(text)] = text
    return np.int64(len(text))


@kdsl.kernel
def collatz(limit: i64) -> (i64, i64):
    """The start below `limit` with the longest chain, and its length."""
    best = 0
    longest = 0
    for start in range(1, limit):
        n = start
        steps = 0
        while n != 1:
            n = n // 2 if n % 2 == 0 else 3 * n + 1
            steps += 1
        if steps > longest:
            longest = steps
            best = start
    return best, longest


def collatz_oracle(limit):
    def chain(n: int) -> int:
        return 0 if n == 1 else 1 + chain(n // 2 if n % 2 == 0 else 3 * n + 1)

    lengths = [(chain(n), -n) for n in range(1, limit)]
    longest, start = max(lengths, default=(0, 0))
    return (np.int64(-start), np.int64(longest)) if longest else (np.int64(0), np.int64(0))


@kdsl.func
def gcd(a: i64, b: i64) -> i64:
    while b != 0:
        a, b = b, a % b
    return abs(a)


@kdsl.kernel
def gcd_table(a: i64[N], b: i64[N], out: i64[N]):
    for i in range(N):
        out[i] = gcd(a[i], b[i])


def gcd_oracle(a, b, out):
    out[:] = [math.gcd(int(x), int(y)) for x, y in zip(a, b)]


@kdsl.kernel
def sieve(prime: bool_[N]) -> i64:
    for i in range(N):
        prime[i] = i >= 2
    p = 2
    while p * p < N:
        if prime[p]:
            for q in range(p * p, N, p):
                prime[q] = False
        p += 1
    count = 0
    for i in range(N):
        count += prime[i]
    return count


def sieve_oracle(prime):
    prime[:] = [n > 1 and all(n % k for k in range(2, math.isqrt(n) + 1)) for n in range(len(prime))]
    return np.int64(prime.sum())


@kdsl.kernel
def modular_power(base: u64[N], exponent: u32[N], modulus: u64, out: u64[N]):
    for i in range(N):
        result = u64(1)
        square = base[i] % modulus
        e = exponent[i]
        while e > 0:
            if e & 1:
                result = result * square % modulus
            square = square * square % modulus
            e >>= 1
        out[i] = result % modulus


def modular_power_oracle(base, exponent, modulus, out):
    out[:] = [pow(int(b), int(e), int(modulus)) for b, e in zip(base, exponent)]


def octets(d: Draw, n: int) -> tuple[object, ...]:
    return (d.ints(0, 256, n, dtype=np.uint8),)


LINES = [(0,), (1,), (37,)]

PROGRAMS = [
    Program(crc32, crc32_oracle, octets, LINES),
    Program(crc16, crc16_oracle, octets, LINES),
    Program(fnv1a, fnv1a_oracle, octets, LINES),
    Program(xorshift, xorshift_oracle, lambda d, n: (0x9E3779B97F4A7C15, np.zeros(n, np.uint64)), LINES),
    Program(pcg32, pcg32_oracle, lambda d, n: (42, 54, np.zeros(n, np.uint32)), LINES),
    Program(base64_encode, base64_oracle, base64_arguments, [(0,), (1,), (13,)]),
    Program(
        pack_bits,
        pack_bits_oracle,
        lambda d, n: (d.f64(8 * n) > 0, np.zeros(n, np.uint8)),
        [(0,), (1,), (5,)],
    ),
    Program(
        popcount,
        popcount_oracle,
        lambda d, n: (d.ints(0, 2**32, n, dtype=np.uint32), np.zeros(n, np.int32)),
        LINES,
    ),
    Program(
        run_lengths,
        run_lengths_oracle,
        lambda d, n: (d.ints(0, 2, n, dtype=np.uint8), np.zeros(n, np.uint8), np.zeros(n, np.int32)),
        LINES,
    ),
    Program(
        run_lengths_decode,
        decode_oracle,
        lambda d, n: (octets(d, n)[0], d.ints(0, 5, n, dtype=np.int32), np.zeros(5 * n, np.uint8)),
        [(0,), (1,), (13,)],
    ),
    Program(collatz, collatz_oracle, lambda d, n: (n,), [(0,), (2,), (60,)]),
    Program(
        gcd_table,
        gcd_oracle,
        lambda d, n: (d.ints(-60, 60, n), d.ints(-60, 60, n), np.zeros(n, np.int64)),
        LINES,
    ),
    Program(sieve, sieve_oracle, lambda d, n: (np.zeros(n, bool),), [(0,), (1,), (2,), (3,), (101,)]),
    Program(
        modular_power,
        modular_power_oracle,
        lambda d, n: (
            d.ints(0, 2**63, n, dtype=np.uint64),
            d.ints(0, 2**20, n, dtype=np.uint32),
            1_000_003,
            np.zeros(n, np.uint64),
        ),
        [(0,), (1,), (11,)],
    ),
]
