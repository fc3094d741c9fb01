"""How kdsl's element types look in LLVM: in memory, as values, and as literals.

A bool_ is an `i8` (0 or 1) in memory and an `i1` as a value. An f16 or bf16 is two bytes in memory; its
value is a `float` that holds exactly such a number, so that only operations round and copies cost nothing.
"""

from __future__ import annotations

import struct

from kdsl.dtypes import DType

_VALUE = {"bool_": "i1", "f16": "float", "bf16": "float", "f32": "float", "f64": "double"}
_MEMORY = {"bool_": "i8", "f16": "i16", "bf16": "i16", "f32": "float", "f64": "double"}


def value_type(t: DType) -> str:
    """The LLVM type of a value of type `t`."""
    return _VALUE.get(t.name) or f"i{t.bits}"


def memory_type(t: DType) -> str:
    """The LLVM type of an element of type `t` in memory."""
    return _MEMORY.get(t.name) or f"i{t.bits}"


def literal(value: bool | int | float, t: DType) -> str:
    """`value` as an LLVM constant of `value_type(t)`; floats in hexadecimal, so exactly."""
    if t.kind == "bool":
        return "true" if value else "false"
    if t.is_float:
        number = float(value)
        if number != number:
            return "0x7FF8000000000000"
        return "0x" + struct.pack(">d", number).hex().upper()
    return str(int(value))
