"""The generator is Threefry-2x32-20, and all ways to run it agree."""

from __future__ import annotations

import numpy as np
import pytest

import kdsl
from kdsl import f32, u32, u64
from kdsl.mathlib.random import random_bits_u64, threefry, uniform_u64

N = kdsl.sizes("N")


@kdsl.kernel
def draw(seed: u64, start: u64, bits: u32[N], numbers: f32[N]):
    for i in range(N):
        bits[i] = kdsl.random_bits(seed, start + u64(i))
        numbers[i] = kdsl.uniform(seed, start + u64(i))


@pytest.mark.parametrize(
    ("key", "counter", "want"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_known_answers(key: tuple[int, int], counter: tuple[int, int], want: tuple[int, int]) -> None:
    """From `kat_vectors` of the authors' Random123 library, rows `threefry2x32 20`."""
    words = [np.uint32(w) for w in (*key, *counter)]
    with np.errstate(over="ignore"):
        assert tuple(int(w) for w in threefry(*words)) == want
    seed, i = key[0] | key[1] << 32, counter[0] | counter[1] << 32
    for target in ("cpu", "interpreter"):
        bits, numbers = np.empty(1, np.uint32), np.empty(1, np.float32)
        draw.on(target)(seed, i, bits, numbers)
        assert int(bits[0]) == want[0]
        assert numbers[0] == np.float32((want[0] >> 8) * 2.0**-24)


def test_compiled_draws_equal_the_definition() -> None:
    seed, start = 2**63 + 12345, 2**32 - 500
    bits, numbers = np.empty(1000, np.uint32), np.empty(1000, np.float32)
    draw(seed, start, bits, numbers)
    i = np.arange(start, start + 1000, dtype=np.uint64)
    np.testing.assert_array_equal(bits, random_bits_u64(np.uint64(seed), i))
    np.testing.assert_array_equal(numbers, uniform_u64(np.uint64(seed), i))
    assert [int(kdsl.random_bits(seed, int(n))) for n in i[:5]] == bits[:5].tolist()
    assert float(kdsl.uniform(seed, int(i[0]))) == numbers[0]


def test_uniform_fills_the_unit_interval() -> None:
    x = uniform_u64(np.uint64(1), np.arange(200_000, dtype=np.uint64)).astype(np.float64)
    assert 0 <= x.min() < 1e-4 and 1 - 1e-4 < x.max() < 1
    counts, _ = np.histogram(x, bins=100, range=(0, 1))
    # chi-squared with 99 degrees of freedom: 1 in 10^6 above 174
    assert ((counts - 2000) ** 2 / 2000).sum() < 174
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 0.01
