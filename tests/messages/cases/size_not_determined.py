import numpy as np

import kdsl
from kdsl import f32

M, N = kdsl.sizes("M N")


@kdsl.kernel
def kernel(A: f32[M + N]):
    A[0] = M


kernel(np.ones(4, np.float32))
