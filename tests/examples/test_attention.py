"""Attention of `examples/attention` against its float64 reference, at sizes that no tile divides."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import kdsl
from examples.attention.attention import in_tiles, naive, online, reference

SHAPES = [(0, 5, 3), (1, 1, 1), (2, 5, 4), (1, 6, 64), (3, 97, 13), (1, 193, 70), (2, 211, 64)]
DTYPES = {"f32": np.dtype(np.float32), "f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
TOLERANCE = {"f32": 1e-5, "f16": 2e-3, "bf16": 2e-2}
KERNELS = {"naive": naive, "online": online, "in_tiles": online.with_schedule(in_tiles)}


def inputs(shape: tuple[int, int, int], dtype: str = "f32") -> list[np.ndarray]:
    """Q, K and V of a normal distribution."""
    rng = np.random.default_rng(sum(shape))
    return [rng.standard_normal(shape, dtype=np.float32).astype(DTYPES[dtype]) for _ in range(3)]


def largest_error(out: np.ndarray, Q: np.ndarray, K: np.ndarray, V: np.ndarray, causal: bool) -> float:
    """Of any element of `out`."""
    error = np.abs(out.astype(np.float64) - reference(Q, K, V, causal))
    return float(error.max(initial=0.0))


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("name", KERNELS)
def test_f32(name: str, causal: bool) -> None:
    for shape in SHAPES:
        Q, K, V = inputs(shape)
        out = np.full_like(Q, np.nan)
        KERNELS[name](Q, K, V, out, causal=causal)
        assert largest_error(out, Q, K, V, causal) < TOLERANCE["f32"], shape


@pytest.mark.parametrize(("dtype", "causal"), [("f16", True), ("bf16", False)])
@pytest.mark.parametrize("name", KERNELS)
def test_half_precision_is_summed_in_f32(name: str, dtype: str, causal: bool) -> None:
    Q, K, V = inputs((2, 101, 67), dtype)
    out = np.zeros_like(Q)
    KERNELS[name](Q, K, V, out, causal=causal)
    assert largest_error(out, Q, K, V, causal) < TOLERANCE[dtype]


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_scores_that_would_overflow(causal: bool) -> None:
    """Scores of some hundreds: only differences from the maximum reach the exponential."""
    Q, K, V = inputs((1, 203, 64))
    Q *= 40
    out = np.empty_like(Q)
    KERNELS["in_tiles"](Q, K, V, out, causal=causal)
    assert largest_error(out, Q, K, V, causal) < 1e-4


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_the_schedule_in_the_interpreter(causal: bool) -> None:
    """Which finds races and reads of what was never written."""
    Q, K, V = inputs((1, 7, 5))
    out = np.empty_like(Q)
    online.on("interpreter").with_schedule(in_tiles)(Q, K, V, out, causal=causal)
    assert largest_error(out, Q, K, V, causal) < 1e-5


def test_both_products_keep_their_sums_in_registers() -> None:
    """Inner loops over whole tiles: 24 multiply-adds of 16 lanes, and nothing stored."""
    Q, K, V = inputs((1, 8, 64))
    text = in_tiles(online.schedule(Q, K, V, Q.copy())).asm()
    if "zmm" not in text:
        pytest.skip("a CPU without AVX-512")
    assert kernels_of(text) >= 2


def kernels_of(text: str) -> int:
    """Loops without loops inside that have 24 multiply-adds of vectors and no store of one."""
    lines = text.splitlines()
    places = {line.split(":")[0]: n for n, line in enumerate(lines) if line.endswith(":") or ":\t" in line}
    found = 0
    for n, line in enumerate(lines):
        words = line.split()
        if len(words) == 2 and words[0].startswith("j") and places.get(words[1], n) < n:
            body = lines[places[words[1]] : n]
            if sum("vfmadd" in x and "zmm" in x for x in body) == 24 and len(body) < 60:
                found += not any("vmovups\t%zmm" in x and "(" in x.split(", ")[-1] for x in body)
    return found


def test_threads_give_the_same_bits() -> None:
    Q, K, V = inputs((3, 389, 64))
    results = []
    threads = kdsl.get_num_threads()
    try:
        for count in (1, 2):
            kdsl.set_num_threads(count)
            results.append(np.empty_like(Q))
            KERNELS["in_tiles"](Q, K, V, results[-1])
    finally:
        kdsl.set_num_threads(threads)
    np.testing.assert_array_equal(results[0], results[1])
