"""A kernel of any size as an instruction."""

import kdsl
from kdsl import i64

N = kdsl.sizes("N")


@kdsl.kernel
def add(x: i64[N], y: i64[N]):
    for n in range(N):
        x[n] += y[n]


@kdsl.kernel
def sum_rows(X: i64[8, N], Y: i64[N]):
    for i in range(8):
        for j in range(N):
            Y[j] += X[i, j]


sum_rows.schedule().tensorize("j", add)
