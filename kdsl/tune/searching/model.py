"""A learned model of measured candidates: how their times differ from each other, from what they look like.

    model = Model(seed=0)
    model.fit(features, log_times, groups)      # groups: what was measured together, such as one kernel
    model.predict(features)                     # a score for each: the less the better

Boosted regression trees of small depth on the residuals of a ridge regression; both see features on a
logarithmic scale. Within a group times are taken relative to its mean, so that groups of different size teach
the same. Sources: Friedman, Greedy function approximation (2001); XGBoost in TVM (Chen et al., 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Tree:
    """A binary tree in arrays: node n asks `x[feature[n]] <= split[n]`; a leaf has feature -1.

    `left[n]` is the node for yes, the next one is for no.
    """

    feature: NDArray[np.int64]
    split: Array
    left: NDArray[np.int64]
    value: Array

    def predict(self, x: Array) -> Array:
        at = np.zeros(len(x), np.int64)
        while True:
            inner = self.feature[at] >= 0
            if not inner.any():
                return self.value[at]
            f = np.where(inner, self.feature[at], 0)
            goes_right = x[np.arange(len(x)), f] > self.split[at]
            at = np.where(inner, self.left[at] + goes_right, at)


@dataclass(slots=True)
class Model:
    """`trees` of `depth`, each learning `rate` of what is left, from a random part of the rows."""

    seed: int = 0
    trees: int = 60
    depth: int = 4
    rate: float = 0.15
    least: int = 3
    """Rows in a leaf, at least."""
    ridge: float = 1.0
    _forest: list[_Tree] = field(default_factory=list)
    _weights: Array | None = None
    _mean: Array | None = None
    _scale: Array | None = None

    @property
    def fitted(self) -> bool:
        return self._weights is not None

    def fit(self, features: ArrayLike, log_times: ArrayLike, groups: ArrayLike | None = None) -> Model:
        """Learns from rows of features (n, k) with the logarithms of their times (n).

        `groups`: n numbers; rows of one group were measured together. Infinite times (crashes) are left out.
        """
        x = np.asarray(features, np.float64)
        y = np.asarray(log_times, np.float64)
        g = (
            np.zeros(len(y), np.int64)
            if groups is None
            else np.unique(np.asarray(groups), return_inverse=True)[1]
        )
        keep = np.isfinite(y) & np.isfinite(x).all(axis=1)
        x, y, g = x[keep], y[keep], g[keep]
        if not len(y):
            return self
        x, y = x - _by_group(x, g), y - _by_group(y[:, None], g)[:, 0]
        self._mean, self._scale = x.mean(axis=0), x.std(axis=0) + 1e-9
        z = (x - self._mean) / self._scale
        self._weights = np.linalg.solve(z.T @ z + self.ridge * np.eye(z.shape[1]), z.T @ y)
        left = y - z @ self._weights
        rng = np.random.default_rng(self.seed)
        self._forest = []
        for _ in range(self.trees):
            rows = rng.random(len(y)) < 0.8
            if rows.sum() < 2 * self.least:
                break
            tree = _grown(z[rows], left[rows], self.depth, self.least, rng)
            tree = _Tree(tree.feature, tree.split, tree.left, tree.value * self.rate)
            left = left - tree.predict(z)
            self._forest.append(tree)
        return self

    def predict(self, features: ArrayLike, groups: ArrayLike | None = None) -> Array:
        """Scores (n): differences of the logarithms of times within a group. Zeros before `fit`."""
        x = np.asarray(features, np.float64)
        if self._weights is None or self._mean is None or self._scale is None or not len(x):
            return np.zeros(len(x))
        g = (
            np.zeros(len(x), np.int64)
            if groups is None
            else np.unique(np.asarray(groups), return_inverse=True)[1]
        )
        z = (x - _by_group(x, g) - self._mean) / self._scale
        out: Array = z @ self._weights
        for tree in self._forest:
            out = out + tree.predict(z)
        return out


def _by_group(x: Array, groups: NDArray[np.int64]) -> Array:
    """The mean of each row's group."""
    counts = np.bincount(groups)
    sums = np.zeros((len(counts), x.shape[1]))
    np.add.at(sums, groups, x)
    means: Array = (sums / np.maximum(counts, 1)[:, None])[groups]
    return means


def _grown(x: Array, y: Array, depth: int, least: int, rng: np.random.Generator) -> _Tree:
    """A tree that splits where the squared error falls most, on a random half of the features each time."""
    feature: list[int] = [-1]
    split: list[float] = [0.0]
    left: list[int] = [0]
    value: list[float] = [0.0]
    todo: list[tuple[int, NDArray[np.int64], int]] = [(0, np.arange(len(y)), depth)]
    while todo:
        node, rows, deeper = todo.pop()
        # A leaf of few rows is drawn to 0.
        value[node] = float(y[rows].sum() / (len(rows) + 1.0))
        found = _best(x[rows], y[rows], least, rng) if deeper and len(rows) >= 2 * least else None
        if found is None:
            continue
        f, at = found
        no = x[rows, f] > at
        feature[node], split[node], left[node] = f, at, len(feature)
        for part in (rows[~no], rows[no]):
            todo.append((len(feature), part, deeper - 1))
            feature.append(-1)
            split.append(0.0)
            left.append(0)
            value.append(0.0)
    return _Tree(np.array(feature), np.array(split), np.array(left), np.array(value))


def _best(x: Array, y: Array, least: int, rng: np.random.Generator) -> tuple[int, float] | None:
    """The feature and place of the best split, or None when there is none that helps."""
    count = len(y)
    best, chosen = 1e-12 + y.sum() ** 2 / count, None
    for f in rng.permutation(x.shape[1])[: max(1, (x.shape[1] + 1) // 2)]:
        order = np.argsort(x[:, f], kind="stable")
        values, sums = x[order, f], np.cumsum(y[order])
        n = np.arange(1, count)
        gains = sums[:-1] ** 2 / n + (sums[-1] - sums[:-1]) ** 2 / (count - n)
        allowed = (values[1:] > values[:-1]) & (n >= least) & (count - n >= least)
        gains = np.where(allowed, gains, -np.inf)
        k = int(np.argmax(gains))
        if gains[k] > best:
            best, chosen = float(gains[k]), (int(f), float((values[k] + values[k + 1]) / 2))
    return chosen
