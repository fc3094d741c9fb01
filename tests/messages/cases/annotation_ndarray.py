import numpy as np

import kdsl


@kdsl.kernel
def kernel(A: np.ndarray):
    A[0] = 1
