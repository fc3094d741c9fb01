import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def first(A: f32[N], B: f32[1]):
    B[0] = A[0]


first(np.zeros((0,), np.float32), np.zeros((1,), np.float32))
