from __future__ import annotations

import kdsl
from kdsl import f32


@kdsl.kernel
def kernel(A: f32[Q]):
    A[0] = 1
