"""Machine code as a Python built-in function, and whether objects look as `entry.py` takes them to."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import numpy as np

from kdsl.backends.llvm import layout

_METH_KEYWORDS, _METH_FASTCALL = 0x0002, 0x0080


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("ml_name", ctypes.c_char_p),
        ("ml_meth", ctypes.c_void_p),
        ("ml_flags", ctypes.c_int),
        ("ml_doc", ctypes.c_char_p),
    )


def make_builtin(name: str, address: int, self_: tuple[Any, ...]) -> Any:
    """A built-in function around code at `address` (METH_FASTCALL | METH_KEYWORDS).

    It gets `self_` and the method's definition as its `self`, and so keeps alive whatever stands in there.
    """
    definition = _MethodDef(name.encode(), address, _METH_FASTCALL | _METH_KEYWORDS, None)
    new = ctypes.pythonapi.PyCFunction_NewEx
    new.argtypes = (ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)
    new.restype = ctypes.py_object
    return new(ctypes.addressof(definition), (*self_, definition), None)


@cache
def layout_holds() -> bool:
    """Whether this Python and NumPy lay out objects as entries read them: tried on real ones."""
    if "t" in getattr(sys, "abiflags", "") or object.__basicsize__ != layout.OBJECT_VALUE:
        return False
    a = np.zeros((5, 7), np.float32)[1:, ::2]
    at = id(a)
    pair = (a, None)
    wanted = layout.ALIGNED | layout.WRITEABLE
    flags = ctypes.c_int.from_address(at + layout.ARRAY_FLAGS).value
    dense = np.zeros((2, 3))
    return (
        _pointer(at + layout.OB_TYPE) == id(np.ndarray)
        and _pointer(at + layout.ARRAY_DATA) == a.ctypes.data
        and ctypes.c_int.from_address(at + layout.ARRAY_ND).value == a.ndim
        and [_pointer(_pointer(at + layout.ARRAY_SHAPE) + 8 * d) for d in (0, 1)] == list(a.shape)
        and [_pointer(_pointer(at + layout.ARRAY_STRIDES) + 8 * d) for d in (0, 1)] == list(a.strides)
        and _pointer(at + layout.ARRAY_DESCR) == id(np.dtype(np.float32))
        and flags & (wanted | layout.C_CONTIGUOUS) == wanted
        and ctypes.c_int.from_address(id(dense) + layout.ARRAY_FLAGS).value & layout.C_CONTIGUOUS != 0
        and _pointer(id(pair) + layout.TUPLE_ITEMS) == at
        and _pointer(id(pair) + layout.TUPLE_ITEMS + 8) == id(None)
        and all(
            _value_in_place(x) for x in (1.5, np.float64(1.5), np.float32(1.5), np.int16(-3), np.uint64(7))
        )
    )


def _pointer(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


def _value_in_place(x: Any) -> bool:
    """Whether a float or NumPy scalar keeps its value where entries look."""
    stored = np.asarray(x)
    return ctypes.string_at(id(x) + layout.OBJECT_VALUE, stored.itemsize) == stored.tobytes()
