"""Calls of a kernel on a Vulkan device: which value goes where, conditions, faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from kdsl.backends.base import Artifact
from kdsl.errors import KdslError, TargetError
from kdsl.ir.faults import condition_error, fault
from kdsl.ir.params import ArrayParam, ScalarParam
from kdsl.runtime.aliasing import overlap
from kdsl.runtime.cache import disk_cache
from kdsl.runtime.device_array import DeviceArray, empty
from kdsl.runtime.interface import Interface
from kdsl.runtime.program import New, Program
from kdsl.runtime.seen import Seen

if TYPE_CHECKING:
    from kdsl.backends.vulkan.executable import Executable
    from kdsl.backends.vulkan.faults import Fault
    from kdsl.backends.vulkan.plan import Plan

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class VulkanExecutor:
    """Passes values on to a loaded kernel.

    `arrays`, `scalars`: where in a call's values the kernel's arrays (in its own order) and scalars are.
    `uploaded`: which arrays have contents that matter: all but results.
    """

    interface: Interface
    executable: Executable
    explain: Callable[[], Artifact]
    arrays: tuple[int, ...]
    scalars: tuple[int, ...]
    uploaded: tuple[bool, ...]

    @staticmethod
    def of(interface: Interface, artifact: Artifact, explain: Callable[[], Artifact]) -> VulkanExecutor:
        """`explain` gives the artifact with the places in the source."""
        from kdsl.backends import vulkan

        scalars = {p.name: p.dtype for p in interface.params if isinstance(p, ScalarParam)}
        executable = vulkan.load(artifact, interface.sizes, scalars, PipelineStore())
        at = {p.name: n for n, p in enumerate(interface.params)}
        arrays = tuple([at[name] for name in executable.arrays])
        results = {p.name for p in interface.results}
        return VulkanExecutor(
            interface,
            executable,
            explain,
            arrays,
            tuple([at[name] for name in scalars]),
            tuple([name not in results for name in executable.arrays]),
        )

    def run(self, values: Sequence[Any], sizes: Mapping[str, int]) -> None:
        executable = self.executable
        given = [values[n] for n in self.arrays]
        key, plan = executable.plan(
            [sizes[name] for name in self.interface.sizes], [values[n] for n in self.scalars]
        )
        if plan.failing:
            title, loc = self.explain().conditions[plan.failing - 1]
            raise condition_error(title, loc, sizes)
        same = self._same(given) if self.interface.may_alias else None
        self.send(key, plan, given, same)

    def send(
        self, key: tuple[Any, ...], plan: Plan, arrays: Sequence[Any], same: Sequence[int] | None = None
    ) -> None:
        """Runs on these arrays, in the kernel's own order, which have been looked at."""
        arguments = [a.memory if type(a) is DeviceArray else a for a in arrays]
        self.executable.run(key, plan, arguments, self.uploaded, self._error, same)

    def seen(self, program: Program, positions: Sequence[int], values: Sequence[Any]) -> Seen | None:
        """A call with these values that went well, to be done again; None where each call differs.

        `positions`: which argument each value is.
        """
        interface = self.interface
        if interface.may_alias:
            return None
        sizes = program.sizes(values)
        key, plan = self.executable.plan(
            [sizes[name] for name in interface.sizes], [values[n] for n in self.scalars]
        )
        given = [(n, p) for n, p in enumerate(interface.params[: len(values)]) if isinstance(p, ArrayParam)]
        pairs = [
            (positions[m], positions[n])
            for k, (n, p) in enumerate(given)
            for m, q in given[:k]
            if (p.written or q.written) and values[m].size and values[n].size
        ]
        return Seen(
            self,
            key,
            plan,
            tuple([positions[n] if n < len(values) else len(values) - 1 - n for n in self.arrays]),
            tuple(pairs),
            tuple([(tuple([e.evaluate(sizes) for e in p.shape]), p.dtype.np) for p in interface.results]),
            self.allocator(values) is not np.empty,
            program.finish,
        )

    def allocator(self, values: Sequence[Any]) -> New:
        """Results of a call with an array of the device are on the device."""
        if not any(type(v) is DeviceArray for v in values):
            return np.empty
        device = self.executable.device
        return lambda shape, dtype: empty(device, shape, dtype)

    def _error(self, found: Fault) -> KdslError:
        site = self.explain().sites[found.site - 1]
        assert site.kind != "print"
        return fault(
            site.kind, site.loc, text=site.text, dim=site.dim, value=found.value, extent=found.extent
        )

    def _same(self, given: Sequence[Any]) -> tuple[int, ...]:
        """For each array the first one that is the same; TargetError where two overlap in another way."""
        out = list(range(len(given)))
        params = [self.interface.params[n] for n in self.arrays]
        for n, a in enumerate(given):
            for m in range(n):
                p, q = params[m], params[n]
                assert isinstance(p, ArrayParam) and isinstance(q, ArrayParam)
                if not (p.written or q.written) or out[n] != n:
                    continue
                b = given[m]
                if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
                    continue  # device memory is shared as it is
                if _one(a, b):
                    out[n] = out[m]
                elif overlap(b, a) != "none":
                    raise TargetError(
                        "K0529",
                        f"arguments `{p.name}` and `{q.name}` of {self.interface.name} overlap in part, "
                        f"which {self.executable.device.name} cannot do",
                        loc=q.loc,
                        label="arrays are copied to the device one by one",
                        help="pass the same array twice, or arrays that lie apart",
                    )
        return tuple(out)


def _one(a: Array, b: Array) -> bool:
    """Whether both are the same elements in the same order."""
    same = a.__array_interface__["data"][0] == b.__array_interface__["data"][0] and a.dtype == b.dtype
    return same and a.shape == b.shape and a.strides == b.strides


class PipelineStore:
    """What drivers have compiled, in the disk cache."""

    def get(self, key: str) -> bytes | None:
        """What was kept under `key`."""
        cache = disk_cache()
        entry = None if cache is None else cache.load(f"pipeline-{key}")
        return None if entry is None else entry.code

    def put(self, key: str, data: bytes) -> None:
        """Keeps `data`."""
        cache = disk_cache()
        if cache is not None:
            cache.store(f"pipeline-{key}", {"pipeline": True}, data)
