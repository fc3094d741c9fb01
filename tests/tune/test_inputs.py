"""The arrays that candidates run on are laid out as the caller's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdsl import f32
from kdsl.tune.measuring import inputs
from kdsl.tune.measuring.inputs import PAGE, Layout


def place(array: inputs.Array) -> int:
    return int(array.__array_interface__["data"][0] % PAGE)


@pytest.mark.parametrize("skip", [0, 4, 7, 16])
@pytest.mark.parametrize("turn", [1, -1])
def test_arrays_keep_their_place_in_a_page(tmp_path: Path, skip: int, turn: int) -> None:
    """Vectors of whole lines cross into the next where an array begins between two: times depend on it."""
    array = np.arange(1000, dtype=np.float32)[skip:][::turn]
    layout = Layout.from_json(Layout.of(array, f32).to_json())
    inputs.save(tmp_path / "X.bin", array, layout)
    loaded = inputs.load(tmp_path / "X.bin", layout)
    for copy in (loaded, inputs.like(loaded, f32), inputs.fresh(loaded, f32, seed=1)):
        assert place(copy) == place(array) and copy.strides == array.strides
    np.testing.assert_array_equal(loaded, array)
