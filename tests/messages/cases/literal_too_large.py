import numpy as np

import kdsl
from kdsl import u8

N = kdsl.sizes("N")


@kdsl.kernel
def kernel(A: u8[N]):
    for i in range(N):
        A[i] = A[i] + 300


kernel(np.ones(4, np.uint8))
