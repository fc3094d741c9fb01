"""An intrinsic that LLVM does not have."""

import kdsl
from kdsl import i64


@kdsl.instruction(llvm="llvm.x86.add4")
def add4(x: i64[4], y: i64[4]):
    for n in range(4):
        x[n] += y[n]


@kdsl.kernel
def add(X: i64[4], Y: i64[4]):
    for i in range(4):
        X[i] += Y[i]


add.schedule().tensorize("i", add4).asm()
