"""A butterfly writes two arrays."""

import kdsl
from kdsl import f32


@kdsl.instruction(llvm="llvm.butterfly")
def butterfly(x: f32[4], y: f32[4], s: f32[4], d: f32[4]):
    for n in range(4):
        s[n] = x[n] + y[n]
        d[n] = x[n] - y[n]


@kdsl.kernel
def step(X: f32[4], Y: f32[4], S: f32[4], D: f32[4]):
    for i in range(4):
        S[i] = X[i] + Y[i]
        D[i] = X[i] - Y[i]


step.schedule().tensorize("i", butterfly)
