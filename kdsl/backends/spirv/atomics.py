"""Indivisible updates: the instruction where there is one, else a loop of compare and exchange.

i32, u32 (i64, u64 with shaderBufferInt64Atomics)      AtomicIAdd, AtomicSMin, ...
f32, f64, and shorter types in work-group memory       old = Load; until AtomicCompareExchange succeeds
8 and 16 bits in a binding                             the same on the word of 32 bits that holds the element
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from kdsl.backends.spirv.expressions import Expressions
from kdsl.backends.spirv.memory import Buffer
from kdsl.backends.spirv.module import bits_of
from kdsl.backends.spirv.opcodes import DEVICE_SCOPE, RELAXED, WORKGROUP_SCOPE, Capability, Storage
from kdsl.dtypes import i32
from kdsl.ir.nodes import Atomic


def exchange(x: Expressions, s: Atomic, buffer: Buffer, at: int | None, value: int) -> int:
    """Updates an element; gives its old value."""
    a, t, memory = x.arith, buffer.dtype, x.memory
    if buffer.private:
        pointer = memory.pointer(buffer, at)
        old = memory.load(buffer, pointer)
        memory.store(buffer, pointer, a.binary(s.op, i32 if buffer.narrow else t, old, value))
        return old
    kind = buffer.kind
    if kind in ("i8", "i16"):
        return _in_a_word(x, s, buffer, at, value)
    m = x.code.module
    if bits_of("i32" if kind == "bool" else kind) == 64:
        m.need(Capability.Int64Atomics)
    scope, order = _order(x, buffer)
    if kind[0] == "i" and t.is_int and t.bits >= 32:
        sign = "S" if t.kind == "int" else "U"
        op = {"+": "IAdd", "min": f"{sign}Min", "max": f"{sign}Max"}[s.op]
        return x.code.value(f"Atomic{op}", kind, memory.pointer(buffer, at), scope, order, value)
    whole = f"i{bits_of(kind)}"
    seen = replace(buffer, kind=whole)
    pointer = memory.pointer(seen, at, whole)

    def swap(raw: int) -> int:
        return memory.raw(seen, a.binary(s.op, t, memory.value(seen, raw), value))

    return memory.value(seen, _until_unchanged(x, seen, pointer, whole, swap))


def _in_a_word(x: Expressions, s: Atomic, buffer: Buffer, at: int | None, value: int) -> int:
    """An element of 8 or 16 bits, in the word that holds it."""
    a, t, bits = x.arith, buffer.dtype, buffer.dtype.bits
    per_word = (32 // bits).bit_length() - 1
    if at is None:
        at = a.const("i32", 0)
    word = a.op("ShiftRightLogical", "i32", at, a.const("i32", per_word))
    inside = a.op("BitwiseAnd", "i32", at, a.const("i32", (1 << per_word) - 1))
    shift = a.op("IMul", "i32", inside, a.const("i32", bits))
    mask = a.op("ShiftLeftLogical", "i32", a.const("i32", (1 << bits) - 1), shift)
    pointer = x.memory.pointer(buffer, word, "i32")

    def old(raw: int) -> int:
        return a.from_bits(t, a.op("ShiftRightLogical", "i32", raw, shift))

    def swap(raw: int) -> int:
        new = a.to_bits(t, a.binary(s.op, t, old(raw), value))
        placed = a.op("BitwiseAnd", "i32", a.op("ShiftLeftLogical", "i32", new, shift), mask)
        others = a.op("BitwiseAnd", "i32", raw, a.op("Not", "i32", mask))
        return a.op("BitwiseOr", "i32", others, placed)

    return old(_until_unchanged(x, buffer, pointer, "i32", swap))


def _order(x: Expressions, buffer: Buffer) -> tuple[int, int]:
    m = x.code.module
    shared = buffer.storage is Storage.Workgroup
    return m.constant("i32", WORKGROUP_SCOPE if shared else DEVICE_SCOPE), m.constant("i32", RELAXED)


def _until_unchanged(
    x: Expressions, buffer: Buffer, pointer: int, whole: str, swap: Callable[[int], int]
) -> int:
    """Exchanges the bits at an address for `swap` of them; gives the old ones."""
    code, m = x.code, x.code.module
    scope, order = _order(x, buffer)
    last = code.variable(m.type(whole))
    done = code.variable(m.type("bool"))
    code.do("Store", last, code.value("AtomicLoad", whole, pointer, scope, order))
    code.do("Store", done, m.constant("bool", False))

    def test(_: Sequence[int]) -> int:
        return code.pure("LogicalNot", "bool", code.value("Load", "bool", done))

    def body(_: Sequence[int], again: int, end: int) -> None:
        expected = code.value("Load", whole, last)
        found = code.value(
            "AtomicCompareExchange", whole, pointer, scope, order, order, swap(expected), expected
        )
        code.do("Store", done, code.pure("IEqual", "bool", found, expected))
        code.do("Store", last, found)

    code.loop((), (), test, body, lambda _: ())
    return code.value("Load", whole, last)
