"""The command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdsl import cli
from tests.runtime.process import run_python

FILE = """
import kdsl
from kdsl import f32
N = kdsl.sizes("N")

@kdsl.kernel
def double(A: f32[N]):
    for i in range(N):
        A[i] *= 2

@kdsl.kernel
def broken(A: f32[N]):
    A[0] = missing
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "some kernels.py"
    path.write_text(FILE)
    return str(path)


def test_devices(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["devices"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names[0] == "cpu" and names[-1] == "interpreter" and names[1].partition(":")[0] == "vulkan"
    assert "-bit vectors" in lines[0]


@pytest.mark.parametrize(
    ("stage", "text"),
    [("ir", "for i in range(N):"), ("explain", "made by LLVM"), ("llvm", "define"), ("asm", "ret")],
)
def test_show(file: str, stage: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["show", f"{file}:double", "--stage", stage]) == 0
    assert text in capsys.readouterr().out


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "{file}:doubel",
            "error[K0703]: there is no kernel `doubel` in some kernels.py\n = help: did you mean `double`?\n",
        ),
        ("{file}", "error[K0701]:"),
        ("{file}:double --size N=3", "error[K0705]: `--size` goes with `--stage explain`"),
        ("{file}:double --stage explain --size 3", "error[K0705]: `3` gives no size"),
        ("{file}:double --stage explain --size M=3", "error[K0358]: `M` is no size of double"),
        ("nowhere.py:f", "error[K0702]: there is no file `nowhere.py`"),
        ("{file}:broken", "error[K02"),
    ],
)
def test_errors_have_no_traceback(
    file: str, where: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    where, *options = where.split(" --")
    words = [word for option in options for word in ("--" + option).split(" ")]
    assert cli.main(["show", where.format(file=file), *words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith(message) and "Traceback" not in said.err


def test_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cache"
    monkeypatch.setenv("KDSL_CACHE_DIR", str(folder))
    program = tmp_path / "program.py"
    program.write_text(
        FILE + "\nimport numpy as np\ndouble(np.ones(3, np.float32))\ndouble.schedule().parallel('i')\n"
    )
    run_python(str(program), KDSL_CACHE_DIR=str(folder))
    assert cli.main(["cache", "info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0] == f"folder   {folder}" and lines[1] == "entries  1" and lines[-1].split() == ["1", "double"]
    )
    assert "proofs   1" in lines
    assert cli.main(["cache", "clear"]) == 0
    assert "files removed" in capsys.readouterr().out
    assert cli.main(["cache", "info"]) == 0
    said = capsys.readouterr().out
    assert "entries  0" in said and "proofs   0" in said and not list(folder.iterdir())
    monkeypatch.setenv("KDSL_CACHE_DIR", "")
    assert cli.main(["cache", "info"]) == 0
    assert capsys.readouterr().out.startswith("no cache")


def test_as_a_module() -> None:
    assert run_python("-m", "kdsl", "--version").stdout.startswith("kdsl 0.")
    assert run_python("-m", "kdsl", check=False).returncode == 2
