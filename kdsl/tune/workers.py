"""Worker processes as their parent sees them: asked with a time limit, replaced when they die."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kdsl.tune.trial import Status

START_S = 60.0
"""A worker has started and read its problem by then."""


class Failed(Exception):
    """A request that gave no result: what that means for a candidate, and why."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status: Status = status
        self.message = message


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

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The answer; `Failed` when there is none after so many seconds, or the process has died."""
        try:
            answer = self._answer(request, seconds)
        except KeyboardInterrupt:
            self.close()  # its answer would be taken for that to the next request
            raise
        if "error" in answer:
            raise Failed(answer["error"], answer["message"])
        return answer

    def _answer(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died() from None
        until = time.monotonic() + seconds
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._read:
            left = until - time.monotonic()
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
            return Failed("crashed", f"the process died of {name}{last}")
        return Failed("crashed", f"the process ended with code {code}{last}")


class Workers:
    """So many workers with the same problem open; a dead one is replaced when it is asked next."""

    def __init__(self, count: int, folder: Path, memory_bytes: int, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self.replaced = 0
        self._opening = {"do": "open", "folder": str(folder), "memory_bytes": memory_bytes}
        self._workers: list[Worker | None] = [None for _ in range(count)]
        self._started = [False for _ in range(count)]

    def __len__(self) -> int:
        return len(self._workers)

    def ask(self, number: int, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Asks worker `number`. `Failed` as for `Worker.ask`."""
        return self._worker(number).ask(request, seconds)

    def tell(self, request: Mapping[str, Any], seconds: float) -> None:
        """Asks all workers that are there, and needs no answer."""
        for worker in self._workers:
            if worker is not None and worker.alive:
                with contextlib.suppress(Failed):
                    worker.ask(request, seconds)

    def pids(self) -> list[int]:
        """Those that are there."""
        return [w.pid for w in self._workers if w is not None and w.alive]

    def close(self) -> None:
        """Ends all."""
        for n, worker in enumerate(self._workers):
            if worker is not None:
                worker.close()
            self._workers[n] = None

    def _worker(self, number: int) -> Worker:
        worker = self._workers[number]
        if worker is not None and worker.alive:
            return worker
        self.replaced += self._started[number]
        worker = Worker(self.command, environment())
        self._workers[number] = worker
        self._started[number] = True
        worker.ask(self._opening, START_S)
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
