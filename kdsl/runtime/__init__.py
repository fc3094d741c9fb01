"""Kernels at run time: the kernel object, arguments, calls, the code cache, `kernel.py`."""
