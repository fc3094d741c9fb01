import numpy as np

import kdsl
from kdsl import f32, f64

N = kdsl.sizes("N")


@kdsl.kernel
def scale(x: f32[N], factor: f32):
    for i in range(N):
        x[i] *= factor


@kdsl.kernel
def kernel(A: f64[N]):
    scale(A, 2.0)


kernel(np.ones(4))
