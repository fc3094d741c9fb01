"""Recipes and the schedules of the benchmarks: right at ragged sizes, fast machine code where it counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import kdsl
from benchmarks import kernels as k
from kdsl import f32, recipes
from kdsl.backends.llvm import asm_text, host_target
from kdsl.errors import ScheduleError
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.sched import Schedule
from kdsl.target import Target
from tests.sched.check import check_schedule, schedule_of

M, N = kdsl.sizes("M N")
Steps = Callable[[Schedule], Schedule]


@kdsl.kernel
def scaled_rows(X: f32[M, N], Y: f32[M, N]):
    for i in range(M):
        total = f32(0)
        for j in range(N):
            total += X[i, j]
        for j in range(N):
            Y[i, j] = X[i, j] * total


@kdsl.kernel
def transposed(X: f32[M, N], Y: f32[N, M]):
    for i in range(M):
        for j in range(N):
            Y[j, i] = X[i, j]


SMALL: dict[str, tuple[Any, Steps]] = {
    "gemm": (
        k.matmul,
        lambda s: recipes.gemm(s, "i", "j", "k", "B", "C", size=(2, 4), blocks=(4, 8, 4), lanes=2),
    ),
    "gemm, one vector a row": (
        k.matmul_f64,
        lambda s: recipes.gemm(s, "i", "j", "k", "B", "C", size=(3, 4), blocks=(3, 4, 2), lanes=4),
    ),
    "register_tile": (k.matmul_dots, lambda s: recipes.register_tile(s, "i", "j", ["k"], (3, 4), 2)),
    "register_tile of a convolution": (
        k.conv2d,
        lambda s: recipes.register_tile(s, "d", "x", ["c", "ky", "kx"], (2, 8), 4, outside=["y"]),
    ),
    "parallel_rows": (scaled_rows, lambda s: recipes.parallel_rows(s, "i", ["j", "j_1"], 4)),
    "vector_elementwise": (k.saxpy, lambda s: recipes.vector_elementwise(s, "i", 4)),
    "tile2d": (transposed, lambda s: recipes.tile2d(s, "i", "j", (4, 8), 4)),
    "pack": (transposed, lambda s: recipes.pack(s.split("j", 4), "X", "j_o", lanes=4)),
    "pack in panels": (transposed, lambda s: recipes.pack(s, "X", "i", panel=2, lanes=2)),
    "few rows": (k.matmul, k.few_rows),
    "sum": (k.total, lambda s: recipes.vector_sum(s, "i", 8)),
    "reduce_registers": (k.total, lambda s: recipes.reduce_registers(s, "i", 2, 3)),
    "vector_stream": (k.saxpy, lambda s: recipes.vector_stream(s, "i", 4, 2)),
    "reduce_tree": (k.total, lambda s: recipes.reduce_tree(s, "i", 4, 2)),
    "gpu_elementwise": (k.saxpy, lambda s: recipes.gpu_elementwise(s, "i", 2, 4)),
    "gpu_sum": (k.total, lambda s: recipes.gpu_sum(s, "i", 8, 2)),
    "gpu_register_tile": (
        k.matmul_dots,
        lambda s: recipes.gpu_register_tile(s, "i", "j", ["k"], (2, 2), 2),
    ),
    "gpu_tile": (
        k.matmul_dots,
        lambda s: recipes.gpu_tile(s, "i", "j", "k", ["A", "B"], (2, 4, 2), (1, 2), 2),
    ),
    "gpu_tile of several terms": (
        k.conv2d,
        lambda s: recipes.gpu_tile(
            s, "d", "x", ["c", "ky", "kx"], ["X", "F"], (2, 4, 2), (1, 2), 2, outside=["y"]
        ),
    ),
    "gpu_rows": (scaled_rows, lambda s: recipes.gpu_rows(s, "i", ["j", "j_1"], 4)),
    "window": (k.blur, lambda s: k.window(s, 4)),
    "window of integers": (k.blur_u16, lambda s: k.window(s, 8)),
}


@pytest.mark.parametrize("name", SMALL)
def test_recipe(name: str) -> None:
    check_schedule(*SMALL[name])


def test_time_tile() -> None:
    """Exactly the floats of the program: each cell is computed as before."""
    s = recipes.time_tile(k.jacobi.schedule(), "t", "i", "i_1", ["j", "j_1"], rows=4, lanes=4)
    fast = k.jacobi.with_schedule(s)
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 3, 5, 16, 23, 34):
        A = rng.standard_normal((n, n), dtype=np.float32)
        mine, plain = (A.copy(), A.copy()), (A.copy(), A.copy())
        fast(*mine)
        k.jacobi(*plain)
        for got, want in zip(mine, plain):
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [(7, 67, 131), (13, 1, 530), (1, 64, 1), (6, 130, 512)])
def test_blocked_products(size: tuple[int, int, int]) -> None:
    """The schedules that are timed, at sizes that cut every block."""
    m, n, terms = size
    rng = np.random.default_rng(0)
    for kernel, steps, dtype in (
        (k.matmul, k.blocked, "f4"),
        (k.matmul_f64, k.blocked_f64, "f8"),
        (k.matmul_dots, k.few_columns, "f4"),
    ):
        fast = kernel.with_schedule(steps(kernel.schedule()))
        A, B = (rng.integers(-3, 4, shape).astype(dtype) for shape in ((m, terms), (terms, n)))
        C = np.full((m, n), 7, dtype)
        fast(A, B, C)
        np.testing.assert_array_equal(C, A @ B)


def test_rows_and_elements() -> None:
    rng = np.random.default_rng(0)
    for rows, columns in ((3, 67), (1, 1), (2, 64), (2, 131)):
        X = rng.standard_normal((rows, columns), dtype=np.float32)
        Y = np.empty_like(X)
        k.softmax.with_schedule(k.by_rows(k.softmax.schedule()))(X, Y)
        e = np.exp(X - X.max(axis=1, keepdims=True))
        np.testing.assert_allclose(Y, e / e.sum(axis=1, keepdims=True), rtol=1e-5, atol=1e-6)
        g, b = rng.standard_normal((2, columns), dtype=np.float32)
        k.layernorm.with_schedule(k.streamed_rows(k.layernorm.schedule()))(X, g, b, Y)
        centred = X - X.mean(axis=1, keepdims=True)
        want = centred / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + 1e-5) * g + b
        np.testing.assert_allclose(Y, want, rtol=1e-4, atol=1e-4)
        flat = X.ravel()
        out = np.empty_like(flat)
        k.gelu.with_schedule(k.elements(k.gelu.schedule()))(flat, out)
        wide = flat.astype("f8")
        gelu = 0.5 * wide * (1 + np.tanh(0.7978845608 * (wide + 0.044715 * wide**3)))
        np.testing.assert_allclose(out, gelu, rtol=1e-5, atol=1e-6)


def test_convolution() -> None:
    rng = np.random.default_rng(0)
    fast = k.conv2d.with_schedule(k.channels(k.conv2d.schedule()))
    for d, c, h, w in ((4, 2, 3, 59), (1, 1, 1, 1), (3, 2, 2, 56)):
        X = rng.integers(-3, 4, (c, h + 2, w + 2)).astype("f4")
        F = rng.integers(-3, 4, (d, c, 3, 3)).astype("f4")
        Y, want = np.empty((d, h, w), "f4"), np.zeros((d, h, w), "f4")
        for ky in range(3):
            for kx in range(3):
                want += np.einsum("dc,chw->dhw", F[:, :, ky, kx], X[:, ky : ky + h, kx : kx + w])
        fast(X, F, Y)
        np.testing.assert_array_equal(Y, want)


def test_a_recipe_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ScheduleError):
        recipes.vector_elementwise(k.total.schedule(), "i")
    with pytest.raises(ScheduleError):
        recipes.gemm(k.matmul_dots.schedule(), "i", "j", "k", "B", "C")


def test_recipes_are_found_late() -> None:
    assert kdsl.recipes is recipes and "recipes" in dir(kdsl)


# ---------------------------------------------------------- the machine code

AVX512 = Target(
    "cpu", 0, "x86-64-v4", "+avx512f,+avx512bw,+avx512vl,+avx512dq,+fma,+f16c", host_target().triple
)
AVX2 = Target("cpu", 0, "x86-64-v3", "+avx2,+fma,+f16c", host_target().triple)


def inner_loops(s: Schedule, target: Target, sums: int) -> list[list[str]]:
    """The bodies of machine loops with so many multiply-adds."""
    asm = asm_text(lower(s.func, target, definition), target)
    blocks: list[list[str]] = [[]]
    for line in asm.split("\n"):
        if line.startswith(".LBB"):
            blocks.append([])
        elif line.startswith("\t") and not line.startswith("\t."):
            blocks[-1].append(line.strip())
    return [b for b in blocks if sum(x.startswith("vfmadd") for x in b) == sums]


@pytest.mark.parametrize(
    ("kernel", "steps", "target", "register"),
    [
        (k.matmul, k.blocked, AVX512, "zmm"),
        (k.matmul_f64, k.blocked_f64, AVX512, "zmm"),
        (k.matmul, lambda s: recipes.gemm(s, "i", "j", "k", "B", "C", size=(6, 16), lanes=8), AVX2, "ymm"),
    ],
)
def test_whole_tiles_run_on_full_registers(kernel: Any, steps: Steps, target: Target, register: str) -> None:
    """Nothing but loads of A and B, multiply-adds without masks, and the loop itself; nothing is spilled."""
    wide = steps(schedule_of(kernel))
    rows = 6
    vectors = 4 if register == "zmm" else 2
    loops = [b for b in inner_loops(wide, target, rows * vectors) if not any("{%k" in x for x in b)]
    # The first terms and the others; without mask registers, masked tiles are longer.
    for block in sorted(loops, key=len)[:2]:
        adds = [x for x in block if x.startswith("vfmadd")]
        assert all(f"%{register}" in x for x in adds)
        # The loop's bound may be compared in memory (one instruction, off the critical path). AVX2 has too
        # few registers for all addresses, never for the sums.
        touching = [x for x in block if "sp)" in x and not x.startswith("cmp")]
        assert not [x for x in touching if register == "zmm" or "mm" in x.split("\t")[1]]
        assert sum(x.startswith("vbroadcasts") for x in block) == rows
    assert len(loops) >= 2
