"""The CPU back end: lowered `ir.Func` -> LLVM assembly -> object code -> loaded kernel.

`compile`, `llvm_text`, `asm_text` need llvmlite; `host_target` and `load` do not (on Linux x86-64).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from kdsl.backends.base import Artifact
from kdsl.backends.llvm.host import cpu_names, cpu_target, cpu_text, host_target
from kdsl.backends.llvm.load import Executable, load, load_code
from kdsl.target import Target

if TYPE_CHECKING:
    from kdsl.backends.llvm.entry import ScalarForm
    from kdsl.backends.llvm.watch import Lowering
    from kdsl.ir.nodes import Func


def compile(
    func: Func, target: Target, *, entry: bool = True, forms: Mapping[str, ScalarForm] | None = None
) -> Artifact:
    """Object code for a lowered, verified `func`.

    `entry`: with a C-level entry where one is possible. `forms` says for scalar parameters, by name, which
    objects the entry takes: "any" (annotated parameters), or only the "python" or the "numpy" number (weak
    and strong parameters that took their type from the call).
    """
    from kdsl.backends.llvm import codegen

    return codegen.compile(func, target, entry=entry, forms=forms)


def compile_library(func: Func, target: Target) -> bytes:
    """Object code for a lowered, verified `func` as a C function (see `c_interface.py`)."""
    from kdsl.backends.llvm import codegen

    return codegen.compile_library(func, target)


def llvm_text(func: Func, target: Target, optimised: bool = True) -> str:
    """The LLVM assembly of a lowered `func`, as emitted or after LLVM's passes."""
    from kdsl.backends.llvm import codegen

    return codegen.llvm_text(func, target, optimised)


def lowering(func: Func, target: Target) -> Lowering:
    """What became of the loops of a lowered `func`: vectors, worker pool."""
    from kdsl.backends.llvm import codegen

    return codegen.lowering(func, target)


def asm_text(func: Func, target: Target) -> str:
    """The machine code of a lowered `func` as assembly."""
    from kdsl.backends.llvm import codegen

    return codegen.asm_text(func, target)


def compile_pool(target: Target) -> bytes:
    """Object code of the worker pool (see `pool.py`), where the target has one."""
    from kdsl.backends.llvm import codegen, pool, pool_threads

    assert pool_threads.supported(target)
    return codegen.assemble(pool.pool_text(target), target)


__all__ = [
    "Executable",
    "asm_text",
    "compile",
    "compile_library",
    "compile_pool",
    "cpu_names",
    "cpu_target",
    "cpu_text",
    "host_target",
    "llvm_text",
    "load",
    "load_code",
    "lowering",
]
