import numpy as np

import kdsl
from kdsl import f32, i64

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def pick(x: f32[N], i: i64) -> f32:
    return x[i]


@kdsl.kernel
def kernel(A: f32[N], at: i64[M]):
    for i in range(M):
        A[0] += pick(A, at[i])


kernel(np.zeros(3, np.float32), np.array([7]))
