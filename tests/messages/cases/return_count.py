import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def extremes(A: f32[N]) -> (f32, f32):
    return A[0]


extremes(np.ones(4, np.float32))
