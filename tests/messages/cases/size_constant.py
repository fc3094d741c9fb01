import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def rgb(A: f32[3]):
    A[0] = 1


rgb(np.zeros((4,), np.float32))
