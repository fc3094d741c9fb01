import numpy as np

import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel
def same(A: f32[N]) -> f32[N]:
    return A


same(np.ones(4, np.float32))
