import numpy as np

import kdsl
from kdsl import f32

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def kernel(A: f32[M, N]):
    for i in range(M):
        for j in range(N):
            A[i, j] = A[i] * 2


kernel(np.ones((4, 4), np.float32))
