"""What a user sees while it tunes: one line that is written anew on a terminal, else lines of the log."""

from __future__ import annotations

import logging
import shutil
import sys
import time
from collections import Counter
from typing import TextIO

from kdsl.tune.result import duration, tried
from kdsl.tune.trial import Trial

LOG_EVERY_S = 5.0
log = logging.getLogger("kdsl")


class Progress:
    """Told of each trial; shows the best so far, what was tried, the time left."""

    def __init__(self, kernel: str, seconds: float | None, trials: int | None, shown: bool | None) -> None:
        """`shown`: on standard error; None: where that is a terminal."""
        self.kernel, self.seconds, self.trials = kernel, seconds, trials
        self.stream: TextIO = sys.stderr
        self.live = self.stream.isatty() if shown is None else shown
        self.counts: Counter[str] = Counter()
        self.best: float | None = None
        self.baseline: tuple[float, bool] | None = None
        self._start = time.monotonic()
        self._logged = self._start
        self._width = 0

    def say(self, what: str) -> None:
        """What goes on besides trials."""
        self._show(f"{self.kernel}: {what}")

    def told(self, trial: Trial, best: float | None) -> None:
        """A trial is done; `best` is the best time so far."""
        self.counts[trial.status] += 1
        self.best = best
        self._show(self.line())

    def line(self) -> str:
        """The line as it stands."""
        parts = [f"{self.kernel}: {time.monotonic() - self._start:.0f} s"]
        if self.best is not None:
            gain = ""
            if self.baseline is not None:
                sign = ">" if self.baseline[1] else ""
                gain = f" ({sign}{self.baseline[0] / self.best:.3g} x)"
            parts.append(f"best {duration(self.best)}{gain}")
        parts.append(tried(self.counts))
        if self.trials is not None:
            parts.append(f"{max(0, self.trials - sum(self.counts.values()))} to go")
        if self.seconds is not None:
            left = max(0.0, self.seconds - (time.monotonic() - self._start))
            parts.append(f"{left:.0f} s left")
        return ", ".join(parts)

    def done(self, text: str) -> None:
        """The end: the line goes, or a last one is logged."""
        if self.live:
            self.stream.write("\r" + " " * self._width + "\r")
            self.stream.flush()
        log.info("%s", text)

    def _show(self, text: str) -> None:
        if self.live:
            columns = shutil.get_terminal_size().columns - 1
            shown = text[:columns]
            self.stream.write("\r" + shown.ljust(min(self._width, columns)))
            self.stream.flush()
            self._width = len(shown)
        elif time.monotonic() - self._logged >= LOG_EVERY_S:
            self._logged = time.monotonic()
            log.info("%s", text)
