"""One tuning from beginning to end: ask the search, build, measure, tell; then time the best few again.

    stored trials --> search --candidates--> build --jobs--> measure --outcomes--> search, database, progress
                                                                                        |
    result <-- fewest steps <-- verified on fresh inputs <-- timed again in turn <-- the best few

While one batch is compiled and timed the next one is asked for, built and compiled: it knows all but the
times of the batch before it, whatever comes first, so that a seed asks for the same. At any time there is a
result: Ctrl-C ends the search, not the tuning, and each trial is on disk when done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from kdsl.errors import KdslError, ScheduleError
from kdsl.ir.printer import print_func
from kdsl.sched import Schedule
from kdsl.tune.classes import sizes_class
from kdsl.tune.database import Best, Database, Key
from kdsl.tune.measuring.building import Builder, Built, Row, Rows, declared, rows_of
from kdsl.tune.measuring.measure import Job, Outcome
from kdsl.tune.measuring.problem import Problem
from kdsl.tune.result import Result, figure, tried
from kdsl.tune.searching.search import Search
from kdsl.tune.showing.progress import Progress
from kdsl.tune.spaces.space import Candidate
from kdsl.tune.trial import Trial

FINALISTS, LEAST = 24, 4
"""So many of the best are timed again, or fewer when the time is not for `ROUNDS` of all; at least four."""
ROUNDS = 40
FINALS = 0.12
"""The share of the time that is kept for timing the best few again; at most `FINALS_S`."""
FINALS_S = 6.0
SLOW_S = 2.0
"""Where program order takes longer, the best one is compared with the next best on fresh inputs."""
REFUSED_IN_A_ROW = 400
"""So many refused candidates one after the other end a search."""
log = logging.getLogger("kdsl")


class Measuring(Protocol):
    """Where candidates are measured: here, or by an executor."""

    @property
    def target(self) -> str:
        """The fingerprint of what it measures on."""

    @property
    def replaced(self) -> int:
        """Workers that died and were replaced."""

    def begin(self) -> None: ...
    def baseline(self, seconds: float) -> tuple[float, bool]: ...
    def prepare(self, jobs: Sequence[Job]) -> None: ...
    def measure(
        self, jobs: Sequence[Job], meanwhile: Callable[[], None] = ...
    ) -> Iterator[tuple[Job, Outcome]]: ...
    def finish(self) -> None: ...
    def ranking(self, jobs: Sequence[Job], seconds: float) -> list[tuple[str, float]]: ...
    def verify(self, job: Job, against: Job | None, seed: int) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop: after so many seconds, or so many candidates. None: no limit."""

    seconds: float | None
    trials: int | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A schedule to be measured: a candidate, or one from elsewhere (`what` says whence)."""

    candidate: Candidate | None
    what: str
    steps: str
    job: Job
    building: float = 0.0


@dataclass
class Batch:
    """Candidates that the search was asked for: first a pool, `entries` once they are picked."""

    pool: list[Candidate]
    count: int
    entries: list[Entry] | None = None


class TimeOver(Exception):
    """The time for the search is over, and there is a result."""


@dataclass
class Session:
    """What a tuning needs. `start` is the kernel in program order, `current` its schedule as it is."""

    problem: Problem
    start: Schedule
    current: Schedule
    search: Search
    builder: Builder
    measuring: Measuring
    database: Database
    budget: Budget
    progress: Progress
    seed: int = 0
    batch: int = 4
    resume: bool = True
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.key = Key(self.problem.key, sizes_class(self.problem.sizes), self.measuring.target)
        self.builder.refused = self._refused
        self.builder.waiting = self._waiting
        self._start = time.monotonic()
        self._good: dict[str, dict[str, tuple[Entry, float]]] = {}
        """Per target and job: what worked, and its time."""
        self._by_ir: dict[str, Outcome] = {}
        self._known_ir: set[str] = set()
        """Of what has been measured, or will be."""
        self._told_later: list[tuple[Candidate, float | None]] = []
        """What the search will hear when the next batch is picked."""
        self._number = 0
        self._best: dict[str, float] = {}
        self._in_a_row = 0
        self._searching = False
        self._each: float | None = None
        """Seconds that a candidate takes, lately."""
        self._program_order = self._baseline = (0.0, False)

    # -- time

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def _left(self) -> float:
        """Seconds for the search."""
        if self.budget.seconds is None:
            return float("inf")
        kept = min(FINALS * self.budget.seconds, FINALS_S)
        return self.budget.seconds - kept - self.elapsed

    def _waiting(self) -> None:
        """Ends the search when its time is over, whatever workers are at; not before there is a result."""
        if self._searching and self._left() <= 0 and self._good:
            raise TimeOver

    def _tries_left(self) -> int:
        """Candidates that may still be tried."""
        return 1 << 30 if self.budget.trials is None else self.budget.trials - len(self.trials)

    def _fitting(self, before: int) -> int:
        """Candidates of the next batch, behind so many: no more than the budget is for."""
        tries = min(self.batch, self._tries_left() - before)
        if self._each is None:
            return tries
        return min(tries, int(min(self._left() / self._each, before + tries)) - before)

    # -- the whole

    def run(self) -> Result:
        """Tunes."""
        interrupted = False
        self.progress.say("compiling, timing it as it is")
        try:
            self.measuring.begin()
            if self.resume:
                self._recall()
            first = self._asked(0)
            self._first()
            self._searching = True
            self._loop(first)
        except TimeOver:
            pass
        except KeyboardInterrupt:
            interrupted = True
        self.measuring.finish()
        if not self._baseline[0]:
            raise KeyboardInterrupt  # there is nothing to keep
        self.progress.say("timing the best ones again")
        return self._finish(interrupted)

    def _first(self) -> None:
        """The kernel as it is, and the best one of an earlier tuning."""
        limit = 10.0 if self.budget.seconds is None else max(0.5, 0.2 * self.budget.seconds)
        self._program_order = self._baseline = self.measuring.baseline(limit)
        if not self._baseline[1]:
            entry = self._entry(None, "program order", self.start.to_json(), print_func(self.problem.func))
            self._by_ir[entry.job.ir] = Outcome("ok", self._baseline[0])
            self._known_ir.add(entry.job.ir)
            self._works(entry, self._baseline[0], self.measuring.target)
        known: list[Entry] = []
        if self.current.steps:
            known.append(self._known("as it is", self.current))
        if self.resume:
            best = self.database.best(self.key)
            s = None if best is None else self._replayed(best.steps)
            if s is not None:
                known.append(self._known("the best so far", s))
        for entry in known:
            self._measure([entry])
        for trial in self.trials:
            if trial.sketch == "as it is" and trial.ok and trial.time is not None:
                self._baseline = trial.time, False
        self.progress.baseline = self._baseline

    def _replayed(self, steps: str) -> Schedule | None:
        """Stored steps; None where this version refuses them."""
        try:
            return self.start.replay(rows_of(steps))
        except (ScheduleError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.info("%s: its stored schedule is refused: %s", self.problem.func.name, error)
            return None

    def _recall(self) -> None:
        """Tells the search what an earlier tuning at these sizes has found."""
        for trial in self.database.trials(self.key, self.problem.sizes):
            candidate = self.search.space.known(trial.sketch, trial.values)
            if candidate is not None:
                self.search.tell(candidate, trial.time)
                self.trials.append(replace(trial, stored=True, at=0.0))

    def _loop(self, batch: Batch | None) -> None:
        while batch is not None and self._left() > 0 and self._in_a_row < REFUSED_IN_A_ROW:
            start = time.monotonic()
            entries = self._picked(batch)
            if not batch.pool:
                return
            following = self._asked(len(entries))
            self._measure(entries, following)
            if following is not None:
                self._picked(following)
            for candidate, seconds in self._told_later:
                self.search.tell(candidate, seconds)
            self._told_later.clear()
            if entries:
                each = (time.monotonic() - start) / len(entries)
                self._each = each if self._each is None else (self._each + each) / 2
            batch = following if following is not None else self._asked(0)

    def _asked(self, before: int) -> Batch | None:
        """The next batch, which workers begin to build; None when the budget is not for more."""
        count = self._fitting(before)
        if count < 1 and not (before == 0 and self._left() > 0 and self._tries_left() > 0):
            return None
        batch = Batch(self.search.pool(max(1, count)), max(1, count))
        self.builder.begin(batch.pool)
        return batch

    def _picked(self, batch: Batch) -> list[Entry]:
        """The entries of a batch, which workers begin to compile."""
        if batch.entries is not None:
            return batch.entries
        batch.entries = []
        picked = self.search.pick(batch.pool, batch.count)
        for candidate, found in zip(picked, self.builder.build(picked)):
            if not found.refusal:
                entry = self._entry(candidate, "", found.steps, found.ir, found.instructions)
                batch.entries.append(replace(entry, building=found.spent))
        self._send(batch.entries)
        return batch.entries

    def _send(self, entries: Sequence[Entry]) -> None:
        """Has those compiled whose loops are new."""
        new = {e.job.ir: e.job for e in reversed(entries) if e.job.ir not in self._known_ir}
        self._known_ir |= set(new)
        self.measuring.prepare(list(new.values())[::-1])

    def _refused(self, candidate: Candidate, found: Built) -> None:
        self._in_a_row += 1
        outcome = Outcome("refused", None, found.refusal, found.spent)
        self._told(Entry(candidate, "", "", Job("", "")), outcome)

    def _entry(
        self, candidate: Candidate | None, what: str, steps: str, ir: str, instructions: Rows = ()
    ) -> Entry:
        self._number += 1
        return Entry(candidate, what, steps, Job(str(self._number), ir, instructions))

    def _known(self, what: str, s: Schedule) -> Entry:
        return self._entry(None, what, s.to_json(), s.ir(), declared(s))

    def _measure(self, entries: Sequence[Entry], following: Batch | None = None) -> None:
        """Measures entries; those whose loops have been measured before only once. The `following` ones are
        sent when they are built."""

        def meanwhile() -> None:
            self._waiting()
            if following is not None and self.builder.ready(following.pool):
                self._picked(following)

        jobs: dict[str, Entry] = {}
        again: list[Entry] = []
        for entry in entries:
            if entry.job.ir in self._by_ir or any(entry.job.ir == e.job.ir for e in jobs.values()):
                again.append(entry)
            else:
                jobs[entry.job.id] = entry
        for job, outcome in self.measuring.measure([e.job for e in jobs.values()], meanwhile):
            self._by_ir[job.ir] = outcome
            self._known_ir.add(job.ir)
            if outcome.status == "ok" and outcome.time is not None:
                target = outcome.target or self.measuring.target
                self._works(jobs[job.id], outcome.time, target)
                if outcome.time < self._best.get(target, float("inf")):
                    self._best[target] = outcome.time
                    self._keep(jobs[job.id].steps, outcome.time, self._baseline[0], target)
            self._told(jobs[job.id], outcome)
            meanwhile()
        for entry in again:
            known = self._by_ir.get(entry.job.ir)
            if known is not None:
                message = known.message or "the same loops as another one"
                self._told(entry, Outcome(known.status, known.time, message))

    def _works(self, entry: Entry, time_a_call: float, target: str) -> None:
        self._good.setdefault(target, {})[entry.job.id] = entry, time_a_call

    def _told(self, entry: Entry, outcome: Outcome) -> None:
        """A trial is done: everybody hears of it."""
        candidate = entry.candidate
        trial = Trial(
            entry.what if candidate is None else candidate.sketch.name,
            {} if candidate is None else dict(candidate.values),
            outcome.status,
            outcome.time,
            outcome.spent,
            self.elapsed,
            outcome.message,
            entry.steps,
            outcome.target or self.measuring.target,
            building=entry.building,
        )
        self.trials.append(trial)
        if outcome.status != "refused":
            self._in_a_row = 0
        if candidate is not None:
            self._told_later.append((candidate, trial.time))
            key = replace(self.key, target=trial.target)
            self.database.store(key, self.problem.func.name, self.problem.sizes, trial)
        self.progress.told(trial, self._best.get(self.measuring.target))

    def _keep(self, steps: str, seconds: float, baseline: float, target: str) -> None:
        """Stores the best so far."""
        best = Best(self.problem.func.name, self.problem.sizes, seconds, baseline / seconds, steps)
        self.database.set_best(replace(self.key, target=target), best)

    # -- the end

    def _finish(self, interrupted: bool) -> Result:
        """Times the best few once more, in turn, and takes the fastest one that passes the last check."""
        target = self.measuring.target
        good = self._good.get(target, {})
        ranked = sorted(good.values(), key=lambda row: row[1])
        current_ir = self.current.ir()
        current = next((e for e, _ in ranked if e.job.ir == current_ir), None)
        seconds = 0.5 if interrupted else FINALS_S
        if self.budget.seconds is not None:
            seconds = min(seconds, max(0.2, 0.6 * (self.budget.seconds - self.elapsed)))
        finalists = _finalists(ranked, seconds)
        times = {id: time for id, (_, time) in good.items()}
        if len(finalists) > 1:
            again = self.measuring.ranking([e.job for e in finalists], seconds)
            times.update(again)
            finalists = [good[id][0] for id, _ in again]
        best, verified = self._winner(finalists, current)
        baseline = self._baseline
        if current is not None and best is not None and best is not current:
            baseline = self._before(current, best, times[best.job.id], 0.2 * seconds), False
        schedule, time_a_call = self.current, baseline[0]
        if best is not None and best is not current:
            schedule, time_a_call = self._shortest(best.steps), times[best.job.id]
        if schedule.steps:
            self._keep(schedule.to_json(), time_a_call, baseline[0], target)
        result = Result(
            kernel=self.problem.func.name,
            schedule=schedule,
            time=time_a_call,
            baseline=baseline[0],
            at_least=baseline[1],
            trials=self.trials,
            seconds=self.elapsed,
            sizes=self.problem.sizes,
            target=self.problem.target,
            threads=self.problem.threads,
            strategy=self.search.strategy,
            verified=verified,
            interrupted=interrupted,
            replaced=self.measuring.replaced,
            elsewhere=self._elsewhere(target),
        )
        self.progress.done(f"{result.kernel}: {tried(result.counts)}, {figure(result.speedup)} times as fast")
        return result

    def _before(self, current: Entry, best: Entry, best_time: float, seconds: float) -> float:
        """Seconds of a call of the kernel as it was, timed beside the best one unless that takes too long."""
        before = self._good[self.measuring.target][current.job.id][1]
        if before > 0.5 * seconds:
            return before
        found = dict(self.measuring.ranking([best.job, current.job], seconds))
        if len(found) < 2:
            return before
        return best_time * found[current.job.id] / found[best.job.id]

    def _elsewhere(self, here: str) -> dict[str, tuple[float, str]]:
        """The best time and steps of each other target."""
        best = {
            t: min(found.values(), key=lambda row: row[1]) for t, found in self._good.items() if t != here
        }
        return {target: (time, entry.steps) for target, (entry, time) in best.items()}

    def _winner(self, finalists: Sequence[Entry], current: Entry | None) -> tuple[Entry | None, bool]:
        """The first of the finalists that passes the last check, and whether it was made."""
        for entry in finalists:
            if entry is current or entry.what == "program order":
                return entry, False
            others = [e.job for e in finalists if e is not entry and e.what != "program order"]
            against = next(iter(others), None) if self._program_order[0] > SLOW_S else None
            found = self.measuring.verify(entry.job, against, self.seed + 1)
            if found.status == "ok":
                return entry, True
            name = self.problem.func.name
            log.warning("%s: the fastest candidate failed the last check: %s", name, found.message)
        return None, False

    def _shortest(self, steps: str) -> Schedule:
        """The schedule without the steps that make no difference to its loops."""
        return fewest_steps(self.start.replay(rows_of(steps)), self.start.replay)


def _finalists(ranked: Sequence[tuple[Entry, float]], seconds: float) -> list[Entry]:
    """Those that may be the fastest: a short timing says no more."""
    if not ranked:
        return []
    best = ranked[0][1]
    count = max(LEAST, min(FINALISTS, int(seconds / (ROUNDS * best))))
    return [entry for entry, time in ranked if time <= 1.25 * best][:count]


def fewest_steps(schedule: Schedule, replayed: Callable[[Sequence[Row]], Schedule]) -> Schedule:
    """The schedule without the steps that make no difference to its loops."""
    rows: list[Row] = [(s.name, dict(s.args)) for s in schedule.steps]
    found = schedule
    for n in reversed(range(len(rows))):
        fewer = rows[:n] + rows[n + 1 :]
        try:
            without = replayed(fewer)
        except KdslError:
            continue
        if without.func == schedule.func:
            rows, found = fewer, without
    return found
