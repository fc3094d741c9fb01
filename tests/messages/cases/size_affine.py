import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def pairs(A: f32[2 * N]):
    A[0] = 1


pairs(np.zeros((5,), np.float32))
