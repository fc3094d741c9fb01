import numpy as np

import kdsl
from kdsl import i32

N = kdsl.sizes("N")


@kdsl.kernel
def wrap(A: i32[N], n: i32):
    for i in range(N):
        A[i] %= n


wrap(np.ones(3, np.int32), 0)
