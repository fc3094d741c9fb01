"""The table of cases: a kernel under a hand-written schedule, its arguments, and who else computes the same.

A peer is a module `benchmarks.peers_NAME`; its function `Case.computes` takes the kernel's arguments and
gives a call without arguments that computes the same, into the kernel's arrays where the package can. All
contenders write to the same memory: where an array lies decides some 10 % of what is bound by memory.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

import kdsl
from benchmarks import kernels as k
from examples.matmul import quantised

Array = np.ndarray[Any, Any]
Run = Callable[[], object]

PEERS = ("numpy", "numba", "torch")


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the tables: `kernel` under `schedule`, called with what `arguments()` makes."""

    name: str
    part: str
    computes: str
    """The function of the peers' modules."""
    kernel: Any
    schedule: Callable[[kdsl.Schedule], kdsl.Schedule]
    arguments: Callable[[], tuple[Any, ...]]
    peers: tuple[str, ...] = PEERS
    result: int = -1
    """Place of the array with the result; a call that returns something returns its result."""
    rtol: float = 1e-3
    atol: float = 1e-3


def installed(peer: str) -> bool:
    return importlib.util.find_spec(peer) is not None


def wanted(cases: Iterable[Case], word: str) -> list[Case]:
    """Those whose name contains the word, or whose part it is; all for an empty word."""
    return [c for c in cases if word in c.name or word == c.part]


def contenders(case: Case, peers: Iterable[str]) -> dict[str, Run]:
    """kdsl and the peers, ready to be timed; AssertionError where a peer's result is not kdsl's."""
    args = case.arguments()
    fresh = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    runs: dict[str, Run] = {"kdsl": partial(case.kernel.with_schedule(case.schedule), *args)}
    for peer in peers:
        runs[peer] = getattr(importlib.import_module(f"benchmarks.peers_{peer}"), case.computes)(*args)
    results = {}
    for who, run in runs.items():
        for array, before in zip(args, fresh, strict=True):
            if isinstance(array, np.ndarray):
                array[...] = before
        found = run()
        results[who] = np.array(args[case.result]) if found is None else as_array(found)
        np.testing.assert_allclose(
            results[who], results["kdsl"], case.rtol, case.atol, err_msg=f"{case.name}: {who} against kdsl"
        )
    return runs


def as_array(result: Any) -> Array:
    """A copy; NumPy knows no bf16 of PyTorch."""
    return np.array(result.float() if str(getattr(result, "dtype", "")) == "torch.bfloat16" else result)


# ------------------------------------------------------------------- arguments


def normal(*shape: int, dtype: Any = np.float32) -> Array:
    return np.random.default_rng(0).standard_normal(shape, dtype=dtype)


def product(m: int, n: int, terms: int, dtype: Any = np.float32) -> tuple[Any, ...]:
    return normal(m, terms, dtype=dtype), normal(terms, n, dtype=dtype), np.empty((m, n), dtype)


def product_u8s8() -> tuple[Any, ...]:
    rng, shape = np.random.default_rng(0), (1024, 1024)
    A, B = rng.integers(0, 256, shape, np.uint8), rng.integers(-128, 128, shape, np.int8)
    return A, B, np.empty(shape, np.int32)


def product_bf16() -> tuple[Any, ...]:
    A, B, C = product(1024, 1024, 1024)
    return A.astype(ml_dtypes.bfloat16), B.astype(ml_dtypes.bfloat16), C


def like(X: Array, *others: Any) -> tuple[Any, ...]:
    """An array, others, and one for the result."""
    return X, *others, np.empty_like(X)


def pixels() -> Array:
    return np.random.default_rng(0).integers(0, 1 << 14, (2050, 2050)).astype(np.uint16)


# ----------------------------------------------------------------------- table

# Numba's product is the BLAS of SciPy, which is that of NumPy once more.
BLAS = ("numpy", "torch")


def _against_blas(
    name: str,
    kernel: Any,
    schedule: Callable[[kdsl.Schedule], kdsl.Schedule],
    arguments: Callable[[], tuple[Any, ...]],
) -> Case:
    return Case(name, "products", "matmul", kernel, schedule, arguments, BLAS, atol=1e-2)


CASES = (
    *[
        _against_blas(f"matmul {n}³", k.matmul, k.blocked, partial(product, n, n, n))
        for n in (512, 1024, 2048)
    ],
    _against_blas("matmul 1000x999x1001", k.matmul, k.blocked, lambda: product(1000, 1001, 999)),
    *[
        _against_blas(f"matmul {n}³ f64", k.matmul_f64, k.blocked_f64, partial(product, n, n, n, np.float64))
        for n in (512, 1024, 2048)
    ],
    _against_blas("matmul 1x1024x1024", k.matmul, k.few_rows, lambda: product(1, 1024, 1024)),
    _against_blas("matmul 1024x8x1024", k.matmul_dots, k.few_columns, lambda: product(1024, 8, 1024)),
    Case(
        "matmul 1024³ u8 x i8 -> i32",
        "quantised",
        "matmul_u8s8",
        quantised.matmul_u8s8,
        quantised.schedule_u8s8,
        product_u8s8,
        BLAS,
        rtol=0.0,  # partial sums are integers below 2²⁴, so that f32 has them exactly too
        atol=0.0,
    ),
    Case(
        "matmul 1024³ bf16 -> f32",
        "quantised",
        "matmul_bf16",
        quantised.matmul_bf16,
        quantised.schedule_bf16,
        product_bf16,
        BLAS,
        rtol=1e-2,  # PyTorch's result is bf16
        atol=1e-2,
    ),
    Case("gelu 2²²", "elements", "gelu", k.gelu, k.elements, lambda: like(normal(1 << 22))),
    Case(
        "saxpy 2²⁴",
        "elements",
        "saxpy",
        k.saxpy,
        k.streamed,
        lambda: (np.float32(1e-3), normal(1 << 24), np.zeros(1 << 24, np.float32)),
    ),
    Case("sum 2²⁴", "elements", "total", k.total, k.shared_sum, lambda: (normal(1 << 24),), atol=1.0),
    Case("sum 2¹⁸", "elements", "total", k.total, k.shared_sum, lambda: (normal(1 << 18),), atol=0.1),
    Case("softmax 4096x1024", "rows", "softmax", k.softmax, k.by_rows, lambda: like(normal(4096, 1024))),
    Case(
        "layernorm 4096x1024",
        "rows",
        "layernorm",
        k.layernorm,
        k.streamed_rows,
        lambda: like(normal(4096, 1024), normal(1024), normal(1024)),
    ),
    Case(
        "blur 3x3, 2048²",
        "neighbours",
        "blur",
        k.blur,
        lambda s: k.window(s, 16),
        lambda: (normal(2050, 2050), np.empty((2048, 2048), np.float32)),
    ),
    Case(
        "blur 3x3, 2048², u16",
        "neighbours",
        "blur_u16",
        k.blur_u16,
        lambda s: k.window(s, 32),
        lambda: (pixels(), np.empty((2048, 2048), np.uint16)),
        ("numpy", "numba"),
        rtol=0.0,
        atol=0.0,
    ),
    Case(
        "conv2d 3x3, 64 to 64, 56²",
        "neighbours",
        "conv2d",
        k.conv2d,
        k.channels,
        lambda: (normal(64, 58, 58), normal(64, 64, 3, 3), np.empty((64, 56, 56), np.float32)),
        atol=1e-2,
    ),
    Case(
        "Jacobi 2048², 10 sweeps",
        "neighbours",
        "jacobi",
        k.jacobi,
        k.all_steps,
        lambda: (normal(2048, 2048), normal(2048, 2048)),
        result=0,
    ),
)
