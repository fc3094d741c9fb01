"""Hooks of MkDocs: what the site takes from outside of docs/ (the changelog, example sources).

Pages are written to be read in the repository too: links such as `../examples/c_host/host.c` lead to a copy
in the site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("*.py", "*.c")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Pages that are not there yet are left out of the navigation."""
    docs = Path(config.docs_dir)
    config.nav = _there(docs, config.nav or [])
    return config


def _there(docs: Path, nav: list[Any]) -> list[Any]:
    out: list[Any] = []
    for item in nav:
        if isinstance(item, str):
            out.append(item)
            continue
        ((title, target),) = item.items()
        if isinstance(target, list):
            out.append({title: _there(docs, target)})
        elif target == "changelog.md" or (docs / target).exists():
            out.append(item)
    return out


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the changelog as a page, and the sources of the examples as they are."""
    text = (ROOT / "CHANGELOG.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "changelog.md", content=text))
    for pattern in SOURCES:
        for path in sorted((ROOT / "examples").rglob(pattern)):
            name = f"{path.relative_to(ROOT)}.txt"  # shown by a browser, not offered for download
            files.append(File.generated(config, name, content=path.read_text()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to examples lead to their copies."""
    return re.sub(r"\]\(\.\./(examples/[^)#]+)\)", r"](\1.txt)", markdown)
