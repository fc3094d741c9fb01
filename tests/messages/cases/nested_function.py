import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def kernel(A: f32[N], B: f32[N]):
    def square(x):
        return x * x

    for i in range(N):
        B[i] = square(A[i])


kernel(np.ones(4, np.float32), np.ones(4, np.float32))
