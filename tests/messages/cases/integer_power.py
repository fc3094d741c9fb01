import numpy as np

import kdsl
from kdsl import i32

N = kdsl.sizes("N")


@kdsl.kernel
def kernel(A: i32[N]):
    for i in range(N):
        A[i] = A[i] ** -1


kernel(np.ones(4, np.int32))
