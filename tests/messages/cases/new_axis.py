import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def kernel(A: f32[N], B: f32[N]):
    column = A[:, None]
    B[0] = column[0, 0]


kernel(np.ones(4, np.float32), np.ones(4, np.float32))
