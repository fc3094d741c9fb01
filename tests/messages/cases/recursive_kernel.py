import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def halve(A: f32[N]):
    if N > 1:
        halve(A[: N // 2])
    A[0] = 0


halve(np.ones(4, np.float32))
