"""An operand that is longer than the loop, and read beside its place."""

import kdsl
from kdsl import i64


@kdsl.instruction(llvm="llvm.smax.v4i64")
def larger(x: i64[4], y: i64[5]):
    for n in range(4):
        x[n] = max(x[n], y[n + 1])


@kdsl.kernel
def shifted(X: i64[4], Y: i64[5]):
    for i in range(4):
        X[i] = max(X[i], Y[i + 1])


shifted.schedule().tensorize("i", larger)
