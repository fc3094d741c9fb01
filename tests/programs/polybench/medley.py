"""medley: deriche, floyd-warshall, nussinov."""

import functools

import numpy as np
import scipy.signal

import kdsl
from kdsl import f64, i8, i32
from tests.check import Program

W, H, N = kdsl.sizes("W H N")


@kdsl.kernel
def deriche(alpha: f64, imgIn: f64[W, H], imgOut: f64[W, H], y1: f64[W, H], y2: f64[W, H]):
    k = (1.0 - kdsl.exp(-alpha)) * (1.0 - kdsl.exp(-alpha)) / (
        1.0 + 2.0 * alpha * kdsl.exp(-alpha) - kdsl.exp(2.0 * alpha)
    )  # fmt: skip
    a1 = k
    a5 = k
    a2 = k * kdsl.exp(-alpha) * (alpha - 1.0)
    a6 = a2
    a3 = k * kdsl.exp(-alpha) * (alpha + 1.0)
    a7 = a3
    a4 = -k * kdsl.exp(-2.0 * alpha)
    a8 = a4
    b1 = 2.0**-alpha
    b2 = -kdsl.exp(-2.0 * alpha)
    c1 = 1.0
    c2 = 1.0
    for i in range(W):
        ym1 = 0.0
        ym2 = 0.0
        xm1 = 0.0
        for j in range(H):
            y1[i, j] = a1 * imgIn[i, j] + a2 * xm1 + b1 * ym1 + b2 * ym2
            xm1 = imgIn[i, j]
            ym2 = ym1
            ym1 = y1[i, j]
    for i in range(W):
        yp1 = 0.0
        yp2 = 0.0
        xp1 = 0.0
        xp2 = 0.0
        for j in range(H - 1, -1, -1):
            y2[i, j] = a3 * xp1 + a4 * xp2 + b1 * yp1 + b2 * yp2
            xp2 = xp1
            xp1 = imgIn[i, j]
            yp2 = yp1
            yp1 = y2[i, j]
    for i in range(W):
        for j in range(H):
            imgOut[i, j] = c1 * (y1[i, j] + y2[i, j])
    for j in range(H):
        tm1 = 0.0
        ym1 = 0.0
        ym2 = 0.0
        for i in range(W):
            y1[i, j] = a5 * imgOut[i, j] + a6 * tm1 + b1 * ym1 + b2 * ym2
            tm1 = imgOut[i, j]
            ym2 = ym1
            ym1 = y1[i, j]
    for j in range(H):
        tp1 = 0.0
        tp2 = 0.0
        yp1 = 0.0
        yp2 = 0.0
        for i in range(W - 1, -1, -1):
            y2[i, j] = a7 * tp1 + a8 * tp2 + b1 * yp1 + b2 * yp2
            tp2 = tp1
            tp1 = imgOut[i, j]
            yp2 = yp1
            yp1 = y2[i, j]
    for i in range(W):
        for j in range(H):
            imgOut[i, j] = c2 * (y1[i, j] + y2[i, j])


def deriche_oracle(alpha, imgIn, imgOut, y1, y2):
    """Two passes of a causal and an anticausal second-order filter, along rows and along columns."""
    if not imgIn.size:
        return
    e = np.exp(-alpha)
    k = (1 - e) ** 2 / (1 + 2 * alpha * e - np.exp(2 * alpha))
    causal = [k, k * e * (alpha - 1)]
    anticausal = [0, k * e * (alpha + 1), -k * e * e]
    poles = [1, -(2.0**-alpha), e * e]
    x = imgIn
    for axis in (1, 0):
        y1[:] = scipy.signal.lfilter(causal, poles, x, axis=axis)
        y2[:] = np.flip(scipy.signal.lfilter(anticausal, poles, np.flip(x, axis), axis=axis), axis)
        x = y1 + y2
    imgOut[:] = x


@kdsl.kernel
def floyd_warshall(paths: i32[N, N]):
    for k in range(N):
        for i in range(N):
            for j in range(N):
                paths[i, j] = (
                    paths[i, j] if paths[i, j] < paths[i, k] + paths[k, j] else paths[i, k] + paths[k, j]
                )


def floyd_warshall_oracle(paths):
    for k in range(len(paths)):
        np.minimum(paths, paths[:, k, None] + paths[k], out=paths)


@kdsl.kernel
def nussinov(seq: i8[N], table: i32[N, N]):
    for i in range(N - 1, -1, -1):
        for j in range(i + 1, N):
            if j - 1 >= 0:
                table[i, j] = max(table[i, j], table[i, j - 1])
            if i + 1 < N:
                table[i, j] = max(table[i, j], table[i + 1, j])
            if j - 1 >= 0 and i + 1 < N:
                # Don't allow adjacent elements to bond.
                if i < j - 1:
                    table[i, j] = max(table[i, j], table[i + 1, j - 1] + (1 if seq[i] + seq[j] == 3 else 0))
                else:
                    table[i, j] = max(table[i, j], table[i + 1, j - 1])
            for k in range(i + 1, j):
                table[i, j] = max(table[i, j], table[i, k] + table[k + 1, j])


def nussinov_oracle(seq, table):
    @functools.cache
    def best(i: int, j: int) -> int:
        """Most pairs in seq[i..j]: the last base is alone or pairs with some k."""
        if j <= i:
            return 0
        pairs = [
            best(i, k - 1) + 1 + best(k + 1, j - 1) for k in range(i, j - 1) if int(seq[k]) + int(seq[j]) == 3
        ]
        return max([best(i, j - 1), *pairs])

    for i in range(len(seq)):
        for j in range(i + 1, len(seq)):
            table[i, j] = best(i, j)


PROGRAMS = [
    Program(
        deriche,
        deriche_oracle,
        lambda d, w, h: (0.25, *(d.f64(w, h) for _ in range(4))),
        [(5, 7), (1, 1), (0, 3), (4, 0), (13, 11)],
    ),
    Program(
        floyd_warshall,
        floyd_warshall_oracle,
        lambda d, n: (d.ints(1, 100, n, n, dtype=np.int32),),
        [(7,), (1,), (0,), (13,)],
    ),
    Program(
        nussinov,
        nussinov_oracle,
        lambda d, n: (d.ints(0, 4, n, dtype=np.int8), np.zeros((n, n), np.int32)),
        [(9,), (1,), (0,), (2,), (17,)],
    ),
]
