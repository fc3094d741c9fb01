"""Buffers as LLVM sees them: addresses, loads and stores, and which buffers cannot overlap.

    A[i, k]  (contiguous, K columns)      %l = mul nuw nsw i64 %i, %K
                                          %m = add nuw nsw i64 %l, %k
                                          %p = getelementptr inbounds float, ptr %A, i64 %m
                                          %x = load float, ptr %p, align 4, !alias.scope !5, !noalias !8
    A[i, k]  (byte strides from the call) %l = mul nsw i64 %i, %A.s0 ... getelementptr inbounds i8

Every buffer has its own alias scope, and is `noalias` to all others but those that `may_alias` joins to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kdsl.backends.llvm.arith import Arith
from kdsl.backends.llvm.builder import Builder, ModuleText
from kdsl.backends.llvm.types import memory_type, value_type
from kdsl.dtypes import DType


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory with a shape. `extents` and `strides` are names or literals of i64; strides are in bytes.

    `alias` ends each load and store. `local` memory is the kernel's own; `loose` memory may be read before
    it is written: such loads are frozen, so that an uninitialised value is some value and nothing worse.
    `lanes`: each element is that many, one for each lane of the vector loop that the buffer is private to.
    `shared`: another array may overlap it. `registers`: all its indices are constants, lanes apart.
    """

    name: str
    dtype: DType
    pointer: str
    extents: tuple[str, ...]
    strides: tuple[str, ...] | None = None
    alias: str = ""
    local: bool = False
    loose: bool = False
    lanes: int = 0
    shared: bool = False
    registers: bool = False


def alias_suffixes(module: ModuleText, names: Sequence[str], may_alias: Iterable[str]) -> dict[str, str]:
    """For each buffer's name, the metadata that tells which others it does not overlap."""
    if len(names) < 2:
        return dict.fromkeys(names, "")
    joined = frozenset(may_alias)
    domain = module.metadata('distinct !{!self, !"kernel"}')
    scopes = {name: module.metadata(f'distinct !{{!self, {domain}, !"{_plain(name)}"}}') for name in names}
    out = {}
    for name in names:
        others = [s for n, s in scopes.items() if n != name and not (n in joined and name in joined)]
        own = module.metadata(f"!{{{scopes[name]}}}")
        noalias = f", !noalias {module.metadata('!{' + ', '.join(others) + '}')}" if others else ""
        out[name] = f", !alias.scope {own}{noalias}"
    return out


def _plain(name: str) -> str:
    return "".join(c if c.isascii() and c not in '"\\' else "_" for c in name)


def address(b: Builder, buffer: Buffer, index: Sequence[str], *, inside: bool = True) -> str:
    """The address of an element. `inside`: the index is known to lie inside."""
    if not index:
        return buffer.pointer
    element = memory_type(buffer.dtype)
    if buffer.lanes:
        element = f"[{buffer.lanes} x {element}]"
    unsigned, signed, inbounds = ("nuw nsw ", "nsw ", "inbounds ") if inside else ("", "", "")
    if buffer.strides is None:
        at = index[0]
        for extent, i in zip(buffer.extents[1:], index[1:]):
            row = b.value(f"mul {unsigned}i64 {at}, {extent}")
            at = row if i == "0" else b.value(f"add {unsigned}i64 {row}, {i}")
        return b.value(f"getelementptr {inbounds}{element}, ptr {buffer.pointer}, i64 {at}")
    total = ""
    for i, stride in zip(index, buffer.strides):
        term = b.value(f"mul {signed}i64 {i}, {stride}")
        total = b.value(f"add {signed}i64 {total}, {term}") if total else term
    return b.value(f"getelementptr {inbounds}i8, ptr {buffer.pointer}, i64 {total}")


def load(arith: Arith, buffer: Buffer, pointer: str) -> str:
    """The value at an address in the buffer."""
    b, t = arith.b, buffer.dtype
    raw = b.value(f"load {memory_type(t)}, ptr {pointer}, align {t.bytes}{buffer.alias}")
    if buffer.loose:
        raw = b.value(f"freeze {memory_type(t)} {raw}")
    return arith.from_memory(t, raw)


def store(arith: Arith, buffer: Buffer, pointer: str, value: str) -> None:
    """Stores a value of the buffer's type at an address in it."""
    t = buffer.dtype
    raw = arith.to_memory(t, value)
    arith.b.do(f"store {memory_type(t)} {raw}, ptr {pointer}, align {t.bytes}{buffer.alias}")


LINE_BYTES = 64
"""What one prefetch brings: a cache line of x86-64 and of most Armv8 cores."""


def prefetch(b: Builder, buffer: Buffer, pointer: str) -> None:
    """Asks for the line at an address, to be read and kept in all caches. It never faults."""
    b.module.declare("void @llvm.prefetch.p0(ptr, i32, i32, i32)")
    b.do(f"call void @llvm.prefetch.p0(ptr {pointer}, i32 0, i32 3, i32 1){buffer.alias}")


def zero(t: DType) -> str:
    """The literal 0 of a value of type `t`."""
    return {"i1": "false", "float": "0.0", "double": "0.0"}.get(value_type(t), "0")
