"""The search: which candidates to measure next, from what has been measured.

    random      candidates as they come
    evolution   the best ones, changed and crossed
    guided      the same, many more of them, of which a model of their cost picks the few to measure

All are seeded; a search that hears the same times asks for the same candidates.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Literal, Protocol

from kdsl.tune.spaces.space import Candidate, Sketch, Value

StrategyName = Literal["guided", "evolution", "random"]
STRATEGIES: tuple[StrategyName, ...] = ("guided", "evolution", "random")

PARENTS = 12
"""Candidates that others are made of: the best ones."""
EXPLORED = 0.15
"""The share of candidates that are random."""
CROSSED = 0.3
"""The share of the others that have two parents."""
MADE, POOL = 32, 3
"""Candidates that are made, and of these are built, for each one that is measured: building has its price."""
DRAWN = 16
"""Random candidates that a model sees in the beginning, at least one of each sketch."""
ATTEMPTS = 40
"""Draws for a new candidate before all are counted."""
FEW = 4096
"""Spaces up to this size are listed when draws find nothing new."""


class Guide(Protocol):
    """A model of the cost of candidates."""

    def likely(self, candidates: Sequence[Candidate], count: int) -> list[Candidate]:
        """So many of them that are worth a closer look, which costs time."""

    def scores(self, candidates: Sequence[Candidate]) -> list[float | None]:
        """The lower, the better; None for one that is known to be refused."""

    def loops(self, candidate: Candidate) -> str:
        """What becomes of one that has a score: candidates that come to the same loops take the same time."""

    def learn(self, measured: Sequence[tuple[Candidate, float]]) -> None:
        """Takes in candidates with their times in seconds."""


class Space:
    """Candidates of several sketches, and how one is made of others."""

    def __init__(self, sketches: Sequence[Sketch], rng: random.Random) -> None:
        self.sketches = tuple(sketches)
        self.rng = rng

    @property
    def count(self) -> int:
        """The number of candidates."""
        return sum([s.count for s in self.sketches])

    def sketch(self, name: str) -> Sketch | None:
        """The one of that name."""
        return next((s for s in self.sketches if s.name == name), None)

    def known(self, name: str, values: Mapping[str, Value]) -> Candidate | None:
        """The candidate with these values; None when the space has it not (any more)."""
        sketch = self.sketch(name)
        if sketch is None or set(values) != {k.name for k in sketch.knobs}:
            return None
        if any(values[k.name] not in k.values for k in sketch.knobs):
            return None
        return Candidate(sketch, dict(values))

    def draw(self, sketch: Sketch | None = None) -> Candidate:
        """A random one. Sketches count alike, however many candidates they have."""
        chosen = sketch or self.rng.choice(self.sketches)
        return Candidate(chosen, {k.name: self.rng.choice(k.values) for k in chosen.knobs})

    def changed(self, parent: Candidate) -> Candidate:
        """One or two knobs set anew, mostly to a neighbouring value."""
        values = dict(parent.values)
        open_ = [k for k in parent.sketch.knobs if len(k.values) > 1]
        for knob in self.rng.sample(open_, min(len(open_), self.rng.choice((1, 1, 1, 2, 3)))):
            at = knob.values.index(values[knob.name])
            if self.rng.random() < 0.7:
                near = [n for n in (at - 1, at + 1) if 0 <= n < len(knob.values)]
                values[knob.name] = knob.values[self.rng.choice(near)]
            else:
                values[knob.name] = self.rng.choice(knob.values)
        return Candidate(parent.sketch, values)

    def crossed(self, a: Candidate, b: Candidate) -> Candidate:
        """Each knob from one of the two. The other sketch may lack the knob."""
        values = dict(a.values)
        for knob in a.sketch.knobs:
            other = b.values.get(knob.name)
            if other in knob.values and self.rng.random() < 0.5:
                values[knob.name] = other
        return Candidate(a.sketch, values)


class Search:
    """Asks for candidates and is told their times."""

    def __init__(
        self, sketches: Sequence[Sketch], seed: int, strategy: StrategyName, guide: Guide | None = None
    ) -> None:
        self.rng = random.Random(seed)
        self.space = Space(sketches, self.rng)
        self.strategy = strategy if guide is not None or strategy != "guided" else "evolution"
        self.guide = guide
        self.seen: set[object] = set()
        self.measured: list[tuple[Candidate, float]] = []
        self._rounds = 0
        self._loops: set[str] = set()

    def ask(self, count: int) -> list[Candidate]:
        """Up to `count` candidates that have not been asked for; fewer when no others are left."""
        return self.pick(self.pool(count), count)

    def pool(self, count: int) -> list[Candidate]:
        """Those of which `pick` takes `count`: it has them built."""
        assert count > 0
        if self.strategy == "random":
            return self._new(count, [])
        if self.strategy == "evolution":
            return self._offspring(count)
        assert self.guide is not None
        defaults = [s.candidate() for s in self.space.sketches]
        if self._rounds == 0:
            # No more: something good is soon measured, however long candidates take to be built.
            if new := self._distinct(defaults):
                return new
            self._rounds = 1  # an earlier tuning has tried them
        if self._rounds == 1:
            each = max(1, DRAWN // len(self.space.sketches))
            draws = [self.space.draw(s) for s in self.space.sketches for _ in range(each)]
            return self._distinct([*defaults, *draws])
        return self.guide.likely(self._offspring(MADE * count), POOL * count)

    def pick(self, pool: Sequence[Candidate], count: int) -> list[Candidate]:
        """Those of a pool to be measured."""
        if self.strategy == "guided":
            pool = self._picked(pool, count, each=self._rounds < 2)
            self._rounds += 1
        self.seen |= {c.key for c in pool}
        return list(pool)

    def tell(self, candidate: Candidate, seconds: float | None) -> None:
        """The time of a candidate, or a lower bound of it; None for one that did not work."""
        self.seen.add(candidate.key)
        if seconds is not None:
            self.measured.append((candidate, seconds))
            if self.guide is not None and self.strategy == "guided":
                self.guide.learn([(candidate, seconds)])

    def _distinct(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        return list({c.key: c for c in candidates if c.key not in self.seen}.values())

    def _offspring(self, count: int) -> list[Candidate]:
        """Children of the best ones, and some random candidates."""
        best = sorted(self.measured, key=lambda m: m[1])[:PARENTS]
        if self.strategy == "random" or not best:
            return self._new(count, [])
        out: list[Candidate] = []
        keys = set(self.seen)
        # A parent counts by its rank: twice as often as the one behind the middle.
        weights = [2.0 ** (-n / 3) for n in range(len(best))]
        for _ in range(count):
            for _ in range(ATTEMPTS):
                if self.rng.random() < EXPLORED:
                    child = self.space.draw()
                else:
                    (a, _), (b, _) = self.rng.choices(best, weights, k=2)
                    child = self.space.crossed(a, b) if self.rng.random() < CROSSED else a
                    child = self.space.changed(child)
                if child.key not in keys:
                    keys.add(child.key)
                    out.append(child)
                    break
        return out + self._new(count - len(out), out)

    def _new(self, count: int, beside: Sequence[Candidate]) -> list[Candidate]:
        """Random candidates that are neither known nor `beside`."""
        keys = self.seen | {c.key for c in beside}
        out: list[Candidate] = []
        for _ in range(count):
            for _ in range(ATTEMPTS):
                found = self.space.draw()
                if found.key not in keys:
                    keys.add(found.key)
                    out.append(found)
                    break
        if len(out) < count and self.space.count <= FEW:
            left = [c for s in self.space.sketches for c in s.candidates() if c.key not in keys]
            self.rng.shuffle(left)
            out += islice(left, count - len(out))
        return out

    def _picked(self, pool: Sequence[Candidate], count: int, each: bool = False) -> list[Candidate]:
        """Those that the model likes best, a few others among them; `each`: the best of each sketch first."""
        assert self.guide is not None
        scores = self.guide.scores(pool)
        ranked: list[Candidate] = []
        for _, _, c in sorted([(s, n, c) for n, (s, c) in enumerate(zip(scores, pool)) if s is not None]):
            loops = self.guide.loops(c)
            if loops in self._loops:
                self.seen.add(c.key)
            elif loops not in {self.guide.loops(other) for other in ranked}:
                ranked.append(c)
        self.seen |= {c.key for s, c in zip(scores, pool) if s is None}
        if each:
            first = list({c.sketch.name: c for c in reversed(ranked)}.values())
            first.sort(key=ranked.index)
            picked = [*first, *[c for c in ranked if c not in first]][:count]
        else:
            others = int(EXPLORED * count + self.rng.random())
            picked = ranked[: count - others]
            rest = ranked[count - others :]
            picked += self.rng.sample(rest, min(len(rest), count - len(picked)))
        self._loops |= {self.guide.loops(c) for c in picked}
        return picked
