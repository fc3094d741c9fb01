"""A kernel made by hand on a Vulkan device: transfers, strides, repeated and unwaited launches, faults."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from kdsl.backends import vulkan
from tests.backends.vulkan_kernels import MANIFEST, Hand, needs_vulkan

pytestmark = needs_vulkan


@pytest.fixture(scope="module")
def saxpy() -> Hand:
    return Hand()


@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 100_000])
def test_arrays_of_the_host(saxpy: Hand, n: int) -> None:
    x, y = np.arange(n, dtype=np.float32), np.ones(n, np.float32)
    for calls in (1, 2, 3):
        saxpy(n, 2, x, y)
        assert (y == 1 + 2 * calls * x).all()


def test_strided_arrays_are_written_where_they_lie(saxpy: Hand) -> None:
    x, y = np.arange(20, dtype=np.float32)[::-2], np.zeros((10, 3), np.float32)
    saxpy(10, 1, x, y[:, 1])
    assert (y[:, 1] == x).all()
    assert not y[:, 0].any() and not y[:, 2].any()


def test_device_memory_is_shared_by_launches(saxpy: Hand) -> None:
    device = vulkan.open_device(0)
    x, y = np.arange(50, dtype=np.float32), np.zeros(50, np.float32)
    memory = device.memory.take(200)
    saxpy(50, 1, x, memory)
    for _ in range(300):  # more than may be under way
        saxpy(50, 0, x, memory)
    saxpy(50, 1, memory, y)
    device.synchronize()


def test_a_fault_that_is_waited_for(saxpy: Hand) -> None:
    x = np.zeros(100, np.float32)
    x[42] = np.nan
    for _ in range(2):
        with pytest.raises(IndexError) as caught:
            saxpy(100, 1, x, x.copy())
        assert caught.value.args == (1, 42, 7)
    saxpy(100, 1, np.zeros(100, np.float32), x)


def test_a_fault_that_nobody_waited_for(saxpy: Hand) -> None:
    device = vulkan.open_device(0)
    x, memory = np.full(64, np.nan, np.float32), device.memory.take(256)
    other = device.memory.take(256)
    saxpy(64, 1, x, memory)  # `memory` is NaN then
    with pytest.raises(IndexError):
        device.synchronize()
    device.synchronize()
    saxpy(64, 1, memory, other)
    saxpy(64, 1, memory, other)
    with pytest.raises(IndexError):
        device.synchronize()
    device.synchronize()


def test_conditions_and_plans_are_found_by_value(saxpy: Hand) -> None:
    _, plan = saxpy.executable.plan((13,), (np.float32(0),))
    assert plan.failing == 1
    (a, _), (b, _) = (saxpy.executable.plan((5,), (np.float32(z),)) for z in (0.0, -0.0))
    assert a != b


def test_long_host_programs() -> None:
    long = {
        **MANIFEST,
        "program": [
            {
                "for": "t",
                "lo": "0",
                "hi": "N * 3",
                "step": "1",
                "do": [{"if": "t % 3 == 0", "then": [{"dispatch": 0}]}],
            }
        ],
    }
    hand = Hand(long)
    for n in (3, 2000, 5000):
        x, y = np.ones(n, np.float32), np.zeros(n, np.float32)
        hand(n, 1, x, y)
        assert (y == n).all()


def test_one_kernel_in_many_threads(saxpy: Hand) -> None:
    wrong = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for n in rng.integers(1, 3000, 40):
            x, y = rng.random(n, np.float32), np.zeros(n, np.float32)
            saxpy(int(n), 1, x, y)
            if not (x == y).all():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong
