import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


def clamp(x):
    return min(max(x, 0), 1)


@kdsl.kernel
def kernel(A: f32[N], B: f32[N]):
    for i in range(N):
        B[i] = clamp(A[i])


kernel(np.ones(4, np.float32), np.ones(4, np.float32))
