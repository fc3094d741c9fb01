import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def total(A: f32[N]):
    s = 0.0
    for i in range(N):
        s += A[i]
    return s


total(np.ones(4, np.float32))
