import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def check(A: f32[N]):
    for i in range(N):
        assert A[i] > 0


check(np.zeros(3, np.float32))
