"""Blocks of rows through several nests: attention, as three nests for a row and with blocks of keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from examples.attention.attention import naive, online, reference
from kdsl.runtime.targets import resolve
from kdsl.tune.spaces.sketches import sketches

SIZES = {"H": 2, "N": 512, "D": 64}


def arrays(heads: int, length: int, width: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((heads, length, width), dtype=np.float32) for _ in range(4)]


def trace_of(kernel: Any, **values: Any) -> Any:
    """The schedule of a candidate for a few rows of it all, and the kernel with it."""
    start = kernel.schedule(*arrays(2, 70, 20))
    sketch = next(s for s in sketches(start, resolve("cpu"), SIZES) if s.name == "blocks of i")
    return sketch.candidate(**values).schedule(start)


@pytest.mark.parametrize("kernel", [naive, online], ids=lambda k: k.name)
@pytest.mark.parametrize("strips", ["yes", "no"])
def test_attention(kernel: Any, strips: str) -> None:
    s = trace_of(kernel, block=24, strips=strips)
    steps = [str(step) for step in s.steps]
    # K is packed once for each head: blocks of keys are whole panels. Each lane has a maximum of its own.
    assert any(step.startswith('s.stage("K", "h"') for step in steps)
    assert any("rfactor" in step and "top" in step for step in steps)
    for length, width in ((70, 20), (193, 64), (1, 3)):
        Q, K, V, out = arrays(2, length, width)
        kernel.with_schedule(s)(Q, K, V, out)
        np.testing.assert_allclose(out, reference(Q, K, V, False), rtol=1e-4, atol=1e-5)


def test_strips_go_through_all_nests() -> None:
    """With strips there is a loop over tiles of rows around everything; without, one in each product."""
    in_strips, in_blocks = (trace_of(naive, block=24, strips=x).func for x in ("yes", "no"))

    def outer(func: Any) -> list[str]:
        heads = next(x for x in func.body if hasattr(x, "var"))
        rows = next(x for x in heads.body if getattr(x, "var", "") == "i_o")
        return [x.var for x in rows.body if hasattr(x, "var")]

    assert outer(in_strips) == ["i_i_o"]
    assert len(outer(in_blocks)) > 2
