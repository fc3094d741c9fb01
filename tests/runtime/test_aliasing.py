"""Overlap of arguments: exact, against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

import kdsl
from kdsl import f32
from kdsl.runtime import aliasing
from kdsl.runtime.aliasing import overlap, self_overlap

BASE = np.zeros(4000, np.int32)

views = st.integers(0, 3).flatmap(
    lambda rank: st.tuples(
        st.integers(-20, 20),
        st.lists(st.integers(0, 4), min_size=rank, max_size=rank),
        st.lists(st.integers(-9, 9), min_size=rank, max_size=rank),
    )
)


def view(spec: tuple[int, list[int], list[int]]) -> np.ndarray:
    start, shape, strides = spec
    return as_strided(BASE[2000 + start :], shape, [4 * s for s in strides])


def cells(spec: tuple[int, list[int], list[int]]) -> list[int]:
    start, shape, strides = spec
    indices = itertools.product(*map(range, shape))
    return [start + sum(i * s for i, s in zip(index, strides)) for index in indices]


@settings(deadline=None, max_examples=300)
@given(views)
def test_self_overlap_is_exact(spec: tuple[int, list[int], list[int]]) -> None:
    reached = cells(spec)
    assert self_overlap(view(spec)) == ("some" if len(set(reached)) < len(reached) else "none")


@settings(deadline=None, max_examples=300)
@given(views, views)
def test_overlap_is_exact(a: tuple[int, list[int], list[int]], b: tuple[int, list[int], list[int]]) -> None:
    assert overlap(view(a), view(b)) == ("some" if set(cells(a)) & set(cells(b)) else "none")


M, N = kdsl.sizes("M N")


@kdsl.kernel
def copy(X: f32[N], Y: f32[N]):
    for i in range(N):
        Y[i] = X[i]


@kdsl.kernel
def add(X: f32[N], Y: f32[N], Z: f32[N]):
    for i in range(N):
        Z[i] = X[i] + Y[i]


@kdsl.kernel(may_alias=("X", "Y"))
def shift(X: f32[N], Y: f32[N], Z: f32[N]):
    for i in range(N):
        Y[i] = X[i] + 1
        Z[i] = X[i]


def test_interleaved_views_are_fine() -> None:
    a = np.arange(8, dtype=np.float32)
    copy(a[::2], a[1::2])
    assert a.tolist() == [0, 0, 2, 2, 4, 4, 6, 6]


def test_one_array_read_twice_is_fine() -> None:
    a, out = np.ones(3, np.float32), np.zeros(3, np.float32)
    add(a, a, out)
    assert out.tolist() == [2, 2, 2]


@pytest.mark.parametrize("step", [1, 2])
def test_overlap_with_an_output_is_refused_before_anything_is_written(step: int) -> None:
    a = np.arange(9, dtype=np.float32)
    before = a.copy()
    with pytest.raises(kdsl.ArgumentError, match="`X` and `Y` of copy share memory"):
        copy(a[:-1:step], a[1::step] if step == 1 else a[:-1:step])
    assert (a == before).all()


def test_declared_aliases_may_overlap_with_each_other_alone() -> None:
    a, z = np.arange(5, dtype=np.float32), np.zeros(4, np.float32)
    shift(a[:-1], a[1:], z)
    assert a.tolist() == [0, 1, 2, 3, 4] and z.tolist() == [0, 1, 2, 3]
    with pytest.raises(kdsl.ArgumentError, match="`X` and `Z` of shift share memory"):
        shift(a[:-1], np.zeros(4, np.float32), a[1:])


def test_empty_arrays_share_nothing() -> None:
    a = np.ones(4, np.float32)
    copy(a[:0], a[:0])


def test_an_output_that_overlaps_itself_is_refused() -> None:
    a = np.zeros(6, np.float32)
    with pytest.raises(kdsl.ArgumentError, match="`Y` of copy overlaps itself"):
        windows = as_strided(a, (4, 3), (4, 4))

        @kdsl.kernel(name="copy")
        def copy2(X: f32[M, N], Y: f32[M, N]):
            for i, j in kdsl.grid(M, N):
                Y[i, j] = X[i, j]

        copy2(np.ones((4, 3), np.float32), windows)
    assert (a == 0).all()


def test_a_question_too_hard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aliasing, "MAX_WORK", 1)
    base = np.zeros(400_000, np.float32)
    a = as_strided(base, (7, 11, 13), (4 * 4099, 4 * 2053, 4 * 1031))
    b = as_strided(base[1:], (7, 11, 13), (4 * 8191, 4 * 677, 4 * 51))  # regular in itself

    @kdsl.kernel
    def copy3(X: f32[M, N, 13], Y: f32[M, N, 13]):
        for i, j in kdsl.grid(M, N):
            for k in range(13):
                Y[i, j, k] = X[i, j, k]

    assert overlap(a, b) == "undecided"
    with pytest.raises(kdsl.ArgumentError, match="may share memory"):
        copy3(a, b)
    with pytest.raises(kdsl.ArgumentError, match="may overlap itself"):
        copy3(np.zeros((7, 11, 13), np.float32), a)
