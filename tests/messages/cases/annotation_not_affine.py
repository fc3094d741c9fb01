from __future__ import annotations

import kdsl
from kdsl import f32

M, N = kdsl.sizes("M N")


@kdsl.kernel
def kernel(A: f32[M * N]):
    A[0] = 1
