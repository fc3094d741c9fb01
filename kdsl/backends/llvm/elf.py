"""A loader for ELF x86-64 relocatable objects (Linux), so that cached code runs without LLVM.

    one anonymous mapping, page-aligned parts, written while RW and then protected:

    | .text..., stubs for calls out  | .rodata..., addresses of symbols (GOT) | .data, .bss |
    | R-X                            | R--                                    | RW-         |

A call out of the object goes through a stub (`jmp *GOT(%rip)`), so 32-bit displacements always reach. Source
of the formats: System V ABI, AMD64 supplement, sections 4.4 (relocations) and the ELF specification.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

Resolver = Callable[[str], int]
"""Gives the address of a symbol that the object does not define; KeyError when there is none."""


class BadObject(Exception):
    """The bytes are no object that this loader can bring to life."""


@dataclass(frozen=True, slots=True)
class _Section:
    name_at: int
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entry_size: int


_SHT_SYMTAB, _SHT_RELA, _SHT_NOBITS, _SHT_X86_UNWIND = 2, 4, 8, 0x70000001
_SHF_WRITE, _SHF_ALLOC, _SHF_EXEC = 1, 2, 4
_EM_X86_64, _ET_REL = 62, 1
_SHN_UNDEF, _SHN_ABS = 0, 0xFFF1
_STUB_BYTES = 8

_R_64, _R_PC32, _R_PLT32, _R_GOTPCREL, _R_32, _R_32S, _R_PC64, _R_GOTPCRELX, _R_REX_GOTPCRELX = (
    1, 2, 4, 9, 10, 11, 24, 41, 42,
)  # fmt: skip
_GOT_RELATIVE = frozenset((_R_GOTPCREL, _R_GOTPCRELX, _R_REX_GOTPCRELX))


class LoadedObject:
    """Machine code in this process. The memory is given back when the object dies."""

    def __init__(self, memory: mmap.mmap, base: int, symbols: dict[str, int]) -> None:
        self._memory = memory
        self.base = base
        self._symbols = symbols

    def address(self, symbol: str) -> int:
        """Where a defined symbol is; KeyError when there is none."""
        return self._symbols[symbol]


def load_object(code: bytes, resolve: Resolver) -> LoadedObject:
    """Maps an object into memory, relocates it and makes it executable. BadObject when it is damaged."""
    try:
        return _Loader(code, resolve).load()
    except (struct.error, LookupError, OverflowError, ValueError) as error:
        raise BadObject(f"damaged object code: {error}") from error


class _Loader:
    def __init__(self, code: bytes, resolve: Resolver) -> None:
        self.code = code
        self.resolve = resolve
        if code[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", code, 16) != (_ET_REL, _EM_X86_64):
            raise BadObject("not an ELF x86-64 relocatable object")
        table, count = struct.unpack_from("<Q", code, 40)[0], struct.unpack_from("<H", code, 60)[0]
        self.sections = [
            _Section(name, kind, flags, offset, size, link, info, max(1, align), entry)
            for name, kind, flags, _, offset, size, link, info, align, entry in (
                struct.unpack_from("<IIQQQQIIQQ", code, table + 64 * n) for n in range(count)
            )
        ]
        self.placed: dict[int, int] = {}  # section number -> offset in the mapping
        self.symbols: list[tuple[str, int, int]] = []  # name, section number, value
        self.got: dict[int, int] = {}  # symbol number -> offset of its GOT slot
        self.stubs: dict[int, int] = {}

    def load(self) -> LoadedObject:
        self._read_symbols()
        relocations = list(self._relocations())
        outside = sorted({s for _, _, _, s, _ in relocations if self.symbols[s][1] == _SHN_UNDEF})
        through_got = sorted({s for _, _, kind, s, _ in relocations if kind in _GOT_RELATIVE} | set(outside))
        called = sorted({s for _, _, kind, s, _ in relocations if kind == _R_PLT32 and s in set(outside)})
        end = self._place(0, _SHF_EXEC, _SHF_EXEC)
        for n, symbol in enumerate(called):
            self.stubs[symbol] = end + _STUB_BYTES * n
        text_end = _pages(end + _STUB_BYTES * len(called))
        end = self._place(text_end, 0, _SHF_EXEC | _SHF_WRITE)
        got = -(-end // 8) * 8
        for n, symbol in enumerate(through_got):
            self.got[symbol] = got + 8 * n
        rodata_end = _pages(got + 8 * len(through_got))
        size = _pages(self._place(rodata_end, _SHF_WRITE, _SHF_WRITE))
        memory = mmap.mmap(-1, max(size, mmap.PAGESIZE), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        base = _address_of(memory)
        self._fill(memory, base, relocations)
        _protect(base, text_end, mmap.PROT_READ | mmap.PROT_EXEC)
        _protect(base + text_end, rodata_end - text_end, mmap.PROT_READ)
        defined = {
            name: base + self.placed[section] + value
            for name, section, value in self.symbols
            if name and section in self.placed
        }
        return LoadedObject(memory, base, defined)

    def _read_symbols(self) -> None:
        for section in self.sections:
            if section.kind != _SHT_SYMTAB:
                continue
            strings = self.sections[section.link]
            for at in range(section.offset, section.offset + section.size, 24):
                name_at, _, _, index, value = struct.unpack_from("<IBBHQ", self.code, at)
                start = strings.offset + name_at
                name = self.code[start : self.code.index(b"\0", start)].decode()
                self.symbols.append((name, index, value))

    def _relocations(self) -> Any:
        """(section number, offset in it, kind, symbol number, addend) of all sections that are loaded."""
        for section in self.sections:
            if section.kind != _SHT_RELA or not self._loaded(self.sections[section.info]):
                continue
            for at in range(section.offset, section.offset + section.size, 24):
                offset, info, addend = struct.unpack_from("<QQq", self.code, at)
                if info >> 32 >= len(self.symbols):
                    raise BadObject("a relocation names a symbol that is not there")
                yield section.info, offset, info & 0xFFFFFFFF, info >> 32, addend

    def _loaded(self, section: _Section) -> bool:
        """Unwind tables are left out: nothing throws through compiled kernels."""
        return bool(section.flags & _SHF_ALLOC) and section.kind != _SHT_X86_UNWIND

    def _place(self, at: int, flags: int, mask: int) -> int:
        """Gives the loaded sections with `flags` in `mask` their offsets from `at` on; gives the end."""
        for number, section in enumerate(self.sections):
            if self._loaded(section) and section.flags & mask == flags:
                at = -(-at // section.align) * section.align
                self.placed[number] = at
                at += section.size
        return at

    def _fill(self, memory: mmap.mmap, base: int, relocations: list[tuple[int, int, int, int, int]]) -> None:
        for number, at in self.placed.items():
            section = self.sections[number]
            if section.kind != _SHT_NOBITS:
                if section.offset + section.size > len(self.code):
                    raise BadObject("a section ends behind the file")
                memory[at : at + section.size] = self.code[section.offset : section.offset + section.size]
        for symbol, at in self.got.items():
            struct.pack_into("<Q", memory, at, self._value(symbol, base))
        for symbol, at in self.stubs.items():
            memory[at : at + _STUB_BYTES] = (
                b"\xff\x25" + struct.pack("<i", self.got[symbol] - at - 6) + b"\x66\x90"
            )
        for number, offset, kind, symbol, addend in relocations:
            place = self.placed[number] + offset
            if kind in _GOT_RELATIVE:
                _put(memory, place, "<i", self.got[symbol] + addend - place)
            elif kind == _R_PLT32 and symbol in self.stubs:
                _put(memory, place, "<i", self.stubs[symbol] + addend - place)
            elif kind in (_R_PC32, _R_PLT32):
                _put(memory, place, "<i", self._value(symbol, base) + addend - place - base)
            elif kind == _R_PC64:
                _put(memory, place, "<q", self._value(symbol, base) + addend - place - base)
            elif kind == _R_64:
                _put(memory, place, "<Q", (self._value(symbol, base) + addend) % (1 << 64))
            elif kind in (_R_32, _R_32S):
                _put(memory, place, "<I" if kind == _R_32 else "<i", self._value(symbol, base) + addend)
            else:
                raise BadObject(f"relocation type {kind} is not known")

    def _value(self, symbol: int, base: int) -> int:
        """The address of a symbol."""
        name, section, value = self.symbols[symbol]
        if section == _SHN_ABS:
            return value
        if section != _SHN_UNDEF:
            if section not in self.placed:
                raise BadObject(f"symbol {name!r} lies in a section that is not loaded")
            return base + self.placed[section] + value
        try:
            return self.resolve(name)
        except KeyError:
            raise BadObject(f"symbol {name!r} is not defined in this process") from None


def _put(memory: mmap.mmap, at: int, form: str, value: int) -> None:
    struct.pack_into(form, memory, at, value)


def _pages(size: int) -> int:
    """`size` rounded up to whole pages."""
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _address_of(memory: mmap.mmap) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


@cache
def _libc() -> Any:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return libc


def _protect(address: int, size: int, flags: int) -> None:
    if size and _libc().mprotect(address, size, flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, "mprotect of compiled code")
