"""Every Python block of the README and the docs runs; blocks of a page share one namespace, top to bottom."""

from __future__ import annotations

import linecache
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)


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
