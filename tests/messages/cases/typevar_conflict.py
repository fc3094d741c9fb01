import numpy as np

import kdsl
from kdsl import f32, f64

N = kdsl.sizes("N")

T = kdsl.typevar("T", f32, f64)


@kdsl.kernel
def axpy(X: T[N], Y: T[N]):
    for i in range(N):
        Y[i] += X[i]


axpy(np.zeros((4,), np.float32), np.zeros(4))
