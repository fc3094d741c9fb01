"""Instructions on several lanes at once, made of the text of scalar ones.

    fmul contract float %v3, %v4            fmul contract <16 x float> %v3, %v4
    add i64 %v5, 8                          add <16 x i64> %v5, splat (i64 8)
    call float @llvm.fabs.f32(float %v3)    call <16 x float> @llvm.fabs.v16f32(<16 x float> %v3)

Every instruction that `arith.py` and `halves.py` emit has this vector form, so they serve both.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from kdsl.backends.llvm.builder import Builder

_TOKEN = re.compile(
    r"(?<![%@.\w#])(?:(?P<type>float|double|half|i\d+)"
    r"|(?P<literal>0x[0-9A-F]+|-?\d+(?:\.\d+)?|true|false))(?![\w.])"
)
_LITERAL = re.compile(r"0x[0-9A-F]+|-?\d+(?:\.\d+)?|true|false")
_SUFFIX = re.compile(r"\.(f32|f64|i\d+)(?=\.|$)")


def widen(text: str, lanes: int) -> str:
    """Scalar instructions as vector ones; a literal takes the type named last before it."""
    last = ""

    def token(m: re.Match[str]) -> str:
        nonlocal last
        if m["type"]:
            last = m["type"]
            return f"<{lanes} x {last}>"
        return f"splat ({last} {m['literal']})"

    return _TOKEN.sub(token, text)


def is_literal(text: str) -> bool:
    """Whether `text` is a number (which stands for itself in every lane) and no name."""
    return _LITERAL.fullmatch(text) is not None


def operand(lanes: int, ty: str, text: str) -> str:
    """`<16 x i64> %v3` or `<16 x i64> splat (i64 8)`."""
    return f"<{lanes} x {ty}> " + (f"splat ({ty} {text})" if is_literal(text) else text)


class WideHelpers:
    """Internal functions on vectors, made of those on scalars (straight code only)."""

    def __init__(self, b: Builder, lanes: int) -> None:
        self.b = b
        self.lanes = lanes

    def helper(self, name: str, text: Callable[[], str]) -> str:
        """The name of the vector form of a helper."""
        wide = f"{name}.v{self.lanes}"
        return self.b.module.helper(wide, lambda: widen(text(), self.lanes).replace(f"@{name}(", f"@{wide}("))


class WideBuilder:
    """An `Emitter` whose instructions work on `lanes` values; names stand for vectors."""

    def __init__(self, b: Builder, lanes: int) -> None:
        self.b = b
        self.lanes = lanes
        self.module = WideHelpers(b, lanes)

    def value(self, text: str) -> str:
        """Appends the vector form of an instruction; gives its result's name."""
        return self.b.value(widen(text, self.lanes))

    def do(self, text: str) -> None:
        """Appends the vector form of an instruction without a result."""
        self.b.do(widen(text, self.lanes))

    def call(self, result: str, fn: str, *args: tuple[str, str], flags: str = "") -> str:
        """A call of an intrinsic; arguments of type i1 are its immediate ones."""
        name = _SUFFIX.sub(rf".v{self.lanes}\1", fn)
        wide = [
            (t, v) if t == "i1" else (f"<{self.lanes} x {t}>", operand(self.lanes, t, v).split("> ", 1)[1])
            for t, v in args
        ]
        return self.b.call(f"<{self.lanes} x {result}>", name, *wide, flags=flags)
