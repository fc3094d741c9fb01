import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.func
def positive(x: f32) -> f32:
    if x > 0:
        return x


@kdsl.kernel
def kernel(A: f32[N]):
    for i in range(N):
        A[i] = positive(A[i])


kernel(np.ones(4, np.float32))
