import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def scale(x: f32[N], factor: f32):
    for i in range(N):
        x[i] *= factor


@kdsl.kernel
def kernel(A: f32[N], B: f32[N]):
    scale(A)
    B[0] = A[0]


kernel(np.ones(4, np.float32), np.ones(4, np.float32))
