import kdsl
from kdsl import f32

N = kdsl.sizes("N")


@kdsl.func
def first(x: f32[N]) -> f32:
    return x[0]
