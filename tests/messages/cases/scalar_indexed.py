import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def kernel(A: f32[N], s: f32):
    for i in range(N):
        A[i] = s[i]


kernel(np.ones(4, np.float32), 1.0)
