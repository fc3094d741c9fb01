"""The guide of a search: candidates are built, and ranked by the cost model and by what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from kdsl.tune.building import Builder
from kdsl.tune.space import Candidate


class ModelGuide:
    """Scores by the analytical model."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder

    def scores(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """Predicted seconds; None for a candidate that is refused."""
        return [None if b.refusal else b.predicted for b in self.builder.build(candidates)]

    def learn(self, measured: Sequence[tuple[Candidate, float]]) -> None:
        """Takes in times."""
