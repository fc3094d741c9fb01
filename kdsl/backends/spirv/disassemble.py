"""SPIR-V words as text, one instruction a line, as `spirv-dis` prints them, with the names of the module."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from kdsl.backends.spirv.opcodes import ENUMS, MAGIC, OPS, BuiltIn, Decoration

# What literal numbers at these places of an instruction stand for.
_WORDS: dict[tuple[str, int], dict[int, str]] = {
    ("MemoryModel", 0): {0: "Logical"},
    ("MemoryModel", 1): {1: "GLSL450"},
    ("Function", 2): {0: "None"},
    ("SelectionMerge", 1): {0: "None"},
    ("LoopMerge", 2): {0: "None", 1: "Unroll", 2: "DontUnroll"},
}

_BY_NUMBER = {number: (name, operands) for name, (number, operands) in OPS.items()}


def disassemble(code: bytes) -> str:
    """The text of a module."""
    words = struct.unpack(f"<{len(code) // 4}I", code)
    assert words[0] == MAGIC, "not a SPIR-V module"
    names = dict(_names(words))
    version = f"{words[1] >> 16 & 0xFF}.{words[1] >> 8 & 0xFF}"
    lines = ["; SPIR-V", f"; Version: {version}", f"; Bound: {words[3]}"]
    types: dict[int, tuple[str, int]] = {}
    for op, operands, at in _instructions(words):
        lines.append(_line(op, operands, at, names, types))
    return "\n".join(lines) + "\n"


def _instructions(words: tuple[int, ...]) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, operand pattern and operand words of each instruction."""
    at = 5
    while at < len(words):
        length, number = words[at] >> 16, words[at] & 0xFFFF
        name, pattern = _BY_NUMBER[number]
        yield name, pattern, words[at + 1 : at + length]
        at += length


def _names(words: tuple[int, ...]) -> Iterator[tuple[int, str]]:
    used: dict[str, int] = {}
    for op, _, operands in _instructions(words):
        if op == "Name":
            text = _string(operands[1:])[0]
            used[text] = used.get(text, 0) + 1
            yield operands[0], text if used[text] == 1 else f"{text}_{used[text]}"


def _string(words: tuple[int, ...]) -> tuple[str, int]:
    """A literal string, and the words that it takes."""
    raw = struct.pack(f"<{len(words)}I", *words)
    end = raw.index(0)
    return raw[:end].decode(), end // 4 + 1


def _line(
    op: str, pattern: str, operands: tuple[int, ...], names: dict[int, str], types: dict[int, tuple[str, int]]
) -> str:
    """One instruction. `types` collects the widths of number types."""
    if op in ("TypeInt", "TypeFloat"):
        types[operands[0]] = (op, operands[1])
    if op == "Constant":
        return _assigned(
            names, operands[1], f"OpConstant {_id(names, operands[0])} {_number(operands, types)}"
        )
    result, out, at, k = 0, [f"Op{op}"], 0, 0
    while at < len(operands):
        letter = pattern[k]
        repeat = pattern[k + 1 : k + 2] == "*"
        word = operands[at]
        if letter == "s":
            text, length = _string(operands[at:])
            out.append(f'"{text}"')
            at += length - 1
        elif letter == "r":
            result = word
        elif letter in ("t", "i"):
            out.append(_id(names, word))
        elif letter in ENUMS:
            out.append(ENUMS[letter](word).name)
        else:
            out.append(_WORDS.get((op, at), {}).get(word, str(word)))
        at += 1
        k += 0 if repeat else 1
    if op in ("Decorate", "MemberDecorate"):
        out = _decoration(op, operands, names)
    return _assigned(names, result, " ".join(out)) if result else f"{'':15}{' '.join(out)}"


def _decoration(op: str, operands: tuple[int, ...], names: dict[int, str]) -> list[str]:
    head = 1 if op == "Decorate" else 2
    decoration = Decoration(operands[head])
    if decoration is Decoration.BuiltIn:
        return [f"Op{op}", _id(names, operands[0]), "BuiltIn", BuiltIn(operands[head + 1]).name]
    return [f"Op{op}", _id(names, operands[0]), *map(str, operands[1:head]), decoration.name,
            *map(str, operands[head + 1 :])]  # fmt: skip


def _number(operands: tuple[int, ...], types: dict[int, tuple[str, int]]) -> str:
    kind, bits = types[operands[0]]
    value = operands[2] if bits <= 32 else operands[2] | operands[3] << 32
    if kind == "TypeInt":
        return str(value)
    letters = ("<I", "<f") if bits == 32 else ("<Q", "<d")
    return repr(struct.unpack(letters[1], struct.pack(letters[0], value))[0])


def _id(names: dict[int, str], id: int) -> str:
    return f"%{names.get(id, id)}"


def _assigned(names: dict[int, str], id: int, text: str) -> str:
    return f"{_id(names, id):>12} = {text}"
