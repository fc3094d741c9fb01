"""Binding type variables: a kernel's parameters with the concrete types of one signature."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kdsl.dtypes import ArrayType, DType, TypeVar, constexpr
from kdsl.frontend_ast.signature import ArrayArg, ConstArg, ScalarArg, Signature
from kdsl.frontend_ast.source import KernelSource, ParamSpec


class SignatureConflict(Exception):
    """An argument's type does not fit its annotation: `param`, `title`, `help` (a way out, or empty)."""

    def __init__(self, param: ParamSpec, title: str, help: str = "") -> None:
        self.param = param
        self.title = title
        self.help = help
        super().__init__(title)


@dataclass(frozen=True, slots=True)
class Resolved:
    """`params` with type variables replaced; `types` gives each one's choice."""

    params: tuple[ParamSpec, ...]
    types: dict[str, DType]


def resolve_params(source: KernelSource, signature: Signature) -> Resolved:
    """Binds each type variable by its first argument. Raises SignatureConflict where types differ."""
    if len(signature) != len(source.params):
        raise AssertionError("one signature entry for each parameter")
    types: dict[str, DType] = {}
    first: dict[str, str] = {}
    out: list[ParamSpec] = []
    for p, arg in zip(source.params, signature):
        a = p.annotation
        if a is constexpr or isinstance(arg, ConstArg):
            if not (a is constexpr and isinstance(arg, ConstArg)):
                raise SignatureConflict(p, f"`{p.name}` is a compile-time value on one side only")
            out.append(p)
            continue
        if isinstance(a, ArrayType) and not isinstance(arg, ArrayArg):
            raise SignatureConflict(
                p, f"`{p.name}` must be an array {a!r}, not a scalar", "pass a NumPy array"
            )
        if isinstance(a, (DType, TypeVar)) and not isinstance(arg, ScalarArg):
            raise SignatureConflict(p, f"`{p.name}` must be a scalar {a!r}, not an array", "pass a number")
        if isinstance(a, ArrayType) and isinstance(arg, ArrayArg) and len(a.shape) != arg.rank:
            raise SignatureConflict(
                p,
                f"`{p.name}` has rank {arg.rank}, but {a!r} has rank {len(a.shape)}",
                "reshape it before the call",
            )
        element = a.dtype if isinstance(a, ArrayType) else a
        if isinstance(element, TypeVar):
            bound = types.get(element.name)
            if bound is None:
                if arg.dtype not in element.choices:
                    choices = ", ".join(map(str, element.choices))
                    raise SignatureConflict(
                        p,
                        f"`{p.name}` is {arg.dtype}, but {element} may be {choices}",
                        f"convert it to {element.choices[0]}",
                    )
                types[element.name], first[element.name] = arg.dtype, p.name
                bound = arg.dtype
            elif bound != arg.dtype and isinstance(arg, ArrayArg):
                raise SignatureConflict(
                    p,
                    f"`{p.name}` is {arg.dtype}, but {element} is {bound} from `{first[element.name]}`",
                    f"convert one of them: {p.name}.astype({bound.np.name!r})",
                )
            a = replace(a, dtype=bound) if isinstance(a, ArrayType) else bound
        elif isinstance(element, DType) and isinstance(arg, ArrayArg) and element != arg.dtype:
            raise SignatureConflict(
                p,
                f"`{p.name}` is an array of {arg.dtype}, but {element} is needed",
                f"convert it: {p.name}.astype({element.np.name!r})",
            )
        out.append(replace(p, annotation=a))
    return Resolved(tuple(out), types)
