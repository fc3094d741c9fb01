import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def kernel(A: f32[N], BLOCK: kdsl.constexpr = 4):
    A[0] = BLOCK


kernel(np.ones(4, np.float32), np.ones(2))
