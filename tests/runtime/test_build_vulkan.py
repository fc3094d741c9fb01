"""`kdsl build --target vulkan`: SPIR-V that a small host in C runs from the manifest, without Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kdsl import cli
from kdsl.backends import vulkan
from kdsl.dtypes import by_name
from kdsl.runtime.build import VULKAN_FEATURES

HOST = Path(__file__).resolve().parents[2] / "examples" / "c_host" / "host.c"
FILE = """
import kdsl
from kdsl import bool_, f32, f64, i32, i64, u8

M, N, K, T = kdsl.sizes("M N K T")


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc


def tiled(s):
    s = s.tile(["i", "j"], [8, 8])
    return s.bind("i_o", "grid.y").bind("j_o", "grid.x").bind("i_i", "block.y").bind("j_i", "block.x")


@kdsl.kernel
def jacobi(steps: i64, A: f32[N], B: f32[N]):
    for t in range(steps):
        for i in range(1, N - 1):
            B[i] = (A[i - 1] + A[i] + A[i + 1]) / 3
        for i in range(1, N - 1):
            A[i] = B[i]


@kdsl.kernel
def gather(X: f32[N], index: i32[M], Y: f32[M], scale: f32):
    for i in range(M):
        Y[i] = scale * X[index[i]]


@kdsl.kernel
def shifted(X: f32[N], Y: f32[M]):
    for i in range(M):
        Y[i] = X[i + 1]


@kdsl.kernel
def doubled(X: f32[N]) -> f32[N]:
    out = kdsl.empty((N,), f32)
    for i in range(N):
        out[i] = 2 * X[i]
    return out


@kdsl.kernel
def bytes(X: u8[N], Y: u8[N], flag: bool_):
    for i in range(N):
        Y[i] = X[i] + 3 if flag else X[i]


@kdsl.kernel
def many(a: i64, b: i64, c: i64, d: i64, e: i64, f: i64, g: i64, h: i64, k: i64, l: i64, m: i64, n: i64,
         o: i64, p: i64, q: i64, r: i64, s: i64, X: i64[N]):
    for t in range(3):
        for i in range(N):
            X[i] += t * (a + 2 * b + c + d + e + f + g + h + k + l + m + n + o + p + q + r + 3 * s)


@kdsl.kernel
def wide(X: f64[N]):
    for i in range(N):
        X[i] += 1
"""

Values = dict[str, float]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("build") / "kernels.py"
    path.write_text(FILE.lstrip())
    return path


def built(file: Path, kernel: str, out: Path, *options: str) -> dict[str, Any]:
    """Builds a kernel; gives its manifest."""
    assert cli.main(["build", f"{file}:{kernel}", "--target", "vulkan", "-o", str(out), *options]) == 0
    manifest: dict[str, Any] = json.loads((out / f"{kernel}.json").read_text())
    return manifest


def host(kernel: str, out: Path) -> Path:
    """The example's host, compiled for a kernel."""
    cc = next((path for path in map(shutil.which, ("cc", "gcc", "clang")) if path), None)
    if cc is None:
        pytest.skip("no C compiler")
    (out / "probe.c").write_text(
        "#include <vulkan/vulkan.h>\nint main(void) { return vkCreateInstance == 0; }\n"
    )
    probe = subprocess.run([cc, "-o", "probe", "probe.c", "-lvulkan"], cwd=out, capture_output=True)
    if probe.returncode != 0:
        pytest.skip("no Vulkan headers or loader to link with (Debian: libvulkan-dev)")
    strict = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    command = [cc, *strict, f"-DKERNEL={kernel}", "-I", ".", "-o", "host", str(HOST), "-lvulkan"]
    subprocess.run(command, cwd=out, check=True)
    return out / "host"


def run(program: Path, kernel: str, values: Values) -> subprocess.CompletedProcess[str]:
    """Runs the host under the validation layer, where that is installed."""
    words = [f"{name}={value}" for name, value in values.items()]
    layer = {
        "VK_INSTANCE_LAYERS": "VK_LAYER_KHRONOS_validation",
        "VK_LAYER_ENABLES": "VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT",
    }
    command = [str(program), f"{kernel}.spv", *words]
    for env in (layer, {}):
        done = subprocess.run(
            command, cwd=program.parent, capture_output=True, text=True, env={**os.environ, **env}, timeout=60
        )
        if env and "gave -6" in done.stderr:  # VK_ERROR_LAYER_NOT_PRESENT
            continue
        break
    if "gave -9" in done.stderr or "no Vulkan device" in done.stderr:
        pytest.skip("no Vulkan device")
    assert "VUID" not in done.stdout and "SYNC-HAZARD" not in done.stdout, done.stdout
    return done


def filled(manifest: dict[str, Any], values: Values) -> dict[str, Any]:
    """The arrays that the host makes."""
    out = {}
    for n, b in enumerate(manifest["buffers"]):
        if b["kind"] == "argument":
            shape = [eval(extent, {}, dict(values)) for extent in b["shape"]]
            numbers = (7 * np.arange(int(np.prod(shape))) + 3 * n) % 13
            dtype = by_name(b["dtype"]).np
            out[b["name"]] = (numbers / 13 if dtype.kind == "f" else numbers).astype(dtype).reshape(shape)
    return out


@pytest.mark.parametrize(
    ("kernel", "values", "options"),
    [
        ("matmul", {"M": 37, "N": 53, "K": 19}, []),
        ("matmul", {"M": 37, "N": 53, "K": 19}, ["--schedule", "tiled"]),
        ("matmul", {"M": 16, "N": 24}, ["--schedule", "tiled", "--size", "K=19"]),
        ("matmul", {"M": 0, "N": 5, "K": 3}, []),
        ("jacobi", {"N": 301, "steps": 5}, []),
        ("gather", {"N": 20, "M": 77, "scale": 1.5}, ["--limits", "buffers=5"]),
        ("shifted", {"N": 11, "M": 10}, []),
        ("doubled", {"N": 100}, []),
        ("bytes", {"N": 101, "flag": 1}, ["--features", "storageBuffer8BitAccess"]),
        ("many", {"N": 50, **dict.fromkeys("abcdefghklmnopqrs", 1)}, ["--features", "shaderInt64"]),
    ],
)
def test_a_host_in_c_computes_what_the_cpu_computes(
    file: Path, tmp_path: Path, kernel: str, values: Values, options: list[str]
) -> None:
    options = [f"{file}:tiled" if option == "tiled" else option for option in options]
    manifest = built(file, kernel, tmp_path, *options)
    validator = shutil.which("spirv-val")
    if validator is not None:
        module = str(tmp_path / f"{kernel}.spv")
        subprocess.run([validator, "--target-env", "vulkan1.1", module], check=True)
    done = run(host(kernel, tmp_path), kernel, values)
    assert done.returncode == 0, (done.stdout, done.stderr)
    sums = {name: float(value) for name, _, value in map(str.split, done.stdout.splitlines()[1:])}
    assert set(sums) == {b["name"] for b in manifest["buffers"] if b["kind"] == "argument" and b["written"]}

    fixed = dict(word.split("=") for word in options if word.startswith("K="))
    arrays = filled(manifest, {**values, **{name: int(n) for name, n in fixed.items()}})
    found = cli.find_kernel(f"{file}:{kernel}").on("cpu")
    params = [p.name for p in found.__kdsl_source__.params]
    returned = found(*[arrays[name] if name in arrays else values[name] for name in params])
    for name, total in sums.items():
        want = arrays[name] if name in params else returned
        assert total == pytest.approx(want.astype(np.float64).sum(), rel=1e-5, abs=1e-5)


def test_faults_and_conditions(file: Path, tmp_path: Path) -> None:
    built(file, "gather", tmp_path, "--limits", "buffers=5")
    done = run(host("gather", tmp_path), "gather", {"N": 12, "M": 20, "scale": 1})
    assert done.returncode == 1
    assert "error[K0601]: index {value} is out of bounds for dimension 0 of `X`" in done.stderr
    assert "(value 12)" in done.stderr
    built(file, "shifted", tmp_path)
    done = run(host("shifted", tmp_path), "shifted", {"N": 10, "M": 10})
    assert done.returncode == 1 and "X" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("wide", "error[K0511]"),
        ("matmul --features shaderint64", "error[K0716]: there is no feature `shaderint64`"),
        ("matmul --limits arrays=5", "error[K0716]: there is no limit `arrays`"),
        ("matmul --cpu native", "error[K0716]: `--cpu` goes with `--target cpu`"),
    ],
)
def test_refusals(
    file: Path, tmp_path: Path, words: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel, *options = words.split(" ")
    out = tmp_path / "out"
    assert cli.main(["build", f"{file}:{kernel}", "--target", "vulkan", "-o", str(out), *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(message) and ("K0511" not in message or "--features NAME" in said)
    assert not out.exists()


def test_features_widen_the_device(file: Path, tmp_path: Path) -> None:
    manifest = built(file, "wide", tmp_path, "--features", "shaderFloat64")
    assert "shaderFloat64" in manifest["features"]
    done = run(host("wide", tmp_path), "wide", {"N": 5})
    assert done.returncode == 0 and done.stdout.splitlines()[1].startswith("X 5 ")


def test_the_known_features_are_those_of_the_run_time() -> None:
    if vulkan.available() is not None:
        pytest.skip(f"no Vulkan: {vulkan.available()}")
    from kdsl.backends.vulkan import physical

    known = {*physical._CORE, *[f"subgroup{what}" for what in physical._SUBGROUP], *physical._FLOAT_CONTROLS}
    known |= {field for _, _, _, fields in physical._FEATURES for field in fields}
    assert set(VULKAN_FEATURES) == known
