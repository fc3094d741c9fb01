"""A wheel built by `python -m build` and used in a clean virtual environment: does it run by itself?

    python -m tests.stress.wheel [--keep FOLDER]

Needs the package `build` here and an index of packages (or wheels that pip knows) for the dependencies.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMOKE = """
import numpy as np, kdsl
from kdsl import f32
assert "site-packages" in kdsl.__file__, kdsl.__file__
M, N = kdsl.sizes("M N")
@kdsl.kernel
def transpose(A: f32[M, N], B: f32[N, M]):
    for i in range(M):
        for j in range(N):
            B[j, i] = kdsl.exp(A[i, j])
A = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
B = np.zeros((4, 3), np.float32)
transpose(A, B)
assert np.allclose(B, np.exp(A.T), rtol=1e-6)
s = transpose.schedule().tile(["i", "j"], [2, 4]).vectorize("j_i").parallel("i_o")
B[:] = 0
s(A, B)
assert np.allclose(B, np.exp(A.T), rtol=1e-6)
B[:] = 0
transpose.on("interpreter")(A, B)
assert np.allclose(B, np.exp(A.T), rtol=1e-6)
print("works")
"""

# What a type checker has to find in a user's file, each in its line.
TYPED = """
from typing import Any
import numpy as np
import kdsl

def run(kernel: kdsl.Kernel[Any], x: np.ndarray[Any, Any]) -> str:
    s: kdsl.Schedule = kernel.schedule().split("i", 4)
    kernel.with_schedule(s)(x)
    number: int = s.trace()  # E
    s.unrol("i")  # E
    kdsl.set_num_threads("two")  # E
    return s.to_json()
"""


def build(folder: Path) -> Path:
    """The wheel of this checkout, made of its source archive, in `folder`."""
    source = folder / "source"
    shutil.copytree(ROOT / "kdsl", source / "kdsl", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(source))
    (wheel,) = folder.glob("*.whl")
    return wheel


def run(*command: str, cwd: Path = ROOT) -> str:
    """Runs a command without this checkout on its path; its output. CalledProcessError with the output."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    env = {k: v for k, v in os.environ.items() if k not in hidden}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()
    return done.stdout


def missing(wheel: Path) -> list[str]:
    """Files of the package that the wheel lacks."""
    package = [p for p in (ROOT / "kdsl").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    wanted = {p.relative_to(ROOT).as_posix() for p in package}
    return sorted(wanted - set(zipfile.ZipFile(wheel).namelist()))


def typed(folder: Path, python: str) -> str:
    """What mypy, run here, finds in a user's file beside the package that `python` has installed."""
    user = folder / "user.py"
    user.write_text(TYPED)
    command = (sys.executable, "-m", "mypy", "--strict", "--python-executable", python, str(user))
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    found = re.findall(r"user.py:(\d+): error", done.stdout)
    wanted = [str(n) for n, line in enumerate(TYPED.splitlines(), 1) if line.endswith("# E")]
    assert found == wanted, done.stdout + done.stderr
    return f"mypy finds {len(found)} of {len(wanted)} mistakes"


def check(folder: Path) -> str:
    """Builds, installs and tries the wheel in `folder`."""
    wheel = build(folder)
    lacking = missing(wheel)
    assert not lacking, f"the wheel lacks {lacking}"
    run(sys.executable, "-m", "venv", str(folder / "venv"))
    python = str(folder / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", str(wheel), cwd=folder)
    smoke = folder / "smoke.py"
    smoke.write_text(SMOKE)
    said = run(python, str(smoke), cwd=folder).strip()
    said += "; " + run(python, "-m", "kdsl", "devices", cwd=folder).splitlines()[0]
    assert "kdsl" in run(str(Path(python).with_name("kdsl")), "--help", cwd=folder)
    if importlib.util.find_spec("mypy") is not None:
        said += f"; {typed(folder, python)}"
    return f"{wheel.name} ({wheel.stat().st_size // 1024} kB): {said}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="build here, and keep it")
    keep = parser.parse_args().keep
    with tempfile.TemporaryDirectory() as name:
        folder = keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        print(check(folder))


if __name__ == "__main__":
    main()
