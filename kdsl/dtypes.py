"""Element types, symbolic sizes and the annotations made of them.

`DType` is the one list of element types; `promote` is NumPy 2's promotion (NEP 50) between
strong types. `Size` is an affine expression of size symbols (`M + 2`), `ArrayType` an annotation
`f32[M, K]`, `TypeVar` a generic element type.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

Kind = Literal["bool", "int", "uint", "float"]


@dataclass(frozen=True, slots=True, repr=False)
class DType:
    """An element type: `bits` wide in memory. Call it to cast a scalar, index it to annotate an array."""

    name: str
    kind: Kind
    bits: int

    @property
    def bytes(self) -> int:
        """Size of an element in memory."""
        return max(1, self.bits // 8)

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_int(self) -> bool:
        """Integers of either sign; bool is not one."""
        return self.kind in ("int", "uint")

    @property
    def min(self) -> int:
        """Smallest value of an integer type (of bool: 0)."""
        return -(1 << (self.bits - 1)) if self.kind == "int" else 0

    @property
    def max(self) -> int:
        """Largest value of an integer type (of bool: 1)."""
        if self.kind == "bool":
            return 1
        return (1 << (self.bits - 1)) - 1 if self.kind == "int" else (1 << self.bits) - 1

    @property
    def mantissa_bits(self) -> int:
        """Significant bits of a float type, the hidden one included."""
        return {"f16": 11, "bf16": 8, "f32": 24, "f64": 53}[self.name]

    @property
    def np(self) -> np.dtype[Any]:
        """The NumPy dtype (bf16's comes from `ml_dtypes`, which must then be installed)."""
        return _numpy_dtype(self.name)

    def __call__(self, x: Any) -> Any:
        """`x` cast to this type as NumPy's `astype` does, wrapping integers."""
        with np.errstate(all="ignore"):
            return np.asarray(x).astype(self.np)[()]

    def __getitem__(self, shape: Any) -> ArrayType:
        return ArrayType(self, _shape(shape))

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, ...]:
        return by_name, (self.name,)


f16 = DType("f16", "float", 16)
bf16 = DType("bf16", "float", 16)
f32 = DType("f32", "float", 32)
f64 = DType("f64", "float", 64)
i8 = DType("i8", "int", 8)
i16 = DType("i16", "int", 16)
i32 = DType("i32", "int", 32)
i64 = DType("i64", "int", 64)
u8 = DType("u8", "uint", 8)
u16 = DType("u16", "uint", 16)
u32 = DType("u32", "uint", 32)
u64 = DType("u64", "uint", 64)
bool_ = DType("bool_", "bool", 8)

ALL: tuple[DType, ...] = (f16, bf16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64, bool_)
_BY_NAME = {t.name: t for t in ALL}
_NUMPY_NAMES = {
    "f16": "float16", "f32": "float32", "f64": "float64", "bool_": "bool",
    "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64",
    "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
}  # fmt: skip


def by_name(name: str) -> DType:
    """The type called `name` ("f32"); KeyError when there is none."""
    return _BY_NAME[name]


@cache
def _numpy_dtype(name: str) -> np.dtype[Any]:
    if name == "bf16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(_NUMPY_NAMES[name])


@cache
def from_numpy(dtype: np.dtype[Any]) -> DType | None:
    """The type of a NumPy dtype in native byte order; None when kdsl has none for it."""
    if dtype.name == "bfloat16":
        return bf16
    for name, numpy_name in _NUMPY_NAMES.items():
        if dtype == np.dtype(numpy_name):
            return _BY_NAME[name]
    return None


@cache
def promote(a: DType, b: DType) -> DType:
    """The type of `a op b` for two strong types, as `np.promote_types` (bf16 as `ml_dtypes`).

    i32 with f32 gives f64, u64 with i64 gives f64, f16 with bf16 gives f32. Source: NEP 50.
    """
    if a == b:
        return a
    if bf16 in (a, b):
        other = b if a == bf16 else a
        if other.kind == "bool" or other in (i8, u8):
            return bf16
        if other in (f16, i16, u16):
            return f32
        return f32 if other == f32 else f64
    result = from_numpy(np.promote_types(a.np, b.np))
    assert result is not None
    return result


# ---------------------------------------------------------------- symbolic sizes


class Size:
    """An affine expression of size symbols: `M`, `M + 2`, `2 * N - K`. Immutable, hashable.

    `terms` maps a symbol to its nonzero coefficient; `const` is the rest.
    """

    __slots__ = ("const", "terms")
    terms: Mapping[str, int]
    const: int

    def __init__(self, terms: Mapping[str, int], const: int = 0) -> None:
        self.terms = {k: v for k, v in sorted(terms.items()) if v}
        self.const = const

    @property
    def symbol(self) -> str | None:
        """The name when this is one bare symbol, else None."""
        if self.const == 0 and list(self.terms.values()) == [1]:
            return next(iter(self.terms))
        return None

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The number for given symbol values; KeyError names a missing symbol."""
        return sum(c * values[s] for s, c in self.terms.items()) + self.const

    def __add__(self, other: Any) -> Size:
        o = as_size(other)
        if o is None:
            return NotImplemented
        merged = dict(self.terms)
        for s, c in o.terms.items():
            merged[s] = merged.get(s, 0) + c
        return Size(merged, self.const + o.const)

    __radd__ = __add__

    def __neg__(self) -> Size:
        return Size({s: -c for s, c in self.terms.items()}, -self.const)

    def __sub__(self, other: Any) -> Size:
        o = as_size(other)
        return NotImplemented if o is None else self + (-o)

    def __rsub__(self, other: Any) -> Size:
        o = as_size(other)
        return NotImplemented if o is None else o + (-self)

    def __mul__(self, other: Any) -> Size:
        if isinstance(other, Size) and self.terms and other.terms:
            raise TypeError(f"the product of {self} and {other} is not an affine expression")
        if isinstance(other, Size):
            return self * other.const if not other.terms else other * self.const
        if isinstance(other, (int, np.integer)):
            return Size({s: c * int(other) for s, c in self.terms.items()}, self.const * int(other))
        return NotImplemented

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        o = as_size(other)
        return o is not None and self.terms == o.terms and self.const == o.const

    def __hash__(self) -> int:
        return hash((tuple(self.terms.items()), self.const))

    def __repr__(self) -> str:
        parts: list[str] = []
        for s, c in self.terms.items():
            body = s if abs(c) == 1 else f"{abs(c)} * {s}"
            parts.append(("-" if c < 0 else "") + body if not parts else f"{'-' if c < 0 else '+'} {body}")
        if not parts:
            return str(self.const)
        if self.const:
            parts.append(f"{'-' if self.const < 0 else '+'} {abs(self.const)}")
        return " ".join(parts)

    def __index__(self) -> int:
        if self.terms:
            raise TypeError(f"size {self} has no value outside a kernel; inside `kernel.py` it is a number")
        return self.const


def as_size(x: object) -> Size | None:
    """`x` (a Size or an integer) as a Size, else None."""
    if isinstance(x, Size):
        return x
    if isinstance(x, (int, np.integer)) and not isinstance(x, (bool, np.bool_)):
        return Size({}, int(x))
    return None


def sizes(names: str) -> Any:
    """Symbolic sizes, one for each name in `names`: `M, N = kdsl.sizes("M N")`.

    One name gives a single `Size`, several a tuple. Equal names are the same symbol.
    """
    out = []
    for name in names.replace(",", " ").split():
        if not name.isidentifier():
            raise ValueError(f"kdsl.sizes: {name!r} is not an identifier")
        out.append(Size({name: 1}))
    if not out:
        raise ValueError('kdsl.sizes needs at least one name, as in kdsl.sizes("M N")')
    return out[0] if len(out) == 1 else tuple(out)


# ---------------------------------------------------------------- annotations


@dataclass(frozen=True, slots=True)
class ArrayType:
    """The annotation `f32[M, K]`: `dtype` may be a `TypeVar`, each dimension is a `Size`."""

    dtype: DType | TypeVar
    shape: tuple[Size, ...]

    def __repr__(self) -> str:
        return f"{self.dtype!r}[{', '.join(map(repr, self.shape))}]"


@dataclass(frozen=True, slots=True, repr=False)
class TypeVar:
    """A generic element type that a call binds to one of `choices`."""

    name: str
    choices: tuple[DType, ...]

    def __getitem__(self, shape: Any) -> ArrayType:
        return ArrayType(self, _shape(shape))

    def __repr__(self) -> str:
        return self.name


def typevar(name: str, *choices: DType) -> TypeVar:
    """A type variable over `choices` (all types when none are given): `T = kdsl.typevar("T", f32, f64)`."""
    for c in choices:
        if not isinstance(c, DType):
            raise TypeError(f"kdsl.typevar: {c!r} is not a kdsl type")
    return TypeVar(name, choices or ALL)


class constexpr:
    """Annotation of an argument whose value is known when the kernel is compiled."""


_EXTENT_LIMIT = 1 << 47
"""Extents, and the numbers in sizes, are below this."""


def _shape(shape: Any) -> tuple[Size, ...]:
    out = []
    for dim in shape if isinstance(shape, tuple) else (shape,):
        size = as_size(dim)
        if size is None:
            raise TypeError(
                f"array dimension {dim!r} is not a size: use an integer, a symbol from kdsl.sizes(...), "
                "or an affine expression of symbols"
            )
        if any(abs(n) >= _EXTENT_LIMIT for n in (*size.terms.values(), size.const)):
            raise ValueError("an array dimension is 2**47 or more")
        if not size.terms and size.const < 0:
            raise ValueError(f"array dimension {dim!r} is negative")
        out.append(size)
    return tuple(out)
