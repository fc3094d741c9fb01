import numpy as np

import kdsl
from kdsl import f32

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def scale(x: f32[N], factor: f32):
    for i in range(N):
        x[i] *= factor


@kdsl.kernel
def kernel(A: f32[M, N]):
    scale(A, 2.0)


kernel(np.ones((4, 4), np.float32))
