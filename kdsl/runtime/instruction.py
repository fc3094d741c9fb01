"""`@kdsl.instruction`: a kernel that says what a machine instruction computes.

    @kdsl.instruction(llvm="llvm.x86.avx512.vpdpbusd.512", features=("avx512vnni",))
    def dot4_u8s8(acc: i32[16], a: u8[4], b: i8[16, 4]):
        for n in range(16):
            for q in range(4):
                acc[n] += i32(a[q]) * i32(b[n, q])

The intrinsic is called with the parameters as vectors, in their order: one that is only read has an element
for each point of the loops (64 here: `a` is repeated for each `n`), the one that is written its own elements,
or is left out when the function does not read it; the call gives its new elements. All this is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kdsl.errors import CompileError
from kdsl.ir import instructions
from kdsl.runtime.kernel import Kernel

if TYPE_CHECKING:
    from kdsl.frontend_ast.source import KernelSource
    from kdsl.ir.nodes import Instruction


class InstructionKernel(Kernel[...]):
    """A kernel that is the meaning of an instruction. It can be called as any kernel."""

    _llvm: str
    _features: tuple[str, ...]
    _exact: bool | None
    _made: Instruction | None = None

    @property
    def __kdsl_instruction__(self) -> Instruction:
        """What the schedule and the back ends need to know."""
        if self._made is None:
            self._made = _instruction(self)
        return self._made

    def __repr__(self) -> str:
        return super().__repr__().replace("<kdsl kernel", "<kdsl instruction", 1)

    def __reduce__(self) -> tuple[Any, ...]:
        from kdsl.runtime.pickling import reduce_source

        return _rebuild, (reduce_source(self.__kdsl_source__), self._llvm, self._features, self._exact)


def instruction(
    *, llvm: str, features: tuple[str, ...] = (), exact: bool | None = None
) -> Callable[[Callable[..., Any]], InstructionKernel]:
    """Declares an instruction by its meaning, for `tensorize`.

    The function is a kernel on arrays of constant shape: one loop nest from 0 on, which runs over each array
    as a whole and writes one. `llvm`: the intrinsic, called with the parameters as vectors. `features`: what
    the CPU must have, as LLVM spells it. `exact`: it gives the bits of the function (left out: for integers
    only); others are refused under `strict`.
    """

    def decorate(fn: Callable[..., Any]) -> InstructionKernel:
        from kdsl.frontend_ast.source import KernelSource

        source = KernelSource(fn, "kernel")
        _check_options(source, llvm, features, exact)
        return _declared(source, llvm, tuple(features), exact)

    return decorate


def _declared(
    source: KernelSource, llvm: str, features: tuple[str, ...], exact: bool | None
) -> InstructionKernel:
    made = InstructionKernel(source)
    made._llvm, made._features, made._exact = llvm, features, exact
    instructions.register(_name(made), lambda: made.__kdsl_instruction__)
    return made


def _rebuild(
    source: tuple[Any, ...], llvm: str, features: tuple[str, ...], exact: bool | None
) -> InstructionKernel:
    """Unpickles an instruction."""
    from kdsl.runtime.pickling import rebuild_source

    return _declared(rebuild_source(*source), llvm, features, exact)


def _check_options(source: KernelSource, llvm: Any, features: Any, exact: Any) -> None:
    wrong = ""
    if not (isinstance(llvm, str) and llvm.startswith("llvm.")):
        wrong, way = f"`llvm={llvm!r}` names no intrinsic", 'write llvm="llvm.x86.avx512.vpdpbusd.512"'
    elif isinstance(features, str):
        wrong, way = f"`features={features!r}` is no list of names", f'write features=("{features}",)'
    elif not all(isinstance(f, str) and re.fullmatch(r"[a-z0-9.-]+", f) for f in features):
        wrong, way = f"`features={features!r}` has other things than names", 'write features=("avx512vnni",)'
    elif exact not in (None, True, False):
        wrong, way = f"`exact={exact!r}` is neither True nor False", "write exact=True, or leave it out"
    if wrong:
        raise CompileError("K0140", wrong, loc=source.loc, help=way)


def _name(kernel: Kernel[Any]) -> str:
    return instructions.name_of(kernel.__module__, kernel.__qualname__)


def _instruction(kernel: InstructionKernel) -> Instruction:
    from kdsl.analysis.roles import Difference, roles
    from kdsl.ir.nodes import Instruction

    meaning = _meaning(kernel)
    found = roles(meaning)
    if isinstance(found, Difference):
        raise _refused(kernel, found)
    exact = kernel._exact
    if exact is None:
        exact = not any(r.written and r.param.dtype.is_float for r in found.operands)
    return Instruction(_name(kernel), meaning, kernel._llvm, kernel._features, exact)


def software(kernel: Kernel[Any]) -> Instruction:
    """A plain kernel as an instruction: its body, as its schedule has it, does what the kernel does."""
    from kdsl.analysis.roles import Difference
    from kdsl.analysis.roles import software as refusal
    from kdsl.ir.nodes import Instruction
    from kdsl.runtime.scheduling import scheduled

    meaning = _meaning(kernel)
    found = refusal(meaning)
    if found is not None:
        raise _refused(kernel, found)
    body = scheduled(kernel._recipe(meaning), meaning)
    if body.conditions:
        wrong = Difference(
            f"its schedule assumes that {body.conditions[0].title}", help="leave the `assume` out"
        )
        raise _refused(kernel, wrong)
    made = Instruction(_name(kernel), meaning, software=body)
    if instructions.named(made.name) is not kernel:
        made = replace(made, name=f"{made.name}#{instructions.digest(made)}")
        instructions.register(made.name, lambda: made)
    return made


def _meaning(kernel: Kernel[Any]) -> Any:
    from kdsl.frontend_ast import build
    from kdsl.runtime.inspection import default_signature

    return build(kernel.__kdsl_source__, default_signature(kernel.__kdsl_source__))


def _refused(kernel: Kernel[Any], found: Any) -> CompileError:
    return CompileError(
        "K0141",
        f"`{kernel.name}` cannot be the meaning of an instruction",
        loc=found.loc or kernel.__kdsl_source__.loc,
        label=found.text,
        help=found.help,
    )
