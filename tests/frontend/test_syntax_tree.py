"""`syntax_tree` where CPython mistakes a switch of threads for an error of its own."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from kdsl import source
from kdsl.source import syntax_tree


def test_a_mistaken_system_error_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []
    parse = ast.parse

    def mistaken(text: str, **options: Any) -> ast.AST:
        tries.append(text)
        if len(tries) < 3:
            raise SystemError("AST constructor recursion depth mismatch (before=39, after=34)")
        return parse(text, **options)

    monkeypatch.setattr(ast, "parse", mistaken)
    assert ast.dump(syntax_tree("a + 1", "eval")) == ast.dump(parse("a + 1", mode="eval"))
    assert len(tries) == 3


def test_one_that_stays_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def broken(text: str, **options: Any) -> ast.AST:
        tries.append(text)
        raise SystemError("no")

    monkeypatch.setattr(ast, "parse", broken)
    with pytest.raises(SystemError, match="no"):
        syntax_tree("a")
    assert len(tries) == source.ATTEMPTS
