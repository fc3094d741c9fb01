import numpy as np

import kdsl
from kdsl import f32, i8

N = kdsl.sizes("N")


@kdsl.kernel
def fill(n: i8, A: f32[N]):
    A[0] = n


fill(300, np.zeros((4,), np.float32))
