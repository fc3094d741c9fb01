import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.kernel(fast_math=True)
def kernel(A: f32[N]):
    A[0] = 1
