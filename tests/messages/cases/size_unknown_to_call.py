import numpy as np

import kdsl
from kdsl import f32

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def kernel(A: f32[N], B: f32[N]):
    for i in range(M):
        B[i] = A[i]


kernel(np.ones(4, np.float32), np.ones(4, np.float32))
