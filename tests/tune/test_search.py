"""The search alone, on spaces whose times are a formula."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

import pytest

from kdsl.tune.searching.search import STRATEGIES, Search, Space
from kdsl.tune.spaces.space import Candidate, Knob, Sketch

POWERS = tuple(1 << n for n in range(10))
SKETCHES = (
    Sketch("good", tuple(Knob(name, POWERS, 1) for name in "abc"), lambda s, _: s),
    Sketch("poor", (Knob("a", POWERS, 1), Knob("d", ("x", "y"), "x")), lambda s, _: s),
    Sketch("none", (), lambda s, _: s),
)


def seconds(c: Candidate) -> float:
    """The best is good(a=64, b=8, c=256)."""
    if c.sketch.name != "good":
        return 100.0
    best = {"a": 6, "b": 3, "c": 8}
    return 1.0 + sum([abs(math.log2(float(c.values[k])) - at) for k, at in best.items()])


class Noisy:
    """A model that knows the times roughly."""

    def __init__(self) -> None:
        self.rng = random.Random(0)

    def likely(self, candidates: Any, count: int) -> list[Candidate]:
        return list(candidates)[:count]

    def scores(self, candidates: Any) -> list[float | None]:
        return [seconds(c) * self.rng.uniform(0.6, 1.6) for c in candidates]

    def loops(self, candidate: Candidate) -> str:
        return repr(candidate.key)

    def learn(self, measured: Any) -> None: ...


def run(strategy: Any, trials: int, seed: int = 0) -> tuple[float, list[object]]:
    search = Search(SKETCHES, seed, strategy, Noisy())
    asked: list[object] = []
    best = math.inf
    while len(asked) < trials:
        batch = search.ask(8)
        if not batch:
            break
        for c in batch:
            asked.append(c.key)
            search.tell(c, seconds(c))
            best = min(best, seconds(c))
    return best, asked


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_same_seed_asks_for_the_same(strategy: str) -> None:
    assert run(strategy, 64, 3)[1] == run(strategy, 64, 3)[1]
    assert run(strategy, 64, 3)[1] != run(strategy, 64, 4)[1]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_is_asked_for_twice(strategy: str) -> None:
    _, asked = run(strategy, 300)
    assert len(set(asked)) == len(asked)


def test_what_is_known_helps() -> None:
    found = {s: sorted(run(s, 96, seed)[0] for seed in range(9))[4] for s in STRATEGIES}
    assert found["guided"] <= found["evolution"] < found["random"]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_ends_when_all_has_been_tried(strategy: str) -> None:
    few = (Sketch("s", (Knob("a", (1, 2, 3), 1), Knob("b", ("x", "y"), "x")), lambda s, _: s),)
    search = Search(few, 0, strategy, Noisy())  # type: ignore[arg-type]
    seen = []
    for _ in range(20):
        for c in search.ask(4):
            seen.append(c.key)
            search.tell(c, None if c.values["a"] == 2 else 1.0)
    assert len(seen) == len(set(seen)) == 6
    assert search.ask(4) == []


def test_the_defaults_come_first() -> None:
    search = Search(SKETCHES, 0, "guided", Noisy())  # type: ignore[arg-type]
    first = search.pool(2)
    assert {c.key for c in first} == {s.candidate().key for s in SKETCHES}
    asked = search.pick(first, 1)
    # Those that were not taken are looked at again, among random ones.
    left = {c.key for c in first} - {c.key for c in asked}
    second = search.pool(2)
    assert left < {c.key for c in second} and asked[0].key not in {c.key for c in second}
    again = Search(SKETCHES, 0, "guided", Noisy())  # type: ignore[arg-type]
    for s in SKETCHES:
        again.tell(s.candidate(), 1.0)
    assert again.pool(2)


def test_refused_candidates_are_never_asked_for() -> None:
    class Refusing(Noisy):
        def scores(self, candidates: Any) -> list[float | None]:
            return [None if c.sketch.name == "good" else 1.0 for c in candidates]

    search = Search(SKETCHES, 0, "guided", Refusing())
    assert all(c.sketch.name != "good" for _ in range(4) for c in search.ask(4))


def test_stored_values_are_recognised() -> None:
    space = Space(SKETCHES, random.Random(0))
    values: Mapping[str, Any] = {"a": 4, "b": 2, "c": 1}
    found = space.known("good", values)
    assert found is not None and found.values == values
    assert space.known("good", {"a": 4}) is None
    assert space.known("good", {**values, "a": 5}) is None
    assert space.known("gone", values) is None
