import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def kernel(A: f32[N]):
    A.shape = (2, 2)


kernel(np.ones(4, np.float32))
