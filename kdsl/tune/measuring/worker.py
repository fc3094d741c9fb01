"""A worker process: compiles, checks and times candidates that it gets as IR text, never as the user's code.

    {"do": "build", "sketch": "tile i x j", "values": {"tall": 6}}    ->  {"steps": ..., "ir": ...}
    {"do": "compile", "id": "7", "ir": "def matmul(...): ..."}        ->  {"seconds": 0.05}
    {"do": "check", "id": "7", "cases": 3}                            ->  {"wrong": null}
    {"do": "run", "id": "7", "limit": 2.0}                            ->  {"seconds": 0.002, "wrong": null}
    {"do": "time", "ids": ["7", "3"], "seconds": 0.1, "limit": 2.0}   ->  {"times": {"7": [...], "3": [...]}}

Requests and answers are lines of JSON on two pipes; a request that fails is answered by `{"error": status,
"message": text}`, with `"ends": true` when the process ends behind it. Code lies in the session's folder as
`ID.code`, so that another worker can go on when one has died. The process ends when its requests do: with the
one that sent them.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from kdsl.errors import KdslError, TargetError
from kdsl.ir.nodes import Func
from kdsl.ir.parser import parse_func
from kdsl.target import Target
from kdsl.tune.measuring import inputs
from kdsl.tune.measuring.building import Rebuilding, declare
from kdsl.tune.measuring.comparing import difference
from kdsl.tune.measuring.inputs import Array, small_sizes
from kdsl.tune.measuring.problem import Problem, holds
from kdsl.tune.spaces.space import Value
from kdsl.tune.trial import Status

BASE = "base"
"""The id of the kernel in program order."""
TRUSTED = "trusted"
"""The id of the same on the CPU: what candidates are compared with at small sizes is no driver's word."""
SAMPLE_S = 0.0002
"""A sample is as many calls as take so long, at least one."""
DRIVER_S = 30.0
"""A driver has compiled a kernel, at its first run, by then."""
SLOWER = 1.25
"""A candidate whose best time is so much above the other's is not timed further."""


class Bound(Protocol):
    """A program with the values of one call."""

    def run(self) -> None:
        """Runs it once and waits. Raises what fails."""

    def write(self, name: str, array: Array) -> None:
        """Gives an array new contents."""

    def read(self, name: str) -> Array:
        """The contents of an array, result or argument."""


class Runner(Protocol):
    """What the run time lends to a worker."""

    target: Target

    def setup(self, target: str, threads: int) -> None:
        """Chooses the target (by name) and the number of threads of a parallel loop."""

    def compile(self, func: Func, path: Path) -> None:
        """Writes the code of `func` to a file."""

    def load(self, func: Func, path: Path) -> Any:
        """The program of such a file."""

    def trusted(self, func: Func) -> Any:
        """A program of `func` for the CPU, where that is another target; else None."""

    def bind(self, program: Any, values: Sequence[Any], sizes: Mapping[str, int]) -> Bound:
        """The program with a call's values, one for each parameter that is no result."""


class Stopped(Exception):
    """A run took longer than its limit."""


class Serving:
    """The state of a worker: programs and arrays that are loaded."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.funcs: dict[str, Func] = {}
        self.programs: dict[str, Any] = {}
        self.bound: dict[str, Bound] = {}
        self.expected: dict[str, dict[str, Array] | str] = {}
        self.full: dict[str, Array] = {}
        self.working: dict[str, Array] = {}
        self.reference: dict[str, Array] | None = None
        self.terms = 1.0
        self.rebuilding: Rebuilding | None = None

    # -- requests

    def open(self, folder: str, memory_bytes: int) -> dict[str, Any]:
        """Reads the problem; from now on the process may take so much more memory."""
        self.folder = Path(folder)
        self.problem = Problem.from_json((self.folder / "problem.json").read_text())
        self.runner.setup(self.problem.target, self.problem.threads)
        self.terms = self.problem.terms
        self.exact = self.problem.func.options.strict
        limit_memory(memory_bytes)
        return {"pid": os.getpid()}

    def compile(self, id: str, ir: str, instructions: list[dict[str, Any]]) -> dict[str, Any]:
        """Compiles the function in `ir` to `ID.code`."""
        start = time.perf_counter()
        (self.folder / f"{id}.ir").write_text(json.dumps([ir, instructions]))
        self.runner.compile(self.func(id), self.folder / f"{id}.code")
        return {"seconds": time.perf_counter() - start}

    def build(self, prefix: str, sketch: str, values: dict[str, Value]) -> dict[str, Any]:
        """Takes the steps of a candidate of the space that kdsl derives from the kernel."""
        if self.rebuilding is None:
            self.rebuilding = Rebuilding(self.problem, self.runner.target)
        return self.rebuilding.build(prefix, sketch, values).to_json()

    def check(self, id: str, cases: int, limit: float) -> dict[str, Any]:
        """Compares with the kernel in program order at so many small sizes that meet the conditions."""
        done = 0
        func, problem = self.func(id), self.problem
        small = small_sizes(problem.func.sizes, problem.sizes)
        met = [c for c in small if holds(func.conditions, c, problem.scalars)]
        self.warm(id)
        for seed, sizes in enumerate(met[:cases]):
            want = self.expectation(sizes, seed, limit)
            if isinstance(want, str):
                continue  # these random values are none that the kernel takes
            got = self.small(id, sizes, seed, limit)
            found = self.unlike(got, want, self.terms)
            if found is not None:
                at = ", ".join(f"{k}={v}" for k, v in sizes.items())
                return {"wrong": found + (f" ({at})" if at else ""), "cases": done}
            done += 1
        self.forget([id])
        return {"wrong": None, "cases": done}

    def run(self, id: str, limit: float) -> dict[str, Any]:
        """Runs once on the caller's arrays. The results of the first candidate are those that all others
        must have; its own are compared with those of program order, if that was not too slow.
        """
        self.warm(id)
        bound = self.bound_full(id)
        self.restore(bound, self.problem.outputs)
        start = time.perf_counter()
        try:
            with deadline(limit):
                bound.run()
        except TargetError:
            if id != BASE:
                raise
            # What the device cannot do in program order it may do scheduled.
            return {"seconds": time.perf_counter() - start, "wrong": None, "ended": True}
        seconds = time.perf_counter() - start
        got = {name: bound.read(name) for name in self.problem.outputs}
        if id == BASE:
            self.keep("base", got)
            return {"seconds": seconds, "wrong": None}
        if self.reference is None:
            self.reference = self.kept("reference", got)
        if self.reference is not None:
            return {"seconds": seconds, "wrong": self.unlike(got, self.reference, self.terms)}
        # A long sum in program order is itself far off: its errors may all have one sign.
        base = self.kept("base", got)
        wrong = None if base is None else self.unlike(got, base, self.terms**2)
        if wrong is None:
            self.reference = self.keep("reference", got)
        return {"seconds": seconds, "wrong": wrong}

    def time(
        self, ids: list[str], seconds: float, limit: float, least: int = 2, early: bool = True
    ) -> dict[str, Any]:
        """Seconds of a call of each, for `seconds`; the first one may give up `early`.

        In turn, each time beginning with another one: whoever comes next finds the caches as the last one
        left them. Entries of the same place in the lists are of the same round.
        """
        bounds = [self.bound_full(id) for id in ids]
        repeats = [self.repeats(b, limit) for b in bounds]
        times: list[list[float]] = [[] for _ in ids]
        until = time.perf_counter() + seconds
        while len(times[0]) < least or time.perf_counter() < until:
            turn = len(times[0])
            for n in range(len(ids)):
                at = (n + turn) % len(ids)
                times[at].append(self.sample(bounds[at], repeats[at], limit))
            if early and len(ids) > 1 and len(times[0]) >= 2 and min(times[0]) > SLOWER * min(times[1]):
                break
        return {"times": dict(zip(ids, times))}

    def fresh(self, id: str, against: str, seed: int, limit: float) -> dict[str, Any]:
        """Compares two programs on inputs that neither has seen."""
        self.load_full()
        types = {p.name: p.dtype for p in self.problem.func.arrays}
        given = {name: inputs.fresh(array, types[name], seed) for name, array in self.full.items()}
        results: list[dict[str, Array]] = []
        for program in (against, id):
            self.warm(program)
            mine = {name: inputs.like(array, types[name]) for name, array in given.items()}
            bound = self.runner.bind(self.program(program), self.problem.values(mine), self.problem.sizes)
            try:
                with deadline(limit):
                    bound.run()
            except KdslError as error:
                if program == against:
                    return {"wrong": None, "skipped": error.title}
                raise
            results.append({name: bound.read(name) for name in self.problem.outputs})
        want, got = results
        found = self.unlike(got, want, self.terms if against != BASE else self.terms**2)
        return {"wrong": found and f"{found} (on fresh inputs)"}

    def forget(self, ids: list[str]) -> dict[str, Any]:
        """Frees what is kept of these."""
        for id in ids:
            for kept in (self.funcs, self.programs, self.bound):
                kept.pop(id, None)
        return {}

    # -- parts

    def func(self, id: str) -> Func:
        if id not in self.funcs:
            ir, instructions = json.loads((self.folder / f"{id}.ir").read_text())
            declare(tuple(instructions))
            self.funcs[id] = parse_func(ir)
        return self.funcs[id]

    def program(self, id: str) -> Any:
        if id == TRUSTED and id not in self.programs:
            self.programs[id] = self.runner.trusted(self.func(BASE)) or self.program(BASE)
        if id not in self.programs:
            self.programs[id] = self.runner.load(self.func(id), self.folder / f"{id}.code")
        return self.programs[id]

    def small(self, id: str, sizes: Mapping[str, int], seed: int, limit: float) -> dict[str, Array]:
        """What a program leaves in the arrays that it writes."""
        arrays = inputs.random_arrays(self.problem.func.params, sizes, seed)
        bound = self.runner.bind(self.program(id), self.problem.values(arrays), sizes)
        with deadline(limit, stopped=True):
            bound.run()
        return {name: bound.read(name) for name in self.problem.outputs}

    def warm(self, id: str) -> None:
        """Has the driver of a device compile a program, which may take seconds: a call with few elements."""
        if self.runner.target.kind == "cpu":
            return
        func, problem = self.func(id), self.problem
        for sizes in small_sizes(problem.func.sizes, problem.sizes):
            if holds(func.conditions, sizes, problem.scalars):
                with contextlib.suppress(KdslError):
                    self.small(id, sizes, 0, DRIVER_S)
                return

    def expectation(self, sizes: Mapping[str, int], seed: int, limit: float) -> dict[str, Array] | str:
        """What the kernel in program order leaves; the error that it raises."""
        key = json.dumps([sizes, seed])
        if key not in self.expected:
            try:
                self.expected[key] = self.small(TRUSTED, sizes, seed, limit)
            except KdslError as error:
                self.expected[key] = error.title
            except Stopped:
                self.expected[key] = "too slow"
        return self.expected[key]

    def bound_full(self, id: str) -> Bound:
        """A program on the caller's arrays: those it writes have a second copy, shared by all programs."""
        if not self.working:
            self.load_full()
            types = {p.name: p.dtype for p in self.problem.func.arrays}
            self.working = {
                name: inputs.like(array, types[name]) if name in self.problem.outputs else array
                for name, array in self.full.items()
            }
        if id not in self.bound:
            values = self.problem.values(self.working)
            self.bound[id] = self.runner.bind(self.program(id), values, self.problem.sizes)
        return self.bound[id]

    def load_full(self) -> None:
        """Reads the caller's arrays."""
        for name, layout in self.problem.arrays.items():
            if name not in self.full:
                self.full[name] = inputs.load(self.folder / f"{name}.bin", layout)

    def restore(self, bound: Bound, names: Sequence[str]) -> None:
        """Gives arrays that were written their first contents."""
        for name in names:
            if name in self.full:
                bound.write(name, self.full[name])

    def unlike(self, got: Mapping[str, Array], want: Mapping[str, Array], terms: float) -> str | None:
        """The first difference between two results."""
        for name, array in want.items():
            found = difference(got[name], array, terms, self.exact)
            if found is not None:
                return f"`{name}`: {found}"
        return None

    def keep(self, what: str, results: Mapping[str, Array]) -> dict[str, Array]:
        """Copies of results, in a file too: another worker may have to go on."""
        copies = {name: np.ascontiguousarray(array).copy() for name, array in results.items()}
        with open(self.folder / f"{what}.npz", "wb") as file:
            np.savez(file, **{name: a.reshape(-1).view(np.uint8) for name, a in copies.items()})  # type: ignore[arg-type]
        return copies

    def kept(self, what: str, like: Mapping[str, Array]) -> dict[str, Array] | None:
        """What `keep` wrote, with the types and shapes of `like`; None where there is none."""
        path = self.folder / f"{what}.npz"
        if not path.exists():
            return None
        with np.load(path) as file:
            return {name: file[name].view(a.dtype).reshape(a.shape) for name, a in like.items()}

    def repeats(self, bound: Bound, limit: float) -> int:
        """How many calls make a sample. Arrays worked on in place are restored before each."""
        once = self.sample(bound, 1, limit)
        if self.problem.in_place or once >= SAMPLE_S:
            return 1
        return max(1, int(SAMPLE_S / max(once, 1e-8)))

    def sample(self, bound: Bound, calls: int, limit: float) -> float:
        """Seconds of one call."""
        self.restore(bound, self.problem.in_place)
        with deadline(limit):
            start = time.perf_counter()
            for _ in range(calls):
                bound.run()
            return (time.perf_counter() - start) / calls


@contextlib.contextmanager
def deadline(seconds: float, stopped: bool = False) -> Iterator[None]:
    """Raises `Stopped` in a kernel that runs longer, at its next poll. In a process that may be `stopped`
    meanwhile, seconds of the processor count."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    kind = signal.ITIMER_PROF if stopped else signal.ITIMER_REAL
    signal.setitimer(kind, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(kind, 0)


_quiet: list[int] = []
"""Processes that this one has stopped."""


@contextlib.contextmanager
def quiet(pids: Sequence[int]) -> Iterator[None]:
    """While it lasts these processes are stopped."""
    if hasattr(signal, "SIGSTOP"):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                _quiet.append(pid)
    try:
        yield
    finally:
        go_on()


def go_on() -> None:
    """Continues the processes that are stopped."""
    while _quiet:
        with contextlib.suppress(ProcessLookupError):
            os.kill(_quiet.pop(), signal.SIGCONT)


def _stop(*_: object) -> None:
    raise Stopped


def limit_memory(more_bytes: int) -> None:
    """Lets this process have so many bytes more than it has now; where the system can do that."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + more_bytes
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    except (ImportError, OSError, ValueError):
        pass  # no such limit here: the time limit has to do


def answer(serving: Serving, request: Mapping[str, Any]) -> dict[str, Any]:
    """Does what a request asks."""
    do: Callable[..., dict[str, Any]] = getattr(serving, request["do"])
    status: Status
    try:
        with quiet(request.get("quiet", ())):
            return do(**{k: v for k, v in request.items() if k not in ("do", "quiet")})
    except Stopped:
        # What was sent to a device goes on: a new process does not wait for it.
        return {"error": "slow", "message": "", "ends": serving.runner.target.kind != "cpu"}
    except MemoryError as error:
        status, text = "crashed", f"out of memory: {error}" if str(error) else "out of memory"
    except KdslError as error:
        status, text = _STATUS.get(error.code, "crashed"), error.title
        if request["do"] == "compile":
            status = "refused"
        return {"error": status, "message": text, "ends": error.code in _UNUSABLE}
    return {"error": status, "message": text}


_STATUS: dict[str, Status] = {"K0523": "hung", "K0525": "refused", "K0526": "refused", "K0607": "refused"}
"""What it means that a device has not finished in time, or cannot do what a candidate asks for."""
_UNUSABLE = ("K0521", "K0522", "K0523")
"""The driver has failed, the device is lost or still busy: nothing can be told of later candidates."""


def serve(runner: Runner, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until there are no more."""
    if hasattr(signal, "SIGALRM"):
        signal.signal(signal.SIGALRM, _stop)
        signal.signal(signal.SIGPROF, _stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in requests:
            waiting.put(line)
        # Whoever asked is gone: do not finish a kernel that nobody waits for.
        go_on()
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    serving = Serving(runner)
    while True:
        request = json.loads(waiting.get())
        answered = answer(serving, request)
        answers.write(json.dumps(answered).encode() + b"\n")
        answers.flush()
        if answered.get("ends"):
            os._exit(0)


def pipes() -> tuple[BinaryIO, BinaryIO]:
    """Requests and answers: what was standard input and output, which kernels that print must not reach."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    return requests, answers
