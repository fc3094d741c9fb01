import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def kernel(A: f32[N], B: f32[N]):
    x, y = A[0], A[1], A[2]
    B[0] = x + y


kernel(np.ones(4, np.float32), np.ones(4, np.float32))
