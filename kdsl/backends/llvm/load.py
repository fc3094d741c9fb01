"""Brings an artifact into this process: the object loader on Linux x86-64, LLVM's engine elsewhere."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

from kdsl.backends.base import Artifact
from kdsl.backends.llvm import elf
from kdsl.backends.llvm.builtin import layout_holds, make_builtin
from kdsl.backends.llvm.symbols import address_of, objects

_CHECK = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)
# Raises what `poll` left behind; `symbol.run` releases the GIL itself.
_RUN = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)


class Code(Protocol):
    """Loaded machine code: `address(symbol)`. It lives as long as the object."""

    def address(self, symbol: str) -> int: ...


class Executable:
    """A kernel in this process.

    `run(frame_address)` and `check(frame_address)` take the address of a frame (`FrameLayout`) and give the
    numbers that `backends.base` explains; both release the GIL meanwhile. `run` raises what a signal handler
    raised. `poll_address` belongs into the run-time table; `parallel` says whether a pool does.
    """

    def __init__(self, artifact: Artifact, code: Code) -> None:
        self.artifact = artifact
        self.code = code
        self.run: Callable[[int], int] = _RUN(code.address(f"{artifact.symbol}.run"))
        self.check: Callable[[int], int] = _CHECK(code.address(f"{artifact.symbol}.check"))
        self.poll_address = code.address(f"{artifact.symbol}.poll")
        self.parallel = _has(code, f"{artifact.symbol}.parallel")

    def make_entry(
        self, slow: Callable[..., Any], on_fault: Callable[[int, int, int], Any], table: int
    ) -> Any:
        """A built-in function for calls, or None when the code has no entry or this Python cannot have one.

        Calls that it does not understand go to `slow(*args, **kwargs)`; a fault calls
        `on_fault(code, index, extent)`, which raises. `table` is the address of the run-time table, the same
        in all calls.
        """
        if not layout_holds():
            return None
        try:
            address = self.code.address(f"{self.artifact.symbol}.entry")
        except KeyError:
            return None
        ctypes.c_void_p.from_address(self.code.address(f"{self.artifact.symbol}.table")).value = table
        name = self.artifact.symbol.rpartition(".")[2]
        return make_builtin(name, address, (slow, on_fault, self.code))


def _has(code: Code, symbol: str) -> bool:
    try:
        return code.address(symbol) != 0
    except KeyError:
        return False


def load(artifact: Artifact) -> Executable:
    """The artifact's code, ready to run here."""
    return Executable(artifact, load_code(artifact.code))


def load_code(code: bytes) -> Code:
    """Object code, brought into this process."""
    if sys.platform == "linux" and os.uname().machine == "x86_64":
        return elf.load_object(code, address_of)
    return EngineCode(code)


class EngineCode:
    """Code loaded by LLVM's engine."""

    def __init__(self, code: bytes) -> None:
        from kdsl.backends.llvm.codegen import make_engine

        names = list(objects())
        if b"kdsl.numpy.descr.bf16" in code:
            names.append("kdsl.numpy.descr.bf16")
        self._engine: Any = make_engine(code, {name: address_of(name) for name in names})

    def address(self, symbol: str) -> int:
        """Where a defined symbol is; KeyError when there is none."""
        found = int(self._engine.get_function_address(symbol))
        if not found:
            raise KeyError(symbol)
        return found
