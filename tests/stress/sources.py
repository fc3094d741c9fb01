"""Damaged Python source through the front end: nothing but `CompileError`, and IR that is in order.

Kernels of `tests/programs` with tokens dropped, doubled, swapped or taken from elsewhere, names changed, and
literals made huge. What Python itself refuses is passed over; the rest is decorated, built for the arguments
of the program, verified, now and then lowered and compiled.
"""

from __future__ import annotations

import ast
import copy
import io
import keyword
import linecache
import random
import tokenize
import types
from collections.abc import Callable
from typing import Any

import kdsl
from kdsl.frontend_ast import build
from kdsl.ir.verify import verify
from kdsl.runtime.arguments import arguments
from kdsl.runtime.compile import Request, lowered, program
from kdsl.runtime.targets import resolve
from tests.check import Draw, Program
from tests.stress.driver import Run, main
from tests.stress.material import programs

LITERALS = (
    "0", "-1", "1", "2**63", "10**400", "1e308", "1e999", "1j", "0.5", '"x"', "b'y'", "None", "True", "...",
    "()", "[]", "{}", "[i for i in x]", "lambda x: x", "f'{1}'", "0x7fffffffffffffff", "float('nan')",
    "(1, 2)", "1 << 200", "2 ** 100000", "'a' * 3", "not 1", "*x", "{**x}", "slice(1)", "i := 3", "kdsl",
    "kdsl.inf",
)  # fmt: skip
WORDS = (
    "+", "-", "*", "/", "//", "%", "**", "<<", ">>", "@", "&", "|", "^", "~", "==", "<", "is", "is not",
    "in", "and", "or", "not", "if", "else", "for", "while", "return", "break", "continue", "pass", "del",
    "global N", "nonlocal N", "yield", "await", "import os", "with", "try", "raise", "lambda", ":", ",",
    "(", ")", "[", "]", ".", ".shape", ".shape[0]", ".T", "[::2]", "[-1]", "[1:]", "[None]", "[...]", "[N]",
    "range", "min(", "max(", "kdsl.grid", "kdsl.static_range(3)", "kdsl.exp", "kdsl.zeros(4, f32)",
    "kdsl.atomic_add", "kdsl.where", "print", "assert", "len", "round", "+=", "-=", "*=", "@=", "//=",
    "**=", ">>=", "=", ":=",
)  # fmt: skip


def tokens(text: str) -> list[str]:
    """Tokens with the white space before them: joined they are the text."""
    lines = text.splitlines(keepends=True)
    out, at = [], (1, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT):
            continue
        out.append(_between(lines, at, token.start) + token.string)
        at = token.end
    return out


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]] if start[0] <= len(lines) else ""
    rest = lines[start[0] - 1][start[1] :] if start[0] <= len(lines) else ""
    return (
        rest
        + "".join(lines[start[0] : end[0] - 1])
        + (lines[end[0] - 1][: end[1]] if end[0] <= len(lines) else "")
    )


def exchanged(text: str, others: list[str], draw: random.Random) -> str:
    """`text` with one to three expressions or statements in each other's places, or from another text."""
    tree, other = ast.parse(text), ast.parse(draw.choice(others))
    for _ in range(draw.choice((1, 1, 2, 3))):
        kind = ast.expr if draw.random() < 0.75 else ast.stmt
        places = [
            (node, name, n)
            for node in ast.walk(tree)
            for name, value in ast.iter_fields(node)
            for n, v in enumerate(value if isinstance(value, list) else [value])
            # The parts of an f-string are of two kinds, which have no text elsewhere.
            if isinstance(v, kind)
            and not isinstance(node, ast.Module | ast.JoinedStr)
            and name != "format_spec"
        ]
        found = [n for n in ast.walk(draw.choice((tree, other))) if isinstance(n, kind)]
        node, name, n = draw.choice(places)
        new: Any = copy.deepcopy(draw.choice(found))
        if kind is ast.expr and draw.random() < 0.3:
            new = ast.parse(draw.choice([w for w in LITERALS if w[0] not in "*i"]), mode="eval").body
        field = getattr(node, name)
        if isinstance(field, list):
            field[n] = new
        else:
            setattr(node, name, new)
    return ast.unparse(tree)


def damaged(text: str, others: list[str], draw: random.Random) -> str:
    """`text` with one to four changes."""
    parts = tokens(text)
    names = [p.strip() for p in parts if p.strip().isidentifier() and not keyword.iskeyword(p.strip())]
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        at = draw.randrange(len(parts))
        part = parts[at]
        space = part[: len(part) - len(part.lstrip(" \t"))]
        match draw.randrange(9):
            case 0:
                del parts[at]
            case 1:
                parts.insert(at, part)
            case 2:
                to = draw.randrange(len(parts))
                parts[at], parts[to] = parts[to], parts[at]
            case 3:
                parts[at] = space + draw.choice(names)
            case 4:
                parts[at] = space + draw.choice(LITERALS)
            case 5:
                parts[at] = space + draw.choice(WORDS) + " "
            case 6:
                parts.insert(at, " " + draw.choice(WORDS) + " ")
            case 7:
                numbers = [n for n, p in enumerate(parts) if p.strip()[:1].isdigit()]
                if numbers:
                    parts[draw.choice(numbers)] = " " + draw.choice(LITERALS)
            case 8:
                lines = "".join(parts).splitlines(keepends=True)
                lines.insert(
                    draw.randrange(1, len(lines) + 1), draw.choice(draw.choice(others).splitlines(True))
                )
                try:
                    parts = tokens("".join(lines))
                except (tokenize.TokenError, SyntaxError):
                    return "".join(lines)
        if not parts:
            break
    return "".join(parts)


def function_of(text: str, scope: dict[str, Any], name: str, number: int) -> Callable[..., Any] | None:
    """The function that `text` defines; None where Python refuses it."""
    filename = f"<stress {number}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    scope = dict(scope)
    scope.pop(name, None)
    try:
        exec(compile(text, filename, "exec"), scope)
    except Exception:
        return None
    fn = scope.get(name)
    return fn if isinstance(fn, types.FunctionType) else None


def plain_text(p: Program) -> str:
    """The text of a program's function, from its `def` on."""
    text: str = p.kernel.source
    lines = text.splitlines(keepends=True)
    indent = len(lines[0]) - len(lines[0].lstrip())
    at = next(n for n, line in enumerate(lines) if line.lstrip().startswith("def "))
    return "".join(line[indent:] if line.strip() else line for line in lines[at:])


def stress(run: Run) -> None:
    """Until the budget is spent."""
    chosen = [p for p in programs() if "<locals>" not in p.kernel.__qualname__]
    texts = [plain_text(p) for p in chosen]
    target = resolve("cpu")
    for number in run.rounds():
        draw = run.random
        at = draw.randrange(len(chosen))
        p = chosen[at]
        source = p.kernel.__kdsl_source__
        text = (damaged if draw.random() < 0.3 else exchanged)(texts[at], texts, draw)
        fn = function_of(text, source.fn.__globals__, p.kernel.__name__, number)
        run.counts["texts"] += 1
        if fn is None:
            run.counts["refused by Python"] += 1
            continue
        given = p.arguments(Draw(number), *p.sizes[0])
        with run.guarded("the front end", text):
            kernel = kdsl.kernel(fn)
            made = arguments(kernel.__kdsl_source__, given, {})
            func = build(kernel.__kdsl_source__, made.signature)
            verify(func)
            run.counts["built"] += 1
            if draw.random() < 0.2:
                lowered(func, target)
                run.counts["lowered"] += 1
            if draw.random() < 0.02:
                program(Request(kernel.__kdsl_source__, made.signature, target))
                run.counts["compiled"] += 1
        linecache.cache.pop(f"<stress {number}>", None)


if __name__ == "__main__":
    main(stress)
