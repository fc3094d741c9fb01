import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def add(x: f32[N], y: f32[N]):
    for i in range(N):
        x[i] += y[i]


@kdsl.kernel
def kernel(A: f32[N], B: f32[N]):
    add(A[0:3], B)


kernel(np.ones(4, np.float32), np.ones(4, np.float32))
