"""Every Python block of the README and the docs runs; blocks of a page share one namespace, top to bottom."""

from __future__ import annotations

import importlib.util
import inspect
import linecache
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from kdsl.error_codes import CODES
from kdsl.sched.primitive import PRIMITIVES

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_run(page: Path) -> None:
    text = page.read_text()
    namespace: dict[str, object] = {"__name__": "docs"}
    for match in BLOCK.finditer(text):
        # Padding with empty lines keeps the page's own line numbers in errors, and kernels find their source.
        source = "\n" * (text.count("\n", 0, match.start()) + 1) + match.group(1)
        name = f"<{page.name}:{match.start()}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), namespace)


def _generator() -> ModuleType:
    return _script("generate")


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date() -> None:
    for name, page in _generator().PAGES.items():
        assert page() == (ROOT / "docs" / name).read_text(), f"run docs/generate.py: docs/{name} is stale"


def test_pictures_are_up_to_date() -> None:
    for name, draw in _script("pictures").ALL.items():
        found = (ROOT / "docs" / "pictures" / name).read_text()
        assert draw() == found, f"run docs/pictures.py: docs/pictures/{name} is stale"


def test_tables_of_the_attention_benchmark_have_their_place() -> None:
    """`python -m benchmarks.attention --write` finds each of its tables by the first cell."""
    from benchmarks.attention import PAGE, put

    text = PAGE.read_text()
    heads = ("| 8 heads of 64, 1024 keys, f32, full |", "| 8 heads of 64 |")
    new = put("\n\n".join(f"{head} time |\n| --- | ---: |\n| one | 1 ms |" for head in heads), text)
    assert new.count("| one | 1 ms |\n\n") == 2 and new.startswith(text[: text.index(heads[0])])
    with pytest.raises(ValueError, match="0 tables"):
        put("| another | time |\n| --- | ---: |", text)


def test_site_builds(tmp_path: Path) -> None:
    """Strictly: a link that leads nowhere, or a page that is not in the navigation, is an error."""
    pytest.importorskip("mkdocs")
    pytest.importorskip("material")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "examples" / "c_host" / "host.c.txt").exists()


def test_every_code_in_use_is_in_the_table_and_back() -> None:
    used = set()
    for path in (ROOT / "kdsl").rglob("*.py"):
        if path.name not in ("error_codes.py", "errors.py"):
            used |= set(re.findall(r"\"(K0\d{3})\"", path.read_text()))
    assert used == set(CODES)


def test_every_primitive_is_a_documented_method() -> None:
    assert _generator().methods() == set(PRIMITIVES)
    for name, fn in PRIMITIVES.items():
        sections = re.findall(r"^(before|after|legal|known as):", inspect.getdoc(fn) or "", re.M)
        assert {"before", "after", "legal", "known as"} <= set(sections), name
