import numpy as np

import kdsl
from kdsl import i64

N = kdsl.sizes("N")


@kdsl.kernel
def powers(A: i64[N], n: i64):
    for i in range(N):
        A[i] = A[i] ** n


powers(np.arange(3), -1)
