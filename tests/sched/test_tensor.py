"""`tensorize`: loops done by instructions. What is matched, what is refused, what runs."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdsl
from kdsl import bf16, f32, i8, i32, i64, u8
from kdsl.analysis.instruction import Binding, match
from kdsl.backends import llvm
from kdsl.errors import CompileError, ScheduleError
from kdsl.instructions import dot2_bf16, dot4_u8s8, dot4_u8s8_avx, dot4_u8s8_x8, dot4_vectors_u8s8
from kdsl.ir import instructions, interpreter
from kdsl.ir.nodes import Instruction, Loop
from kdsl.ir.walk import stmts
from kdsl.mathlib import definition
from kdsl.passes import lower
from kdsl.runtime.scheduling import steps_text
from kdsl.sched import Schedule
from kdsl.target import Target
from tests.backends import harness
from tests.sched.check import Steps, check_schedule, func_of, schedule_of
from tests.sched.kernels import matmul

M, N, K = kdsl.sizes("M N K")

HOST = llvm.host_target()
VNNI = HOST.has(dot4_u8s8.__kdsl_instruction__.features)
BF16 = HOST.has(dot2_bf16.__kdsl_instruction__.features)
PLAIN = Target("cpu", 0, "x86-64-v3", "", "x86_64-unknown-linux-gnu", 32, 16)
"""A CPU without any of the instructions; this machine runs its code."""


# -------------------------------------------------------------------- instructions of the tests


@kdsl.instruction(llvm="llvm.smax.v4i64")
def larger(x: i64[4], y: i64[4]):
    for n in range(4):
        x[n] = max(x[n], y[n])


@kdsl.instruction(llvm="llvm.smax.v4i64")
def four_down(x: i64[4], y: i64):
    for n in range(4):
        x[n] = max(x[n], y)


@kdsl.instruction(llvm="llvm.abs.v4i64")
def no_such_operands(x: i64[4], y: i64[4]):
    for n in range(4):
        x[n] = y[n] + 3


@kdsl.instruction(llvm="llvm.sum.of.four")
def no_such_intrinsic(x: i64[4], y: i64[4]):
    for n in range(4):
        x[n] += y[n]


@kdsl.instruction(llvm="llvm.fma.v8f32")
def scaled(a: f32, b: f32[8], acc: f32[8]):
    for n in range(8):
        acc[n] += a * b[n]


@kdsl.kernel
def four(x: i64[4], y: i64[4]):
    for m in range(4):
        x[m] += y[m]


@kdsl.kernel
def adder(x: i64[4, 4], y: i64[4, 4]):
    for p in range(4):
        for q in range(4):
            x[p, q] += y[p, q]


@kdsl.kernel
def tile(c: f32[2, 4], a: f32[2, 3], b: f32[3, 4]):
    for p in range(2):
        for q in range(4):
            for r in range(3):
                c[p, q] += a[p, r] * b[r, q]


fast_tile = tile.with_schedule(
    tile.schedule().reorder("r", "p", "q").stage("a", at="r").vectorize("q").unroll("p")
)


# -------------------------------------------------------------------------------------- kernels


@kdsl.kernel
def quantised(A: u8[M, K], B: i8[K, N], C: i32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = i32(0)
            for k in range(K):
                acc += i32(A[i, k]) * i32(B[k, j])
            C[i, j] = acc


@kdsl.kernel
def packed(A: u8[M, 8], B: i8[2, 32, 4], C: i32[M, 32]):
    """B has its terms in fours; the factors the other way round."""
    for i in range(M):
        for k in range(2):
            for j in range(32):
                for t in range(4):
                    C[i, j] += i32(B[k, j, t]) * i32(A[i, k * 4 + t])


@kdsl.kernel
def in_place(X: i64[N], Y: i64[N]):
    for i in range(N):
        X[i] += Y[i]


@kdsl.kernel
def raised(X: i64[M, N], Y: i64[N]):
    for i in range(M):
        for j in range(N):
            X[i, j] = max(X[i, j], Y[j])


@kdsl.kernel
def backwards(X: i64[N], Y: i64[N]):
    for i in range(N - 1, -1, -1):
        X[i] += Y[i]


@kdsl.kernel
def product(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            for k in range(K):
                C[i, j] += A[i, k] * B[k, j]


@kdsl.kernel
def small_product(A: f32[M, 6], B: f32[6, 8], C: f32[M, 8]):
    for i in range(M):
        for j in range(8):
            for k in range(6):
                C[i, j] += A[i, k] * B[k, j]


@kdsl.kernel(strict=True)
def strict_product(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for k in range(K):
            for j in range(N):
                C[i, j] += A[i, k] * B[k, j]


@kdsl.kernel(may_alias=("X", "Y"))
def overlapping(X: i64[N], Y: i64[N]):
    for i in range(N):
        X[i] += Y[i]


@kdsl.kernel
def neighbours(X: i64[N]):
    for i in range(4, N):
        X[i] += X[i - 4]


@kdsl.kernel
def total(X: i64[N], Y: i64[N]):
    for i in range(N):
        X[0] += Y[i]


@kdsl.kernel
def smeared(X: i64[8], Y: i64[4, 4]):
    for i in range(4):
        for j in range(4):
            X[i + j] += Y[i, j]


@kdsl.kernel
def twice(X: i64[N], Y: i64[N]):
    for i in range(N):
        X[i] += Y[i]
        X[i] += 1


@kdsl.kernel
def brains(A: bf16[M, K], B: bf16[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = f32(0)
            for k in range(K):
                acc += f32(A[i, k]) * f32(B[k, j])
            C[i, j] = acc


def sixteen(s: Schedule) -> Schedule:
    return s.split("j", 16).tensorize("j_i", dot4_u8s8)


def fours(s: Schedule, instruction: Any = four) -> Schedule:
    return s.split("i", 4, tail="cut").tensorize("i_i", instruction)


def dots(s: Schedule, instruction: Any = dot4_u8s8, terms: int = 4, lanes: int = 16) -> Schedule:
    """Tiles of 2 x 2 vectors in registers; B is packed panel by panel; edges have loops of their own."""
    s = s.split("k", terms, tail="cut").split("j", 2 * lanes, tail="cut").split("i", 2)
    s = s.reorder("j_o", "i_o", "k_o@0", "i_i", "j_i", "k_i@0")
    s = s.stage("B", at="j_o", layout={"tile": (terms, None), "order": (0, 2, 1)})
    s = s.split("j_i", lanes, into=("j_v", "j_l")).tensorize("j_l@1", instruction)
    s = s.vectorize("j_l@0").vectorize("j_l@2").vectorize("B_s_1").unroll("B_s_2")
    return s.unroll("j_v").unroll("i_i@0").unroll("i_i@1").unroll("i_i@2")


def tiles(s: Schedule) -> Schedule:
    """2 x 4 x 3 of a product, and a remainder of rows."""
    s = s.split("k", 3).split("j", 4).split("i", 2, tail="cut")
    return s.reorder("i_o", "j_o@0", "k_o@0", "i_i", "j_i@0", "k_i@0")


ACCEPTED: list[tuple[str, Any, Steps]] = [
    ("packed, factors swapped", packed, sixteen),
    ("then moved", packed, lambda s: sixteen(s).reorder("j_o", "i")),
    ("then parallel", packed, lambda s: sixteen(s).parallel("i").unroll("k")),
    ("then staged", packed, lambda s: sixteen(s).stage("C", "i").stage("A", "i")),
    ("256 bits", packed, lambda s: s.split("j", 8).tensorize("j_i", dot4_u8s8_x8).unroll("j_o")),
    ("not on this CPU", packed, lambda s: s.split("j", 8).tensorize("j_i", dot4_u8s8_avx)),
    ("by name", packed, lambda s: s.split("j", 16).tensorize("j_i", "dot4_u8s8")),
    ("whole product", quantised, dots),
    ("cut", in_place, fours),
    ("every copy", in_place, lambda s: s.split("i", 4, tail="cut").specialize("N > 4")
        .tensorize("i_i", four)),
    ("backwards", backwards, fours),
    ("store", raised, lambda s: s.split("j", 4, tail="cut").tensorize("j_i", larger)),
    ("store, whole tiles behind a guard", raised, lambda s: s.split("i", 2).split("j", 4, tail="cut")
        .reorder("j_o", "i_o", "i_i", "j_i").tensorize("j_i@0", larger).unroll("i_i@0")),
    ("scalar", product, lambda s: s.reorder("i", "k", "j").split("j", 8, tail="cut")
        .tensorize("j_i", scaled)),
    ("a kernel", small_product, lambda s: tiles(s).tensorize("i_i", tile)),
    ("a scheduled kernel", small_product, lambda s: tiles(s).tensorize("i_i", fast_tile).parallel("i_o")),
]  # fmt: skip


@pytest.mark.parametrize(("kernel", "steps"), [c[1:] for c in ACCEPTED], ids=[c[0] for c in ACCEPTED])
def test_meaning(kernel: Any, steps: Steps) -> None:
    s = check_schedule(kernel, steps)
    assert "tensorize" in s.trace()


def test_text() -> None:
    s = schedule_of(packed).split("j", 16).tensorize("j_i", dot4_u8s8)
    assert str(s).endswith(
        "            for j_o in range(2):\n"
        '                for j_i in tensorize(range(16), "dot4_u8s8"):\n'
        "                    for t in range(4):\n"
        "                        C[i, j_o * 16 + j_i] += i32(B[k, j_o * 16 + j_i, t]) * i32(A[i, k * 4 + t])"
    )
    assert s.trace().splitlines()[2] == '    s = s.tensorize("j_i", "dot4_u8s8")'


def test_the_kernels_body_takes_the_loops_place() -> None:
    s = schedule_of(in_place).split("i", 4, tail="cut").tensorize("i_i", four.with_schedule(
        four.schedule().unroll("m")
    ))  # fmt: skip
    assert str(s) == (
        "def in_place(X: i64[N], Y: i64[N]):\n"
        "    for i_o in range(N // 4):\n"
        "        for m in unroll(range(4)):\n"
        "            X[i_o * 4 + m] += Y[i_o * 4 + m]\n"
        "    for i_t in range(N // 4 * 4, N):\n"
        "        X[i_t] += Y[i_t]"
    )


def test_binding() -> None:
    """Starts and steps of the operands."""
    s = schedule_of(packed).split("j", 16)
    loop = next(x for x in stmts(s.func.body) if isinstance(x, Loop) and x.var == "j_i")
    found = match(loop, dot4_u8s8.__kdsl_instruction__.meaning)
    assert isinstance(found, Binding)
    assert found.arrays["b"].buffer == "B" and found.arrays["b"].steps == ((0, 1, 0), (0, 0, 1))
    assert found.arrays["a"].steps == ((0, 1),) and found.arrays["acc"].steps == ((0, 1),)


# ----------------------------------------------------------------------------------- machine code


def assembly(kernel: Any, steps: Steps, target: Target = HOST) -> str:
    return llvm.asm_text(lower(steps(schedule_of(kernel)).func, target, definition), target)


def blocks(text: str, instruction: str) -> list[list[str]]:
    """The basic blocks that have the instruction."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if re.match(r"\.LBB\S+:", line):
            found.append([])
        found[-1].append(line.strip())
    return [b for b in found if any(instruction in line for line in b)]


def panels(s: Schedule) -> Schedule:
    """6 x 64 sums; no edges of K."""
    s = s.assume("K % 4 == 0").split("k", 4, tail="perfect").split("j", 64, tail="cut").split("i", 6)
    s = s.reorder("j_o", "i_o", "k_o@0", "i_i", "j_i", "k_i@0")
    s = s.stage("B", at="j_o", layout={"tile": (4, None), "order": (0, 2, 1)})
    s = s.split("j_i", 16, into=("j_v", "j_l")).tensorize("j_l@1", dot4_u8s8)
    s = s.vectorize("j_l@0").vectorize("j_l@2").vectorize("B_s_1").unroll("B_s_2")
    return s.unroll("j_v").unroll("i_i@0").unroll("i_i@1").unroll("i_i@2")


@pytest.mark.skipif(not VNNI, reason="the CPU has no AVX-512 VNNI")
def test_the_inner_loop_is_nothing_but_dot_products() -> None:
    text = assembly(quantised, panels)
    full = [b for b in blocks(text, "vpdpbusd") if sum("vpdpbusd" in line for line in b) == 24]
    assert len(full) == 1, "one loop over whole tiles"
    vectors = [line for line in full[0] if "zmm" in line and "vpdpbusd" not in line]
    loads = [line for line in vectors if line.startswith(("vpbroadcastd", "vmovdq"))]
    assert vectors == loads and len(loads) == 6 + 4, "sums stay in registers, each operand is loaded once"
    assert not any("%zmm" in line and "rsp" in line for line in full[0])
    assert full[0][-1].startswith("j"), "it is the loop's own block"


@pytest.mark.skipif(not VNNI, reason="the CPU has no AVX-512 VNNI")
def test_the_packing_is_woven() -> None:
    text = assembly(quantised, panels)
    (whole,) = [b for b in blocks(text, "vpermt2b") if not any("vpextrb" in line for line in b)]
    assert sum(line.startswith("vmovdqu64") and line.endswith(")") for line in whole) == 4, (
        "four rows in one go"
    )


@pytest.mark.skipif(not BF16, reason="the CPU has no AVX512-BF16")
def test_bf16() -> None:
    text = assembly(brains, lambda s: dots(s, dot2_bf16, 2))
    assert text.count("vdpbf16ps") >= 4
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal(shape).astype(bf16.np) for shape in ((7, 13), (13, 67)))
    C = np.empty((7, 67), np.float32)
    dots(brains.schedule(), dot2_bf16, 2)(A, B, C)
    np.testing.assert_allclose(C, A.astype(np.float32) @ B.astype(np.float32), rtol=1e-5, atol=1e-5)


def random_bytes(m: int, n: int, k: int, seed: int = 0) -> tuple[Any, Any, Any, Any]:
    """A, B and an empty C with all values there are, and the product."""
    rng = np.random.default_rng(seed)
    A, B = rng.integers(0, 256, (m, k), np.uint8), rng.integers(-128, 128, (k, n), np.int8)
    A[:1], B[:, :1] = 255, -128
    return A, B, np.full((m, n), 7, np.int32), A.astype(np.int32) @ B.astype(np.int32)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 32, 4), (5, 70, 19), (3, 64, 0), (0, 64, 8), (8, 96, 64)])
def test_all_bytes(shape: tuple[int, int, int]) -> None:
    """Machine code, the interpreter after lowering, and NumPy."""
    A, B, C, want = random_bytes(*shape)
    fast = quantised.with_schedule(dots(quantised.schedule()))
    fast(A, B, C)
    np.testing.assert_array_equal(C, want)
    if A.size * B.size < 20_000:
        arrays = {"A": A, "B": B, "C": np.zeros_like(C)}
        low = lower(dots(schedule_of(quantised)).func, HOST, definition)
        interpreter.run(low, arrays, {}, dict(zip("MNK", shape)))
        np.testing.assert_array_equal(arrays["C"], want)


def test_arrays_with_strides() -> None:
    """Elements that do not lie side by side are collected."""
    fast = quantised.with_schedule(dots(quantised.schedule()))
    A, B, C, want = random_bytes(5, 70, 19)
    wide = np.zeros((5, 38), np.uint8)
    wide[:, ::2] = A
    fast(wide[:, ::2], np.asfortranarray(B), C)
    np.testing.assert_array_equal(C, want)
    other = packed.with_schedule(packed.schedule().split("j", 16).tensorize("j_i", dot4_u8s8))
    rng = np.random.default_rng(1)
    A, B = rng.integers(0, 256, (3, 8), np.uint8), rng.integers(-128, 128, (2, 32, 8), np.int8)[:, :, ::2]
    C, D = np.zeros((3, 64), np.int32)[:, ::2], np.zeros((3, 32), np.int32)
    other(A, B, C)
    packed(A, np.ascontiguousarray(B), D)
    np.testing.assert_array_equal(C, D)


@pytest.mark.parametrize("kernel", [quantised, packed])
def test_a_cpu_without_the_instruction(kernel: Any) -> None:
    """The meaning runs, as vector code."""
    steps = dots if kernel is quantised else sixteen
    low = lower(steps(schedule_of(kernel)).func, PLAIN, definition)
    text = llvm.asm_text(low, PLAIN)
    assert "vpdpbusd" not in text and "ymm" in text
    assert "tensorize" not in str(Schedule(low))
    A, B, C, want = random_bytes(5, 70, 19)
    if kernel is packed:
        A, B, C = A[:, :8], B[:8, :32], np.zeros((5, 32), np.int32)
        want = A.astype(np.int32) @ B.astype(np.int32)
        B = B.reshape(2, 4, 32).transpose(0, 2, 1)
    arrays = {"A": np.ascontiguousarray(A), "B": np.ascontiguousarray(B), "C": C}
    executable = llvm.load(llvm.compile(low, PLAIN))
    outcome = harness.run(low, arrays, {"M": 5, "N": 70, "K": 19}, executable=executable)
    assert outcome.code == 0
    np.testing.assert_array_equal(C, want)


def test_every_shipped_instruction_means_what_it_says() -> None:
    """Where the CPU has it; the others compile as vector code."""
    rng = np.random.default_rng(2)
    for name in instructions.shipped():
        found = instructions.find(name)
        assert found is not None
        func = found.meaning
        loop = func.body[0]
        assert isinstance(loop, Loop)
        s = Schedule(func).tensorize(loop.var, name)
        low = lower(s.func, HOST, definition)
        arrays = {}
        for p in func.arrays:
            shape = tuple(d.const for d in p.shape)
            if p.dtype.is_float:
                arrays[p.name] = rng.integers(-9, 9, shape).astype(p.dtype.np)
            else:
                arrays[p.name] = rng.integers(p.dtype.min, p.dtype.max + 1, shape).astype(p.dtype.np)
        want = {n: a.copy() for n, a in arrays.items()}
        with np.errstate(all="ignore"):
            interpreter.run(func, want, {}, {})
        assert harness.run(low, arrays, {}).code == 0
        for n in want:
            np.testing.assert_array_equal(arrays[n], want[n], err_msg=name)
        called = f"@{found.llvm}(" in llvm.llvm_text(low, HOST, False)
        assert called == HOST.has(found.features)


# ------------------------------------------------------------------------------------- as a value


def test_an_instruction_is_a_kernel() -> None:
    acc, a, b = np.zeros(16, np.int32), np.arange(4, dtype=np.uint8), np.ones((16, 4), np.int8)
    dot4_u8s8(acc, a, b)
    assert acc.tolist() == [6] * 16
    dot4_u8s8.py(acc, a, b)
    assert acc.tolist() == [12] * 16
    assert repr(dot4_u8s8) == "<kdsl instruction dot4_u8s8(acc: i32[16], a: u8[4], b: i8[16, 4])>"


def test_a_pickle_takes_the_instruction_along() -> None:
    """A process that never saw the declaration replays the schedule."""
    s = schedule_of(raised).split("j", 4, tail="cut").tensorize("j_i", larger)
    code = textwrap.dedent("""
        import pickle, sys
        s = pickle.loads(sys.stdin.buffer.read())
        assert "larger" in s.trace() and "llvm.smax.v4i64" in repr(s.steps[-1].instructions)
        print(s)
    """)
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(s), capture_output=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.stdout.decode().rstrip("\n") == str(s)
    again = pickle.loads(pickle.dumps(larger))
    assert again.__kdsl_instruction__ == larger.__kdsl_instruction__


def test_the_newest_of_a_name_counts_and_old_schedules_keep_theirs() -> None:
    """As when a notebook cell runs again; cache keys tell both apart."""

    def declare(llvm: str) -> Any:
        @kdsl.instruction(llvm=llvm)
        def changing(x: i64[4], y: i64[4]):
            for n in range(4):
                x[n] = max(x[n], y[n])

        return changing

    start = schedule_of(raised).split("j", 4, tail="cut")
    one = declare("llvm.smax.v4i64")
    old = start.tensorize("j_i", one)
    two = declare("llvm.umax.v4i64")
    new = start.tensorize("j_i", two)
    assert old.trace() == new.trace() and steps_text(old) != steps_text(new)
    assert old != new
    assert start.tensorize("j_i", one.__kdsl_instruction__.name).func == new.func
    found = instructions.find(one.__kdsl_instruction__.name)
    assert isinstance(found, Instruction) and found.llvm == "llvm.umax.v4i64"


def test_a_kernel_is_found_by_its_module_and_name() -> None:
    s = fours(schedule_of(in_place), four)
    assert s.trace().splitlines()[2] == '    s = s.tensorize("i_i", "tests.sched.test_tensor:four")'
    other = fours(schedule_of(in_place), four.with_schedule(four.schedule().unroll("m")))
    assert re.search(r'"tests.sched.test_tensor:four#[0-9a-f]{8}"', other.trace()), "it is another kernel"
    assert Schedule.from_json(other.base, other.to_json()) == other != s


# --------------------------------------------------------------------------------------- refusals

GOLDEN = Path(__file__).with_name("tensor_refusals.txt")

REFUSED: list[tuple[str, Any, Steps]] = [
    ("longer loop", packed, lambda s: s.tensorize("j", dot4_u8s8)),
    ("unknown length", in_place, lambda s: s.tensorize("i", four)),
    ("guard inside", in_place, lambda s: s.split("i", 4).tensorize("i_i", four)),
    ("another type", matmul, lambda s: s.split("k", 4, tail="cut").split("j", 16, tail="cut")
        .reorder("j_o", "i", "k_o@0", "j_i", "k_i@0").tensorize("j_i@1", dot4_u8s8)),
    ("another operation", in_place, lambda s: fours(s, larger)),
    ("one loop too few", packed, lambda s: s.tensorize("t", dot4_u8s8)),
    ("another order of loops", packed, lambda s: s.split("j", 16).reorder("t", "j_i")
        .tensorize("t", dot4_u8s8)),
    ("one statement more", twice, fours),
    ("moves with a lane", packed, lambda s: s.split("j", 16).tensorize("j_i", dot4_vectors_u8s8)),
    ("not packed", quantised, lambda s: s.split("k", 4, tail="cut").split("j", 16, tail="cut")
        .reorder("j_o", "i", "k_o@0", "j_i", "k_i@0").tensorize("j_i@1", dot4_u8s8)),
    ("scattered result", raised, lambda s: fours(s.reorder("j", "i"), four_down)),
    ("one cell for all", total, fours),
    ("cells that meet", smeared, lambda s: s.tensorize("i", adder)),
    ("may alias", overlapping, fours),
    ("reads what it writes", neighbours, fours),
    ("marked inside", packed, lambda s: s.split("j", 16).unroll("t").tensorize("j_i", dot4_u8s8)),
    ("marked itself", packed, lambda s: s.split("j", 16).vectorize("j_i").tensorize("j_i", dot4_u8s8)),
    ("later step inside", packed, lambda s: sixteen(s).unroll("t")),
    ("later staging inside", packed, lambda s: sixteen(s).stage("B", "j_i")),
    ("later layout", packed, lambda s: sixteen(s)
        .stage("B", "i", layout={"order": (0, 2, 1)})),
    ("strict", strict_product, lambda s: s.split("j", 8, tail="cut").tensorize("j_i", scaled)),
    ("no such name", packed, lambda s: s.tensorize("t", "dot5_u8s8")),
    ("no instruction", packed, lambda s: s.tensorize("t", 4)),  # type: ignore[arg-type]
]  # fmt: skip


def message(kernel: Any, steps: Steps) -> str:
    with pytest.raises(ScheduleError) as caught:
        steps(schedule_of(kernel))
    text = re.sub(r"\([^ ()]*\.py:\d+\)", "(FILE)", str(caught.value))
    return re.sub(r" +--> (?:\S*/)?(\w+\.py):\d+:\d+", r"--> \1", re.sub(r"(?m)^ *\d* \|", "|", text))


@pytest.mark.parametrize(("name", "kernel", "steps"), REFUSED, ids=[c[0] for c in REFUSED])
def test_refused(name: str, kernel: Any, steps: Steps) -> None:
    golden = dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", GOLDEN.read_text(), re.M))
    assert message(kernel, steps) == golden[name].rstrip("\n")


def test_golden_texts(update_messages: bool) -> None:
    if update_messages:
        GOLDEN.write_text("\n\n".join(f"## {name}\n{message(k, s)}" for name, k, s in REFUSED) + "\n")


@pytest.mark.parametrize("instruction", [no_such_operands, no_such_intrinsic])
def test_intrinsics_that_llvm_does_not_know(instruction: Any) -> None:
    """Not a call into nowhere."""
    func = func_of(instruction)
    s = Schedule(func).tensorize("n", instruction)
    with pytest.raises(CompileError) as caught:
        llvm.compile(lower(s.func, HOST, definition), HOST)
    assert caught.value.code == "K0142"
