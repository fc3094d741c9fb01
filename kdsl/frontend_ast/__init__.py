"""Python source to typed IR."""

from kdsl.frontend_ast.build import build, build_definition
from kdsl.frontend_ast.resolve import Resolved, SignatureConflict, resolve_params
from kdsl.frontend_ast.signature import Arg, ArrayArg, ConstArg, ScalarArg, Signature
from kdsl.frontend_ast.source import MISSING, KernelSource, ParamSpec

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
