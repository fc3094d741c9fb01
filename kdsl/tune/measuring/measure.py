"""Measuring candidates: compiled and checked by some workers at once, timed one by one by another in silence.

    compile ---> small ragged sizes ---> once on the caller's arrays ---> in turn with the best one so far
    refused      wrong, crashed, hung    wrong, crashed, hung, slow       ok: the time of a call

The workers that build and compile never wait for the one that times; while it does, they are stopped.
Whatever happens to a worker is the outcome of the candidate that it had; the next one gets a new worker.
"""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from kdsl.errors import KdslError
from kdsl.ir.printer import print_func
from kdsl.tune.measuring.building import POLL_S, Built, Rows
from kdsl.tune.measuring.problem import Problem
from kdsl.tune.measuring.timing import knockout, typical
from kdsl.tune.measuring.worker import BASE, DRIVER_S
from kdsl.tune.measuring.workers import Failed, Workers
from kdsl.tune.trial import Status

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")
CASES, ALL_CASES = 3, 5
"""Small sizes at which a candidate is checked, and the winner."""
BUILD_S = 60.0
"""Building a candidate takes no longer: else it is refused."""
GRACE_S = 3.0
"""A worker that was to stop a kernel by itself is killed so much later."""
HOPELESS = 4.0
"""A candidate whose first run takes so many times the best one's time is not timed again."""
NEARLY = 0.93
"""Beside which one the others are timed changes only when one takes less than this share of its time: were it
always the one that was lucky last, later candidates would seem too fast beside earlier ones."""
LONG_S = 0.2
"""A kernel that takes so long as it is, is timed once, and while others work."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for one compilation, one check at small sizes, one run; bytes for one worker."""

    compile_s: float = 30.0
    check_s: float = 5.0
    run_s: float = 10.0
    memory_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Job:
    """A scheduled function to be measured. `id` is new for each."""

    id: str
    ir: str
    instructions: Rows = ()
    """Those in it that a worker does not have."""

    def request(self) -> dict[str, Any]:
        """What compiles it."""
        return {"do": "compile", "id": self.id, "ir": self.ir, "instructions": list(self.instructions)}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job; `time` of a call and `spent` on it in seconds."""

    status: Status
    time: float | None = None
    message: str = ""
    spent: float = 0.0
    target: str = ""
    """The fingerprint of what it was measured on, where that is not the measurer's own."""


@dataclass
class Measurer:
    """Measures candidates of one problem, whose files lie in `folder`."""

    problem: Problem
    folder: Path
    command: Sequence[str]
    count: int
    limits: Limits = field(default_factory=Limits)
    target: str = ""
    """The fingerprint of what it measures on."""
    silence: Path | None = None
    """A file that measurers of one machine lock while they time."""
    incumbent: str | None = None
    """The id of one of the best so far, beside which the others are timed."""
    time: float | None = None
    """Its time."""

    def __post_init__(self) -> None:
        arrays = sum([layout.extent for layout in self.problem.arrays.values()])
        memory = self.limits.memory_bytes + 6 * arrays
        # The first one times.
        self.workers = Workers(self.count + 1, self.folder, memory, self.command)
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(self.count)
        self._prepared: dict[str, Future[Outcome]] = {}
        for n in range(1, self.count + 1):
            self._free.put(n)
            self._threads.submit(self._start)

    @property
    def replaced(self) -> int:
        """Workers that died and were replaced."""
        return self.workers.replaced

    @property
    def _grace(self) -> float:
        """Seconds that a worker may take longer than the kernel: drivers compile when they first run one."""
        return GRACE_S + (0.0 if self.problem.target == "cpu" else DRIVER_S)

    def finish(self) -> None:
        """Ends the workers that build and compile: from now on there is silence."""
        self.workers.end(1)
        self._threads.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Ends the workers."""
        self.finish()
        self.workers.close()

    def build(self, request: Mapping[str, Any]) -> Future[Built | None]:
        """Has a worker build a candidate (see `building.Remote`)."""
        return self._threads.submit(self._build, {"do": "build", **request})

    def _build(self, request: Mapping[str, Any]) -> Built:
        number = self._free.get()
        try:
            return twice(lambda: Built.from_json(self.workers.ask(number, request, BUILD_S)))
        except Failed as failed:
            return Built(refusal=f"not built: {failed.message or failed.status}")
        finally:
            self._free.put(number)

    def _start(self) -> None:
        """Starts a worker before it is needed; should that fail, whoever needs it is told."""
        number = self._free.get()
        try:
            with contextlib.suppress(Failed):
                self.workers.ask(number, {"do": "forget", "ids": []}, GRACE_S)
        finally:
            self._free.put(number)

    # -- the kernel as it is

    def begin(self) -> None:
        """Compiles the kernel in program order, with which candidates are compared."""
        ir = print_func(self.problem.func)
        try:
            self.workers.ask(0, Job(BASE, ir).request(), self.limits.compile_s)
        except Failed as failed:
            raise KdslError(
                "K0804",
                f"`{self.problem.func.name}` cannot be tuned: {failed.message}",
                notes=["its program order did not compile in a worker process"],
                help="call the kernel once without tuning: it raises the error itself",
            ) from None

    def baseline(self, seconds: float) -> tuple[float, bool]:
        """Seconds of a call in program order, and whether that is only a lower bound: it was stopped then."""
        try:
            run = {"do": "run", "id": BASE, "limit": seconds}
            first = self.workers.ask(0, run, seconds + self._grace)
            once: float = first["seconds"]
            if "ended" in first:
                return once, True
            if once > min(LONG_S, 0.2 * seconds):
                return once, False
            length = min(0.2 * seconds, max(0.05, 3 * once))
            found = self._ask(
                {"do": "time", "ids": [BASE], "seconds": length, "limit": seconds}, seconds + length
            )
            return typical(found["times"][BASE]), False
        except Failed as failed:
            if failed.status == "slow":
                return seconds, True
            raise KdslError(
                "K0804",
                f"`{self.problem.func.name}` cannot be tuned: {failed.message or failed.status}",
                notes=["it was run in program order on copies of the arguments"],
                help="pass arguments with which `kernel(...)` works",
            ) from None

    # -- candidates

    def prepare(self, jobs: Sequence[Job]) -> None:
        """Has these compiled and checked, for `measure`; nobody waits for it."""
        for job in jobs:
            self._prepared[job.id] = self._threads.submit(self._prepare, job)

    def measure(
        self, jobs: Sequence[Job], meanwhile: Callable[[], None] = lambda: None
    ) -> Iterator[tuple[Job, Outcome]]:
        """The outcome of each job, one after the other; while it waits for workers it does `meanwhile` again
        and again."""
        self.prepare([job for job in jobs if job.id not in self._prepared])
        for job in jobs:
            future = self._prepared.pop(job.id)
            while not future.done():
                meanwhile()
                wait([future], POLL_S)
            outcome = future.result()
            if outcome.status == "ok":
                start, spent = time.perf_counter(), outcome.spent
                with self._silence(alone=True):
                    outcome = self._outcome(job)
                spent += time.perf_counter() - start
                outcome = Outcome(outcome.status, outcome.time, outcome.message, spent)
                self._forget(job.id)
            yield job, outcome

    def _prepare(self, job: Job) -> Outcome:
        """Compiles and checks at small sizes."""
        number = self._free.get()
        start = self.workers.clock()
        try:
            with self._silence(alone=False):
                return self._checked(number, job, start)
        finally:
            self._free.put(number)

    def _checked(self, number: int, job: Job, start: float) -> Outcome:
        def checked() -> str | None:
            self.workers.ask(number, job.request(), self.limits.compile_s)
            check = {"do": "check", "id": job.id, "cases": CASES, "limit": self.limits.check_s}
            found = self.workers.ask(number, check, 2 * CASES * self.limits.check_s + self._grace)
            wrong: str | None = found["wrong"]
            return wrong

        try:
            wrong = twice(checked)
            status: Status = "ok" if wrong is None else "wrong"
            outcome = Outcome(status, None, wrong or "")
        except Failed as failed:
            status = "hung" if failed.status == "slow" else failed.status
            outcome = Outcome(status, None, failed.message or "not done at small sizes")
        return Outcome(outcome.status, None, outcome.message, self.workers.clock() - start)

    def _outcome(self, job: Job) -> Outcome:
        """Runs a checked candidate on the caller's arrays."""
        limit = self.limits.run_s
        if self.time is not None:
            limit = min(limit, max(0.25, 10 * self.time))
        try:
            return twice(lambda: self._timed(job, limit))
        except Failed as failed:
            if failed.status == "slow":
                return Outcome("slow", limit, f"stopped after {limit:.3g} s")
            return Outcome(failed.status, None, failed.message)

    def _timed(self, job: Job, limit: float) -> Outcome:
        once = self._ask({"do": "run", "id": job.id, "limit": limit}, limit)
        if once["wrong"] is not None:
            return Outcome("wrong", None, once["wrong"])
        first: float = once["seconds"]
        if self.time is not None and first > max(HOPELESS * self.time, 0.05):
            return Outcome("ok", first, "run once: far behind")
        ids = [job.id] if self.incumbent is None else [job.id, self.incumbent]
        mine = self._beside(self.in_turn(ids, min(0.1, max(0.04, 6 * first)), least=3), job.id)
        if self.time is not None and mine < 1.03 * self.time:
            # Too close to tell from noise: by itself once more, twice as long.
            mine = self._beside(self.in_turn(ids, min(0.25, max(0.08, 12 * first)), least=4), job.id)
        if self.time is None or mine < NEARLY * self.time:
            self.incumbent, self.time = job.id, mine
        return Outcome("ok", mine)

    def _beside(self, times: Mapping[str, Sequence[float]], id: str) -> float:
        """Its time on the incumbent's scale: a machine that is slower now does not count against it."""
        if self.incumbent is None or self.time is None:
            return typical(times[id])
        return typical(times[id]) / typical(times[self.incumbent]) * self.time

    def in_turn(
        self, ids: Sequence[str], seconds: float, least: int, early: bool = True
    ) -> dict[str, list[float]]:
        """Seconds of calls of each, one after the other."""
        limit = self.limits.run_s
        request = {
            "do": "time", "ids": list(ids), "seconds": seconds, "limit": limit, "least": least, "early": early
        }  # fmt: skip
        rounds = (least + 3) * len(ids) * (self.time or limit)
        found: dict[str, list[float]] = self._ask(request, seconds + max(limit, 4 * rounds))["times"]
        return found

    # -- the end

    def ranking(self, jobs: Sequence[Job], seconds: float) -> list[tuple[str, float]]:
        """(id, time) of the jobs that still run, the fastest first (see `timing.knockout`)."""
        return knockout([job.id for job in jobs if self.there(job)], seconds, self._together)

    def _together(self, ids: Sequence[str], seconds: float) -> dict[str, list[float]]:
        """Times in turn of those that still run."""
        left = list(ids)
        while left:
            try:
                with self._silence(alone=True):
                    return self.in_turn(left, seconds, least=5, early=False)
            except Failed:
                # Which one it was is not known: keep those that still run alone.
                left = [id for id in left if self._runs(id)]
        return {}

    def _runs(self, id: str) -> bool:
        try:
            return (
                self._ask({"do": "run", "id": id, "limit": self.limits.run_s}, self.limits.run_s)["wrong"]
                is None
            )
        except Failed:
            return False

    def there(self, job: Job) -> bool:
        """Compiles a job whose code is not in the folder."""
        if (self.folder / f"{job.id}.code").exists():
            return True
        try:
            self._ask(job.request(), self.limits.compile_s)
        except Failed:
            return False
        return True

    def verify(self, job: Job, against: Job | None, seed: int) -> Outcome:
        """Compares once more, on fresh inputs and at small sizes, with the kernel in program order.

        `against` is another candidate to take for the inputs of full size, where program order is too slow.
        """
        limit = self.limits.run_s
        other = BASE if against is None else against.id
        try:
            fresh = {"do": "fresh", "id": job.id, "against": other, "seed": seed, "limit": limit}
            wrong = self._ask(fresh, 2 * limit)["wrong"]
            if wrong is None:
                check = {"do": "check", "id": job.id, "cases": ALL_CASES, "limit": self.limits.check_s}
                wrong = self._ask(check, 2 * ALL_CASES * self.limits.check_s)["wrong"]
        except Failed as failed:
            status = "hung" if failed.status == "slow" else failed.status
            return Outcome(status, None, failed.message)
        return Outcome("ok" if wrong is None else "wrong", None, wrong or "")

    def _silence(self, alone: bool) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if self.silence is None else silent(self.silence, alone)

    def _ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Asks the worker that times."""
        return self.workers.ask_alone(request, seconds + self._grace)

    def _forget(self, id: str) -> None:
        """Frees a candidate in the worker that times; its files stay, as it may come back at the end."""
        if id != self.incumbent:
            with contextlib.suppress(Failed):
                self.workers.ask(0, {"do": "forget", "ids": [id]}, GRACE_S)


@contextlib.contextmanager
def silent(file: Path, alone: bool) -> Iterator[None]:
    """While it lasts, no measurer of this machine times; `alone`: none compiles or builds either."""
    if fcntl is None:
        yield
        return
    with open(file, "a") as locked:
        fcntl.flock(locked, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def twice(work: Callable[[], T]) -> T:
    """The result of `work`, which is done once more where somebody has killed the worker."""
    try:
        return work()
    except Failed as failed:
        if not failed.outside:
            raise
    return work()
