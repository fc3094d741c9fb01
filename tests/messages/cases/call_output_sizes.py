import numpy as np

import kdsl
from kdsl import f32

M, N, K = kdsl.sizes("M N K")


@kdsl.kernel
def matmul(A: f32[M, K], B: f32[K, N], C: f32[M, N]):
    for i in range(M):
        for j in range(N):
            C[i, j] = 0.0
            for k in range(K):
                C[i, j] += A[i, k] * B[k, j]


matmul(np.zeros((4, 3), np.float32), np.zeros((3, 5), np.float32), np.zeros((5, 4), np.float32))
