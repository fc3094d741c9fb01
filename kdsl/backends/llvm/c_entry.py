"""The C functions around a kernel, as LLVM assembly: no Python behind them.

    define i32 @matmul(ptr %a0, ptr %a1, ptr %a2, i64 %n0, i64 %n1, i64 %n2)    ; see c_interface
      frame and run-time table on the stack: nothing stops it, parallel loops have a pool of their own
      @kernel.matmul.accept(frame)     sizes in range, pointers given and aligned, written arrays apart
      @kernel.matmul.check(frame)      call conditions
      @kernel.matmul(frame)
      ret i32 0, or what @kernel.matmul.report notes for this thread and gives
    define ptr @matmul_error()         ; the text of the thread's last failure
    define ptr @matmul_last_fault()    ; {i32 code, i32 condition, i64 value, i64 extent, ptr file, i32 line}

Failures are numbered: what `accept` refuses, then the call conditions, then the sites. A number stands for
one message, for an index site for six (`c_interface.site_messages`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from kdsl.backends.base import FrameLayout, Site
from kdsl.backends.c_interface import (
    CODES,
    INDEX_CLASSES,
    Message,
    argument_message,
    arrays,
    condition_messages,
    scalars,
    site_messages,
)
from kdsl.backends.llvm.builder import Builder, ModuleText
from kdsl.backends.llvm.parallel import POOL_SLOT
from kdsl.backends.llvm.pool import INIT, STATE
from kdsl.backends.llvm.types import memory_type
from kdsl.dtypes import Size
from kdsl.ir.nodes import ArrayParam, Func
from kdsl.source import display_name

SIZE_LIMIT = 1 << 47
"""Extents are below this."""

_FAULT = "{ i32, i32, i64, i64, ptr, i32 }"
_NUMBER_CHARS = 20


def emit_c_functions(module: ModuleText, func: Func, symbol: str, sites: Sequence[Site], pool: bool) -> None:
    """Adds the C functions of the kernel `@symbol` to a module of their own; it reports `sites`.

    `pool`: it has parallel loops, and there is a pool for them.
    """
    module.declare(f"i64 @{symbol}(ptr)")
    module.declare(f"i64 @{symbol}.check(ptr)")
    accept = _Accept(Builder(module, f"internal i64 @{symbol}.accept(ptr noundef nonnull %frame)"), func)
    accept.emit()
    module.functions.append(accept.b.finish())
    conditions = condition_messages(func)
    said: list[tuple[Message, ...]] = [(m,) for m in (*accept.messages, *conditions)]
    said += [tuple(site_messages(site)) for site in sites]
    _emit_call(module, func, symbol, len(accept.messages), len(conditions), pool)
    _emit_report(module, func, symbol, said)


def _slot(b: Builder, number: int) -> str:
    return b.value(f"getelementptr i8, ptr %frame, i64 {8 * number}")


@dataclass(slots=True)
class _Accept:
    """What the run time checks of a Python call and the call conditions do not."""

    b: Builder
    func: Func
    messages: list[Message] = field(default_factory=list)

    def emit(self) -> None:
        """Ends with 0, or the number of the message."""
        b, func, layout = self.b, self.func, FrameLayout.of(self.func)
        sizes = {}
        for name, slot in zip(func.sizes, layout.sizes):
            sizes[name] = b.value(f"load i64, ptr {_slot(b, slot)}, align 8")
        for name, value in sizes.items():
            self._need(
                b.value(f"icmp ult i64 {value}, {SIZE_LIMIT}"),
                argument_message(
                    "K0719", f"the size {name} cannot be {{value}}", func.loc, "pass 0 or more", name
                ),
            )
        spans: list[tuple[ArrayParam, str, str]] = []
        for p, slot in zip(func.params, layout.params):
            if not isinstance(p, ArrayParam):
                continue
            count = "1"
            for extent in p.shape:
                value = self._extent(p, extent, sizes)
                count = b.value(f"mul i64 {count}, {value}")
            data = b.value(f"load i64, ptr {_slot(b, slot)}, align 8")
            self._pointer(p, data, count)
            spans.append((p, data, b.value(f"mul i64 {count}, {p.dtype.bytes}")))
        for n, span in enumerate(spans):
            for other in spans[:n]:
                self._apart(other, span)
        b.leave("0")

    def _need(self, ok: str, message: Message) -> None:
        self.messages.append(message)
        self.b.guard(ok, len(self.messages))

    def _extent(self, p: ArrayParam, extent: Size, sizes: dict[str, str]) -> str:
        """The value of an extent, which must be in range; computed in 128 bits, as sizes are below 2**47."""
        if extent.symbol is not None:
            return sizes[extent.symbol]
        if not extent.terms:
            return str(extent.const)
        b = self.b
        total = str(extent.const)
        for symbol, coefficient in extent.terms.items():
            wide = b.value(f"zext i64 {sizes[symbol]} to i128")
            total = b.value(f"add i128 {total}, {b.value(f'mul i128 {wide}, {coefficient}')}")
        self._need(
            b.value(f"icmp ult i128 {total}, {SIZE_LIMIT}"),
            argument_message(
                "K0719",
                f"`{p.name}` cannot have {extent} elements in a dimension",
                p.loc,
                "pass sizes for which that is 0 or more",
            ),
        )
        return b.value(f"trunc i128 {total} to i64")

    def _pointer(self, p: ArrayParam, data: str, count: str) -> None:
        b = self.b
        there = b.value(f"icmp ne i64 {data}, 0")
        empty = b.value(f"icmp eq i64 {count}, 0")
        self._need(
            b.value(f"or i1 {there}, {empty}"),
            argument_message(
                "K0719", f"argument `{p.name}` is NULL", p.loc, "pass the address of its elements"
            ),
        )
        if p.dtype.bytes > 1:
            off = b.value(f"and i64 {data}, {p.dtype.bytes - 1}")
            self._need(
                b.value(f"icmp eq i64 {off}, 0"),
                argument_message(
                    "K0412",
                    f"the elements of argument `{p.name}` are not aligned",
                    p.loc,
                    f"its address must be a multiple of {p.dtype.bytes}",
                ),
            )

    def _apart(self, one: tuple[ArrayParam, str, str], two: tuple[ArrayParam, str, str]) -> None:
        (a, a_data, a_bytes), (c, c_data, c_bytes) = one, two
        may = self.func.options.may_alias
        if not (a.written or c.written) or (a.name in may and c.name in may):
            return
        b = self.b
        before = b.value(f"icmp ule i64 {b.value(f'add i64 {a_data}, {a_bytes}')}, {c_data}")
        after = b.value(f"icmp ule i64 {b.value(f'add i64 {c_data}, {c_bytes}')}, {a_data}")
        apart = b.value(f"or i1 {before}, {after}")
        for size in (a_bytes, c_bytes):
            apart = b.value(f"or i1 {apart}, {b.value(f'icmp eq i64 {size}, 0')}")
        self._need(
            apart,
            argument_message(
                "K0419",
                f"arguments `{a.name}` and `{c.name}` overlap in memory, and the kernel writes to "
                + (f"`{c.name}`" if c.written else f"`{a.name}`"),
                (c if c.written else a).loc,
                f'pass a copy, or declare `may_alias=("{a.name}", "{c.name}")`',
            ),
        )


def _emit_call(
    module: ModuleText, func: Func, symbol: str, arguments: int, conditions: int, pool: bool
) -> None:
    """The function that C calls."""
    for declaration in ("ptr @aligned_alloc(i64, i64)", "void @free(ptr)"):
        module.declare(declaration)
    layout = FrameLayout.of(func)
    slots = dict(zip([p.name for p in func.params], layout.params))
    given = [(f"%a{n}", "ptr", slots[p.name]) for n, p in enumerate(arrays(func))]
    given += [(f"%n{n}", "i64", slot) for n, slot in enumerate(layout.sizes)]
    given += [(f"%s{n}", memory_type(p.dtype), slots[p.name]) for n, p in enumerate(scalars(func))]
    table = [("%word", 0), (f"@{symbol}.poll", 8), ("@aligned_alloc", 24), ("@free", 32)]
    if pool:
        module.globals.append(f"@{STATE} = external global i8")
        module.declare(f"void @{INIT}()")
        table.append((f"@{STATE}", POOL_SLOT))
    start_pool = f"call void @{INIT}()" if pool else "; no parallel loops"
    lines = [f"define i32 @{func.name}({', '.join(f'{t} {name}' for name, t, _ in given)}) #0 {{", "entry:"]
    lines.append(f"  %frame = alloca [{layout.slots} x i64], align 16")
    lines += ["  %table = alloca [7 x ptr], align 16", "  %word = alloca i32, align 4"]
    lines += ["  store i32 0, ptr %word, align 4", "  store [7 x ptr] zeroinitializer, ptr %table, align 16"]
    lines.append(f"  store [{layout.slots} x i64] zeroinitializer, ptr %frame, align 16")
    for n, (value, offset) in enumerate(table):
        lines.append(f"  %t{n} = getelementptr i8, ptr %table, i64 {offset}")
        lines.append(f"  store ptr {value}, ptr %t{n}, align 8")
    for n, (value, type_, slot) in enumerate([*given, ("%table", "ptr", 2)]):
        lines.append(f"  %f{n} = getelementptr i8, ptr %frame, i64 {8 * slot}")
        lines.append(f"  store {type_} {value}, ptr %f{n}, align 8")
    lines.append(
        f"""\
  %refused = call i64 @{symbol}.accept(ptr %frame)
  %accepted = icmp eq i64 %refused, 0
  br i1 %accepted, label %conditions, label %bad
conditions:
  %failing = call i64 @{symbol}.check(ptr %frame)
  %holds = icmp eq i64 %failing, 0
  %condition = add i64 %failing, {arguments}
  br i1 %holds, label %run, label %bad
run:
  {start_pool}
  %code = call i64 @{symbol}(ptr %frame)
  %done = icmp eq i64 %code, 0
  %site = add i64 %code, {arguments + conditions}
  br i1 %done, label %good, label %bad
good:
  ret i32 0
bad:
  %number = phi i64 [ %refused, %entry ], [ %condition, %conditions ], [ %site, %run ]
  %answer = call i32 @{symbol}.report(ptr %frame, i64 %number)
  ret i32 %answer
}}

define internal i64 @{symbol}.poll(ptr %table) #0 {{
  ret i64 0
}}
"""
    )
    module.functions.append("\n".join(lines))


def _emit_report(module: ModuleText, func: Func, symbol: str, said: Sequence[tuple[Message, ...]]) -> None:
    """The note of a failure, and the two functions that give it."""
    longest = max(
        [len(m.form.encode()) + _NUMBER_CHARS * len(m.values) for ms in said for m in ms], default=0
    )
    room = longest + 1
    module.declare("i32 @snprintf(ptr, i64, ptr, ...)")
    module.globals += [
        f"@{symbol}.fault = internal thread_local global {_FAULT} zeroinitializer, align 8",
        f"@{symbol}.text = internal thread_local global [{room} x i8] zeroinitializer, align 1",
    ]
    slots = dict(zip(func.sizes, FrameLayout.of(func).sizes)) | {"value": 0, "extent": 1}
    texts = _Texts(module, symbol)
    lines = [
        f"define internal i32 @{symbol}.report(ptr %frame, i64 %number) cold noinline #0 {{",
        "  %value = load i64, ptr %frame, align 8",
        "  %extent.at = getelementptr i8, ptr %frame, i64 8",
        "  %extent = load i64, ptr %extent.at, align 8",
        "  %below = icmp slt i64 %value, 0",
        f"  %first = select i1 %below, i64 {INDEX_CLASSES // 2}, i64 0",
        "  %some = icmp sgt i64 %extent, 0",
        "  %many = icmp sgt i64 %extent, 1",
        "  %some.i64 = zext i1 %some to i64",
        "  %many.i64 = zext i1 %many to i64",
        "  %counted = add i64 %some.i64, %many.i64",
        "  %class = add i64 %first, %counted",
        "  switch i64 %number, label %unknown [",
        *[f"    i64 {number}, label %m{number}" for number in range(1, len(said) + 1)],
        "  ]",
        "unknown:",
        "  unreachable",
    ]
    for number, messages in enumerate(said, 1):
        if len(messages) > 1:
            cases = " ".join(f"i64 {n}, label %m{number}.{n}" for n in range(len(messages)))
            lines += [f"m{number}:", f"  switch i64 %class, label %unknown [ {cases} ]"]
        for n, m in enumerate(messages):
            label = f"m{number}.{n}" if len(messages) > 1 else f"m{number}"
            lines.append(f"{label}:")
            passed = []
            for k, name in enumerate(m.values):
                at, loaded = f"%{label}.at{k}", f"%{label}.v{k}"
                lines.append(f"  {at} = getelementptr i8, ptr %frame, i64 {8 * slots[name]}")
                lines.append(f"  {loaded} = load i64, ptr {at}, align 8")
                passed.append(f", i64 {loaded}")
            lines.append(
                f"  %{label}.n = call i32 (ptr, i64, ptr, ...) @snprintf(ptr @{symbol}.text, i64 {room}, "
                f"ptr {texts(m.form)}{''.join(passed)})"
            )
            file = texts(display_name(m.loc.filename)) if m.loc is not None else "null"
            fields = [
                ("i32", str(CODES[m.error])),
                ("i32", str(m.condition)),
                ("i64", "%value"),
                ("i64", "%extent"),
                ("ptr", file),
                ("i32", str(m.loc.line if m.loc is not None else 0)),
            ]
            for k, (type_, value) in enumerate(fields):
                at = f"%{label}.f{k}"
                lines.append(f"  {at} = getelementptr {_FAULT}, ptr @{symbol}.fault, i64 0, i32 {k}")
                lines.append(f"  store {type_} {value}, ptr {at}")
            lines.append(f"  ret i32 {CODES[m.error]}")
    lines.append("}\n")
    for name, what in (("error", "text"), ("last_fault", "fault")):
        lines += [f"define ptr @{func.name}_{name}() #0 {{", f"  ret ptr @{symbol}.{what}", "}\n"]
    module.functions.append("\n".join(lines))


@dataclass(slots=True)
class _Texts:
    """Constant strings, each kept once."""

    module: ModuleText
    symbol: str
    known: dict[str, str] = field(default_factory=dict)

    def __call__(self, text: str) -> str:
        if text not in self.known:
            raw = text.encode() + b"\0"
            name = f"@{self.symbol}.str{len(self.known) + 1}"
            shown = "".join(chr(c) if 32 <= c < 127 and chr(c) not in '"\\' else f"\\{c:02X}" for c in raw)
            self.module.globals.append(
                f'{name} = private unnamed_addr constant [{len(raw)} x i8] c"{shown}", align 1'
            )
            self.known[text] = name
        return self.known[text]
