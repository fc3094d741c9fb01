"""A SPIR-V module under construction: unique types and constants, decorations, functions, words.

Sections in the order that the format asks for:

    capabilities, extensions, imports, memory model, entry points, execution modes, names, decorations,
    types with constants and global variables, functions

Types are named here by strings: "bool", "i32", "i64", "f32", "f64", and for memory alone "i8", "i16";
"f32x4" is a vector. Integers have no sign: instructions do.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from kdsl.backends.spirv.opcodes import (
    GLSL450_MEMORY,
    LOGICAL_ADDRESSING,
    MAGIC,
    OPS,
    VERSION,
    Capability,
    Decoration,
    Mode,
    Model,
    Storage,
)
from kdsl.source import Loc

Words = list[int]
Operand = int | str | float

GENERATOR = 0
_SUPPORT = {
    "i8": Capability.StorageBuffer8BitAccess,
    "i16": Capability.StorageBuffer16BitAccess,
    "i64": Capability.Int64,
    "f64": Capability.Float64,
}


def instruction(op: str, *operands: int | str) -> Words:
    """The words of one instruction; strings are literals."""
    words = [0]
    for x in operands:
        if isinstance(x, str):
            raw = x.encode() + b"\0"
            raw += b"\0" * (-len(raw) % 4)
            words += struct.unpack(f"<{len(raw) // 4}I", raw)
        else:
            words.append(int(x) & 0xFFFFFFFF)
    words[0] = len(words) << 16 | OPS[op][0]
    return words


def element(kind: str) -> tuple[str, int]:
    """A type's element and its number of lanes."""
    base, _, lanes = kind.partition("x")
    return base, int(lanes or 1)


def bits_of(kind: str) -> int:
    """The width of an element: of "f64x2" 64."""
    return int(element(kind)[0][1:])


@dataclass(slots=True)
class Module:
    """`reasons`: where in the kernel a capability was first needed; `place` is where we are."""

    reasons: dict[Capability, Loc | None] = field(default_factory=dict)
    place: Loc | None = None
    functions: Words = field(default_factory=list)
    _bound: int = 1
    _glsl: int = 0
    _entries: Words = field(default_factory=list)
    _modes: Words = field(default_factory=list)
    _names: Words = field(default_factory=list)
    _decorations: Words = field(default_factory=list)
    _globals: Words = field(default_factory=list)
    _unique: dict[tuple[object, ...], int] = field(default_factory=dict)
    _numbers: dict[int, int] = field(default_factory=dict)
    _helpers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.need(Capability.Shader)

    # -- ids, capabilities, names

    def new(self) -> int:
        """An id never used before."""
        self._bound += 1
        return self._bound - 1

    def need(self, capability: Capability) -> None:
        """Declares a capability."""
        self.reasons.setdefault(capability, self.place)

    def name(self, id: int, text: str) -> None:
        """A name for readers."""
        self._names += instruction("Name", id, text)

    def decorate(self, id: int, decoration: Decoration, *operands: int) -> None:
        """Adds a decoration."""
        self._decorations += instruction("Decorate", id, decoration, *operands)

    def glsl(self) -> int:
        """The imported instruction set GLSL.std.450."""
        self._glsl = self._glsl or self.new()
        return self._glsl

    # -- types

    def _once(self, op: str, *operands: int | str) -> int:
        """The id of a type or constant without a result type."""
        key = (op, *operands)
        if key not in self._unique:
            self._unique[key] = id = self.new()
            self._globals += instruction(op, id, *operands)
        return self._unique[key]

    def type(self, kind: str) -> int:
        """The id of a type by name; "void" too."""
        base, lanes = element(kind)
        if lanes > 1:
            return self._once("TypeVector", self.type(base), lanes)
        if kind in _SUPPORT:
            self.need(_SUPPORT[kind])
        match kind:
            case "void":
                return self._once("TypeVoid")
            case "bool":
                return self._once("TypeBool")
            case _ if kind[0] == "i":
                return self._once("TypeInt", int(kind[1:]), 0)
            case _:
                return self._once("TypeFloat", int(kind[1:]))

    def pointer(self, storage: Storage, type: int) -> int:
        """The type of pointers."""
        return self._once("TypePointer", storage, type)

    def array(self, type: int, length: int, stride: int = 0) -> int:
        """An array type; `stride` bytes where memory has a layout."""
        return self._laid_out("TypeArray", stride, type, self.constant("i32", length))

    def runtime_array(self, type: int, stride: int) -> int:
        """An array type whose length the binding gives."""
        return self._laid_out("TypeRuntimeArray", stride, type)

    def _laid_out(self, op: str, stride: int, *operands: int) -> int:
        known = (op, *operands) in self._unique
        id = self._once(op, *operands)
        if stride and not known:
            self.decorate(id, Decoration.ArrayStride, stride)
        return id

    def block(self, members: tuple[int, ...], offsets: tuple[int, ...]) -> int:
        """The type of an interface block."""
        key = ("block", *members, *offsets)
        if key not in self._unique:
            self._unique[key] = id = self.new()
            self._globals += instruction("TypeStruct", id, *members)
            self.decorate(id, Decoration.Block)
            for n, offset in enumerate(offsets):
                self._decorations += instruction("MemberDecorate", id, n, Decoration.Offset, offset)
        return self._unique[key]

    def function_type(self, result: int, *parameters: int) -> int:
        """The type of functions."""
        return self._once("TypeFunction", result, *parameters)

    # -- constants and global variables

    def constant(self, kind: str, value: bool | int | float) -> int:
        """A constant. Integers wrap."""
        if kind == "bool":
            return self._typed("ConstantTrue" if value else "ConstantFalse", kind)
        if kind[0] == "f":
            letters = ("<f", "<I") if kind == "f32" else ("<d", "<Q")
            number = struct.unpack(letters[1], struct.pack(letters[0], value))[0]
        else:
            number = int(value) & ((1 << bits_of(kind)) - 1)
        words = (number,) if bits_of(kind) <= 32 else (number & 0xFFFFFFFF, number >> 32)
        id = self._typed("Constant", kind, *words)
        if kind[0] == "i":
            self._numbers[id] = number - ((number >> (bits_of(kind) - 1)) << bits_of(kind))
        return id

    def _typed(self, op: str, kind: str, *operands: int) -> int:
        key = (op, kind, *operands)
        if key not in self._unique:
            type = self.type(kind)
            self._unique[key] = id = self.new()
            self._globals += instruction(op, type, id, *operands)
        return self._unique[key]

    def number(self, id: int) -> int | None:
        """The value, signed, of an integer constant; None for anything else."""
        return self._numbers.get(id)

    def variable(self, storage: Storage, type: int, initial: int = 0) -> int:
        """A global variable of the type."""
        pointer, id = self.pointer(storage, type), self.new()
        self._globals += instruction("Variable", pointer, id, storage, *((initial,) if initial else ()))
        return id

    # -- functions

    def helper(self, name: str, build: Callable[[Module, int], None]) -> int:
        """The function `name`, which `build(module, id)` makes at its first use."""
        if name not in self._helpers:
            self._helpers[name] = id = self.new()
            self.name(id, name)
            build(self, id)
        return self._helpers[name]

    def entry(self, function: int, name: str, interface: list[int], block: tuple[int, int, int]) -> None:
        """Makes a function an entry point."""
        self._entries += instruction("EntryPoint", Model.GLCompute, function, name, *interface)
        self._modes += instruction("ExecutionMode", function, Mode.LocalSize, *block)

    def words(self) -> bytes:
        """The module."""
        words: Words = []
        for capability in sorted(self.reasons):
            words += instruction("Capability", capability)
        if Capability.StorageBuffer8BitAccess in self.reasons:
            words += instruction("Extension", "SPV_KHR_8bit_storage")
        if self._glsl:
            words += instruction("ExtInstImport", self._glsl, "GLSL.std.450")
        words += instruction("MemoryModel", LOGICAL_ADDRESSING, GLSL450_MEMORY)
        parts = (self._entries, self._modes, self._names, self._decorations, self._globals, self.functions)
        for part in parts:
            words += part
        words = [MAGIC, VERSION, GENERATOR, self._bound, 0, *words]
        return struct.pack(f"<{len(words)}I", *words)


@dataclass(slots=True)
class Code:
    """One function under construction. `label` is the current block; `open`: it has no last instruction yet.

    Results of pure instructions are kept while they dominate what follows (`scope`), and not computed twice.
    """

    module: Module
    variables: Words = field(default_factory=list)
    words: Words = field(default_factory=list)
    label: int = 0
    open: bool = False
    _known: dict[tuple[object, ...], int] = field(default_factory=dict)
    _order: list[tuple[object, ...]] = field(default_factory=list)

    # -- instructions

    def do(self, op: str, *operands: int) -> None:
        """An instruction without a result."""
        self.words += instruction(op, *operands)

    def value(self, op: str, kind: str, *operands: int) -> int:
        """An instruction with a result that may differ each time."""
        type, id = self.module.type(kind), self.module.new()
        self.words += instruction(op, type, id, *operands)
        return id

    def pure(self, op: str, kind: str, *operands: int, exact: bool = False) -> int:
        """An instruction whose result depends on its operands alone. `exact`: it is not to be rewritten."""
        key = (op, kind, exact, *operands)
        known = self.recall(key)
        if known is None:
            known = self.value(op, kind, *operands)
            self.remember(key, known)
            if exact:
                self.module.decorate(known, Decoration.NoContraction)
        return known

    def recall(self, key: tuple[object, ...]) -> int | None:
        """What was kept under `key` and dominates this place."""
        return self._known.get(key)

    def remember(self, key: tuple[object, ...], id: int) -> None:
        """Keeps a result under a key of the caller's."""
        self._known[key] = id
        self._order.append(key)

    def address(self, type: int, base: int, *path: int) -> int:
        """The place inside of a variable, as a pointer of that type."""
        key = ("AccessChain", str(type), False, base, *path)
        known = self.recall(key)
        if known is None:
            known = self.module.new()
            self.remember(key, known)
            self.do("AccessChain", type, known, base, *path)
        return known

    def variable(self, type: int, name: str = "") -> int:
        """A variable of the function, private to the invocation."""
        pointer, id = self.module.pointer(Storage.Function, type), self.module.new()
        self.variables += instruction("Variable", pointer, id, Storage.Function)
        if name:
            self.module.name(id, name)
        return id

    # -- blocks

    def block(self, label: int) -> None:
        """Starts a block."""
        assert not self.open
        self.do("Label", label)
        self.label, self.open = label, True

    def branch(self, label: int) -> None:
        """Ends the block by a jump."""
        self.end("Branch", label)

    def end(self, op: str, *operands: int) -> None:
        """Ends the block."""
        assert self.open
        self.do(op, *operands)
        self.open = False

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is computed inside is not known behind."""
        before = len(self._order)
        yield
        for key in self._order[before:]:
            del self._known[key]
        del self._order[before:]

    def select(self, cond: int, then: Callable[[], None], orelse: Callable[[], None] | None = None) -> None:
        """`if cond: then else: orelse`. Behind it the block is open unless both ways end."""
        new = self.module.new
        inside, merge = new(), new()
        other = new() if orelse is not None else merge
        self.do("SelectionMerge", merge, 0)
        self.end("BranchConditional", cond, inside, other)
        reached = orelse is None
        for label, arm in ((inside, then), (other, orelse)):
            if arm is None:
                continue
            self.block(label)
            with self.scope():
                arm()
            if self.open:
                self.branch(merge)
                reached = True
        self.block(merge)
        if not reached:
            self.end("Unreachable")

    def choose(self, cond: int, kind: str, then: Callable[[], int], orelse: Callable[[], int]) -> int:
        """`then if cond else orelse`, of which one alone is run."""
        arms: list[int] = []

        def arm(of: Callable[[], int]) -> Callable[[], None]:
            def run() -> None:
                value = of()
                arms.extend((value, self.label))

            return run

        self.select(cond, arm(then), arm(orelse))
        return self.value("Phi", kind, *arms)

    def loop(
        self,
        kinds: Sequence[str],
        start: Sequence[int],
        test: Callable[[Sequence[int]], int],
        body: Callable[[Sequence[int], int, int], None],
        step: Callable[[Sequence[int]], Sequence[int]],
        control: int = 0,
    ) -> Sequence[int]:
        """`while test(values): body(values); values = step(values)`; gives the last values.

        `body` also gets the blocks to jump to for the next iteration and out of the loop. `step` makes none.
        """
        header, begin, inside, again, end = (self.module.new() for _ in range(5))
        before = self.label
        self.branch(header)
        self.block(header)
        values, places = [], []
        for kind, first in zip(kinds, start):
            values.append(self.value("Phi", kind, first, before, 0, again))
            places.append(len(self.words) - 2)
        self.do("LoopMerge", end, again, control)
        self.branch(begin)
        with self.scope():
            self.block(begin)
            self.end("BranchConditional", test(values), inside, end)
            self.block(inside)
            with self.scope():
                body(values, again, end)
            if self.open:
                self.branch(again)
            self.block(again)
            for place, value in zip(places, step(values)):
                self.words[place] = value
            self.branch(header)
        self.block(end)
        return values

    def finish(self, id: int, result: str = "void", parameters: tuple[tuple[int, str], ...] = ()) -> None:
        """Adds the function to the module."""
        m = self.module
        assert not self.open
        type = m.function_type(m.type(result), *[m.type(kind) for _, kind in parameters])
        m.functions += instruction("Function", m.type(result), id, 0, type)
        for parameter, kind in parameters:
            m.functions += instruction("FunctionParameter", m.type(kind), parameter)
        label = self.words[:2]
        m.functions += label + self.variables + self.words[2:] + instruction("FunctionEnd")

    def start(self) -> Code:
        """Begins the first block."""
        self.block(self.module.new())
        return self
