"""Addresses, in this process, of what compiled code refers to by name: libc, libm and CPython.

Names of CPython objects and NumPy types that compiled entries compare with are spelled `kdsl.py.<name>`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from functools import cache
from typing import Any

import numpy as np

from kdsl.dtypes import by_name


@cache
def address_of(name: str) -> int:
    """The address of a library function or of an object that entries use; KeyError when there is none."""
    if name.startswith("kdsl."):
        return id(_object(name))
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


def _object(name: str) -> object:
    """The Python object behind a name; it lives as long as the process."""
    match name.split("."):
        case ["kdsl", "py", "None"]:
            return None
        case ["kdsl", "py", "True"]:
            return True
        case ["kdsl", "py", "False"]:
            return False
        case ["kdsl", "py", "float"]:
            return float
        case ["kdsl", "py", "int"]:
            return int
        case ["kdsl", "numpy", "ndarray"]:
            return np.ndarray
        case ["kdsl", "numpy", "descr", dtype]:
            return by_name(dtype).np
        case ["kdsl", "numpy", "scalar", dtype]:
            return by_name(dtype).np.type
    raise KeyError(name)
