"""What a kernel becomes, as text, and the signature that annotations alone give."""

from __future__ import annotations

from dataclasses import replace

from kdsl.dtypes import ArrayType, DType, TypeVar, constexpr
from kdsl.errors import ArgumentError, TargetError
from kdsl.frontend_ast.signature import Arg, ArrayArg, ConstArg, ScalarArg, Signature
from kdsl.frontend_ast.source import MISSING, KernelSource, ParamSpec
from kdsl.runtime.compile import Request, front, lowered
from kdsl.runtime.targets import resolve
from kdsl.target import Target


def llvm_text(request: Request) -> str:
    """LLVM assembly after LLVM's passes."""
    from kdsl.backends import llvm

    _for_cpu(request, "llvm")
    cpu = resolve("cpu")
    return llvm.llvm_text(lowered(front(request), cpu), cpu)


def asm_text(request: Request) -> str:
    """Machine code as assembly."""
    from kdsl.backends import llvm

    _for_cpu(request, "asm")
    cpu = resolve("cpu")
    return llvm.asm_text(lowered(front(request), cpu), cpu)


def spirv_text(request: Request) -> str:
    """The SPIR-V module as assembly: for the request's Vulkan device, else for the first one; without one,
    for a device that can do what Vulkan 1.1 promises."""
    from kdsl.backends import vulkan
    from kdsl.runtime.device_code import spirv_text

    target = request.target
    if target.kind != "vulkan":
        target = resolve("vulkan") if vulkan.available() is None else Target("vulkan")
    packed = [ArrayArg(a.dtype, a.rank) if isinstance(a, ArrayArg) else a for a in request.signature]
    return spirv_text(front(replace(request, signature=tuple(packed), target=target)), target)


def _for_cpu(request: Request, what: str) -> None:
    if request.target.kind == "vulkan":
        raise TargetError(
            "K0531",
            f"{request.source.name} runs on {request.target.name}, which has no `{what}` form",
            help=f'`spirv()` shows what it becomes there; `kernel.on("cpu").{what}()` what on a CPU',
        )


def default_signature(source: KernelSource) -> Signature:
    """The signature of a call with contiguous arrays of the annotated types.

    A type variable stands for its first choice. ArgumentError when a parameter is typed by the call.
    """
    return tuple([_default(source, p) for p in source.params])


def has_default_signature(source: KernelSource) -> bool:
    """Whether the annotations type every parameter."""
    return all(
        p.annotation is not None and (p.annotation is not constexpr or p.default is not MISSING)
        for p in source.params
    )


def _default(source: KernelSource, p: ParamSpec) -> Arg:
    match p.annotation:
        case ArrayType() as a:
            return ArrayArg(_first(a.dtype), len(a.shape))
        case DType() | TypeVar() as t:
            return ScalarArg(_first(t))
        case _ if p.annotation is constexpr and p.default is not MISSING:
            return ConstArg(p.default)
        case _:
            raise ArgumentError(
                "K0421",
                f"argument `{p.name}` of {source.name} has no type before a call",
                loc=p.loc,
                help=f"call {source.name} first, or pass the arguments here: {source.name}.ir(...)",
            )


def _first(t: DType | TypeVar) -> DType:
    return t.choices[0] if isinstance(t, TypeVar) else t
