"""What `import kdsl` and a warm first call load, and that the public names are there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import kdsl
from kdsl import lang
from tests.runtime.process import copy_of_kdsl, environment, run_python

MATMUL = """
import numpy as np
import kdsl
from kdsl import f32
import sys
{checks}
M, N, K = kdsl.sizes("M N K")

@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            acc = 0.0
            for k in range(K):
                acc += A[i, k] * B[k, j]
            C[i, j] = acc

A, B, C = (np.ones((4, 4), np.float32) for _ in range(3))
matmul(A, B, C)
assert (C == 4).all()
print(*sorted(m for m in sys.modules if m.split(".")[0] in ("llvmlite", "islpy", "kdsl")))
"""


def test_import_is_light() -> None:
    loaded = run_python("-c", "import sys, kdsl; print(*sys.modules)").stdout.split()
    assert not {"llvmlite", "islpy", "ml_dtypes", "kdsl.ir.nodes", "kdsl.frontend_ast", "kdsl.lang"} & set(
        loaded
    )
    assert {m for m in loaded if m.startswith("kdsl")} == {
        "kdsl", "kdsl.dtypes", "kdsl.errors", "kdsl.forks", "kdsl.source",
        "kdsl.runtime", "kdsl.runtime.device_array", "kdsl.runtime.kernel", "kdsl.runtime.log",
        "kdsl.runtime.targets", "kdsl.runtime.threads",
    }  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere LLVM loads the code")
def test_a_warm_first_call_loads_no_compiler(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(MATMUL.format(checks=""))
    folder, copy = str(tmp_path / "cache"), copy_of_kdsl(tmp_path / "lib")
    cold = run_python(str(program), kdsl=copy, KDSL_CACHE_DIR=folder).stdout.split()
    assert "llvmlite" in cold
    warm = run_python(str(program), kdsl=copy, KDSL_CACHE_DIR=folder).stdout.split()
    for module in ("llvmlite", "islpy", "kdsl.ir.nodes", "kdsl.frontend_ast.core", "kdsl.passes"):
        assert module not in warm


def test_no_disk_cache(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(MATMUL.format(checks=""))
    run_python(str(program), KDSL_CACHE_DIR="", HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "xdg"))
    assert not (tmp_path / "xdg").exists() and not (tmp_path / ".cache").exists()
    run_python(
        str(program),
        HOME=str(tmp_path),
        XDG_CACHE_HOME=str(tmp_path / "xdg"),
        KDSL_CACHE_DIR=str(tmp_path / "x"),
    )
    assert (tmp_path / "x").exists()


def test_public_names() -> None:
    assert set(lang.__all__) <= set(dir(kdsl))
    for name in [*kdsl.__all__, *lang.__all__]:
        assert getattr(kdsl, name) is not None
    assert kdsl.exp is lang.exp
    with pytest.raises(AttributeError, match="module 'kdsl' has no attribute 'expp'"):
        _ = kdsl.expp
    assert not set(kdsl.__all__) & set(lang.__all__)


def test_type_checkers_see_the_names(tmp_path: Path) -> None:
    program = tmp_path / "typed.py"
    program.write_text(
        "import kdsl\n"
        "from kdsl import f32\n"
        "N = kdsl.sizes('N')\n"
        "x: float = kdsl.exp(1.0)\n"
        "@kdsl.kernel\n"
        "def f(n: int) -> None: ...\n"
        "@kdsl.kernel(strict=True, bounds='unchecked')\n"
        "def g(n: int) -> None: ...\n"
        "f(3)\n"
        "g.py(3)\n"
        "reveal_type(f)\n"
        "f(3, 4)\n"
        "kdsl.kernel(stricter=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", "--cache-dir", str(tmp_path / "m"), str(program)],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=300,
    )
    lines = [line for line in done.stdout.splitlines() if "typed.py" in line]
    assert len(lines) == 3, done.stdout
    assert 'Revealed type is "kdsl.runtime.kernel.Kernel[[n: ' in lines[0]
    assert 'Too many arguments for "__call__"' in lines[1]
    assert 'Unexpected keyword argument "stricter"' in lines[2]
