"""An argument as an ndarray over the same memory, and what such memory must be like."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from kdsl.dtypes import DType, from_numpy
from kdsl.errors import ArgumentError
from kdsl.frontend_ast.source import KernelSource, ParamSpec

Array = np.ndarray[Any, Any]
SIZE_LIMIT = 1 << 47
_FOREIGN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BufferError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What an object's own code may raise when it is asked for its memory."""


def as_array(source: KernelSource, p: ParamSpec, x: Any) -> Array:
    """`x` as an ndarray over the same memory; ArgumentError for what is not an array on the CPU."""
    if type(x) is np.ndarray:
        return x
    if isinstance(x, np.ndarray):
        ma = sys.modules.get("numpy.ma")  # whoever made a masked array has imported it
        if ma is not None and isinstance(x, ma.MaskedArray):
            raise ArgumentError(
                "K0410",
                f"argument `{p.name}` of {source.name} is a masked array",
                loc=p.loc,
                label="a kernel would not see the mask",
                help=f"pass `{p.name}.filled(...)`, or `{p.name}.data` and `{p.name}.mask` as two arguments",
            )
        return x.view(np.ndarray)
    what = "None" if x is None else f"a {type_name(x)}"
    if not isinstance(x, np.generic):
        try:
            if hasattr(type(x), "__dlpack__"):
                from kdsl.runtime.dlpack import from_dlpack

                return from_dlpack(x)
            if hasattr(x, "__array_interface__"):
                _refuse_null(x.__array_interface__)
                return np.asarray(x, copy=False)
        except _FOREIGN as error:
            raise ArgumentError(
                "K0403",
                f"argument `{p.name}` of {source.name} is {what} whose memory cannot be used here",
                loc=p.loc,
                label=f"it says: {error}",
                help="move it to the CPU first",
            ) from error
    raise ArgumentError(
        "K0403",
        f"argument `{p.name}` of {source.name} is {what}, not an array",
        loc=p.loc,
        label="takes a NumPy array, or an object with `__dlpack__` or `__array_interface__`",
        help=f"pass `numpy.asarray({p.name})`" if isinstance(x, (list, tuple)) else "pass an array",
    )


def _refuse_null(interface: dict[str, Any]) -> None:
    """ValueError for elements at address 0: NumPy would make new memory for them."""
    data = interface.get("data")
    if isinstance(data, tuple) and data[0] == 0 and 0 not in interface["shape"]:
        raise ValueError("its elements are at address 0")


def array_dtype(source: KernelSource, p: ParamSpec, a: Array) -> DType:
    """The element type of `a`, whose memory must be usable as it is."""
    dtype = from_numpy(a.dtype)
    if dtype is None:
        native = from_numpy(a.dtype.newbyteorder("="))
        if native is not None:
            raise ArgumentError(
                "K0411",
                f"argument `{p.name}` of {source.name} is not in this machine's byte order ({a.dtype.str})",
                loc=p.loc,
                help=f"pass `{p.name}.astype({numpy_text(native)})` (a copy)",
            )
        what = "is a structured array" if a.dtype.names else f"has dtype {a.dtype}"
        raise ArgumentError(
            "K0413",
            f"argument `{p.name}` of {source.name} {what}, for which kdsl has no type",
            loc=p.loc,
            label="element types are floats, integers and bool",
            help=f'pass its fields one by one: `{p.name}["{a.dtype.names[0]}"]`'
            if a.dtype.names
            else (
                f"pass `{p.name}.real` and `{p.name}.imag`"
                if a.dtype.kind == "c"
                else "convert it with `astype`"
            ),
        )
    if not a.flags.aligned:
        raise ArgumentError(
            "K0412",
            f"argument `{p.name}` of {source.name} is misaligned: its {a.dtype.name} elements do not lie on "
            f"multiples of {a.dtype.alignment} bytes",
            loc=p.loc,
            help=f"pass `{p.name}.copy()`",
        )
    for dim, extent in enumerate(a.shape):
        if extent >= SIZE_LIMIT:
            raise ArgumentError(
                "K0407",
                f"argument `{p.name}` of {source.name} is too large: {p.name}.shape[{dim}] is {extent}",
                loc=p.loc,
                help="sizes must be below 2**47",
            )
    return dtype


def numpy_text(t: DType) -> str:
    return "ml_dtypes.bfloat16" if t.name == "bf16" else f"numpy.{t.np.name}"


def type_name(x: Any) -> str:
    t = type(x)
    return t.__qualname__ if t.__module__ in ("builtins", "numpy") else f"{t.__module__}.{t.__qualname__}"
