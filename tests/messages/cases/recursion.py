import numpy as np

import kdsl
from kdsl import i64

N = kdsl.sizes("N")


@kdsl.func
def factorial(n: i64) -> i64:
    return 1 if n == 0 else n * factorial(n - 1)


@kdsl.kernel
def kernel(A: i64[N]):
    for i in range(N):
        A[i] = factorial(i)


kernel(np.zeros(4, np.int64))
