"""Damaged text of the IR through its parser: `CompileError` with a line, or IR that prints and reads back."""

from __future__ import annotations

import random
import tokenize

from kdsl.errors import CompileError
from kdsl.ir.parser import parse_func
from kdsl.ir.printer import print_func
from tests.check import Draw
from tests.stress.driver import Run, main
from tests.stress.material import programs
from tests.stress.sources import LITERALS, WORDS, tokens

PIECES = (
    *LITERALS, *WORDS, "i64(", "f32(", "checked(", "store(", "vectorize(", "parallel(", "unroll(", 'bind(',
    "let(", "select(", "require(", '@options(strict=True)', '@sizes(Q)', ' @ "local"', ' @ "nowhere"',
    "prefetch(", "barrier()", "\n", "    ", "\t", "\0", "\x0c", "é", "9" * 5000, "(" * 300, "-" * 500, "#",
    '"', "'''", "\\",
)  # fmt: skip


def damaged(text: str, draw: random.Random) -> str:
    """`text` with one to four changes in tokens or characters."""
    for _ in range(draw.choice((1, 1, 2, 3, 4))):
        match draw.randrange(5):
            case 0:
                at = draw.randrange(len(text) + 1)
                text = text[:at] + draw.choice(PIECES) + text[at:]
            case 1:
                at = draw.randrange(len(text) + 1)
                text = text[:at] + text[at + draw.randrange(1, 30) :]
            case 2:
                at = draw.randrange(max(1, len(text)))
                text = text[:at] + chr(draw.randrange(32, 127)) + text[at + 1 :]
            case _:
                try:
                    parts = tokens(text)
                except (SyntaxError, tokenize.TokenError):
                    continue
                if not parts:
                    continue
                at, to = draw.randrange(len(parts)), draw.randrange(len(parts))
                match draw.randrange(4):
                    case 0:
                        del parts[at]
                    case 1:
                        parts.insert(at, parts[to])
                    case 2:
                        parts[at], parts[to] = parts[to], parts[at]
                    case 3:
                        parts[at] = " " + draw.choice(PIECES)
                text = "".join(parts)
    return text


def stress(run: Run) -> None:
    """Until the budget is spent."""
    texts: dict[int, str] = {}
    chosen = programs()
    for number in run.rounds():
        draw = run.random
        at = draw.randrange(len(chosen))
        if at not in texts:
            texts[at] = chosen[at].kernel.ir(*chosen[at].arguments(Draw(0), *chosen[at].sizes[0]))
        for _ in range(20):
            text = damaged(texts[at], draw)
            run.counts["texts"] += 1
            with run.guarded(f"the parser of the IR, round {number}", text, CompileError):
                func = parse_func(text, "damaged.ir" if draw.random() < 0.5 else "")
                run.counts["read"] += 1
                again = parse_func(print_func(func))
                if again != func:
                    run.find("what is printed reads back as something else", text)


if __name__ == "__main__":
    main(stress)
