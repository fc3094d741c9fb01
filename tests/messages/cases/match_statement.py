import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def kernel(A: f32[N], B: f32[N]):
    match N:
        case 0:
            B[0] = 1
        case _:
            B[0] = 2


kernel(np.ones(4, np.float32), np.ones(4, np.float32))
