"""Arrays through DLPack: by NumPy, and bf16, which NumPy's own does not know, by reading the capsule.

Layout of the capsule: `DLTensor` of dlpack.h, version 0 (github.com/dmlc/dlpack).
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from kdsl.dtypes import bf16

Array = np.ndarray[Any, Any]
_CPU = 1
_BFLOAT = 4


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


def from_dlpack(x: Any) -> Array:
    """`x` as an ndarray over the same memory; raises what `x` or NumPy raise."""
    try:
        return np.from_dlpack(x)
    except (BufferError, RuntimeError, TypeError, ValueError):
        found = _bfloat16(x)
        if found is None:
            raise
        return found


def _bfloat16(x: Any) -> Array | None:
    """A bf16 tensor in the memory of the CPU; None for all others."""
    if x.__dlpack_device__()[0] != _CPU:
        return None
    capsule = x.__dlpack__()
    if not _is_capsule(capsule, b"dltensor"):
        return None
    t = _Tensor.from_address(_pointer(capsule, b"dltensor"))
    if (t.code, t.bits, t.lanes) != (_BFLOAT, 16, 1):
        return None
    shape = [t.shape[n] for n in range(t.ndim)]
    if t.strides:
        strides = [2 * t.strides[n] for n in range(t.ndim)]
    else:
        strides = [2 * int(np.prod(shape[n + 1 :])) for n in range(t.ndim)]
    if 0 in shape:
        return np.empty(shape, bf16.np)
    if min(strides, default=0) < 0:
        return None
    reach = 2 + sum((n - 1) * s for n, s in zip(shape, strides))
    memory = (ctypes.c_uint8 * reach).from_address(t.data + t.byte_offset)
    # The capsule, which nobody has taken over, frees the tensor when it goes: with the memory's last view.
    memory.kdsl_capsule = capsule
    return np.ndarray(tuple(shape), bf16.np, memory, 0, tuple(strides))


_is_capsule = ctypes.pythonapi.PyCapsule_IsValid
_is_capsule.restype, _is_capsule.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
