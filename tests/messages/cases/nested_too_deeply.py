import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


# fmt: off
@kdsl.kernel
def kernel(A: f32[N]):
    for i in range(N):
        A[i] = (
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] + A[i] +
            A[i]
        )


# fmt: on
kernel(np.ones(4, np.float32))
