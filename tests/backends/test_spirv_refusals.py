"""What a device lacks is refused before anything is sent: whole messages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kdsl.backends import spirv
from kdsl.dtypes import i64
from kdsl.errors import TargetError
from kdsl.ir.launch import Dispatch, Launches
from kdsl.ir.nodes import Const
from kdsl.ir.parser import parse_func
from kdsl.target import Limits, Target

LEAST = Target("vulkan", index=1, cpu="Small GPU")
"""A device with the least that Vulkan 1.1 promises, and no features."""
ONE = Const(1, i64)


def message(text: str, target: Target = LEAST, block: tuple[int, int, int] = (1, 1, 1)) -> str:
    func = parse_func(text)
    with pytest.raises(TargetError) as caught:
        spirv.compile(Launches(func, (Dispatch("f_0", (ONE, ONE, ONE), block, func.body),)), target)
    return str(caught.value)


def test_print() -> None:
    assert message("def f(A: f32[4]):\n    print(A[0])\n") == (
        "error[K0510]: `print` cannot run on `vulkan:1` (Small GPU): "
        "a kernel there has no way to the terminal\n"
        ' = help: store what is to be shown in an array, or run the kernel on "cpu"'
    )


@pytest.mark.parametrize(
    ("t", "what", "feature"),
    [
        ("f64", "floats of 64 bits", "shaderFloat64"),
        ("i64", "integers of 64 bits", "shaderInt64"),
        ("u64", "integers of 64 bits", "shaderInt64"),
        ("f16", "arrays of 16-bit elements", "storageBuffer16BitAccess"),
        ("bf16", "arrays of 16-bit elements", "storageBuffer16BitAccess"),
        ("i8", "arrays of 8-bit elements", "storageBuffer8BitAccess"),
        ("bool_", "arrays of 8-bit elements", "storageBuffer8BitAccess"),
    ],
)
def test_types(t: str, what: str, feature: str) -> None:
    assert message(f"def f(A: {t}[4]):\n    A[0] = A[1]\n") == (
        f"error[K0511]: `f` needs {what}, which `vulkan:1` (Small GPU) cannot do\n"
        f" = note: the device lacks the feature `{feature}`\n"
        ' = help: use a narrower type, or another target: `kernel.on("cpu")`'
    )


def test_an_unbounded_number_needs_64_bits() -> None:
    text = "def f(A: i32[N]):\n    A[0] = i32(N * N * N // 8)\n"
    assert "K0511" in message(text) and "shaderInt64" in message(text)
    func = parse_func("def f(A: i32[N]):\n    A[0] = i32(N // 8)\n")
    spirv.compile(Launches(func, (Dispatch("f_0", (ONE, ONE, ONE), (1, 1, 1), func.body),)), LEAST)


def test_atomics_of_64_bits() -> None:
    able = replace(LEAST, features="shaderInt64")
    assert "`shaderBufferInt64Atomics`" in message("def f(A: u64[4]):\n    atomic_add(A, 0, 1)\n", able)


def test_the_size_of_a_work_group() -> None:
    assert message("def f(A: f32[4]):\n    A[0] = 1.0\n", block=(64, 4, 1)) == (
        "error[K0512]: the work-group of `f` is too large for `vulkan:1` (Small GPU): "
        "64 x 4 x 1 invocations\n"
        " = note: the device allows 128 in all, and (128, 128, 64) along x, y, z\n"
        " = help: bind shorter loops to the axes of the block"
    )


def test_buffers() -> None:
    arrays = ", ".join(f"{name}: f32[4]" for name in "ABCDE")
    text = f"def f({arrays}):\n    A[0] = B[0] + C[0] + D[0] + E[0]\n"
    assert message(text).split("\n")[0] == (
        "error[K0513]: `f` uses 5 buffers at once, and `vulkan:1` (Small GPU) has 4 for a kernel"
    )


def test_memory_of_a_work_group() -> None:
    text = 'def f(A: f32[4]):\n    S: f32[5000] @ "shared"\n    S[0] = 1.0\n    A[0] = S[0]\n'
    assert message(text).split("\n")[0] == (
        "error[K0513]: `f` needs 20000 bytes of work-group memory, and `vulkan:1` (Small GPU) has 16384"
    )


def test_local_arrays_of_unknown_size() -> None:
    text = "def f(A: f32[N]):\n    T: f32[N]\n    T[0] = 1.0\n    A[0] = T[0]\n"
    assert message(text).split("\n")[0] == (
        "error[K0514]: the local array `T` has no constant shape, and `vulkan:1` (Small GPU) "
        "has no memory for it in an invocation"
    )


def test_strict() -> None:
    text = "@options(strict=True)\ndef f(A: f32[4]):\n    A[0] = A[1] / A[2]\n"
    assert message(text) == (
        "error[K0515]: `f` is strict, and `vulkan:1` (Small GPU) may compute other bits\n"
        " = note: the device does not promise `shaderDenormPreserveFloat32`\n"
        " = help: leave `strict` away, or use another target"
    )
    promised = replace(LEAST, features="shaderDenormPreserveFloat32,shaderRoundingModeRTEFloat32")
    func = parse_func(text)
    made = spirv.compile(Launches(func, (Dispatch("f_0", (ONE, ONE, ONE), (1, 1, 1), func.body),)), promised)
    assert "divide.f32" in spirv.text(made)


def test_limits_are_the_device_s_own() -> None:
    large = replace(LEAST, limits=Limits(invocations=1024, block=(1024, 1024, 64)))
    func = parse_func("def f(A: f32[4]):\n    A[0] = 1.0\n")
    spirv.compile(Launches(func, (Dispatch("f_0", (ONE, ONE, ONE), (256, 4, 1), func.body),)), large)


def test_the_line_is_shown(tmp_path: Path) -> None:
    text = "def f(A: f32[4], B: f64[4]):\n    A[0] = 1.0\n    B[0] = 2.0\n"
    file = tmp_path / "f.py"
    file.write_text(text)
    func = parse_func(text, str(file))
    with pytest.raises(TargetError) as caught:
        spirv.compile(Launches(func, (Dispatch("f_0", (ONE, ONE, ONE), (1, 1, 1), func.body),)), LEAST)
    assert caught.value.lineno == 3 and "B[0] = 2.0" in str(caught.value)
