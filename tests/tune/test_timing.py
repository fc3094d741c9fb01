"""Ranking by times of calls: noise, a machine that gets slower, programs that stop running."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from kdsl.tune.measuring.timing import by_round, knockout, ranked, typical


def test_a_slower_machine_slows_whole_rounds() -> None:
    times = {"a": [1.0, 1.0, 5.0, 5.0, 5.0], "b": [1.1, 1.1, 5.5, 5.5, 5.5]}
    found = by_round(times)
    assert found["b"] / found["a"] == pytest.approx(1.1)
    assert dict(ranked(times)) == pytest.approx({"a": 1.0, "b": 1.1})


def test_typical() -> None:
    assert typical([3.0]) == 3.0
    assert typical([9.0, 1.0, 2.0, 8.0, 3.0]) == 2.0
    assert ranked({}) == []


class Machine:
    """Calls that take as long as they do, times noise; now and then all are slower for a while."""

    def __init__(self, times: dict[str, float], seed: int) -> None:
        self.times, self.rng, self.calls = times, np.random.default_rng(seed), dict.fromkeys(times, 0)

    def __call__(self, ids: Sequence[str], seconds: float) -> dict[str, list[float]]:
        rounds = max(5, int(seconds / sum([self.times[id] for id in ids])))
        slow = 1 + 1.5 * (np.sin(np.arange(rounds) / 40 + self.rng.random() * 6) > 0.6)
        found: dict[str, list[float]] = {}
        for id in ids:
            self.calls[id] += rounds
            found[id] = list(self.times[id] * slow * (1 + 0.3 * self.rng.random(rounds)))
        return found


@pytest.mark.parametrize("seed", range(8))
def test_the_fastest_of_many_wins(seed: int) -> None:
    times = {f"p{n}": 1e-3 * (1 + 0.02 * n) for n in range(20)}
    machine = Machine(times, seed)
    found = knockout(list(times), 6.0, machine)
    assert found[0][0] in ("p0", "p1")
    assert {id for id, _ in found} == set(times)
    assert machine.calls["p0"] > 3 * machine.calls["p19"]


@pytest.mark.parametrize("count", (0, 1, 2, 3, 4, 5))
def test_as_many_as_there_are(count: int) -> None:
    times = {f"p{n}": 1.0 + n for n in range(count)}
    assert [id for id, _ in knockout(list(times)[::-1], 60.0, Machine(times, 1))] == list(times)


def test_those_that_stop_running_are_left_out() -> None:
    machine = Machine({f"p{n}": 1.0 + n for n in range(8)}, 2)

    def timed(ids: Sequence[str], seconds: float) -> dict[str, list[float]]:
        return machine([id for id in ids if id not in ("p0", "p7")], seconds)

    assert [id for id, _ in knockout(list(machine.times), 100.0, timed)] == [f"p{n}" for n in range(1, 7)]
