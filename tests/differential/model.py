"""What a generated program is made of: expressions with their types, names in scope, the finished source."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from kdsl.dtypes import DType, bf16, bool_, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64

V = TypeVar("V")
Pick = Callable[[Sequence[Any]], Any]

INTS = (i32, i64, u8, i8, u32, i16, u16, u64)
FLOATS = (f32, f64, f16, bf16)
LARGE = 67
STORED = 64  # bound on floats in variables in the exact regime
EXACT = {"bf16": 2**8, "f16": 2**11, "f32": 2**24, "f64": 2**53}


@dataclass(frozen=True)
class E:
    """An expression: text, type, range of a weak integer, bound on the magnitude of a number."""

    text: str
    type: DType | Literal["wint", "wfloat"]
    low: int = 0
    high: int = 0

    bound: float = math.inf

    @property
    def mag(self) -> float:
        if self.type == "wint":
            return max(abs(self.low), abs(self.high))
        if isinstance(self.type, DType) and not self.type.is_float:
            return min(self.bound, max(self.type.max, -self.type.min))
        return self.bound

    @property
    def is_float(self) -> bool:
        return self.type == "wfloat" or (isinstance(self.type, DType) and self.type.is_float)

    @property
    def is_int(self) -> bool:
        return self.type == "wint" or (isinstance(self.type, DType) and self.type.is_int)

    @property
    def is_bool(self) -> bool:
        return self.type == bool_


@dataclass(frozen=True)
class Array:
    """`accumulator`: written by `+=` only and never read (floats of the exact regime)."""

    name: str
    dtype: DType
    dims: tuple[str, ...]
    accumulator: bool = False


@dataclass
class Scope:
    """What a statement can name: loop variables with the sizes that bound them, scalars, arrays."""

    loops: dict[str, tuple[str, ...]] = field(default_factory=dict)
    scalars: dict[str, DType] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)
    breakable: bool = False

    def inner(self, **changes: Any) -> Scope:
        new = Scope(
            dict(self.loops), dict(self.scalars), dict(self.counters), dict(self.arrays), self.breakable
        )
        for key, value in changes.items():
            setattr(new, key, value)
        return new


@dataclass(frozen=True)
class Source:
    """A generated program: its text, the parameters of `program`, and the values for a call."""

    text: str
    params: tuple[Array | tuple[str, DType], ...]
    strict: bool
    n: int
    m: int
    seed: int
    bad_index: bool
    layout: str
    math: bool

    def arguments(self) -> list[Any]:
        """Arrays and scalars for a call, made from the seed."""
        rng = np.random.default_rng(self.seed)
        extent = {"N": self.n, "M": self.m}
        out: list[Any] = []
        for p in self.params:
            if isinstance(p, tuple):
                out.append(self._numbers(rng, p[1], ())[()])
            elif p.name == "IDX":
                indices = rng.integers(0, max(1, min(self.n, self.m)), self.n)
                if self.bad_index and self.n:
                    indices[rng.integers(self.n)] = rng.choice([-1, self.n, 100])
                out.append(indices.astype(p.dtype.np))
            else:
                out.append(self._laid_out(self._numbers(rng, p.dtype, tuple(extent[d] for d in p.dims))))
        return out

    def _laid_out(self, a: Any) -> Any:
        """`a` with the program's memory layout."""
        match self.layout:
            case "transposed":
                return a.T.copy().T
            case "reversed":
                return a[::-1].copy()[::-1]
            case "spaced":
                wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
                wide[..., ::2] = a
                return wide[..., ::2]
            case _:
                return a

    def _numbers(self, rng: np.random.Generator, dtype: DType, shape: tuple[int, ...]) -> Any:
        if dtype == bool_:
            return rng.integers(0, 2, shape).astype(bool)
        if dtype.is_int:
            wide = rng.integers(dtype.min, dtype.max, shape, dtype=dtype.np, endpoint=True)
            small = rng.integers(0 if dtype.min == 0 else -4, 5, shape).astype(dtype.np)
            edge = rng.choice(np.array([dtype.min, dtype.max], dtype.np), shape)
            return np.select([rng.random(shape) < 0.7, rng.random(shape) < 0.6], [small, wide], edge)
        if not self.strict:
            return rng.integers(-8, 9, shape).astype(dtype.np)
        plain = rng.normal(0, 3, shape)
        special = rng.choice([0.0, -0.0, math.inf, -math.inf, math.nan, 1e-42, 6e4, 1e-310, 0.5, -2.5], shape)
        with np.errstate(over="ignore"):
            return np.where(rng.random(shape) < 0.85, plain, special).astype(dtype.np)
