"""The CPU back end: lowered `ir.Func` -> LLVM assembly -> object code -> loaded kernel.

`compile`, `llvm_text`, `asm_text` need llvmlite; `host_target` and `load` do not (on Linux x86-64).
"""

from __future__ import annotations

from kdsl.backends.base import Artifact
from kdsl.backends.llvm.host import host_target
from kdsl.backends.llvm.load import Executable, load
from kdsl.ir.nodes import Func
from kdsl.target import Target


def compile(func: Func, target: Target) -> Artifact:
    """Object code for a lowered, verified `func`."""
    from kdsl.backends.llvm import codegen

    return codegen.compile(func, target)


def llvm_text(func: Func, target: Target, optimised: bool = True) -> str:
    """The LLVM assembly of a lowered `func`, as emitted or after LLVM's passes."""
    from kdsl.backends.llvm import codegen

    return codegen.llvm_text(func, target, optimised)


def asm_text(func: Func, target: Target) -> str:
    """The machine code of a lowered `func` as assembly."""
    from kdsl.backends.llvm import codegen

    return codegen.asm_text(func, target)


__all__ = ["Executable", "asm_text", "compile", "host_target", "llvm_text", "load"]
