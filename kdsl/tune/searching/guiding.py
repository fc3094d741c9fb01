"""The guide of a search: which candidates to build, and which of those to measure.

    many candidates --knobs--> some are built --features--> few are measured --times--> both models learn

A model of the knobs alone costs nothing, so it sees the most. What is built is ranked by the cost model, and
by what a learned model says of its errors so far: log(time / predicted) from the features of the loops.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import numpy as np

from kdsl.tune.measuring.building import Builder
from kdsl.tune.searching.model import Model
from kdsl.tune.spaces.space import Candidate, Sketch

ENOUGH = 8
"""Measured candidates from which the learned model has a say."""
NEW = 4
"""It learns again after so many more."""


class ModelGuide:
    """Scores of candidates of some sketches. `builder` knows what has been built."""

    def __init__(self, builder: Builder, sketches: Sequence[Sketch], seed: int) -> None:
        self.builder = builder
        self.times: dict[object, tuple[Candidate, float]] = {}
        self._seed = seed
        self._sketches = {s.name: n for n, s in enumerate(sketches)}
        names = dict.fromkeys([k.name for s in sketches for k in s.knobs])
        self._knobs = {name: n for n, name in enumerate(names)}
        self._scored: dict[object, Candidate] = {}
        self._errors: Model | None = None
        self._learned = 0

    def learn(self, measured: Sequence[tuple[Candidate, float]]) -> None:
        """Takes in candidates with their times in seconds."""
        for candidate, seconds in measured:
            self.times[candidate.key] = candidate, seconds

    def likely(self, candidates: Sequence[Candidate], count: int) -> list[Candidate]:
        """Those to build, by their knobs alone; what is not measured but built teaches by its score."""
        rows = dict(self.times)
        others = [c for key, c in self._scored.items() if key not in rows]
        rows |= {c.key: (c, exp(score)) for c, score in zip(others, self._scores(others))}
        if len(rows) < ENOUGH or len(candidates) <= count:
            return list(candidates)[:count]
        model = Model(seed=self._seed, trees=40).fit(
            np.array([self._vector(c) for c, _ in rows.values()]),
            np.array([log(seconds) for _, seconds in rows.values()]),
        )
        scores = model.predict(np.array([self._vector(c) for c in candidates]))
        # Some of them by chance: the model knows only what is near to what was measured.
        order = [int(n) for n in np.argsort(scores, kind="stable")]
        best = order[: max(1, 4 * count // 5)]
        rest = order[len(best) :: max(1, (len(order) - len(best)) // max(1, count - len(best)))]
        return [candidates[n] for n in [*best, *rest][:count]]

    def scores(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """log(seconds), about; None for a candidate that is refused."""
        built = self.builder.build(candidates)
        self._update()
        good = [c for c, b in zip(candidates, built) if not b.refusal]
        self._scored |= {c.key: c for c in good}
        found = iter(self._scores(good))
        return [None if b.refusal else next(found) for b in built]

    def loops(self, candidate: Candidate) -> str:
        """The text of the scheduled function."""
        return self.builder.known[candidate.key].ir

    def _scores(self, candidates: Sequence[Candidate]) -> list[float]:
        """log(seconds), about, of candidates that are built."""
        built = [self.builder.known[c.key] for c in candidates]
        errors = np.zeros(len(built))
        if self._errors is not None and built:
            errors = self._errors.predict(np.array([b.features for b in built]))
        return [log(max(b.predicted, 1e-9)) + float(e) for b, e in zip(built, errors)]

    def _update(self) -> None:
        """Learns the errors of the cost model anew when enough is new."""
        known = [(self.builder.known.get(key), seconds) for key, (_, seconds) in self.times.items()]
        rows = [(b, seconds) for b, seconds in known if b is not None and not b.refusal]
        if len(rows) < ENOUGH or len(rows) < self._learned + NEW:
            return
        self._learned = len(rows)
        errors = [log(seconds / max(b.predicted, 1e-9)) for b, seconds in rows]
        self._errors = Model(seed=self._seed).fit(np.array([b.features for b, _ in rows]), np.array(errors))

    def _vector(self, c: Candidate) -> list[float]:
        """Where a candidate stands: its sketch, and the place of each knob among its values."""
        out = [0.0] * (len(self._sketches) + len(self._knobs))
        out[self._sketches[c.sketch.name]] = 1.0
        for knob in c.sketch.knobs:
            at = knob.values.index(c.values[knob.name])
            out[len(self._sketches) + self._knobs[knob.name]] = (at + 1) / len(knob.values)
        return out
