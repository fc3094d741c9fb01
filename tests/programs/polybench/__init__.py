"""The 30 kernels of PolyBench/C 4.2, straightforward ports (order of loops and statements kept)."""
