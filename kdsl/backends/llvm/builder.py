"""Text of LLVM functions: fresh names, basic blocks, guards with cold exits, and one way out.

What a finished function looks like:

    define i64 @name(ptr %frame) #0 {
    entry:
      %x1 = alloca ...            ; every alloca of the function
      br label %start
    start:
      ...                         ; the body, blocks in program order
    leave:
      %code = phi i64 [ 0, %end7 ], [ 3, %fault9 ], [ -1, %stop4 ]
      ...                         ; the epilogue
      ret i64 %code
    fault9:                       ; cold blocks
      store i64 %v8, ptr %frame
      br label %leave
    }
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kdsl.backends.llvm.watch import Watch

LIKELY = ", !prof !0"
"""Suffix of a conditional branch whose first target is the usual one."""


class Helpers(Protocol):
    """Where internal functions are kept."""

    def helper(self, name: str, text: Callable[[], str]) -> str:
        """The name of an internal function, whose text is added at first use."""


class Emitter(Protocol):
    """Takes instructions: a `Builder` as they are, a `wide.WideBuilder` for several lanes at once."""

    @property
    def module(self) -> Helpers: ...

    def value(self, text: str) -> str:
        """Appends an instruction with a result; gives the result's name."""

    def do(self, text: str) -> None:
        """Appends an instruction without a result."""

    def call(self, result: str, fn: str, *args: tuple[str, str], flags: str = "") -> str:
        """A call of an intrinsic."""


class ModuleText:
    """The top level of a module: functions, declarations and numbered metadata, in order of first use."""

    def __init__(
        self,
        header: Sequence[str],
        attributes: str = 'nounwind "no-trapping-math"="true"',
        watch: Watch | None = None,
    ) -> None:
        """`watch` takes notes on what is emitted."""
        self.watch = watch
        self.header = list(header)
        self.attributes = attributes
        self.globals: list[str] = []
        self.functions: list[str] = []
        self._declared: dict[str, None] = {}
        self._helpers: set[str] = set()
        self._metadata: list[str] = [
            '!{!"branch_weights", i32 1048575, i32 1}',
            "!{i64 0, i64 140737488355328}",
            "!{}",
        ]

    def declare(self, declaration: str) -> None:
        """Adds `declare ...` once."""
        self._declared[declaration] = None

    def helper(self, name: str, text: Callable[[], str]) -> str:
        """The name of an internal function, whose text is added at first use."""
        if name not in self._helpers:
            self._helpers.add(name)
            self.functions.append(text())
        return name

    def metadata(self, text: str) -> str:
        """A new metadata node `!7 = text`, in which `!self` is the node; gives `!7`."""
        self._metadata.append(text.replace("!self", f"!{len(self._metadata)}"))
        return f"!{len(self._metadata) - 1}"

    def render(self) -> str:
        """The whole module as LLVM assembly."""
        parts = [*self.header, "", *self.globals, "", *self.functions]
        parts += [f"declare {d}" for d in self._declared]
        parts.append(f"\nattributes #0 = {{ {self.attributes} }}")
        parts += [f"!{n} = {text}" for n, text in enumerate(self._metadata)]
        return "\n".join(parts) + "\n"


SIZE_RANGE = "!1"
"""Metadata of a load that gives a size: [0, 2**47)."""
EMPTY = "!2"
"""The empty node, for `!invariant.load`."""


def identifier(name: str) -> str:
    """`name` in the letters that LLVM takes without quotes."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name)


class Builder:
    """The text of one function `i64 name(ptr %frame)`, written block after block.

    `label` is the open block's; after a terminator `open` is False until `block` starts the next one.
    `report` is where a fault leaves index and extent.
    """

    def __init__(self, module: ModuleText, signature: str, report: str = "%frame") -> None:
        self.module = module
        self.signature = signature
        self.report = report
        self.label = "start"
        self.open = True
        self._allocas: list[str] = []
        self._lines: list[str] = []
        self._cold: list[str] = []
        self._codes: list[tuple[str, str]] = []
        self._count = 0

    def fresh(self, hint: str) -> str:
        """A name (without its `%`) that no other value or block of this function has."""
        self._count += 1
        return f"{hint}{self._count}"

    def value(self, text: str) -> str:
        """Appends an instruction with a result; gives the result's name."""
        self._count += 1
        name = f"%v{self._count}"
        self._lines.append(f"  {name} = {text}")
        return name

    def named(self, name: str, text: str) -> str:
        """As `value`, with a given name."""
        self._lines.append(f"  %{name} = {text}")
        return f"%{name}"

    def do(self, text: str) -> None:
        """Appends an instruction without a result."""
        self._lines.append(f"  {text}")

    def alloca(self, type_: str, align: int) -> str:
        """Stack memory that lives as long as the function's frame."""
        name = self.fresh("%s")
        self._allocas.append(f"  {name} = alloca {type_}, align {align}")
        return name

    def call(self, result: str, fn: str, *args: tuple[str, str], flags: str = "") -> str:
        """A call of an intrinsic or library function, declared on the way; `args` are (type, value)."""
        self.module.declare(f"{result} @{fn}({', '.join([t for t, _ in args])})")
        return self.value(f"call {flags}{result} @{fn}({', '.join([f'{t} {v}' for t, v in args])})")

    # -- blocks

    def block(self, label: str) -> None:
        """Starts the block `label`; the one before must be closed."""
        assert not self.open, f"block {self.label} has no terminator"
        self._lines.append(f"{label}:")
        self.label = label
        self.open = True

    def br(self, label: str) -> None:
        self._close(f"br label %{label}")

    def cbr(self, cond: str, yes: str, no: str, weights: str = "") -> None:
        self._close(f"br i1 {cond}, label %{yes}, label %{no}{weights}")

    def leave(self, code: str) -> None:
        """Ends the function with a code, through the epilogue."""
        self._codes.append((code, self.label))
        self._close("br label %leave")

    def _close(self, text: str) -> None:
        assert self.open, "an instruction after a terminator"
        self._lines.append(f"  {text}")
        self.open = False

    def cold(self, label: str, lines: Sequence[str], code: str | None = None) -> None:
        """A block out of the way. It ends the function with `code`, or else its last line is a terminator."""
        self._cold.append(f"{label}:")
        self._cold += [f"  {line}" for line in lines]
        if code is not None:
            self._cold.append("  br label %leave")
            self._codes.append((code, label))

    def leave_from(self, label: str, code: str) -> None:
        """Notes that a cold block branches to `leave` by itself."""
        self._codes.append((code, label))

    def guard(self, ok: str, code: int, *, index: str = "", extent: str = "") -> None:
        """Goes on when `ok` holds; else reports the index and extent, and ends with `code`."""
        fault, go = self.fresh("fault"), self.fresh("ok")
        lines = []
        if index:
            lines.append(f"store i64 {index}, ptr {self.report}, align 8")
            if extent:
                second = self.fresh("%v")
                lines += [
                    f"{second} = getelementptr i8, ptr {self.report}, i64 8",
                    f"store i64 {extent}, ptr {second}, align 8",
                ]
        self.cold(fault, lines, str(code))
        self.cbr(ok, go, fault, LIKELY)
        self.block(go)

    def finish(self, prologue: Sequence[str] = (), epilogue: Sequence[str] = ()) -> str:
        """The text of a function that gives a code. `prologue` runs first, `epilogue` on every way out."""
        phi = ", ".join(f"[ {code}, %{label} ]" for code, label in self._codes)
        ending = [
            "leave:",
            f"  %code = phi i64 {phi}",
            *[f"  {line}" for line in epilogue],
            "  ret i64 %code",
        ]
        return self.finish_with(prologue, ending if self._codes else ["leave:", "  unreachable"])

    def finish_with(self, prologue: Sequence[str], ending: Sequence[str]) -> str:
        """The text of a function whose last blocks are given."""
        assert not self.open
        lines = [f"define {self.signature} #0 {{", "entry:", *self._allocas]
        lines += [f"  {line}" for line in prologue]
        lines += ["  br label %start", "start:", *self._lines, *ending]
        return "\n".join([*lines, *self._cold, "}", ""])
