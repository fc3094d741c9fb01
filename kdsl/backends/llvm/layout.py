"""Where CPython and NumPy keep what entries read: byte offsets, verified by `builtin.layout_holds`.

Those of CPython >= 3.11 with a GIL and of NumPy's public `PyArrayObject_fields` (numpy/ndarraytypes.h).
"""

OB_TYPE = 8
ARRAY_DATA, ARRAY_ND, ARRAY_SHAPE, ARRAY_STRIDES, ARRAY_DESCR, ARRAY_FLAGS = 16, 24, 32, 40, 56, 64
OBJECT_VALUE = 16
"""Where a float and a NumPy scalar keep their value."""
TUPLE_ITEMS = 24
C_CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400
