"""Reading the HTML of notebooks."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any


def plain(page: str) -> str:
    """The text of a page, which is well-formed: every tag closes in its order."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return "".join(reader.text)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)
