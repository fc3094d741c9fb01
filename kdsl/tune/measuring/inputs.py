"""The arrays that candidates run on: the caller's as raw files, small and fresh ones made from a seed.

full      the caller's arrays, with their strides and place in a page, in `FOLDER/NAME.bin`
small     random ones at small ragged sizes, to compare with the kernel in program order
fresh     the caller's, their floats in another order: the winner is compared on these once more
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdsl.dtypes import DType, by_name
from kdsl.ir.params import ArrayParam, Param

Array = np.ndarray[Any, Any]

PAGE = 4096
"""Bytes."""


@dataclass(frozen=True, slots=True)
class Layout:
    """An array's place in a file: strides in bytes, `start` of its first element, `extent` of the file.

    `phase`: where in a page of memory the caller's begins. NumPy's large arrays begin 16 bytes after a page:
    vectors of a whole cache line cross into the next one there, and other schedules are the fastest.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int
    extent: int
    phase: int = 0

    @staticmethod
    def of(array: Array, dtype: DType) -> Layout:
        """The layout of `array` in a file of its own."""
        before = behind = 0
        for n, stride in zip(array.shape, array.strides):
            if array.size:
                before += max(0, -stride) * (n - 1)
                behind += max(0, stride) * (n - 1)
        extent = before + behind + array.itemsize
        phase = (array.__array_interface__["data"][0] - before) % PAGE
        return Layout(dtype.name, array.shape, array.strides, before, extent, phase)

    def memory(self) -> Array:
        """u8[extent] that begins at the same place of a page as the caller's."""
        room = np.zeros(self.extent + PAGE - 1, np.uint8)
        skip = (self.phase - room.__array_interface__["data"][0]) % PAGE
        return room[skip : skip + self.extent]

    def over(self, memory: Array) -> Array:
        """The array in `memory`, which is u8[extent]."""
        t = by_name(self.dtype).np
        return np.ndarray(self.shape, t, memory.data, self.start, self.strides)

    def to_json(self) -> list[Any]:
        """As plain data."""
        return [self.dtype, list(self.shape), list(self.strides), self.start, self.extent, self.phase]

    @staticmethod
    def from_json(row: Sequence[Any]) -> Layout:
        """What `to_json` gave."""
        dtype, shape, strides, start, extent, phase = row
        return Layout(dtype, tuple(shape), tuple(strides), start, extent, phase)


def save(path: Path, array: Array, layout: Layout) -> None:
    """Writes an array as raw bytes."""
    memory = np.zeros(layout.extent, np.uint8)
    layout.over(memory)[...] = array
    memory.tofile(path)


def load(path: Path, layout: Layout) -> Array:
    """What `save` wrote, in memory of its own."""
    memory = layout.memory()
    memory[...] = np.fromfile(path, np.uint8, layout.extent)
    return layout.over(memory)


def like(array: Array, dtype: DType) -> Array:
    """The same elements with the same strides in memory of their own."""
    layout = Layout.of(array, dtype)
    new = layout.over(layout.memory())
    new[...] = array
    return new


def random_array(rng: np.random.Generator, dtype: DType, shape: tuple[int, ...], limit: int) -> Array:
    """Floats in [0, 1), integers below `limit`: they do as indices."""
    if dtype.is_float:
        return rng.random(shape).astype(dtype.np)
    if dtype.kind == "bool":
        return rng.integers(0, 2, shape).astype(dtype.np)
    return rng.integers(0, min(limit, dtype.max + 1), shape).astype(dtype.np)


def random_arrays(params: Sequence[Param], sizes: Mapping[str, int], seed: int) -> dict[str, Array]:
    """An array for each array parameter that is no result, at these sizes.

    One that is not contiguous in the signature gets strides that are not either.
    """
    rng = np.random.default_rng(seed)
    limit = max(1, min(sizes.values(), default=1))
    out: dict[str, Array] = {}
    for p in params:
        if not isinstance(p, ArrayParam) or p.result:
            continue
        shape = tuple([max(0, extent.evaluate(sizes)) for extent in p.shape])
        values = random_array(rng, p.dtype, shape, limit)
        if not p.contiguous and shape:
            wide = np.zeros((*shape[:-1], 2 * shape[-1]), p.dtype.np)[..., ::2]
            wide[...] = values
            values = wide
        out[p.name] = values
    return out


def fresh(array: Array, dtype: DType, seed: int) -> Array:
    """The elements of `array` in another order; integers, which may be indices, as they are."""
    new = like(array, dtype)
    if dtype.is_float and array.size > 1:
        by = int(np.random.default_rng(seed).integers(1, array.size))
        new[...] = np.roll(array, by)
    return new


def small_sizes(names: Sequence[str], full: Mapping[str, int]) -> list[dict[str, int]]:
    """Sizes to check at, in order of preference: ragged ones, then multiples of 8 and 64, then few elements.

    None is larger than the full one, unless that is tiny.
    """
    if not names:
        return [{}]
    out: list[dict[str, int]] = []
    for row in (RAGGED, ROUND, ROUNDER, TINY):
        for turn in (0, 1) if row is RAGGED else (0,):
            found = {n: row[(k + turn) % len(row)] for k, n in enumerate(names)}
            found = {n: min(v, max(full[n], 4)) for n, v in found.items()}
            if found not in out:
                out.append(found)
    return out


RAGGED = (37, 29, 43, 19, 23)
ROUND = (24, 40, 16, 32, 8)
ROUNDER = (64, 128, 64, 128)
TINY = (1, 2, 3, 1, 2)
