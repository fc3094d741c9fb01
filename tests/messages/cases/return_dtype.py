import numpy as np

import kdsl
from kdsl import f32, f64

N = kdsl.sizes("N")


@kdsl.kernel
def double(A: f32[N]) -> f32[N]:
    out = kdsl.zeros((N,), f64)
    return out


double(np.ones(4, np.float32))
