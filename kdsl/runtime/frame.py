"""Filling the frame of a compiled CPU kernel (see `backends.base.FrameLayout`), and what its answers mean."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kdsl.backends.base import Artifact, FrameLayout
from kdsl.backends.llvm import Executable
from kdsl.ir.faults import condition_error, fault
from kdsl.ir.params import ArrayParam
from kdsl.runtime.interface import Interface
from kdsl.runtime.table import RunTable


@dataclass(frozen=True, slots=True, eq=False)
class CpuExecutor:
    """Calls loaded machine code through a frame made for each call."""

    interface: Interface
    layout: FrameLayout
    executable: Executable
    table: RunTable
    explain: Callable[[], Artifact]

    @staticmethod
    def of(interface: Interface, executable: Executable, explain: Callable[[], Artifact]) -> CpuExecutor:
        """`explain` gives the executable's artifact with the places in the source."""
        pool = _pool_address() if executable.parallel else 0
        table = RunTable(executable.artifact.sites, executable.poll_address, pool)
        layout = FrameLayout.for_call(interface.params, interface.sizes)
        return CpuExecutor(interface, layout, executable, table, explain)

    def run(self, values: Sequence[Any], sizes: Mapping[str, int]) -> None:
        self.prepared(values, sizes)()

    def prepared(self, values: Sequence[Any], sizes: Mapping[str, int]) -> Callable[[], None]:
        """A function that runs on these values, after the call conditions have been checked here."""
        frame = self._frame(values, sizes)
        address = ctypes.addressof(frame)
        conditions = self.executable.artifact.conditions
        failing = self.executable.check(address) if conditions else 0
        if failing:
            title, loc = self.explain().conditions[failing - 1]
            raise condition_error(title, loc, sizes)

        def run() -> None:
            code = self.executable.run(address)
            if code:
                self.on_fault(code, frame[0], frame[1])

        return run

    def on_fault(self, code: int, index: int, extent: int) -> NoReturn:
        """Raises the error of site number `code`."""
        assert code > 0, "a stop leaves its own exception"
        site = self.explain().sites[code - 1]
        assert site.kind != "print"
        raise fault(site.kind, site.loc, text=site.text, dim=site.dim, value=index, extent=extent)

    def make_entry(self, following: Callable[..., Any]) -> Any:
        """The C function that takes calls of this signature, and passes others to `following`."""
        return self.executable.make_entry(following, self.on_fault, self.table.address)

    def _frame(self, values: Sequence[Any], sizes: Mapping[str, int]) -> Any:
        """The frame for a call. It holds addresses of `values`: the caller keeps them alive."""
        frame = (ctypes.c_int64 * self.layout.slots)()
        frame[2] = self.table.address
        for p, slot, value in zip(self.interface.params, self.layout.params, values):
            if isinstance(p, ArrayParam):
                frame[slot] = value.__array_interface__["data"][0]
                if not p.contiguous:
                    frame[slot + 1 : slot + 1 + value.ndim] = value.strides
            else:
                frame[slot] = int.from_bytes(value.tobytes(), "little")
        for name, slot in zip(self.interface.sizes, self.layout.sizes):
            frame[slot] = sizes[name]
        return frame


def _pool_address() -> int:
    from kdsl.runtime.pool import pool_address

    return pool_address()
