import numpy as np

import kdsl
from kdsl import f32, i64

N = kdsl.sizes("N")


@kdsl.kernel
def shift(A: f32[N], first: i64, last: i64):
    A[first:last] = A[first + 1 : last + 1] / 2


shift(np.ones(9, np.float32), 2, 5)
