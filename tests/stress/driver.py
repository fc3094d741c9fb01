"""What all stress scripts share: their command line, their figures, and what is a finding."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from kdsl.errors import KdslError

SLOW_S = 30.0
"""A single step that takes longer is a finding."""
KEPT = 20


class Slow(BaseException):
    """A step did not end in time. Not an `Exception`, so that nothing takes it for an error of its own."""


@dataclass
class Run:
    """One run of a script: its random numbers, its budget, what it counted and found."""

    seed: int
    seconds: float
    only: int | None = None
    random: random.Random = field(init=False)
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    start: float = field(default_factory=time.monotonic)
    round: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def rounds(self) -> Iterator[int]:
        """0, 1, 2, ... until the budget is spent, at least once; each number seeds `random` anew, so that a
        finding is repeated with `--only`."""
        self.round = first = self.only or 0
        warnings.simplefilter("ignore")  # of Python about odd source
        while self.round == first or (self.only is None and self._time_left() and len(self.findings) < KEPT):
            self.random.seed(f"{self.seed} {self.round}")
            yield self.round
            self.round += 1

    def _time_left(self) -> bool:
        return time.monotonic() - self.start < self.seconds

    def find(self, what: str, material: str = "") -> None:
        """Notes something that must not be; what ends in the same way is noted once."""
        key = "\n".join(what.splitlines()[-4:])
        self.counts["failures"] += 1
        if key in self.known:
            return
        self.known.add(key)
        what = f"round {self.round}: {what}"
        self.findings.append(f"{what}\n{material}" if material else what)

    @contextmanager
    def guarded(
        self, what: str, material: str = "", allowed: type[BaseException] = KdslError
    ) -> Iterator[None]:
        """Whatever is raised inside must be `allowed`; everything else, and what takes long, is a finding."""
        old = signal.signal(signal.SIGALRM, _slow)
        signal.setitimer(signal.ITIMER_REAL, SLOW_S)
        try:
            yield
        except Slow:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.find(f"{what}: not done in {SLOW_S:g} s\n{traceback.format_exc()[-3000:]}", material)
        except allowed as error:
            self.counts[f"{type(error).__name__}"] += 1
            try:
                str(error)
            except Exception:
                self.find(f"{what}: the error cannot be shown\n{traceback.format_exc()}", material)
        except (Exception, RecursionError):
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.find(f"{what}\n{traceback.format_exc()[-3000:]}", material)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)

    def report(self) -> str:
        """The figures as a line."""
        seconds = time.monotonic() - self.start
        return f"seed {self.seed}, {seconds:.1f} s: " + ", ".join(f"{n} {k}" for k, n in self.counts.items())


def _slow(number: int, frame: FrameType | None) -> None:
    raise Slow


def main(stress: Callable[[Run], None], seconds: float = 60.0) -> None:
    """The command line of a script that does `stress`."""
    parser = argparse.ArgumentParser(description=sys.modules[stress.__module__].__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=seconds, help="budget (default: %(default)s)")
    parser.add_argument("--only", type=int, metavar="ROUND", help="of a finding, to repeat it")
    given = parser.parse_args()
    run = Run(given.seed, given.seconds, given.only)
    stress(run)
    for finding in run.findings:
        print(f"FOUND {finding}\n", file=sys.stderr)
    print(f"{run.report()}; {len(run.findings)} findings")
    sys.exit(bool(run.findings))


def short(stress: Callable[[Run], None], seed: int = 0, seconds: float = 2.0) -> Run:
    """A run with a small budget, for tests: AssertionError with all findings."""
    run = Run(seed, seconds)
    stress(run)
    assert not run.findings, "\n\n".join(run.findings)
    return run
