import numpy as np

import kdsl
from kdsl import f32, i64

N = kdsl.sizes("N")


@kdsl.kernel
def find(A: f32[N]) -> i64:
    for i in range(N):
        if A[i] > 0:
            return i


find(np.ones(4, np.float32))
