"""What work-groups combine, on a device whose subgroups have the size that this process's driver gives them.

`python -m tests.backends.subgroup_cases` runs all cases and prints the size of a subgroup.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import kdsl
from kdsl import exp, f32, recipes
from kdsl.backends import spirv
from kdsl.backends.vulkan import validation
from kdsl.dtypes import DType, bf16, f16, f64, i8, i32, i64, u8, u32, u64
from kdsl.ir.nodes import Func
from kdsl.ir.parser import parse_func
from kdsl.sched import Schedule
from tests.backends.spirv_harness import agree, compiled, device, run
from tests.sched.check import schedule_of

M, N = kdsl.sizes("M N")

ROWS = """
def rows(X: {t}[N, {count}], Y: {t}[N]):
    for i in bind(range(N), "grid.x"):
        wide: i32[{block}]
        for b in bind(range({block}), "block.x"):
            wide[b] = 1
        part: {t}[{count}]
        for b in bind(range({count}), "{axis}"):
            part[b] = X[i, b]
        for c in vectorize(range({count})):
            {sum}
"""

ROUNDS = """
def rounds(X: f32[N, 3, 48], Y: f32[N, 3, 48]):
    for i in bind(range(N), "grid.x"):
        for k in range(3):
            total: f32
            total = 1.0
            part: f32[48]
            for b in bind(range(48), "block.x"):
                part[b] = X[i, k, b]
            for c in vectorize(range(48)):
                total += part[c]
            for b in bind(range(48), "block.x"):
                Y[i, k, b] = total * part[b]
"""


@kdsl.kernel
def softmax(X: f32[M, N], Y: f32[M, N]):
    for i in range(M):
        top = f32(-kdsl.inf)
        for j in range(N):
            top = max(top, X[i, j])
        total = f32(0)
        for j_1 in range(N):
            total += exp(X[i, j_1] - top)
        for j_2 in range(N):
            Y[i, j_2] = exp(X[i, j_2] - top) / total


@kdsl.kernel
def shares(X: i32[M, N], Y: i32[M, N]):
    for i in range(M):
        top = i32(-9)
        for j in range(N):
            top = max(top, X[i, j])
        total = i32(0)
        for j_1 in range(N):
            total += X[i, j_1] - top
        for j_2 in range(N):
            Y[i, j_2] = (X[i, j_2] - top) * total


@kdsl.kernel
def total(X: f32[N]) -> f32:
    s = f32(0)
    for i in range(N):
        s += X[i]
    return s


def softmax_rows(s: Schedule, lanes: int = 64) -> Schedule:
    """A work-group for each row; its invocations take elements in turn."""
    s = s.bind("i", "grid.x")
    for j in ("j", "j_1", "j_2"):
        s = s.split(j, lanes).reorder(f"{j}_i", f"{j}_o")
    for j in ("j", "j_1"):
        s = s.rfactor(f"{j}_i").vectorize(f"{j}_i_r")
    for j in ("j", "j_1", "j_2"):
        s = s.bind(f"{j}_i", "block.x")
    return s


def rows(op: str, t: DType, count: int, block: int, axis: str = "block.x") -> Func:
    cell = "Y[i]"
    sum = f"{cell} {op}= part[c]" if op in "+*" else f"{cell} = {op}({cell}, part[c])"
    return parse_func(ROWS.format(t=t, count=count, block=block, axis=axis, sum=sum))


def numbers(t: DType, op: str, shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    """Small ones: any order gives the same result."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, 3 if op == "*" else 50, shape).astype(t.np)


def by_type() -> Iterator[None]:
    for op in ("+", "*", "min", "max"):
        for t in (f32, f64, bf16, i8, u8, i32, u32, u64) if op == "+" else (f32, f16, i8, u32, i64):
            func = rows(op, t, 20, 37)
            x = numbers(t, op, (3, 20), 1) if op != "+" else np.ones((3, 20), t.np)
            if t.is_int and op != "*":
                x[0, :3] = (t.min, t.max, t.min)  # wraps
            if op == "*":
                x[:, 6:] = 1
            agree(func, {"X": x, "Y": numbers(t, op, (3,), 2)}, {"N": 3})
            yield


def by_size() -> Iterator[None]:
    for count in (1, 2, 5, 8, 15, 16, 33, 64, 100, 128):
        for block in sorted({count, 67, 256}):
            func = rows("+", i32, count, block)
            x = numbers(i32, "+", (5, count), count)
            agree(func, {"X": x, "Y": np.arange(5, dtype=np.int32)}, {"N": 5})
            yield


def along_y() -> Iterator[None]:
    for count in (3, 20):
        func = rows("+", f32, count, 5, "block.y")
        assert "GroupNonUniform" in spirv.text(compiled(func))
        agree(func, {"X": numbers(f32, "+", (2, count), 0), "Y": np.ones(2, np.float32)}, {"N": 2})
        yield


def odd_floats() -> Iterator[None]:
    nan, inf = np.nan, np.inf
    lines = (
        [nan, 3.0, -1.0, nan], [nan] * 4, [0.0, nan, inf, -inf], [-inf] * 4, [inf] * 4, [-0.0] * 4,
        [-1.0, nan, -0.0, 2.0], [0.0] * 4, [3e-45, 2e-45, 1e-45, 4e-45],
    )  # fmt: skip
    for op in ("+", "*", "min", "max"):
        for t in (f32, f64):
            for first in (-0.0, nan, inf):
                func = rows(op, t, 20, 20)
                x = np.array([(line * 5)[:20] for line in lines], t.np)
                if op == "*":
                    x[:, 4:] = 1.0  # no order overflows
                    x[-1] = 1.0  # nor underflows
                if op == "+":
                    x[:, 4:] = -0.0  # nor rounds
                y = np.full(len(lines), first, t.np)
                agree(func, {"X": x, "Y": y}, {"N": len(lines)})
                yield


def in_rounds() -> Iterator[None]:
    func = parse_func(ROUNDS)
    x = numbers(f32, "+", (70, 3, 48), 3)
    agree(func, {"X": x, "Y": np.zeros_like(x)}, {"N": 70})
    yield


def scheduled() -> Iterator[None]:
    for n in (0, 1, 63, 64, 1000, 20_000):
        s = recipes.gpu_sum(schedule_of(total), "i", 256, 64)
        x = numbers(f32, "+", (n,), n)
        agree(s.func, {"X": x, s.func.results[0].name: np.array(0, np.float32)}, {"N": n})
        yield


def softmaxes() -> Iterator[None]:
    for lanes in (1, 24, 64):
        func = softmax_rows(schedule_of(softmax), lanes).func
        artifact = compiled(func)
        for m, n in ((0, 3), (1, 1), (3, 64), (4, 100), (2, 500)):
            x = np.random.default_rng(n).standard_normal((m, n), np.float32)
            y = np.zeros_like(x)
            run(func, {"X": x, "Y": y}, {"M": m, "N": n}, artifact)
            e = np.exp(x - x.max(1, keepdims=True))
            np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=1e-5)
            yield


CASES: tuple[Callable[[], Iterator[None]], ...] = (
    by_type, by_size, along_y, odd_floats, in_rounds, scheduled, softmaxes,
)  # fmt: skip


if __name__ == "__main__":
    for case in CASES:
        for _ in case():
            pass
    assert not validation.messages, validation.messages
    print(device().limits.subgroup)
