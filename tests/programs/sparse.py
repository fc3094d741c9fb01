"""Indices that depend on data: CSR products, histograms, gather and scatter, k-means, graph search."""

import numpy as np
import scipy.sparse

import kdsl
from kdsl import f32, f64, i32, i64, u8
from tests.check import Draw, Program

N, M, NNZ, D, K = kdsl.sizes("N M NNZ D K")


@kdsl.kernel
def spmv(ptr: i32[N + 1], col: i32[NNZ], val: f64[NNZ], x: f64[M], y: f64[N]):
    for i in range(N):
        acc = 0.0
        for p in range(ptr[i], ptr[i + 1]):
            acc += val[p] * x[col[p]]
        y[i] = acc


def csr(d: Draw, n: int, m: int):
    matrix = scipy.sparse.random(n, m, density=0.3, format="csr", random_state=d.rng)
    return matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), matrix.data, d.f64(m), d.f64(n)


def spmv_oracle(ptr, col, val, x, y):
    y[:] = scipy.sparse.csr_matrix((val, col, ptr), shape=(len(y), len(x))) @ x


@kdsl.kernel
def spmm_csc(ptr: i32[M + 1], row: i32[NNZ], val: f32[NNZ], X: f32[M, K], Y: f32[N, K]):
    """Scatters column by column."""
    for j in range(M):
        for p in range(ptr[j], ptr[j + 1]):
            for k in range(K):
                Y[row[p], k] += val[p] * X[j, k]


def csc(d: Draw, n: int, m: int, k: int):
    matrix = scipy.sparse.random(n, m, density=0.3, format="csc", random_state=d.rng)
    pointers, rows = matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32)
    return pointers, rows, matrix.data.astype(np.float32), d.f32(m, k), d.f32(n, k)


def spmm_csc_oracle(ptr, row, val, X, Y):
    Y += scipy.sparse.csc_matrix((val, row, ptr), shape=(len(Y), len(X))) @ X


@kdsl.kernel
def histogram(data: u8[N], counts: i64[256]):
    for i in range(N):
        counts[data[i]] += 1


@kdsl.kernel
def histogram_atomic(data: u8[N], counts: i32[256]):
    for i in range(N):
        kdsl.atomic_add(counts, data[i], 1)


def histogram_oracle(data, counts):
    counts += np.bincount(data, minlength=256).astype(counts.dtype)


@kdsl.kernel
def extremes_atomic(group: i32[N], value: f32[N], low: f32[K], high: f32[K]):
    for i in range(N):
        kdsl.atomic_min(low, group[i], value[i])
        kdsl.atomic_max(high, group[i], value[i])


def extremes_oracle(group, value, low, high):
    np.minimum.at(low, group, value)
    np.maximum.at(high, group, value)


@kdsl.kernel
def kmeans_step(points: f64[N, D], centers: f64[K, D], labels: i32[N], counts: i32[K]):
    sums = kdsl.zeros((K, D), f64)
    for c in range(K):
        counts[c] = 0
    for i in range(N):
        best = kdsl.inf
        label = 0
        for c in range(K):
            distance = 0.0
            for d in range(D):
                distance += (points[i, d] - centers[c, d]) ** 2
            if distance < best:
                best = distance
                label = c
        labels[i] = label
        counts[label] += 1
        for d in range(D):
            sums[label, d] += points[i, d]
    for c in range(K):
        if counts[c] > 0:
            for d in range(D):
                centers[c, d] = sums[c, d] / counts[c]


def kmeans_oracle(points, centers, labels, counts):
    distances = ((points[:, None] - centers[None]) ** 2).sum(axis=2)
    labels[:] = distances.argmin(axis=1)
    counts[:] = np.bincount(labels, minlength=len(centers))
    for c in range(len(centers)):
        if counts[c]:
            centers[c] = points[labels == c].mean(axis=0)


@kdsl.kernel
def breadth_first(ptr: i32[N + 1], col: i32[NNZ], start: i32, depth: i32[N]) -> i32:
    """Levels of a breadth-first search with a queue in a local array; returns how many were reached."""
    queue = kdsl.empty((N,), i32)
    for i in range(N):
        depth[i] = -1
    head = 0
    tail = 1
    queue[0] = start
    depth[start] = 0
    while head < tail:
        node = queue[head]
        head += 1
        for p in range(ptr[node], ptr[node + 1]):
            other = col[p]
            if depth[other] < 0:
                depth[other] = depth[node] + 1
                queue[tail] = other
                tail += 1
    return tail


def graph(d: Draw, n: int):
    matrix = scipy.sparse.random(n, n, density=min(1.0, 1.5 / n), format="csr", random_state=d.rng)
    return matrix.indptr.astype(np.int32), matrix.indices.astype(np.int32), 0, np.empty(n, np.int32)


def breadth_first_oracle(ptr, col, start, depth):
    from scipy.sparse.csgraph import shortest_path

    n = len(depth)
    matrix = scipy.sparse.csr_matrix((np.ones(len(col)), col, ptr), shape=(n, n))
    steps = shortest_path(matrix, unweighted=True, indices=start)
    depth[:] = np.where(np.isfinite(steps), steps, -1)
    return np.int32(np.isfinite(steps).sum())


PROGRAMS = [
    Program(spmv, spmv_oracle, csr, [(7, 5), (1, 1), (0, 3), (3, 0), (23, 31)]),
    Program(spmm_csc, spmm_csc_oracle, csc, [(7, 5, 3), (1, 1, 1), (3, 0, 2), (11, 17, 5)]),
    Program(
        histogram,
        histogram_oracle,
        lambda d, n: (d.ints(0, 256, n, dtype=np.uint8), d.ints(0, 9, 256)),
        [(0,), (1,), (301,)],
    ),
    Program(
        histogram_atomic,
        histogram_oracle,
        lambda d, n: (d.ints(0, 256, n, dtype=np.uint8), d.ints(0, 9, 256, dtype=np.int32)),
        [(0,), (1,), (301,)],
    ),
    Program(
        extremes_atomic,
        extremes_oracle,
        lambda d, n, k: (d.ints(0, k, n, dtype=np.int32), d.f32(n), d.f32(k), d.f32(k)),
        [(0, 3), (1, 1), (50, 7)],
    ),
    Program(
        kmeans_step,
        kmeans_oracle,
        lambda d, n, dim, k: (d.f64(n, dim), d.f64(k, dim), np.empty(n, np.int32), np.empty(k, np.int32)),
        [(17, 2, 3), (1, 1, 1), (0, 2, 3), (29, 3, 5)],
    ),
    Program(breadth_first, breadth_first_oracle, graph, [(1,), (2,), (19,), (41,)]),
]
