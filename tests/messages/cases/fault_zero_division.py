import numpy as np

import kdsl
from kdsl import i32

N = kdsl.sizes("N")


@kdsl.kernel
def divide(A: i32[N], B: i32[N]):
    for i in range(N):
        A[i] = A[i] // B[i]


divide(np.ones(3, np.int32), np.zeros(3, np.int32))
