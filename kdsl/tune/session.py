"""One tuning from beginning to end: ask the search, build, measure, tell; then time the best few again.

    stored trials --> search --candidates--> build --jobs--> measure --outcomes--> search, database, progress
                                                                                        |
    result <-- fewest steps <-- verified on fresh inputs <-- timed again in turn <-- the best few

At any time there is a result: Ctrl-C ends the search, not the tuning, and each trial is on disk when done.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from kdsl.errors import KdslError, ScheduleError
from kdsl.sched import Schedule
from kdsl.sched.step import from_json
from kdsl.tune.database import Best, Database, Key
from kdsl.tune.measure import Job, Outcome
from kdsl.tune.problem import Problem, sizes_class
from kdsl.tune.progress import Progress
from kdsl.tune.result import Result, tried
from kdsl.tune.search import Search
from kdsl.tune.space import Candidate
from kdsl.tune.trial import Trial

Row = tuple[str, Mapping[str, Any]]
"""A step: a primitive's name and its arguments."""

FINALISTS = 4
FINALS = 0.1
"""The share of the time that is kept for timing the best few again; at most `FINALS_S`."""
FINALS_S = 4.0
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
    def measure(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Outcome]]: ...
    def ranking(self, jobs: Sequence[Job], seconds: float) -> list[tuple[str, float]]: ...
    def verify(self, job: Job, against: Job | None, seed: int) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop: after so many seconds, or so many candidates. None: no limit."""

    seconds: float | None
    trials: int | None


@dataclass
class Session:
    """What a tuning needs. Candidates are built on `start`; `current` is the kernel's schedule as it is."""

    problem: Problem
    start: Schedule
    current: Schedule
    search: Search
    measuring: Measuring
    database: Database
    budget: Budget
    progress: Progress
    seed: int = 0
    batch: int = 8
    resume: bool = True
    trials: list[Trial] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.key = Key(self.problem.key, sizes_class(self.problem.sizes), self.measuring.target)
        self._start = time.monotonic()
        self._jobs: dict[str, tuple[Job, Schedule]] = {}
        self._by_ir: dict[str, Outcome] = {}
        self._number = 0
        self._best: tuple[float, str] | None = None
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

    # -- the whole

    def run(self) -> Result:
        """Tunes."""
        interrupted = False
        self.progress.say("compiling, timing it as it is")
        self.measuring.begin()
        try:
            self._first()
            self._loop()
        except KeyboardInterrupt:
            interrupted = True
        if not self._jobs:
            raise KeyboardInterrupt  # there is nothing to keep
        self.progress.say("timing the best ones again")
        return self._finish(interrupted)

    def _first(self) -> None:
        """The kernel as it is, and the best one of an earlier tuning."""
        limit = 10.0 if self.budget.seconds is None else max(0.5, 0.2 * self.budget.seconds)
        self._program_order = self._baseline = self.measuring.baseline(limit)
        base = self._job(Schedule(self.problem.func))
        self._jobs[base.id] = base, self._replayed(())
        if not self._baseline[1]:
            self._by_ir[base.ir] = Outcome("ok", self._baseline[0])
        known: list[tuple[str, Schedule]] = []
        if self.current.steps:
            known.append(("as it is", self.current))
        if self.resume:
            best = self.database.best(self.key)
            if best is not None:
                try:
                    known.append(("the best so far", self._replayed(from_json(best.steps))))
                except ScheduleError as error:
                    log.info(
                        "%s: the stored schedule is refused now: %s", self.problem.func.name, error.title
                    )
            self._recall()
        for what, schedule in known:
            self._measure([(None, what, schedule)])
        for trial in self.trials:
            if trial.sketch == "as it is" and trial.ok and trial.time is not None:
                self._baseline = trial.time, False
        self.progress.baseline = self._baseline

    def _replayed(self, rows: Sequence[Row]) -> Schedule:
        """Steps on the kernel in program order."""
        return Schedule(self.problem.func, self.start._launcher).replay(rows)

    def _recall(self) -> None:
        """Tells the search what an earlier tuning at these sizes has found."""
        for trial in self.database.trials(self.key, self.problem.sizes):
            candidate = self.search.space.known(trial.sketch, trial.values)
            if candidate is not None:
                self.search.tell(candidate, trial.time if trial.ok else None)
                self.trials.append(replace(trial, stored=True, at=0.0))

    def _loop(self) -> None:
        refused = 0
        while self._left() > 0 and self._tries_left() > 0 and refused < REFUSED_IN_A_ROW:
            asked = self.search.ask(min(self._fitting(), self._tries_left()))
            if not asked:
                return
            batch: list[tuple[Candidate | None, str, Schedule]] = []
            for candidate in asked:
                start = time.monotonic()
                try:
                    schedule = candidate.schedule(self.start)
                except ScheduleError as error:
                    refused += 1
                    self._told(
                        self._trial(
                            candidate, "", Outcome("refused", None, error.title, time.monotonic() - start)
                        ),
                        candidate,
                    )
                    continue
                refused = 0
                batch.append((candidate, "", schedule))
                if self._left() <= 0:
                    break
            self._measure(batch)

    def _fitting(self) -> int:
        """Candidates of the next batch: few to begin with, and no more than the time that is left is for."""
        done = [t.seconds for t in self.trials if not t.stored and t.status != "refused"][-4 * self.batch :]
        if len(done) < self.batch:
            return max(1, self.batch // 2)
        each = sum(done) / len(done)
        return max(1, min(self.batch, int(self._left() / max(each, 1e-3))))

    def _tries_left(self) -> int:
        """Candidates that may still be tried."""
        return 1 << 30 if self.budget.trials is None else self.budget.trials - len(self.trials)

    def _measure(self, batch: Sequence[tuple[Candidate | None, str, Schedule]]) -> None:
        """Measures schedules that are built; those whose loops have been measured before only once."""
        jobs: list[Job] = []
        asked: dict[str, tuple[Candidate | None, str, Schedule]] = {}
        again: list[tuple[str, Candidate | None, str, Schedule]] = []
        for candidate, what, schedule in batch:
            job = self._job(schedule)
            if job.ir in self._by_ir or any(job.ir == other.ir for other in jobs):
                again.append((job.ir, candidate, what, schedule))
                continue
            jobs.append(job)
            asked[job.id] = candidate, what, schedule
        for job, outcome in self.measuring.measure(jobs):
            candidate, what, schedule = asked[job.id]
            self._by_ir[job.ir] = outcome
            if outcome.status == "ok" and outcome.time is not None:
                self._jobs[job.id] = job, schedule
                if self._best is None or outcome.time < self._best[0]:
                    self._best = outcome.time, job.id
                    self._keep(schedule, outcome.time)
            self._told(self._trial(candidate, what, outcome, schedule), candidate)
            if self._left() <= 0:
                return
        for ir, candidate, what, schedule in again:
            known = self._by_ir.get(ir)
            if known is not None:
                same = Outcome(known.status, known.time, known.message or "the same loops as another one")
                self._told(self._trial(candidate, what, same, schedule), candidate)

    def _job(self, schedule: Schedule) -> Job:
        self._number += 1
        return Job.of(str(self._number), schedule.func)

    def _trial(
        self, candidate: Candidate | None, what: str, outcome: Outcome, schedule: Schedule | None = None
    ) -> Trial:
        return Trial(
            what if candidate is None else candidate.sketch.name,
            {} if candidate is None else dict(candidate.values),
            outcome.status,
            outcome.time,
            outcome.spent,
            self.elapsed,
            outcome.message,
            "" if schedule is None else schedule.to_json(),
            self.measuring.target,
        )

    def _told(self, trial: Trial, candidate: Candidate | None) -> None:
        """A trial is done: everybody hears of it."""
        self.trials.append(trial)
        if candidate is not None:
            self.search.tell(candidate, trial.time if trial.ok else None)
            self.database.store(self.key, self.problem.func.name, self.problem.sizes, trial)
        self.progress.told(trial, None if self._best is None else self._best[0])

    def _keep(self, schedule: Schedule, seconds: float, baseline: float | None = None) -> None:
        """Stores the best so far."""
        gain = (self._baseline[0] if baseline is None else baseline) / seconds
        name, sizes = self.problem.func.name, self.problem.sizes
        self.database.set_best(self.key, Best(name, sizes, seconds, gain, schedule.to_json()))

    # -- the end

    def _finish(self, interrupted: bool) -> Result:
        """Times the best few once more, in turn, and takes the fastest one that passes the last check."""
        times = {
            id: self._by_ir[job.ir].time or 0.0
            for id, (job, _) in self._jobs.items()
            if job.ir in self._by_ir
        }
        ranked = sorted(times, key=lambda id: times[id])
        finalists = [id for id in ranked if times[id] <= 1.25 * times[ranked[0]]][:FINALISTS]
        current = next((id for id, (_, s) in self._jobs.items() if s.func == self.current.func), None)
        seconds = 0.5 if interrupted else FINALS_S
        if self.budget.seconds is not None:
            seconds = min(seconds, max(0.2, 0.6 * FINALS * self.budget.seconds))
        timed = set(finalists)
        if current is not None and times.get(current, 1.0) < 0.1 * seconds:
            timed.add(current)
        jobs = [self._jobs[id][0] for id in ranked if id in timed]
        order = dict(self.measuring.ranking(jobs, seconds)) if len(jobs) > 1 else {}
        times = {**times, **order}
        baseline = self._baseline
        if current in order:
            baseline = order[current], False
        best, verified = current, False
        for id in sorted(finalists, key=lambda id: times[id]):
            if not self._jobs[id][1].steps or id == current:
                best = id
                break
            job = self._jobs[id][0]
            others = [self._jobs[o][0] for o in finalists if o != id and self._jobs[o][1].steps]
            slow = self._program_order[0] > SLOW_S
            found = self.measuring.verify(job, next(iter(others), None) if slow else None, self.seed + 1)
            if found.status == "ok":
                best, verified = id, True
                break
            log.warning(
                "%s: the fastest candidate failed the last check: %s", self.problem.func.name, found.message
            )
        assert best is not None
        schedule, seconds_a_call = self._jobs[best][1], times.get(best, baseline[0])
        if schedule.steps:
            schedule = fewest_steps(schedule, self._replayed)
            self._keep(schedule, seconds_a_call, baseline[0])
        schedule = self._replayed([(s.name, dict(s.args)) for s in schedule.steps])
        result = Result(
            kernel=self.problem.func.name,
            schedule=schedule,
            time=seconds_a_call,
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
        )
        self.progress.done(f"{result.kernel}: {tried(result.counts)}, {result.speedup:.3g} times as fast")
        return result


def fewest_steps(schedule: Schedule, replayed: Callable[[Sequence[Row]], Schedule]) -> Schedule:
    """The schedule without the steps that make no difference to its loops."""
    rows = [(s.name, dict(s.args)) for s in schedule.steps]
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
