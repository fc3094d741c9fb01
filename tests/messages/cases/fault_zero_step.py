import numpy as np

import kdsl
from kdsl import f32, i64

N = kdsl.sizes("N")


@kdsl.kernel
def every(A: f32[N], step: i64):
    for i in range(0, N, step):
        A[i] = 1


every(np.zeros(3, np.float32), 0)
