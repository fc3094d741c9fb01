"""From what the user passes to what a kernel takes: one value for each parameter, and the call's signature.

Python's own rules give each parameter its value; then arrays become `numpy.ndarray`s over the same memory,
scalars NumPy scalars of the annotated type. Whatever does not fit raises `ArgumentError` with the parameter's
place in the kernel; nothing has been touched by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kdsl.dtypes import ArrayType, DType, TypeVar, constexpr, from_numpy
from kdsl.errors import ArgumentError
from kdsl.frontend_ast.signature import Arg, ArrayArg, ConstArg, Signature
from kdsl.frontend_ast.source import MISSING, KernelSource, ParamSpec
from kdsl.runtime.arrays import Array, array_dtype, as_array, numpy_text, type_name
from kdsl.runtime.device_array import DeviceArray
from kdsl.runtime.scalars import Bound, bind_typevar, is_scalar, scalar


@dataclass(frozen=True, slots=True)
class Arguments:
    """The values of one call, an entry for each parameter: arrays, NumPy scalars, constexpr values."""

    signature: Signature
    values: tuple[Any, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """The signature as a dictionary key."""
        return tuple([identity(a.value) if isinstance(a, ConstArg) else a for a in self.signature])

    def for_ir(self) -> list[Any]:
        """The values that a program takes: constexpr ones are part of its code."""
        return [v for v, a in zip(self.values, self.signature) if not isinstance(a, ConstArg)]


def identity(value: Any) -> Any:
    """A key that tells constexpr values apart which Python calls equal: 1, 1.0 and True, 0.0 and -0.0."""
    if isinstance(value, tuple):
        return tuple, tuple([identity(item) for item in value])
    return type(value), repr(value) if isinstance(value, float) else value


def arguments(
    source: KernelSource, args: Sequence[Any], kwargs: Mapping[str, Any], target: str = "cpu"
) -> Arguments:
    """The arguments of the call `kernel(*args, **kwargs)` on a target, converted.

    On a Vulkan device arrays may be there already; all are contiguous in the signature, since others are
    packed on their way.
    """
    packed = target.startswith("vulkan")
    given = bind(source, args, kwargs)
    values: list[Any] = [None] * len(given)
    signature: list[Arg | None] = [None] * len(given)
    bound: Bound = {}
    scalars: list[int] = []
    for n, (p, x) in enumerate(zip(source.params, given)):
        match p.annotation:
            case ArrayType() as annotation:
                values[n], signature[n] = _annotated_array(source, p, annotation, x, bound, target)
            case None if not is_scalar(x):
                a = _array(source, p, x, target)
                values[n], signature[n] = a, _array_arg(_dtype(source, p, a), a)
            case _ if p.annotation is constexpr:
                values[n], signature[n] = x, ConstArg(_hashable(source, p, x))
            case _:
                scalars.append(n)
    # Scalars after all arrays: `s: T` takes the type that the arrays give T.
    for n in scalars:
        values[n], signature[n] = scalar(source, source.params[n], given[n], bound)
    if packed:
        signature = [ArrayArg(a.dtype, a.rank) if isinstance(a, ArrayArg) else a for a in signature]
    return Arguments(tuple(a for a in signature if a is not None), tuple(values))


# -------------------------------------------------------------- Python's rules


def bind(source: KernelSource, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Any]:
    """The value given (or defaulted) for each parameter, in order."""
    params = source.params
    code = source.fn.__code__
    positional = len(params) - code.co_kwonlyargcount
    if len(args) > positional:
        raise ArgumentError(
            "K0401",
            f"{source.name} takes {_count(positional)}, {len(args)} given",
            loc=source.loc,
            help=f"call {_call(source)}",
        )
    values: list[Any] = [*args, *(MISSING for _ in range(len(params) - len(args)))]
    names = {p.name: n for n, p in enumerate(params)}
    for name, value in kwargs.items():
        at = names.get(name)
        if at is None or at < code.co_posonlyargcount:
            raise ArgumentError(
                "K0402",
                f"{source.name} has no {'keyword ' if at is not None else ''}argument `{name}`",
                loc=source.loc,
                help=f"call {_call(source)}",
            )
        if at < len(args):
            raise ArgumentError(
                "K0402",
                f"argument `{name}` of {source.name} is given twice",
                loc=params[at].loc,
                label=f"position {at + 1} gives it too",
                help=f"call {_call(source)}",
            )
        values[at] = value
    for n, p in enumerate(params):
        if values[n] is MISSING:
            if p.default is MISSING:
                raise ArgumentError(
                    "K0401",
                    f"argument `{p.name}` of {source.name} is missing",
                    loc=p.loc,
                    help=f"call {_call(source)}",
                )
            values[n] = p.default
    return values


def _count(n: int) -> str:
    return f"{n} positional argument{'' if n == 1 else 's'}"


def _call(source: KernelSource) -> str:
    """How the kernel is called: `matmul(A, B, C)`."""
    code = source.fn.__code__
    first_keyword = len(source.params) - code.co_kwonlyargcount
    shown = []
    for n, p in enumerate(source.params):
        default = "" if p.default is MISSING else f"={p.default!r}"
        shown.append(f"{p.name}={p.name}" if n >= first_keyword and not default else p.name + default)
    return f"{source.name}({', '.join(shown)})"


def _hashable(source: KernelSource, p: ParamSpec, x: Any) -> Any:
    try:
        hash(x)
    except TypeError:
        raise ArgumentError(
            "K0414",
            f"constexpr argument `{p.name}` of {source.name} is a {type_name(x)}, which cannot be hashed",
            loc=p.loc,
            label="its value is part of what is compiled",
            help="pass a number, a string, or a tuple of them",
        ) from None
    return x


# ---------------------------------------------------------------------- arrays


def _array(source: KernelSource, p: ParamSpec, x: Any, target: str) -> Array | DeviceArray:
    """As `as_array`; on a Vulkan device also an array that is there."""
    if not isinstance(x, DeviceArray):
        return as_array(source, p, x)
    if x.device == target:
        return x
    other = "the CPU's memory" if target in ("cpu", "interpreter") else target
    raise ArgumentError(
        "K0528",
        f"argument `{p.name}` of {source.name} lies on {x.device}, and the kernel runs on {target}",
        loc=p.loc,
        label=f"it takes arrays in {other}",
        help=f'run the kernel there, `{source.name}.on("{x.device}")(...)`, or pass `{p.name}.numpy()`',
    )


def _dtype(source: KernelSource, p: ParamSpec, a: Array | DeviceArray) -> DType:
    if isinstance(a, DeviceArray):
        found = from_numpy(a.dtype)
        assert found is not None, "`to_device` takes types that kdsl has"
        return found
    return array_dtype(source, p, a)


def _annotated_array(
    source: KernelSource, p: ParamSpec, annotation: ArrayType, x: Any, bound: Bound, target: str
) -> tuple[Array | DeviceArray, ArrayArg]:
    a = _array(source, p, x, target)
    rank = len(annotation.shape)
    if a.ndim != rank:
        raise ArgumentError(
            "K0404",
            f"argument `{p.name}` of {source.name} has {_dimensions(a.ndim)}, expected {rank}",
            loc=p.loc,
            label=f"its shape is {a.shape}",
            help=_reshape_hint(p, a, annotation),
        )
    dtype = _dtype(source, p, a)
    if isinstance(annotation.dtype, TypeVar):
        bind_typevar(source, p, annotation.dtype, dtype, bound)
    elif dtype != annotation.dtype:
        want = annotation.dtype
        raise ArgumentError(
            "K0405",
            f"argument `{p.name}` of {source.name} has dtype {a.dtype.name}, expected {want.np.name}",
            loc=p.loc,
            label=f"{want} elements",
            help=f"pass `{p.name}.astype({numpy_text(want)})` (a copy), or use a kdsl.typevar for both types",
        )
    return a, _array_arg(dtype, a)


def _array_arg(dtype: DType, a: Array | DeviceArray) -> ArrayArg:
    return ArrayArg(dtype, a.ndim, isinstance(a, DeviceArray) or a.flags.c_contiguous)


def _dimensions(n: int) -> str:
    return f"{n} dimension{'' if n == 1 else 's'}"


def _reshape_hint(p: ParamSpec, a: Array | DeviceArray, annotation: ArrayType) -> str:
    if a.ndim == len(annotation.shape) + 1 and 1 in a.shape:
        return f"drop the axis of length 1: `{p.name}.squeeze({a.shape.index(1)})`"
    if a.ndim + 1 == len(annotation.shape):
        return f"add an axis of length 1: `{p.name}[None]` or `{p.name}[..., None]`"
    return (
        f"pass an array with {_dimensions(len(annotation.shape))}: ({', '.join(map(str, annotation.shape))})"
    )
