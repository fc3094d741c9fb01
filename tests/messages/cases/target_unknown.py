import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def set_first(A: f32[N]):
    A[0] = 1


set_first.on("cuda")(np.zeros((4,), np.float32))
