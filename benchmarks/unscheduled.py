"""Kernels as written, without a schedule, against NumPy and (when installed) the same loops in Numba.

Each row is one process, contenders interleaved, medians; all on one thread but NumPy's BLAS, which
takes what it is given (OPENBLAS_NUM_THREADS=1 pins it).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import kdsl
from benchmarks.timing import Contenders, duration, interleaved_medians, table
from kdsl import f32

try:
    import numba
except ImportError:
    numba = None

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] = 0.0
        for k in range(K):
            for j in range(N):
                C[i, j] += A[i, k] * B[k, j]


@kdsl.kernel
def saxpy(a: f32, X: f32[N], Y: f32[N]):
    for i in range(N):
        Y[i] = a * X[i] + Y[i]


@kdsl.kernel
def softmax(X: f32[M, N], Y: f32[M, N]):
    for i in range(M):
        top = X[i, 0]
        for j in range(1, N):
            top = max(top, X[i, j])
        total = f32(0)
        for j in range(N):
            Y[i, j] = kdsl.exp(X[i, j] - top)
        for j in range(N):
            total += Y[i, j]
        for j in range(N):
            Y[i, j] /= total


@kdsl.kernel
def gelu(X: f32[N], Y: f32[N]):
    for i in range(N):
        x = X[i]
        Y[i] = 0.5 * x * (1 + kdsl.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def _numba_peers() -> dict[str, Callable[..., None]]:
    """The same loops for Numba, in its default float mode."""
    if numba is None:
        return {}
    one, half, cubic, root = np.float32(1), np.float32(0.5), np.float32(0.044715), np.float32(0.7978845608)

    @numba.njit
    def nb_matmul(A, B, C):
        for i in range(A.shape[0]):
            for j in range(B.shape[1]):
                C[i, j] = 0.0
            for k in range(A.shape[1]):
                for j in range(B.shape[1]):
                    C[i, j] += A[i, k] * B[k, j]

    @numba.njit
    def nb_saxpy(a, X, Y):
        for i in range(X.shape[0]):
            Y[i] = a * X[i] + Y[i]

    @numba.njit
    def nb_softmax(X, Y):
        for i in range(X.shape[0]):
            top = X[i, 0]
            for j in range(1, X.shape[1]):
                top = max(top, X[i, j])
            for j in range(X.shape[1]):
                Y[i, j] = math.exp(X[i, j] - top)
            total = np.float32(0)
            for j in range(X.shape[1]):
                total += Y[i, j]
            for j in range(X.shape[1]):
                Y[i, j] /= total

    @numba.njit
    def nb_gelu(X, Y):
        for i in range(X.shape[0]):
            x = X[i]
            Y[i] = half * x * (one + math.tanh(root * (x + cubic * x * x * x)))

    return {"matmul": nb_matmul, "saxpy": nb_saxpy, "softmax": nb_softmax, "gelu": nb_gelu}


def np_softmax(X: np.ndarray, Y: np.ndarray) -> None:
    np.subtract(X, X.max(axis=1, keepdims=True), out=Y)
    np.exp(Y, out=Y)
    np.divide(Y, Y.sum(axis=1, keepdims=True), out=Y)


def np_gelu(X: np.ndarray, Y: np.ndarray, T: np.ndarray) -> None:
    np.multiply(X, X, out=T)
    np.multiply(T, X, out=T)
    np.multiply(T, np.float32(0.044715), out=T)
    np.add(T, X, out=T)
    np.multiply(T, np.float32(0.7978845608), out=T)
    np.tanh(T, out=T)
    np.add(T, np.float32(1), out=T)
    np.multiply(X, np.float32(0.5), out=Y)
    np.multiply(Y, T, out=Y)


def _np_saxpy(a: np.float32, X: np.ndarray, Y: np.ndarray, T: np.ndarray) -> None:
    np.multiply(X, a, out=T)
    np.add(T, Y, out=Y)


def main() -> str:
    """Runs all rows; returns the Markdown table."""
    rng = np.random.default_rng(0)
    peers = _numba_peers()
    a = np.float32(1e-3)
    A, B, C = (rng.standard_normal((512, 512), dtype=np.float32) for _ in range(3))
    X, Y, T = (rng.standard_normal(1 << 18, dtype=np.float32) for _ in range(3))
    S, R = (rng.standard_normal((256, 1024), dtype=np.float32) for _ in range(2))
    cases: dict[str, Contenders] = {
        "matmul 512³ (i-k-j)": {
            "kdsl": lambda: matmul(A, B, C),
            "numpy": lambda: np.matmul(A, B, out=C),
            "numba": lambda: peers["matmul"](A, B, C),
        },
        "saxpy 2¹⁸": {
            "kdsl": lambda: saxpy(a, X, Y),
            "numpy": lambda: _np_saxpy(a, X, Y, T),
            "numba": lambda: peers["saxpy"](a, X, Y),
        },
        "softmax 256x1024": {
            "kdsl": lambda: softmax(S, R),
            "numpy": lambda: np_softmax(S, R),
            "numba": lambda: peers["softmax"](S, R),
        },
        "gelu 2¹⁸": {
            "kdsl": lambda: gelu(X, Y),
            "numpy": lambda: np_gelu(X, Y, T),
            "numba": lambda: peers["gelu"](X, Y),
        },
    }
    rows = []
    for name, contenders in cases.items():
        chosen = {k: v for k, v in contenders.items() if k != "numba" or peers}
        medians = interleaved_medians(chosen)
        ours = medians["kdsl"]
        rows.append(
            [name, duration(ours)]
            + [f"{medians[k] / ours:.2f} x" if k in medians else "not installed" for k in ("numpy", "numba")]
        )
    return table(["f32, one thread", "kdsl", "faster than NumPy", "faster than Numba"], rows)


if __name__ == "__main__":
    print(main())
