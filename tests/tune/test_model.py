"""The learned model on data made up: it ranks what it has not seen, per group, the same each time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kdsl.tune.searching.model import Model

Array = NDArray[np.float64]


def made(count: int, seed: int) -> tuple[Array, Array, NDArray[np.int64]]:
    """Times with a linear part, a step, and an interaction; three groups of different size in time."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 10, (count, 12))
    groups = rng.integers(0, 3, count)
    y = 0.3 * x[:, 0] - 0.2 * x[:, 1] + 1.5 * (x[:, 2] > 6) + (x[:, 3] > 5) * (x[:, 4] > 5) + 4.0 * groups
    return x, y + 0.05 * rng.standard_normal(count), groups


def spearman(a: Array, b: Array) -> float:
    ranks = [np.argsort(np.argsort(v)).astype(float) for v in (a, b)]
    return float(np.corrcoef(*ranks)[0, 1])


def test_it_ranks_what_it_has_not_seen() -> None:
    x, y, g = made(400, 0)
    model = Model(seed=1).fit(x, y, g)
    again, times, groups = made(300, 1)
    for group in range(3):
        rows = groups == group
        assert spearman(model.predict(again[rows]), times[rows]) > 0.9


def test_trees_learn_what_a_line_cannot() -> None:
    x, y, g = made(400, 2)
    again, times, groups = made(300, 3)
    rows = groups == 1
    line = Model(seed=0, trees=0).fit(x, y, g).predict(again[rows])
    trees = Model(seed=0).fit(x, y, g).predict(again[rows])
    assert spearman(trees, times[rows]) > spearman(line, times[rows])


def test_the_same_seed_gives_the_same_model() -> None:
    x, y, g = made(100, 4)
    one, two, other = (Model(seed=s).fit(x, y, g).predict(x) for s in (5, 5, 6))
    assert (one == two).all() and (one != other).any()


def test_few_rows_and_crashes() -> None:
    x, y, g = made(10, 5)
    assert (Model().predict(x) == 0).all()
    assert not Model().fit(x[:0], y[:0], g[:0]).fitted
    y[3] = np.inf
    assert np.isfinite(Model().fit(x, y, g).predict(x)).all()
    assert np.isfinite(Model().fit(x[:1], y[:1], g[:1]).predict(x)).all()
