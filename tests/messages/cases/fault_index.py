import numpy as np

import kdsl
from kdsl import f32, i64

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def gather(A: f32[N], at: i64[M], out: f32[M]):
    for i in range(M):
        out[i] = A[at[i]]


gather(np.zeros(3, np.float32), np.array([0, 5]), np.zeros(2, np.float32))
