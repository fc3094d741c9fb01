"""Worker processes as their parent sees them: asked with a time limit, replaced when they die.

The first one times. While it does so the others are stopped (SIGSTOP), and none starts: the machine is its
own, whatever the others are in the middle of. Their limits of time do not count that.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kdsl.tune.trial import Status

START_S = 60.0
"""A worker has started and read its problem by then."""

OUTSIDE = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
"""No candidate dies of these by itself."""


class Failed(Exception):
    """A request that gave no result: what that means for a candidate, and why. `outside`: somebody killed the
    process, which says nothing about the candidate."""

    def __init__(self, status: Status, message: str, outside: bool = False) -> None:
        super().__init__(message)
        self.status: Status = status
        self.message = message
        self.outside = outside


class Worker:
    """One process. It ends with this object, and by itself when this process ends."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            start_new_session=True,  # Ctrl-C is this process's affair
        )
        self._read = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(
        self, request: Mapping[str, Any], seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> dict[str, Any]:
        """The answer; `Failed` when there is none after so many seconds, or the process has died."""
        try:
            answer = self._answer(request, seconds, clock)
        except KeyboardInterrupt:
            self.close()  # its answer would be taken for that to the next request
            raise
        if answer.get("ends"):
            self.close()
        if "error" in answer:
            raise Failed(answer["error"], answer["message"])
        return answer

    def _answer(
        self, request: Mapping[str, Any], seconds: float, clock: Callable[[], float]
    ) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        until = clock() + seconds
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._read:
            left = until - clock()
            ready = select.select([descriptor], [], [], max(0.0, left))[0] if left > 0 else []
            if not ready:
                self.close()
                raise Failed("hung", f"no answer in {seconds:.3g} s")
            found = os.read(descriptor, 1 << 16)
            if not found:
                raise self._died()
            self._read += found
        line, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, number: int) -> None:
        """Sends a signal to the process, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def close(self) -> None:
        """Ends the process at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._errors.close()

    def _died(self) -> Failed:
        """What the end of the process means."""
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().splitlines()
        last = f": {said[-1]}" if said else ""
        self.close()
        if code < 0:
            try:
                name = signal.Signals(-code).name
            except ValueError:
                name = f"signal {-code}"
            return Failed("crashed", f"the process died of {name}{last}", name in OUTSIDE)
        return Failed("crashed", f"the process ended with code {code}{last}")


class Workers:
    """So many workers with the same problem open; a dead one is replaced when it is asked next."""

    def __init__(self, count: int, folder: Path, memory_bytes: int, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self.replaced = 0
        """Workers that died."""
        self._opening = {"do": "open", "folder": str(folder), "memory_bytes": memory_bytes}
        self._workers: list[Worker | None] = [None for _ in range(count)]
        self._ended = count
        """Workers from this number on are gone for good."""
        self._turn = threading.Condition()
        self._starting = 0
        self._since: float | None = None
        """Since when one of them has the machine to itself."""
        self._stopped_s = 0.0

    def __len__(self) -> int:
        return len(self._workers)

    def clock(self) -> float:
        """Seconds, without those for which workers were stopped."""
        with self._turn:
            now = time.monotonic()
            return now - self._stopped_s - (0.0 if self._since is None else now - self._since)

    def ask(self, number: int, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Asks worker `number`. `Failed` as for `Worker.ask`."""
        worker = self._worker(number)
        try:
            return worker.ask(request, seconds, self.clock)
        except Failed:
            self._forget_dead(number)
            raise

    def ask_alone(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Asks the first worker, while nothing else runs."""
        first = self._worker(0)
        with self._alone():
            try:
                others = [w.pid for w in self._workers[1:] if w is not None and w.alive]
                return first.ask({**request, "quiet": others}, seconds)
            except Failed:
                self._forget_dead(0)
                raise

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While it lasts no worker starts. The first worker stops and continues the others, as it knows when;
        they are continued once more, should it have died meanwhile."""
        with self._turn:
            while self._starting:
                self._turn.wait()
            self._since = time.monotonic()
        try:
            yield
        finally:
            for worker in self._workers[1:]:
                if worker is not None and hasattr(signal, "SIGCONT"):
                    worker.send(signal.SIGCONT)
            with self._turn:
                self._stopped_s += time.monotonic() - self._since
                self._since = None
                self._turn.notify_all()

    def pids(self) -> list[int]:
        """Those that are there."""
        return [w.pid for w in self._workers if w is not None and w.alive]

    def end(self, number: int = 0) -> None:
        """Ends the workers from this number on, also those that threads wait for; none is replaced."""
        with self._turn:
            self._ended = min(self._ended, number)
        for worker in self._workers[number:]:
            if worker is not None:
                worker.send(signal.SIGKILL)

    def close(self) -> None:
        """Ends all; nobody waits for one."""
        self.end()
        for n, worker in enumerate(self._workers):
            if worker is not None:
                worker.close()
            self._workers[n] = None

    def _forget_dead(self, number: int) -> None:
        worker = self._workers[number]
        if worker is not None and not worker.alive and number < self._ended:
            worker.close()
            self._workers[number] = None
            self.replaced += 1

    def _worker(self, number: int) -> Worker:
        worker = self._workers[number]
        if worker is not None and worker.alive:
            return worker
        with self._turn:
            while self._since is not None:
                self._turn.wait()
            if number >= self._ended:
                raise Failed("crashed", "the tuning has ended")
            self._forget_dead(number)
            self._starting += 1
            worker = self._workers[number] = Worker(self.command, environment())
        try:
            worker.ask(self._opening, START_S)
        finally:
            with self._turn:
                self._starting -= 1
                self._turn.notify_all()
        return worker


def environment() -> dict[str, str]:
    """This process's environment, with this kdsl to be found first and nothing that writes files."""
    root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    kept = {k: v for k, v in os.environ.items() if k != "KDSL_DEBUG"}
    return {**kept, "PYTHONPATH": path}


def command(module: str) -> tuple[str, ...]:
    """How a worker starts: Python with a module that serves."""
    return sys.executable, "-m", module
