"""Each file of the gallery runs by itself, at a tiny size, on each target, and says that results agree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import kdsl

GALLERY = Path(__file__).resolve().parents[2] / "examples" / "gallery"
SIZES = {
    "blur": 37,
    "conv2d": 5,
    "csr": 67,
    "fft": 17,
    "gelu": 1001,
    "harris": 37,
    "heat": 19,
    "histogram": 1001,
    "jacobi": 37,
    "layernorm": 37,
    "mandelbrot": 37,
    "nbody": 67,
    "scan": 9001,
    "softmax": 37,
    "unsharp": 37,
}
TARGETS = [d.name for d in kdsl.devices() if d.available and d.name in ("cpu", "vulkan")]


def test_every_file_is_run() -> None:
    assert {p.stem for p in GALLERY.glob("*.py")} == {*SIZES, "common"}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("target", TARGETS)
def test_gallery(name: str, target: str, tmp_path: Path) -> None:
    command = [sys.executable, str(GALLERY / f"{name}.py"), "--size", str(SIZES[name]), "--repeat", "1"]
    environment = {**os.environ, "PYTHONPATH": str(GALLERY.parents[1])}
    done = subprocess.run(
        [*command, "--target", target], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "results agree" in done.stdout
    assert name != "mandelbrot" or (tmp_path / "mandelbrot.png").read_bytes().startswith(b"\x89PNG")
