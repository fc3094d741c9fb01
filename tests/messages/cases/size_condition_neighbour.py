import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def difference(A: f32[N], B: f32[N]):
    for i in range(N):
        B[i] = A[i + 1] - A[i]


difference(np.zeros((5,), np.float32), np.zeros((5,), np.float32))
