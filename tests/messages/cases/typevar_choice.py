import numpy as np

import kdsl
from kdsl import f32, f64

N = kdsl.sizes("N")

T = kdsl.typevar("T", f32, f64)


@kdsl.kernel
def double(A: T[N]):
    for i in range(N):
        A[i] *= 2


double(np.ones(4, np.int32))
