import numpy as np

import kdsl
from kdsl import f32, i64

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def scatter(A: f32[N, 2], at: i64[M]):
    for i in range(M):
        A[at[i], 1] += 1


scatter(np.zeros((3, 2), np.float32), np.array([0, -1]))
