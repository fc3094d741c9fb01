"""One feature, not in a tuple."""

import kdsl
from kdsl import i64


@kdsl.instruction(llvm="llvm.smax.v4i64", features="avx512f")
def larger(x: i64[4], y: i64[4]):
    for n in range(4):
        x[n] = max(x[n], y[n])
