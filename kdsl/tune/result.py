"""The result of a tuning: the schedule, what it gains, and every candidate that was tried."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kdsl.tune.trial import Trial

if TYPE_CHECKING:
    from kdsl.sched import Schedule


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """What `kdsl.autotune` gives.

    `schedule` is the best one, `time` the seconds of a call with it and `baseline` those of a call of the
    kernel as it was (`at_least`: it was stopped then, and takes longer). `trials` are all candidates in the
    order in which they were done, `seconds` what it all took. `verified`: the best one was compared once
    more, on inputs that no candidate had seen. `interrupted`: Ctrl-C ended it.
    `elsewhere`: the best (time, steps as JSON) of other targets that an executor had.
    """

    kernel: str
    schedule: Schedule
    time: float
    baseline: float
    at_least: bool
    trials: list[Trial]
    seconds: float
    sizes: Mapping[str, int]
    target: str
    threads: int
    strategy: str
    verified: bool
    interrupted: bool = False
    replaced: int = 0
    """Workers that died and were replaced."""
    elsewhere: Mapping[str, tuple[float, str]] = field(default_factory=dict)

    @property
    def speedup(self) -> float:
        """How many times as fast as the kernel was; where that was stopped, at least so much."""
        return self.baseline / self.time

    @property
    def counts(self) -> Counter[str]:
        """How many candidates came to what: ok, slow, refused, crashed, hung, wrong."""
        return Counter([t.status for t in self.trials])

    def curve(self) -> list[tuple[float, float]]:
        """(seconds since the start, best time so far in seconds), where that changed."""
        return best_so_far(self.trials)

    def plot(self, path: str | Path) -> Path:
        """Draws the curve into a PNG, SVG or PDF file. Needs matplotlib (`pip install kdsl[plot]`)."""
        from kdsl.tune.showing.plotting import draw_curves

        title = f"{self.kernel} on {self.target}"
        return draw_curves(Path(path), {self.strategy: [self.curve()]}, title, self.baseline, self.seconds)

    def report(self, path: str | Path) -> Path:
        """Writes an HTML page of its own: the curve, the schedule, the roofline, the candidates."""
        from kdsl.tune.showing.report import page

        into = Path(path)
        into.write_text(page(self))
        return into

    def __str__(self) -> str:
        sizes = "".join([f", {name}={value}" for name, value in self.sizes.items()])
        where = self.target
        if self.target == "cpu":
            where += f" with {self.threads} thread{'s' * (self.threads != 1)}"
        least = "at least " if self.at_least else ""
        gained = f"{least}{figure(self.speedup)} times as fast as before ({least}{duration(self.baseline)})"
        return "\n".join(
            [
                f"{self.kernel} on {where}{sizes}",
                f"best     {duration(self.time)} a call, {gained}",
                f"tried    {tried(self.counts)} in {figure(self.seconds)} s"
                + (", interrupted" if self.interrupted else ""),
                f"checked  {self._checked()}",
                "",
                self.schedule.trace().rstrip(),
            ]
        )

    def _checked(self) -> str:
        if not self.schedule.steps:
            return "nothing was faster: the kernel stays as it is"
        if self.verified:
            return "against program order at small ragged sizes, and once more on fresh inputs"
        return "against program order at small ragged sizes"

    def __repr__(self) -> str:
        return f"<kdsl result for {self.kernel}: {figure(self.speedup)} x after {len(self.trials)} trials>"

    def _repr_html_(self) -> str:
        from kdsl.tune.showing.report import body

        return body(self)


def best_so_far(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """(when, best time) at each trial that was faster than those before it."""
    out: list[tuple[float, float]] = []
    for trial in trials:
        if trial.ok and trial.time is not None and (not out or trial.time < out[-1][1]):
            out.append((trial.at, trial.time))
    return out


def tried(counts: Mapping[str, int]) -> str:
    """`84 candidates (60 ok, 20 refused, 4 crashed)`."""
    total = sum(counts.values())
    order = ("ok", "slow", "refused", "wrong", "crashed", "hung")
    parts = [f"{counts[s]} {s}" for s in order if counts.get(s)]
    return f"{total} candidate{'s' * (total != 1)}" + (f" ({', '.join(parts)})" if parts else "")


def duration(seconds: float) -> str:
    """`seconds` with a unit that leaves one to three digits before the point."""
    for scale, unit in ((1e-9, "ns"), (1e-6, "us"), (1e-3, "ms")):
        if seconds < 1000 * scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{figure(seconds)} s"


def figure(x: float) -> str:
    """Three digits of `x`, or all before the point: 0.0312, 4.7, 1153, and never 1.15e+03."""
    return f"{x:.0f}" if abs(x) >= 1000 else f"{x:.3g}"
