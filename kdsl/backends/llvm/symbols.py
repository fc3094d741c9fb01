"""Addresses, in this process, of what compiled code refers to by name: libc, libm and CPython.

Names of CPython objects and NumPy types that compiled entries compare with are spelled `kdsl.py.<name>`.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

import numpy as np

from kdsl.dtypes import ALL, bf16


@cache
def address_of(name: str) -> int:
    """The address of a library function or of an object that entries use; KeyError when there is none."""
    if name == "kdsl.numpy.descr.bf16":
        return id(bf16.np)
    if name.startswith("kdsl."):
        return id(objects()[name])
    for library in _libraries():
        try:
            return ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0
        except AttributeError:
            continue
    raise KeyError(name)


def is_library_function(name: str) -> bool:
    """Whether the C library or the math library has a function of that name."""
    return hasattr(_libraries()[0 if sys.platform == "win32" else -1], name)


@cache
def _libraries() -> tuple[Any, ...]:
    """Where functions are looked up: this process (with libc and CPython), then the math library."""
    if sys.platform == "win32":
        return (ctypes.cdll.msvcrt, ctypes.pythonapi)
    math: str | None = "libm.so.6"
    if sys.platform != "linux":
        from ctypes.util import find_library

        math = find_library("m")
    libraries: list[Any] = [ctypes.CDLL(None), ctypes.pythonapi]
    if math:
        libraries.append(ctypes.CDLL(math))
    return tuple(libraries)


@cache
def objects() -> dict[str, object]:
    """The Python objects that entries compare with, by symbol; they live as long as the process.

    Without bf16's, for which `ml_dtypes` would have to be imported.
    """
    found: dict[str, object] = {
        "kdsl.py.None": None,
        "kdsl.py.True": True,
        "kdsl.py.False": False,
        "kdsl.py.float": float,
        "kdsl.py.int": int,
        "kdsl.numpy.ndarray": np.ndarray,
    }
    for t in ALL:
        if t != bf16:
            found[f"kdsl.numpy.descr.{t.name}"] = t.np
            found[f"kdsl.numpy.scalar.{t.name}"] = t.np.type
    return found
