"""The examples run from a folder of their own, at small sizes, and say that their results agree.

`test_gallery.py` runs the gallery.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kdsl.backends import vulkan

VULKAN = vulkan.available() is None
ROOT = Path(__file__).resolve().parents[2]
ON_GPU = ["--target", "vulkan"] if VULKAN else ["--target", "cpu"]
RUNS = {
    "matmul/compare.py": ["--size", "37", "--repeat", "1", "--type", "f32", "u8*s8"],
    "matmul/matmul.py": ["--size", "37", "--repeat", "1"],
    "matmul/gpu.py": ["--size", "67", "--repeat", "1", *ON_GPU],
    "matmul/quantised.py": ["--size", "67", "--repeat", "1", "--threads", "2"],
    "matmul/scheduled.py": ["--size", "67", "--repeat", "1"],
    "attention/attention.py": ["--heads", "2", "--length", "67", "--width", "5", "--repeat", "1"],
}


def test_every_example_is_run() -> None:
    found = {p.relative_to(ROOT / "examples").as_posix() for p in (ROOT / "examples").rglob("*.py")}
    assert {name for name in found if not name.startswith("gallery/")} == set(RUNS)


MORE = list(RUNS.items())
MORE.append(("attention/attention.py", [*RUNS["attention/attention.py"], *ON_GPU]))
MORE.append(("matmul/gpu.py", [*RUNS["matmul/gpu.py"], "--schedule", "registers"]))
MORE.append(("matmul/compare.py", ["--json", "found.json", "--sizes", "16", "37", "--seconds", "0.01"]))


@pytest.mark.parametrize(("name", "arguments"), MORE)
def test_example(name: str, arguments: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / name, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "results agree" in done.stdout
