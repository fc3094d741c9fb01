"""The process in which the tuner compiles and runs candidates: `python -m kdsl.runtime.tuning_worker`."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsl.backends.base import Artifact
from kdsl.ir.params import ArrayParam
from kdsl.ir.places import Places
from kdsl.runtime import stored
from kdsl.runtime.cache import Entry
from kdsl.runtime.interface import Interface
from kdsl.runtime.targets import resolve
from kdsl.runtime.threads import set_num_threads
from kdsl.tune.measuring import worker

if TYPE_CHECKING:
    from kdsl.ir.nodes import Func
    from kdsl.runtime.frame import CpuExecutor
    from kdsl.runtime.vulkan_executor import VulkanExecutor
    from kdsl.target import Target

Array = np.ndarray[Any, Any]


class Runner:
    """Compiles and runs on a target of this machine, without the disk cache: candidates would fill it."""

    target: Target

    def setup(self, target: str, threads: int) -> None:
        """See `kdsl.tune.measuring.worker.Runner`."""
        self.target = resolve(target)
        if self.target.kind == "cpu":
            set_num_threads(threads)

    def compile(self, func: Func, path: Path) -> None:
        """Writes the code of `func`: its header's length, the header, the code."""
        artifact = _artifact(func, self.target)
        head = json.dumps(stored.header(func.name, artifact, Places.of(func))).encode()
        path.write_bytes(struct.pack("<I", len(head)) + head + artifact.code)

    def load(self, func: Func, path: Path) -> CpuExecutor | VulkanExecutor:
        """The program of such a file."""
        data = path.read_bytes()
        (length,) = struct.unpack_from("<I", data)
        entry = Entry(json.loads(data[4 : 4 + length]), data[4 + length :])
        artifact = stored.artifact(entry, self.target, Places.of(func).locs)
        return _program(func, artifact)

    def trusted(self, func: Func) -> CpuExecutor | None:
        """See `kdsl.tune.measuring.worker.Runner`."""
        if self.target.kind == "cpu":
            return None
        return _program(func, _artifact(func, resolve("cpu")))  # type: ignore[return-value]

    def bind(
        self, program: CpuExecutor | VulkanExecutor, values: Sequence[Any], sizes: Mapping[str, int]
    ) -> worker.Bound:
        """The program with a call's values."""
        params = program.interface.params
        results = [
            np.zeros([max(0, d.evaluate(sizes)) for d in p.shape], p.dtype.np)
            for p in program.interface.results
        ]
        named = dict(zip([p.name for p in params], [*values, *results]))
        if hasattr(program, "prepared"):
            return _OnCpu(program.prepared(list(named.values()), sizes), named)
        return _OnDevice.of(program, named, sizes, self.target.name)


def _artifact(func: Func, target: Target) -> Artifact:
    """The code of a function for one call after another."""
    if target.kind == "vulkan":
        from kdsl.runtime.device_code import spirv_artifact

        return spirv_artifact(func, target, None)
    from kdsl.backends import llvm
    from kdsl.runtime.compile import lowered

    return llvm.compile(lowered(func, target), target, entry=False)


def _program(func: Func, artifact: Artifact) -> CpuExecutor | VulkanExecutor:
    """The program of code for one of the targets."""
    interface = Interface(func.name, func.params, func.sizes, frozenset(func.options.may_alias), False)
    if artifact.target.kind == "vulkan":
        from kdsl.runtime.vulkan_executor import VulkanExecutor

        return VulkanExecutor.of(interface, artifact, lambda: artifact)
    from kdsl.backends import llvm
    from kdsl.runtime.frame import CpuExecutor

    return CpuExecutor.of(interface, llvm.load(artifact), lambda: artifact)


@dataclass(frozen=True, slots=True)
class _OnCpu:
    """A filled frame; the arrays are those that were given."""

    run: Callable[[], None]
    values: dict[str, Any]

    def write(self, name: str, array: Array) -> None:
        self.values[name][...] = array

    def read(self, name: str) -> Array:
        found: Array = self.values[name]
        return found


@dataclass(slots=True)
class _OnDevice:
    """Arrays that lie on a Vulkan device, and the calls on them, each waited for."""

    program: VulkanExecutor
    values: dict[str, Any]
    sizes: Mapping[str, int]
    device: str

    @staticmethod
    def of(
        program: VulkanExecutor, values: dict[str, Any], sizes: Mapping[str, int], device: str
    ) -> _OnDevice:
        from kdsl.runtime.device_array import to_device

        arrays = {p.name for p in program.interface.params if isinstance(p, ArrayParam)}
        there = {k: to_device(v, device) if k in arrays else v for k, v in values.items()}
        return _OnDevice(program, there, sizes, device)

    def run(self) -> None:
        from kdsl.runtime.device_array import synchronize

        self.program.run(list(self.values.values()), self.sizes)
        synchronize(self.device)

    def write(self, name: str, array: Array) -> None:
        from kdsl.runtime.device_array import to_device

        self.values[name] = to_device(array, self.device)

    def read(self, name: str) -> Array:
        found: Array = self.values[name].numpy()
        return found


def main() -> None:
    """Serves the requests on standard input."""
    requests, answers = worker.pipes()
    worker.serve(Runner(), requests, answers)


if __name__ == "__main__":
    main()
