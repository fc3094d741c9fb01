import numpy as np

import kdsl
from kdsl import f32, i32

N = kdsl.sizes("N")


@kdsl.kernel
def kernel(A: f32[N], B: f32[N]):
    x = i32(0)
    for i in range(N):
        x = A[i]
    B[0] = x


kernel(np.ones(4, np.float32), np.ones(4, np.float32))
