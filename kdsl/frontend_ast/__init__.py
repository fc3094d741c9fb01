"""Python source to typed IR. Decorated functions are read at once; what builds IR loads when it is used."""

from typing import TYPE_CHECKING, Any

from kdsl.frontend_ast.signature import Arg, ArrayArg, ConstArg, ScalarArg, Signature
from kdsl.frontend_ast.source import MISSING, KernelSource, ParamSpec

if TYPE_CHECKING:
    from kdsl.frontend_ast.builder import build, build_definition
    from kdsl.frontend_ast.resolve import Resolved, SignatureConflict, resolve_params

__all__ = [
    "MISSING",
    "Arg",
    "ArrayArg",
    "ConstArg",
    "KernelSource",
    "ParamSpec",
    "Resolved",
    "ScalarArg",
    "Signature",
    "SignatureConflict",
    "build",
    "build_definition",
    "resolve_params",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kdsl.frontend_ast' has no attribute {name!r}")
    from kdsl.frontend_ast import builder, resolve

    value = getattr(builder if name.startswith("build") else resolve, name)
    globals()[name] = value
    return value
