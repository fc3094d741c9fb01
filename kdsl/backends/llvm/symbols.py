"""Addresses, in this process, of what compiled code refers to by name: libc, libm and CPython.

Names of CPython objects and NumPy types that compiled entries compare with are spelled `kdsl.py.<name>`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from functools import cache
from typing import Any


@cache
def address_of(name: str) -> int:
    """The address of a library function or of an object that entries use; KeyError when there is none."""
    for library in _libraries():
        try:
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        except AttributeError:
            continue
    raise KeyError(name)


@cache
def _libraries() -> tuple[Any, ...]:
    """Where functions are looked up: this process (with libc and CPython), then the math library."""
    if sys.platform == "win32":
        return (ctypes.cdll.msvcrt, ctypes.pythonapi)
    math = ctypes.util.find_library("m") if sys.platform != "linux" else "libm.so.6"
    libraries: list[Any] = [ctypes.CDLL(None), ctypes.pythonapi]
    if math:
        libraries.append(ctypes.CDLL(math))
    return tuple(libraries)
