"""Kernels cut into launches, and run as a GPU would run them, on no GPU."""
