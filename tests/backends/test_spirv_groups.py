"""Work-groups on the device: axes, guards, barriers, memory of a work-group, atomics, folded grids."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kdsl.backends import spirv
from kdsl.dtypes import DType, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from kdsl.ir import interpreter
from kdsl.ir.launch import Dispatch, Launches
from kdsl.ir.nodes import Const, Expr
from kdsl.ir.parser import parse_func
from tests.backends.harness import edge_values, same_bits
from tests.backends.spirv_harness import EVERYTHING, compiled, device, needs_vulkan, run, valid

pytestmark = needs_vulkan
ONE = Const(1, i64)


def agrees(
    text: str, grid: tuple[str, ...], block: tuple[int, int, int], sizes: dict[str, int], **limits
) -> None:
    """The dispatch of this body writes what the interpreter writes, to arrays that start with numbers."""
    func = parse_func(text)
    names = {p.name: p for p in func.arrays}
    counts = [_host(func, g) for g in grid]
    launches = Launches(func, (Dispatch("kernel", (*counts, *[ONE] * (3 - len(counts))), block, func.body),))
    rng = np.random.default_rng(1)
    shapes = {n: [d.evaluate(sizes) for d in p.shape] for n, p in names.items()}
    start = {n: rng.integers(0, 50, shapes[n]).astype(p.dtype.np) for n, p in names.items()}
    mine, want = ({n: a.copy() for n, a in start.items()} for _ in range(2))
    interpreter.run(func, want, {}, sizes, races=False)
    target = device()
    target = replace(target, limits=replace(target.limits, **limits))
    artifact = spirv.compile(launches, target)
    valid(artifact)
    run(func, mine, sizes, artifact)
    for n in names:
        assert same_bits(mine[n], want[n]), (n, mine[n], want[n])


def _host(func, text: str) -> Expr:
    made = parse_func(f"def g({', '.join(f'{n}: i64' for n in func.sizes)}, o: i64[1]):\n    o[0] = {text}\n")
    return made.body[0].value


TILES = """
def tiles(A: f32[M, N], B: f32[M, N]):
    for i in bind(range(M), "grid.y"):
        for j_o in bind(range((N + 15) // 16), "grid.x"):
            for j_i in bind(range(16), "block.x"):
                if j_o * 16 + j_i < N:
                    B[i, j_o * 16 + j_i] += 2.0 * A[i, j_o * 16 + j_i]
"""


@pytest.mark.parametrize("m, n", [(1, 1), (3, 37), (5, 16), (0, 4), (4, 0)])
def test_a_grid_of_two_axes(m, n):
    agrees(TILES, ("(N + 15) // 16", "M"), (16, 1, 1), {"M": m, "N": n})


ROWS = """
def rows(A: f32[N], B: f32[N]):
    for i in bind(range(N - 1, -1, -1), "grid.x"):
        for j in bind(range(4), "block.x"):
            if j == 1:
                B[i] = A[i] + 1.0
"""


@pytest.mark.parametrize("n", (1, 5, 7, 8, 100, 1000))
def test_a_long_grid_is_folded(n):
    agrees(ROWS, ("N",), (4, 1, 1), {"N": n}, groups=(7, 65535, 65535))


SHIFTED = """
def shifted(A: i32[N], B: i32[N]):
    for g in bind(range(3, N, 8), "grid.x"):
        S: i32[8] @ "shared"
        for a in bind(range(8), "block.x"):
            S[a] = 0
            if g + a < N:
                S[a] = A[g + a]
        barrier()
        for b in bind(range(6), "block.x"):
            if g + b < N - 2:
                B[g + b] = S[b + 1] + S[b + 2]
        barrier()
        for k in range(3):
            for c in bind(range(8), "block.x"):
                S[c] = S[c] + i32(k)
            barrier()
        for d in bind(range(2), "block.x"):
            if g + 6 + d < N:
                B[g + 6 + d] = S[d]
"""


@pytest.mark.parametrize("n", (3, 11, 19, 50))
def test_memory_of_a_work_group(n):
    agrees(SHIFTED, ("(N + 4) // 8",), (8, 1, 1), {"N": n})


GROUP_LEVEL = """
def group(A: i32[N, 4], B: i32[N], C: i32[N, 4]):
    for g in bind(range(N), "grid.x"):
        S: i32[1] @ "shared"
        t: i32
        S[0] = i32(g) + 5
        t = i32(g) * 3
        barrier()
        for y in bind(range(2), "block.y"):
            for x in bind(range(4), "block.x"):
                if y == 1:
                    C[g, x] = A[g, x] + S[0] + t
        barrier()
        for x2 in bind(range(4), "block.x"):
            A[g, x2] += 1
        B[g] += t
"""


def test_code_of_the_whole_work_group():
    """Stores are done once; a loop over one axis leaves the invocations along the other out."""
    agrees(GROUP_LEVEL, ("N",), (4, 2, 1), {"N": 9})


@pytest.mark.parametrize("op", ("add", "min", "max"))
@pytest.mark.parametrize("t", (i8, i16, i32, u8, u16, u32, f16, f32), ids=repr)
def test_atomics(op: str, t: DType):
    _atomics(op, t)


@pytest.mark.parametrize("t", (i64, u64, f64), ids=repr)
def test_atomics_of_64_bits(t: DType):
    if not device().has(["shaderBufferInt64Atomics"]):
        pytest.skip("the device has no shaderBufferInt64Atomics")
    for op in ("add", "min", "max"):
        _atomics(op, t)


def _atomics(op: str, t: DType) -> None:
    text = f"""
def cells(A: {t}[N], S: {t}[7], index: i32[N]):
    for g in bind(range((N + 31) // 32), "grid.x"):
        for x in bind(range(32), "block.x"):
            if g * 32 + x < N:
                atomic_{op}(S, i64(index[g * 32 + x]), A[g * 32 + x])
"""
    func = parse_func(text)
    rng = np.random.default_rng(2)
    values = np.resize(edge_values(t), 300) if t.is_int else rng.integers(-9, 9, 300).astype(t.np)
    index = rng.integers(0, 7, 300).astype(np.int32)
    start = {"A": values, "S": np.ones(7, t.np), "index": index}
    mine, want = ({n: a.copy() for n, a in start.items()} for _ in range(2))
    interpreter.run(func, want, {}, {"N": 300}, races=False)
    grid = (_host(func, "(N + 31) // 32"), ONE, ONE)
    artifact = spirv.compile(Launches(func, (Dispatch("cells", grid, (32, 1, 1), func.body),)), device())
    valid(artifact)
    run(func, mine, {"N": 300}, artifact)
    assert same_bits(mine["S"], want["S"])


SHARED_SUM = """
def sums(A: f32[N], B: f32[N]):
    for g in bind(range(N // 16), "grid.x"):
        S: f32[2] @ "shared"
        for a in bind(range(2), "block.x"):
            S[a] = 0.0
        barrier()
        for x in bind(range(16), "block.x"):
            old: f32
            atomic_add(S, x % 2, A[g * 16 + x])
        barrier()
        for y in bind(range(2), "block.x"):
            B[g * 16 + y] = S[y]
"""


def test_atomics_in_memory_of_a_work_group():
    agrees(SHARED_SUM.replace("            old: f32\n", ""), ("N // 16",), (16, 1, 1), {"N": 64})


MANY = """
def many({params}, o: i64[1]):
    o[0] = {total}
"""


def test_parameters_that_do_not_fit_into_push_constants_come_in_a_buffer():
    names = [f"a{n}" for n in range(20)]
    text = MANY.format(params=", ".join(f"{n}: i64" for n in names), total=" + ".join(names))
    artifact = compiled(parse_func(text))
    assert spirv.unpack(artifact.code)[0]["parameters"]["in"] == "buffer"
    out = np.zeros(1, np.int64)
    run(parse_func(text), {n: 10 * k for k, n in enumerate(names)} | {"o": out}, {}, artifact)
    assert out[0] == 1900


VECTORS = """
def vectors(A: f32[M, {n}], B: f32[{n}], C: f32[M, {n}]):
    for i in bind(range(M), "grid.x"):
        for j in bind(range({n} // 8), "block.x"):
            for v in vectorize(range(8)):
                t: f32
                t = A[i, j * 8 + v] * B[j * 8 + v]
                for k in range(3):
                    t += C[i, j * 8 + v]
                C[i, j * 8 + v] = t + A[i, j * 8 + 7 - v]
"""


@pytest.mark.parametrize("n", (8, 24))
def test_vector_loops_load_neighbours_together(n):
    text = VECTORS.format(n=n)
    artifact = compiled(parse_func(text), EVERYTHING)
    listing = spirv.text(artifact)
    assert "A_f32x4" in listing and "B_f32x4" in listing and "C_f32x4" in listing
    assert "OpTypeVector" in listing and "Aliased" in listing
    agrees(text, ("M",), (n // 8, 1, 1), {"M": 5})


def test_a_size_decides_whether_vectors_are_loaded():
    text = """
def add(A: f32[M, N], B: f32[M, N]):
    for i in bind(range(M), "grid.x"):
        for j in bind(range(2), "block.x"):
            for v in vectorize(range(4)):
                if j * 4 + v < N:
                    B[i, j * 4 + v] += A[i, j * 4 + v]
"""
    assert "A_f32x4" in spirv.text(compiled(parse_func(text), EVERYTHING))
    for n in (8, 7, 4, 3, 0):
        agrees(text, ("M",), (2, 1, 1), {"M": 5, "N": n})
