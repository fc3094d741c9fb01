"""PyTorch's side: eager, results to tensors over the kernel's arrays where its functions take `out=`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional

Array = np.ndarray[Any, Any]
Run = Callable[[], object]

torch.set_grad_enabled(False)


def matmul(A: Array, B: Array, C: Array) -> Run:
    a, b, c = _tensors(A, B, C)
    return lambda: torch.mm(a, b, out=c)


def matmul_u8s8(A: Array, B: Array, C: Array) -> Run:
    """What its quantised layers call; summed in i32 too."""
    a, b, c = _tensors(A, B, C)
    return lambda: torch._int_mm(a, b, out=c)


def matmul_bf16(A: Array, B: Array, C: Array) -> Run:
    """The result is bf16: on a CPU there is no product of bf16 with one of f32."""
    a, b = (t.view(torch.bfloat16) for t in _tensors(A.view(np.int16), B.view(np.int16)))
    c = torch.empty(C.shape, dtype=torch.bfloat16)
    return lambda: torch.mm(a, b, out=c)


def gelu(X: Array, Y: Array) -> Run:
    x, y = _tensors(X, Y)
    return lambda: torch.ops.aten.gelu.out(x, approximate="tanh", out=y)


def saxpy(a: np.float32, X: Array, Y: Array) -> Run:
    x, y = _tensors(X, Y)
    alpha = float(a)
    return lambda: y.add_(x, alpha=alpha)


def total(X: Array) -> Run:
    (x,) = _tensors(X)
    return lambda: torch.sum(x)


def softmax(X: Array, Y: Array) -> Run:
    x, y = _tensors(X, Y)
    return lambda: torch.softmax(x, 1, out=y)


def layernorm(X: Array, g: Array, b: Array, Y: Array) -> Run:
    x, weight, bias = _tensors(X, g, b)
    return lambda: functional.layer_norm(x, (X.shape[1],), weight, bias, 1e-5)


def blur(A: Array, B: Array) -> Run:
    """Two stages on slices, as with NumPy: several times as fast as `avg_pool2d`."""
    a, b = _tensors(A, B)
    p, s = torch.empty((A.shape[0], B.shape[1])), torch.empty(B.shape)

    def run() -> None:
        torch.add(a[:, :-2], a[:, 1:-1], out=p)
        torch.add(p, a[:, 2:], out=p)
        torch.mul(p, 1 / 3, out=p)
        torch.add(p[:-2], p[1:-1], out=s)
        torch.add(s, p[2:], out=s)
        torch.mul(s, 1 / 3, out=b)

    return run


def conv2d(X: Array, W: Array, Y: Array) -> Run:
    x, w = _tensors(X[None], W)
    return lambda: functional.conv2d(x, w)[0]


def jacobi(A: Array, B: Array) -> Run:
    """Slices, as with NumPy."""
    a, b = _tensors(A, B)
    s = torch.empty((len(A) - 2, len(A) - 2))

    def run() -> None:
        for _ in range(5):
            for x, y in ((a, b), (b, a)):
                torch.add(x[1:-1, 1:-1], x[1:-1, :-2], out=s)
                torch.add(s, x[1:-1, 2:], out=s)
                torch.add(s, x[:-2, 1:-1], out=s)
                torch.add(s, x[2:, 1:-1], out=s)
                torch.mul(s, 0.2, out=y[1:-1, 1:-1])

    return run


def _tensors(*arrays: Array) -> list[Any]:
    return [torch.from_numpy(a) for a in arrays]
