"""How a kernel reports a fault: nothing stops, the first one of an invocation is kept, the run time tells.

    ok = ULessThan index, extent            the test, where it is made
    first = !ok && site == 0                variables of the invocation
    site = first ? 7 : site; value = ...    an access that failed goes to element 0, a divisor becomes 1
    ...
    if site != 0: report                    once, at the end of the invocation

Going on keeps control flow uniform, so that barriers stay reachable, and costs no branches. Loops whose
length depends on data, and `while`, end when there is a fault. The report takes a lock in the status buffer;
the fault that comes first in program order wins (work-group, then phase between barriers, then invocation).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kdsl.backends.base import FaultKind, Site
from kdsl.backends.spirv.memory import Bindings
from kdsl.backends.spirv.module import Code, Module
from kdsl.backends.spirv.opcodes import (
    ACQUIRE,
    ACQUIRE_RELEASE,
    DEVICE_SCOPE,
    RELAXED,
    RELEASE,
    UNIFORM_MEMORY,
    Storage,
)
from kdsl.source import Loc

STATUS = "$status"
"""The name of the status buffer, which no array can have."""

LOCK, GROUP, PLACE, SITE, VALUE, EXTENT = 0, 1, 2, 3, 4, 6
STATUS_WORDS = 8
"""Word numbers in the status buffer, u32 each; value and extent take two, the low one first.

The first word is the lock, and names the dispatch that the fault is of: its number in the call, from 1.
"""
_LOCKED = 1 << 31
_WIDE = 1 << 31
"""In the site of an invocation: value and extent have high words of their own, and not just their signs."""

Number = tuple[int, str]
"""The id of an integer and its type, i32 or i64; signed."""


@dataclass(slots=True)
class SiteTable:
    """Numbers the places of a kernel that can fault, from 1."""

    sites: dict[Site, int] = field(default_factory=dict)

    def number(self, kind: FaultKind, text: str, dim: int, loc: Loc | None) -> int:
        """The number of a site; equal sites share one."""
        return self.sites.setdefault(Site(kind, text, dim, loc), len(self.sites) + 1)


@dataclass(slots=True)
class State:
    """The variables of an invocation that hold its first fault, in the module."""

    module: Module
    site: int = 0
    value: tuple[int, int] = (0, 0)
    extent: tuple[int, int] = (0, 0)
    phase: int = 0

    @staticmethod
    def of(module: Module) -> State:
        """New variables."""

        def variable(name: str) -> int:
            id = module.variable(Storage.Private, module.type("i32"))
            module.name(id, name)
            return id

        value = variable("fault_value"), variable("fault_value_high")
        extent = variable("fault_extent"), variable("fault_extent_high")
        return State(module, variable("fault_site"), value, extent, variable("phase"))

    def clear(self, code: Code) -> None:
        """At the start of an invocation."""
        zero = self.module.constant("i32", 0)
        for variable in (self.site, *self.value, *self.extent, self.phase):
            code.do("Store", variable, zero)

    def note(self, code: Code, ok: int, number: int, value: Number | None, extent: Number | None) -> None:
        """Keeps the fault `number` unless `ok`, or there is one."""
        m = self.module
        site = code.value("Load", "i32", self.site)
        none = code.pure("IEqual", "bool", site, m.constant("i32", 0))
        first = code.pure("LogicalAnd", "bool", code.pure("LogicalNot", "bool", ok), none)
        wide = any(x is not None and x[1] == "i64" for x in (value, extent))
        mark = m.constant("i32", number | _WIDE if wide else number)
        code.do("Store", self.site, code.pure("Select", "i32", first, mark, site))
        for words, x in ((self.value, value), (self.extent, extent)):
            if x is not None:
                for variable, word in zip(words, _words(code, x) if wide else (x[0],)):
                    old = code.value("Load", "i32", variable)
                    code.do("Store", variable, code.pure("Select", "i32", first, word, old))

    def none(self, code: Code) -> int:
        """Whether there is no fault yet."""
        site = code.value("Load", "i32", self.site)
        return code.pure("IEqual", "bool", site, self.module.constant("i32", 0))

    def step(self, code: Code) -> None:
        """Counts a barrier."""
        one = self.module.constant("i32", 1)
        phase = code.value("Load", "i32", self.phase)
        code.do("Store", self.phase, code.pure("IAdd", "i32", phase, one))


def _words(code: Code, x: Number) -> tuple[int, int]:
    """The low and the high word of a signed number."""
    id, kind = x
    m = code.module
    if kind == "i32":
        return id, code.pure("ShiftRightArithmetic", "i32", id, m.constant("i32", 31))
    high = code.pure("ShiftRightLogical", "i64", id, m.constant("i32", 32))
    return code.pure("UConvert", "i32", id), code.pure("UConvert", "i32", high)


@dataclass(slots=True)
class Status:
    """The status buffer, read and written by atomics alone."""

    code: Code
    bindings: Bindings

    def _pointer(self, word: int) -> int:
        m = self.code.module
        type = m.pointer(Storage.StorageBuffer, m.type("i32"))
        zero = m.constant("i32", 0)
        return self.code.address(type, self.bindings.view(STATUS, "i32"), zero, m.constant("i32", word))

    def _order(self, semantics: int) -> tuple[int, int]:
        m = self.code.module
        return m.constant("i32", DEVICE_SCOPE), m.constant("i32", semantics)

    def load(self, word: int) -> int:
        return self.code.value("AtomicLoad", "i32", self._pointer(word), *self._order(RELAXED))

    def store(self, word: int, value: int) -> None:
        self.code.do("AtomicStore", self._pointer(word), *self._order(RELAXED), value)

    def failed_before(self, number: int) -> int:
        """Whether an earlier dispatch of the call has a fault; `number` is that of this one."""
        code, m = self.code, self.code.module
        tag = code.pure("BitwiseAnd", "i32", self.load(LOCK), m.constant("i32", _LOCKED - 1))
        failed = code.pure("INotEqual", "bool", tag, m.constant("i32", 0))
        return code.pure("LogicalAnd", "bool", failed, code.pure("INotEqual", "bool", tag, number))

    def report(self, state: State, number: int, key: Callable[[], tuple[int, int]]) -> None:
        """Writes the fault of this invocation unless one with a smaller key is there."""
        code = self.code
        m = code.module
        zero = m.constant("i32", 0)
        site = code.value("Load", "i32", state.site)

        def write(group: int, place: int) -> None:
            old_group, old_place = self.load(GROUP), self.load(PLACE)
            free = code.pure("IEqual", "bool", self.load(SITE), zero)
            less = code.pure("ULessThan", "bool", group, old_group)
            same = code.pure("IEqual", "bool", group, old_group)
            sooner = code.pure("ULessThan", "bool", place, old_place)
            tie = code.pure("LogicalAnd", "bool", same, sooner)
            wins = code.pure("LogicalOr", "bool", free, code.pure("LogicalOr", "bool", less, tie))

            def put() -> None:
                self.store(GROUP, group)
                self.store(PLACE, place)
                self.store(SITE, code.pure("BitwiseAnd", "i32", site, m.constant("i32", _WIDE - 1)))
                wide = code.pure("SLessThan", "bool", site, zero)
                for start, words in ((VALUE, state.value), (EXTENT, state.extent)):
                    low, high = (code.value("Load", "i32", variable) for variable in words)
                    sign = code.pure("ShiftRightArithmetic", "i32", low, m.constant("i32", 31))
                    self.store(start, low)
                    self.store(start + 1, code.pure("Select", "i32", wide, high, sign))

            code.select(wins, put)

        def locked() -> None:
            group, place = key()
            waiting = code.variable(m.type("bool"))
            code.do("Store", waiting, m.constant("bool", True))

            def test(_: Sequence[int]) -> int:
                return code.value("Load", "bool", waiting)

            def body(_: Sequence[int], again: int, end: int) -> None:
                turn(group, place, waiting)

            code.loop((), (), test, body, lambda _: ())

        def turn(group: int, place: int, waiting: int) -> None:
            scope, both = self._order(ACQUIRE_RELEASE | UNIFORM_MEMORY)
            acquire = m.constant("i32", ACQUIRE | UNIFORM_MEMORY)
            release = m.constant("i32", RELEASE | UNIFORM_MEMORY)
            pointer = self._pointer(LOCK)
            free = code.pure("BitwiseAnd", "i32", self.load(LOCK), m.constant("i32", _LOCKED - 1))
            taken = code.pure("BitwiseOr", "i32", free, m.constant("i32", _LOCKED))
            old = code.value("AtomicCompareExchange", "i32", pointer, scope, both, acquire, taken, free)

            def mine() -> None:
                write(group, place)
                code.do("AtomicStore", pointer, scope, release, number)
                code.do("Store", waiting, m.constant("bool", False))

            code.select(code.pure("IEqual", "bool", old, free), mine)

        code.select(code.pure("INotEqual", "bool", site, zero), locked)
