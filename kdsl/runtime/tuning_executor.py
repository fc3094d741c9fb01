"""Measuring on the workers of a `concurrent.futures.Executor`, such as a cluster's.

    here                                        a worker of the executor
    task(session, request) ------------------>  the session is not known: "need"
    task(session, request, problem, arrays) ->  its own folder, worker processes and reference; the answer

Tasks are plain data and functions of this module. Each answer tells the fingerprint of the target that it was
measured on: results of different machines are kept apart. Workers on one machine time one after the other.
"""

from __future__ import annotations

import atexit
import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from kdsl.errors import KdslError
from kdsl.runtime.auto import fingerprint_of
from kdsl.runtime.targets import resolve
from kdsl.target import Target
from kdsl.tune.measuring.building import POLL_S, Built, Rebuilding
from kdsl.tune.measuring.inputs import Array
from kdsl.tune.measuring.measure import Job, Limits, Measurer, Outcome, silent
from kdsl.tune.measuring.problem import Problem
from kdsl.tune.measuring.workers import command

WORKER = "kdsl.runtime.tuning_worker"
KEPT = 3
"""Sessions that a worker of an executor remembers."""
CHUNK = 2
"""Candidates of one task."""
TRIES = 8
"""Tasks that are sent until one comes to a worker with the target that is asked for."""

Answer = tuple[str, str, Any]
"""What came of a task ("need", "other", "done", "failed"), the fingerprint there, the result."""


@dataclass
class _Session:
    """What a worker of an executor keeps of a session."""

    measurer: Measurer
    folder: tempfile.TemporaryDirectory[str]
    target: str

    def close(self) -> None:
        self.measurer.close()
        self.folder.cleanup()


_sessions: OrderedDict[str, _Session] = OrderedDict()
_lock, _building = threading.RLock(), threading.Lock()


def task(
    session: str,
    wanted: str,
    limits: Limits,
    request: tuple[str, Any],
    problem: str | None = None,
    arrays: Mapping[str, Array] | None = None,
) -> Answer:
    """Does a part of a session's work; runs where the executor likes. `wanted`: the target, if it matters."""
    with _lock:
        try:
            if session not in _sessions:
                if problem is None or arrays is None:
                    return "need", "", None
                _open(session, limits, Problem.from_json(problem), arrays)
            _sessions.move_to_end(session)
            here = _sessions[session]
            if wanted and here.target != wanted:
                return "other", here.target, None
            return "done", here.target, _do(here.measurer, *request)
        except KdslError as error:
            return "failed", "", (error.code, error.title, list(error.notes), error.help)


def build(problem: str, target: Target, request: Mapping[str, Any]) -> Built:
    """Builds a candidate (see `building.Remote`); runs where the executor likes, while nobody times there."""
    with _building, silent(_silence(), alone=False):
        return _rebuilding(problem, target).build(**request)


@lru_cache(maxsize=KEPT)
def _rebuilding(problem: str, target: Target) -> Rebuilding:
    return Rebuilding(Problem.from_json(problem), target)


def _silence() -> Path:
    """The file that the sessions of all workers on this machine lock while they time."""
    user = os.getuid() if hasattr(os, "getuid") else ""
    return Path(tempfile.gettempdir()) / f"kdsl-timing-{user}.lock"


def _open(session: str, limits: Limits, problem: Problem, arrays: Mapping[str, Array]) -> None:
    while len(_sessions) >= KEPT:
        _sessions.popitem(last=False)[1].close()
    folder = tempfile.TemporaryDirectory(prefix="kdsl-tune-", ignore_cleanup_errors=True)
    problem.save(Path(folder.name), arrays)
    target = fingerprint_of(resolve(problem.target), problem.threads)
    measurer = Measurer(problem, Path(folder.name), command(WORKER), 1, limits, target, _silence())
    measurer.begin()
    _sessions[session] = _Session(measurer, folder, target)


def _do(measurer: Measurer, what: str, given: Any) -> Any:
    if what == "baseline":
        return measurer.baseline(given)
    if what == "measure":
        return list(measurer.measure(given))
    if what == "ranking":
        return measurer.ranking(*given)
    assert what == "verify"
    job, against, seed = given
    for other in (job, against):
        if other is not None:
            measurer.there(other)
    return measurer.verify(job, against, seed)


def _close() -> None:
    for session in _sessions.values():
        session.close()


atexit.register(_close)


@dataclass
class ExecutorMeasuring:
    """Measures by tasks. `target`: this machine's fingerprint if a worker has it, else the first one's."""

    executor: Executor
    session: str
    problem: Problem
    arrays: Mapping[str, Array]
    limits: Limits
    target: str
    built_for: Target
    """Whose vectors and caches candidates are built for, wherever that is done."""
    replaced: int = 0
    """Tasks that were lost with their worker, and sent again."""
    _text: str = field(init=False)
    _sent: dict[Future[Answer], tuple[list[Job], bool]] = field(default_factory=dict)
    """Tasks for which `measure` will wait: their jobs, and whether they were sent before."""
    _builds: list[Future[Built]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._text = self.problem.to_json()

    def begin(self) -> None:
        """Nothing: each worker begins with its first task."""

    def baseline(self, seconds: float) -> tuple[float, bool]:
        """Seconds of a call in program order, and whether it was stopped then."""
        answer = self._ask(("baseline", seconds), self.target)
        if answer is None:
            # No worker is like this machine: the first one that answers counts.
            answer = self._ask(("baseline", seconds), "")
        assert answer is not None
        self.target = answer[1]
        time, bound = answer[2]
        return float(time), bool(bound)

    def build(self, request: Mapping[str, Any]) -> Future[Built | None]:
        """Has a worker build a candidate (see `building.Remote`)."""
        answer: Future[Built | None] = Future()

        def done(task: Future[Built]) -> None:
            try:
                answer.set_result(task.result())
            except _LOST:
                answer.set_result(None)
            except BaseException as error:
                answer.set_exception(error)

        self._builds = [task for task in self._builds if not task.done()]
        self._builds.append(self.executor.submit(build, self._text, self.built_for, request))
        self._builds[-1].add_done_callback(done)
        return answer

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Sends jobs; nobody waits for them."""
        for n in range(0, len(jobs), CHUNK):
            chunk = list(jobs[n : n + CHUNK])
            self._sent[self._submit(("measure", chunk), "")] = chunk, False

    def measure(
        self, jobs: Sequence[Job], meanwhile: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[Job, Outcome]]:
        """The outcome of each job, in the order in which workers are done; see `Measurer.measure`."""
        sent = {job.id for chunk, _ in self._sent.values() for job in chunk}
        self.prepare([job for job in jobs if job.id not in sent])
        wanted = {job.id for job in jobs}
        pending = {f: (chunk, again) for f, (chunk, again) in self._sent.items() if chunk[0].id in wanted}
        for future in pending:
            del self._sent[future]
        try:
            while pending:
                done = wait(pending, POLL_S, FIRST_COMPLETED).done
                if not done:
                    meanwhile()
                    continue
                future = done.pop()
                chunk, again = pending.pop(future)
                try:
                    kind, target, found = future.result()
                except _LOST as error:
                    if again:
                        for job in chunk:
                            yield job, Outcome("crashed", None, f"lost with its worker: {error}")
                        continue
                    self.replaced += 1
                    pending[self._submit(("measure", chunk), "", True)] = chunk, True
                    continue
                if kind == "need":
                    pending[self._submit(("measure", chunk), "", True)] = chunk, again
                elif kind == "failed":
                    raise _error(found)
                else:
                    for job, outcome in found:
                        yield (
                            job,
                            Outcome(outcome.status, outcome.time, outcome.message, outcome.spent, target),
                        )
        finally:
            for future in pending:
                future.cancel()

    def finish(self) -> None:
        """Takes back what nobody waits for any more."""
        for sent in self._sent:
            sent.cancel()
        for begun in self._builds:
            begun.cancel()
        self._sent.clear()

    def ranking(self, jobs: Sequence[Job], seconds: float) -> list[tuple[str, float]]:
        """Median times in turn, on one worker."""
        answer = self._ask(("ranking", (list(jobs), seconds)), self.target)
        return [] if answer is None else [(str(id), float(time)) for id, time in answer[2]]

    def verify(self, job: Job, against: Job | None, seed: int) -> Outcome:
        """The last check."""
        answer = self._ask(("verify", (job, against, seed)), self.target)
        if answer is None:
            return Outcome("crashed", None, "no worker could check it")
        found = answer[2]
        assert isinstance(found, Outcome)
        return found

    def _submit(self, request: tuple[str, Any], wanted: str, whole: bool = False) -> Future[Answer]:
        """Sends a task, with the problem if the worker may not have it."""
        more = (self._text, dict(self.arrays)) if whole else ()
        return self.executor.submit(task, self.session, wanted, self.limits, request, *more)

    def _ask(self, request: tuple[str, Any], wanted: str) -> Answer | None:
        """The answer to a task; None when no worker has the target that is wanted."""
        whole = False
        for _ in range(TRIES):
            try:
                answer = self._submit(request, wanted, whole).result()
            except _LOST:
                self.replaced += 1
                whole = True
                continue
            if answer[0] == "failed":
                raise _error(answer[2])
            if answer[0] == "done":
                return answer
            whole = answer[0] == "need"
        return None


_LOST = (BrokenProcessPool, CancelledError, OSError, EOFError)


def _error(found: tuple[str, str, list[Any], str]) -> KdslError:
    code, title, notes, help = found
    return KdslError(code, title, notes=notes, help=help)
