"""Filling the frame of a compiled CPU kernel (see `backends.base.FrameLayout`), and what its answers mean."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from kdsl.backends.base import FrameLayout
from kdsl.backends.llvm import Executable
from kdsl.ir.faults import condition_error, fault
from kdsl.ir.nodes import ArrayParam, Func
from kdsl.runtime.table import RunTable


@dataclass(frozen=True, slots=True, eq=False)
class CpuExecutor:
    """Calls loaded machine code through a frame made for each call."""

    func: Func
    layout: FrameLayout
    executable: Executable
    table: RunTable

    @staticmethod
    def of(func: Func, executable: Executable) -> CpuExecutor:
        """`func` gives the parameters; `executable` was loaded from its artifact."""
        table = RunTable(executable.artifact.sites, executable.poll_address)
        return CpuExecutor(func, FrameLayout.of(func), executable, table)

    def run(self, values: Sequence[Any], sizes: Mapping[str, int]) -> None:
        frame = self._frame(values, sizes)
        conditions = self.executable.artifact.conditions
        failing = self.executable.check(ctypes.addressof(frame)) if conditions else 0
        if failing:
            title, loc = conditions[failing - 1]
            raise condition_error(title, loc, sizes)
        code = self.executable.run(ctypes.addressof(frame))
        if code:
            self.on_fault(code, frame[0], frame[1])

    def on_fault(self, code: int, index: int, extent: int) -> NoReturn:
        """Raises the error of site number `code`."""
        assert code > 0, "a stop leaves its own exception"
        site = self.executable.artifact.sites[code - 1]
        assert site.kind != "print"
        raise fault(site.kind, site.loc, text=site.text, dim=site.dim, value=index, extent=extent)

    def make_entry(self, following: Callable[..., Any]) -> Any:
        """The C function that takes calls of this signature, and passes others to `following`."""
        return self.executable.make_entry(following, self.on_fault, self.table.address)

    def _frame(self, values: Sequence[Any], sizes: Mapping[str, int]) -> Any:
        """The frame for a call. It holds addresses of `values`: the caller keeps them alive."""
        frame = (ctypes.c_int64 * self.layout.slots)()
        frame[2] = self.table.address
        for p, slot, value in zip(self.func.params, self.layout.params, values):
            if isinstance(p, ArrayParam):
                frame[slot] = value.__array_interface__["data"][0]
                if not p.contiguous:
                    frame[slot + 1 : slot + 1 + value.ndim] = value.strides
            else:
                frame[slot] = int.from_bytes(value.tobytes(), "little")
        for name, slot in zip(self.func.sizes, self.layout.sizes):
            frame[slot] = sizes[name]
        return frame
