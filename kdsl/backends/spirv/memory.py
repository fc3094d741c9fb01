"""Buffers as SPIR-V sees them: bindings of the descriptor set, work-group memory, variables of an invocation.

    argument, scratch     StorageBuffer struct { T data[]; }     %p = AccessChain %A %0 %index; Load %p
    shared                Workgroup T[n]                         %p = AccessChain %S %index
    local                 Function T[n], or T                    %p = AccessChain %x %index, or %x itself

In a binding 16-bit floats and short integers have their own widths; elsewhere a buffer holds values as they
are computed with (a bf16 as f32). A binding seen as elements of two types has two variables, decorated
`Aliased`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kdsl.backends.spirv.arith import kind_of
from kdsl.backends.spirv.module import Module, bits_of, element
from kdsl.backends.spirv.opcodes import Decoration, Storage
from kdsl.dtypes import DType, Size, i64
from kdsl.ir.nodes import Binary, Const, Expr, Var

if TYPE_CHECKING:
    from kdsl.backends.spirv.arith import Arith


@dataclass(frozen=True, slots=True)
class Buffer:
    """Memory with a shape. `kind` is the type of its elements there, `variable` the id (of a binding: 0).

    `narrow`: i64 numbers kept in 32 bits.
    """

    name: str
    dtype: DType
    shape: tuple[Expr, ...]
    storage: Storage
    kind: str
    variable: int = 0
    narrow: bool = False

    @property
    def private(self) -> bool:
        """Whether each invocation has its own."""
        return self.storage is Storage.Function


def stored_kind(t: DType) -> str:
    """The type of elements in a binding."""
    return f"i{t.bits}" if t.bits < 32 else kind_of(t)


def extent_expr(size: Size) -> Expr:
    """A dimension of an array as an expression."""
    total: Expr | None = None
    for name, factor in size.terms.items():
        term: Expr = Var(name, i64)
        if factor != 1:
            term = Binary("*", Const(factor, i64), term)
        total = term if total is None else Binary("+", total, term)
    if total is None:
        return Const(size.const, i64)
    return Binary("+", total, Const(size.const, i64)) if size.const else total


@dataclass(slots=True)
class Bindings:
    """The storage buffers of the module: set 0, numbered in order. `aliased` names may share memory."""

    module: Module
    aliased: frozenset[str]
    numbers: dict[str, int] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)
    coherent: set[str] = field(default_factory=set)
    _views: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, names: Iterable[str]) -> None:
        """Gives each of these buffers a number."""
        for name in names:
            self.numbers.setdefault(name, len(self.numbers))

    def view(self, name: str, kind: str) -> int:
        """The variable through which `name` is seen as elements of type `kind`."""
        if (name, kind) not in self._views:
            m = self.module
            base, lanes = element(kind)
            elements = m.runtime_array(m.type(kind), bits_of(base) // 8 * lanes)
            id = m.variable(Storage.StorageBuffer, m.block((elements,), (0,)))
            m.name(id, name if kind == base else f"{name}_{kind}")
            m.decorate(id, Decoration.DescriptorSet, 0)
            m.decorate(id, Decoration.Binding, self.numbers[name])
            self._views[name, kind] = id
        return self._views[name, kind]

    def finish(self) -> None:
        """Decorates the variables by what has become of them."""
        count: dict[str, int] = {}
        for name, _ in self._views:
            count[name] = count.get(name, 0) + 1
        for (name, _), id in self._views.items():
            shared = count[name] > 1 or name in self.aliased
            self.module.decorate(id, Decoration.Aliased if shared else Decoration.Restrict)
            if name not in self.written:
                self.module.decorate(id, Decoration.NonWritable)
            if name in self.coherent:
                self.module.decorate(id, Decoration.Coherent)


@dataclass(slots=True)
class Memory:
    """Loads and stores through `arith`."""

    arith: Arith
    bindings: Bindings

    def pointer(self, buffer: Buffer, at: int | None, kind: str = "") -> int:
        """The address of element `at` (an i32) of a buffer, seen as elements of type `kind`; None: rank 0."""
        code = self.arith.code
        m = code.module
        kind = kind or buffer.kind
        type = m.pointer(buffer.storage, m.type(kind))
        if buffer.storage is not Storage.StorageBuffer:
            return buffer.variable if at is None else self._chain(type, buffer.variable, at)
        zero = m.constant("i32", 0)
        return self._chain(type, self.bindings.view(buffer.name, kind), zero, zero if at is None else at)

    def _chain(self, type: int, base: int, *path: int) -> int:
        return self.arith.code.address(type, base, *path)

    def load(self, buffer: Buffer, pointer: int) -> int:
        """The value at an address, as `kind_of` the dtype (of narrow buffers an i32)."""
        raw = self.arith.code.value("Load", buffer.kind, pointer)
        return self.value(buffer, raw)

    def store(self, buffer: Buffer, pointer: int, value: int) -> None:
        """Stores such a value at an address."""
        self.arith.code.do("Store", pointer, self.raw(buffer, value))

    def value(self, buffer: Buffer, raw: int) -> int:
        """The value of what memory holds."""
        a, t = self.arith, buffer.dtype
        if buffer.kind in ("i8", "i16"):
            signed = t.kind == "int"
            wide = a.op("SConvert" if signed else "UConvert", "i32", raw)
            if t.is_int:
                return wide
            return a.from_bits(t, wide)
        if buffer.kind[0] == "i" and t.is_float:
            return a.op("Bitcast", kind_of(t), raw)
        return raw

    def raw(self, buffer: Buffer, value: int) -> int:
        """What memory holds for a value."""
        a, t = self.arith, buffer.dtype
        if buffer.kind in ("i8", "i16"):
            return a.op("UConvert", buffer.kind, a.to_bits(t, value))
        if buffer.kind[0] == "i" and t.is_float:
            return a.op("Bitcast", buffer.kind, value)
        return value


def elements(shape: Sequence[Expr]) -> int | None:
    """The number of elements of a constant shape, at least 1."""
    count = 1
    for e in shape:
        if not isinstance(e, Const):
            return None
        count *= max(0, int(e.value))
    return max(1, count)
