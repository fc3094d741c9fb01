"""The disk cache: what is found again, what is rebuilt, and what is refused."""

from __future__ import annotations

import multiprocessing
import os
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from kdsl.runtime import cache as cache_module
from kdsl.runtime.cache import DiskCache, open_folder, unsafe_folder
from tests.runtime.process import copy_of_kdsl, run_python


@pytest.fixture
def cache(tmp_path: Path) -> DiskCache:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)
    return DiskCache(folder)


def test_an_entry_comes_back(cache: DiskCache) -> None:
    cache.store("k", {"kernel": "f", "n": [1, None, "x"]}, b"\x00code\xff")
    found = cache.load("k")
    assert found is not None
    assert found.header == {"kernel": "f", "n": [1, None, "x"]}
    assert found.code == b"\x00code\xff"
    assert cache.load("other") is None


@pytest.mark.parametrize("damage", ["truncate", "flip_header", "flip_code", "empty", "longer", "schema"])
def test_a_damaged_entry_is_a_miss(cache: DiskCache, damage: str) -> None:
    cache.store("k", {"kernel": "f"}, b"code" * 10)
    path = cache.folder / "k.kdsl"
    data = bytearray(path.read_bytes())
    match damage:
        case "truncate":
            data = data[:-3]
        case "flip_header":
            data[60] ^= 1
        case "flip_code":
            data[-1] ^= 1
        case "empty":
            data = bytearray()
        case "longer":
            data += b"x"
        case "schema":
            data[4] ^= 1
    path.write_bytes(bytes(data))
    assert cache.load("k") is None
    cache.store("k", {"kernel": "f"}, b"new")
    found = cache.load("k")
    assert found is not None and found.code == b"new"


def _write(folder: Path, worker: int) -> None:
    cache = DiskCache(folder)
    for n in range(40):
        cache.store(f"k{n % 5}", {"kernel": "f", "worker": worker}, bytes([worker]) * 5000)
        found = cache.load(f"k{(n + 1) % 5}")
        assert found is None or found.code == bytes([found.header["worker"]]) * 5000


def test_concurrent_writers(cache: DiskCache) -> None:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    workers = [context.Process(target=_write, args=(cache.folder, n)) for n in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
        assert w.exitcode == 0
    assert sorted(p.name for p in cache.folder.iterdir()) == [f"k{n}.kdsl" for n in range(5)]


def test_the_longest_unused_entries_go_first(cache: DiskCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "LIMIT_BYTES", 3500)
    for n in range(3):
        cache.store(f"k{n}", {}, b"x" * 1000)
        os.utime(cache.folder / f"k{n}.kdsl", (1000 + n, 1000 + n))
    assert cache.load("k0") is not None  # used now, so k1 is the oldest
    cache.store("k3", {}, b"x" * 1000)
    assert [n for n in range(4) if cache.load(f"k{n}") is not None] == [0, 2, 3]


def test_info_and_clear(cache: DiskCache) -> None:
    assert cache.info().oldest_s is None
    for n in range(3):
        cache.store(f"k{n}", {"kernel": "f" if n else "g"}, b"code")
    cache.store("sources-1", {"digest": "x"})
    (cache.folder / "left.1.2.tmp").write_bytes(b"half")
    info = cache.info()
    assert info.kernels == {"f": 2, "g": 1} and info.entries == 3
    assert info.bytes == sum(p.stat().st_size for p in cache.folder.glob("*.kdsl"))
    assert cache.clear() == 4
    assert list(cache.folder.iterdir()) == []


def test_files_are_private(cache: DiskCache) -> None:
    cache.store("k", {}, b"code")
    assert (cache.folder / "k.kdsl").stat().st_mode & 0o777 == 0o600


def test_a_new_folder_is_private(tmp_path: Path) -> None:
    made = open_folder(tmp_path / "a" / "b")
    assert made is not None
    assert made.folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_folder_that_others_can_write_is_not_used(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.warns(RuntimeWarning, match="others can write to it"):
        assert open_folder(folder) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert open_folder(folder) is None  # said once


def test_a_folder_of_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    assert "belongs to another user" in (unsafe_folder(tmp_path) or "")


def test_a_file_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(RuntimeWarning, match="does not use the cache folder"):
        assert open_folder(tmp_path / "file") is None


KERNEL = """
import logging, sys
import numpy as np
import kdsl
from kdsl import f32
{before}
N = kdsl.sizes("N")
FACTOR = {factor}

@kdsl.func
def g(x: f32):
    return {callee}

@kdsl.kernel
def scale(A: f32[N], at: kdsl.i32[1], i: kdsl.i64):
    A[i] = FACTOR * g(A[i])
    A[at[0]] += 0.0

said = []
class Keep(logging.Handler):
    def emit(self, record): said.append(record.getMessage())
logging.getLogger("kdsl").setLevel("DEBUG")
logging.getLogger("kdsl").addHandler(Keep())
a = np.ones(3, np.float32)
at = np.zeros(1, np.int32)
scale(a, at, 1)
text = " ".join(said)
how = "fast" if "found in the cache" in text else "ir" if "its IR" in text else "new"
print(a[1], how, "llvmlite" in sys.modules)
for index, data in ((7, 0), (0, 7)):
    at[0] = data
    try:
        scale(a, at, index)
    except (kdsl.ArgumentError, IndexError) as e:
        print(type(e).__name__, e.lineno, e.filename == __file__)
"""


def _run(folder: Path, **changes: str) -> list[str]:
    values = {"before": "", "factor": "2.0", "callee": "x + 1"} | changes
    name = values.pop("file", "program.py")
    path = folder / name
    path.write_text(textwrap.dedent(KERNEL.format(**values)))
    kdsl = copy_of_kdsl(folder / "lib")
    return run_python(str(path), kdsl=kdsl, KDSL_CACHE_DIR=str(folder / "cache")).stdout.split()


def test_a_second_process_finds_the_code(tmp_path: Path) -> None:
    line = KERNEL.splitlines().index("    A[i] = FACTOR * g(A[i])") + 1

    def errors(moved: int) -> list[str]:
        lines = (str(line + moved), str(line + moved + 1))
        return ["ArgumentError", lines[0], "True", "KernelIndexError", lines[1], "True"]

    assert _run(tmp_path) == ["4.0", "new", "True", *errors(0)]
    assert _run(tmp_path) == ["4.0", "fast", "False", *errors(0)]
    # Moved by a line: the code is kept, messages show the new line.
    assert _run(tmp_path, before="# one\n# two") == ["4.0", "fast", "False", *errors(1)]
    # Another file: likewise.
    assert _run(tmp_path, file="elsewhere.py") == ["4.0", "fast", "False", *errors(0)]
    # A changed constant, a changed callee.
    assert _run(tmp_path, factor="3.0")[:2] == ["6.0", "new"]
    assert _run(tmp_path, callee="x + 2")[:2] == ["6.0", "new"]
    # The same number written in another way: another text, the same code.
    assert _run(tmp_path, callee="x + 1.0")[:2] == ["4.0", "ir"]
    # All entries damaged: everything is built again.
    for path in (tmp_path / "cache").glob("*.kdsl"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert _run(tmp_path)[:2] == ["4.0", "new"]
    assert _run(tmp_path)[:2] == ["4.0", "fast"]
