import numpy as np

import kdsl
from kdsl import f32

M, N = kdsl.sizes("M N")


@kdsl.kernel
def transpose(A: f32[M, N]) -> f32[N, M]:
    out = kdsl.empty((M, N), f32)
    for i, j in kdsl.grid(M, N):
        out[i, j] = A[i, j]
    return out


transpose(np.ones((4, 3), np.float32))
