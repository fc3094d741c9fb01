import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def roots(A: f32[N]):
    for i in range(N):
        assert A[i] >= 0, "no root of a negative number"
        A[i] = kdsl.sqrt(A[i])


roots(-np.ones(3, np.float32))
