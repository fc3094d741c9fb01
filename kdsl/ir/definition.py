"""A function as a value: scalar parameters and one expression (math functions, before inlining)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kdsl.dtypes import DType
from kdsl.ir.nodes import Expr, ScalarParam


@dataclass(frozen=True, slots=True)
class Definition:
    """`body` (usually a chain of `Let`s) computes the function `name` of `params`, with primitives only."""

    name: str
    params: tuple[ScalarParam, ...]
    body: Expr


Resolver = Callable[[str, DType], Definition]
"""Gives the definition of a "math" builtin for an argument dtype (f32 or f64; u64 for random numbers)."""
